//! Asks producers about transactions that nobody ended.
//!
//! The log decides that a producer is to be asked, and every node learns it when it applies the entry. A producer of the
//! topic may be connected to any node, or to all: the nodes take turns, so that it is asked once if it can be.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Broker, Error, OrphanedTransaction};
use crate::model::{MessageRef, NodeId, TopicId};

/// A node whose turn comes later gives those before it this long, at most.
const TURN: Duration = Duration::from_secs(2);
/// Transactions that one node asks about at once; others wait.
const ASKING_MAX: usize = 1024;

/// Runs until nothing can be due any more, or it is dropped; what it began is the shard's to finish.
pub(super) async fn ask_producers(broker: Arc<Broker>, mut due: mpsc::Receiver<(TopicId, MessageRef)>) {
    let room = Arc::new(Semaphore::new(ASKING_MAX));
    while let Some((topic, message)) = due.recv().await {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let asking = broker.clone();
        broker.tasks.spawn(async move {
            let asked = asking.stopping.run_until_cancelled(ask_in_turn(&asking, topic, message)).await;
            if let Some(Err(error)) = asked {
                tracing::warn!(%error, "the producer of a half message was not asked this time");
            }
            drop(permit);
        });
    }
}

/// Waits until the nodes whose turn is earlier have asked; all have their turn before the log asks anew.
async fn ask_in_turn(broker: &Broker, topic: TopicId, message: MessageRef) -> Result<(), Error> {
    let Some(half) = broker.reader.view().half(topic, message)? else { return Ok(()) };
    let every: Duration = half.checks.every.into();
    let (turn, nodes) = turn(broker, message.index.0 + u64::from(message.slot));
    tokio::time::sleep(turn * TURN.min(every / nodes.saturating_add(1))).await;
    ask(broker, topic, message).await
}

/// The turn of this node, counted from 0, when all voters take turns and the one of number `first`, modulo their count,
/// begins; and how many there are.
fn turn(broker: &Broker, first: u64) -> (u32, u32) {
    let voters: Vec<NodeId> = broker.replica.members().voters().map(|member| member.node).collect();
    let count = u32::try_from(voters.len()).unwrap_or(u32::MAX).max(1);
    let own = voters.iter().position(|node| *node == broker.replica.node()).unwrap_or(0);
    let first = u32::try_from(first % u64::from(count)).unwrap_or(0);
    ((u32::try_from(own).unwrap_or(0) + count - first) % count, count)
}

async fn ask(broker: &Broker, topic: TopicId, at: MessageRef) -> Result<(), Error> {
    let view = broker.reader.view();
    let Some(half) = view.half(topic, at)? else { return Ok(()) };
    let Some(record) = view.topic_record(topic)? else { return Ok(()) };
    if half.decided.is_some() {
        return Ok(());
    }
    let (message, stored_at) = BodyReader::new(&broker.reader).read_with_stamp(half.bytes_at(at)).await?;
    let stored_at = broker.reader.wall_of(stored_at);
    let (topic_id, queue) = (topic, half.queue);
    let transaction = OrphanedTransaction { topic: record.name, topic_id, queue, message, at, stored_at };
    if !broker.clients.ask_producer(&transaction, u64::from(half.asked) + u64::from(at.slot)) {
        let topic = &transaction.topic;
        tracing::debug!(%topic, entry = at.index.0, "no producer to ask is connected here");
    }
    Ok(())
}
