//! Transactions above the log: their end, and asking producers about those that nobody ended. Before:
//! `edge/grpc/messaging/transaction`; after: `machine/transaction`.
//!
//! That a producer is to be asked is decided by the log and told on every node. A producer of the topic may be
//! connected to any of them, or to all: the nodes take turns, so that it is asked once if it can be.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Broker, Deadline, Error};
use crate::machine::command::Decide;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::{Message, MessageRef, Timestamp, TopicId, TopicName};

/// A node whose turn comes later gives those before it this long, at most.
const TURN: Duration = Duration::from_secs(2);
/// Questions under way on one node; others wait.
const ASKING_MAX: usize = 1024;

/// A question to a producer: what became of the transaction of this message?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its topic.
    pub topic: TopicName,
    /// The half message.
    pub message: Message,
    /// Names it.
    pub at: MessageRef,
    /// When it was stored.
    pub stored_at: Timestamp,
}

impl Broker {
    /// Commits a half message or rolls it back; the first decision is final, and repeating is fine.
    pub async fn end_transaction(
        &self,
        topic: TopicName,
        message: MessageRef,
        commit: bool,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        let (topic, _) = self.existing_topic(&topic, until).await?;
        match self.propose_repeatable(&Command::Decide(Decide { topic, message, commit }), until).await? {
            (_, Outcome::Done) => Ok(()),
            (_, Outcome::Rejected(Rejected::TransactionNotFound)) => Err(Error::TransactionNotFound),
            (_, Outcome::Rejected(Rejected::DecidedOtherwise)) => Err(Error::DecidedOtherwise),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Asks producers, until the node stops.
    pub(super) async fn ask_producers(self: Arc<Self>, mut questions: mpsc::Receiver<(TopicId, MessageRef)>) {
        let room = Arc::new(tokio::sync::Semaphore::new(ASKING_MAX));
        while let Some((topic, message)) = questions.recv().await {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let broker = self.clone();
            self.tasks.spawn(async move {
                let asking = async { broker.ask_in_turn(topic, message).await };
                if let Some(Err(error)) = broker.stopping.run_until_cancelled(asking).await {
                    tracing::warn!(%error, "the producer of a half message was not asked this time");
                }
                drop(permit);
            });
        }
    }

    /// Every node has its turn before the log asks again.
    async fn ask_in_turn(&self, topic: TopicId, message: MessageRef) -> Result<(), Error> {
        let Some(half) = self.replica.view().half(topic, message)? else { return Ok(()) };
        let every: Duration = half.checks.every.into();
        let members = u32::try_from(self.place.members.len()).unwrap_or(u32::MAX);
        tokio::time::sleep(self.turn_of(message) * TURN.min(every / members.saturating_add(1))).await;
        self.ask(topic, message).await
    }

    /// After how many others this node asks.
    fn turn_of(&self, message: MessageRef) -> u32 {
        let members = self.place.members.len().max(1);
        let own = self.place.members.iter().position(|member| member.id == self.place.self_id).unwrap_or(0);
        let first = usize::try_from((message.index.0 + u64::from(message.slot)) % members as u64).unwrap_or(0);
        u32::try_from((own + members - first) % members).unwrap_or(0)
    }

    async fn ask(&self, topic: TopicId, at: MessageRef) -> Result<(), Error> {
        let view = self.replica.view();
        let Some(half) = view.half(topic, at)? else { return Ok(()) };
        let Some(record) = view.topic_record(topic)? else { return Ok(()) };
        if half.decided.is_some() {
            return Ok(());
        }
        let (message, stored_at) = BodyReader::new(self).read_with_stamp(at).await?;
        let question = Question { topic: record.name.clone(), message, at, stored_at };
        if !self.sessions.ask(&record.name, &question, u64::from(half.asked) + u64::from(at.slot)) {
            tracing::debug!(topic = %record.name, entry = at.index.0, "no producer to ask is connected here");
        }
        Ok(())
    }
}
