//! Bugs that a debug build makes on purpose, when `RAFTMQ_PLANT` names one, to test that the drill finds them
//! (`env/fault/planted_bug`). The send, the ack and the timer call them in one line each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::lease_handle::handle;
use crate::broker::{Broker, Deadline};
use crate::env::fault::planted_bug::{self, PlantedBug};
use crate::machine::command::{Ack, GiveBack};
use crate::machine::{Command, Stored};
use crate::model::{Millis, QueueId, QueueOffset, ReceiptHandle};

const GIVE_BACK_WAIT: Duration = Duration::from_secs(1);
const ACK_AFTER: Duration = Duration::from_secs(1);

/// Where messages are stored, with the offsets that this node would have given out when they came.
pub(super) fn expected_offsets(stored: Vec<Stored>) -> Vec<Stored> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if !planted_bug::is(PlantedBug::OffsetAtProposal) {
        return stored;
    }
    let next = || QueueOffset(NEXT.fetch_add(1, Ordering::Relaxed));
    stored.iter().map(|_| Stored::Queue(QueueId(0), next())).collect()
}

/// Keeps acks in memory, for the log to get them after they were answered; false if the bug is not planted.
pub(super) fn ack_later(broker: &Arc<Broker>, handles: &[ReceiptHandle]) -> bool {
    if !planted_bug::is(PlantedBug::AcksLostAtRestart) {
        return false;
    }
    let (acking, handles) = (broker.clone(), handles.to_vec());
    broker.tasks.spawn(async move {
        tokio::time::sleep(ACK_AFTER).await;
        let command = Command::Ack(Ack { handles });
        let _ = acking.propose_repeatable(&command, acking.held_until(Deadline::NONE)).await;
    });
    true
}

/// Ends all leases, once in each term that this node leads.
pub(super) async fn forget_leases_of_earlier_terms(broker: &Broker) {
    static TERM: AtomicU64 = AtomicU64::new(0);
    let term = broker.leadership().borrow().term.0;
    if !planted_bug::is(PlantedBug::LeaseInLeaderMemory) || TERM.swap(term, Ordering::Relaxed) == term {
        return;
    }
    let view = broker.reader.view();
    let Ok(topics) = view.topics() else { return };
    let Ok(groups) = view.groups() else { return };
    for (topic, record) in topics {
        for (group, queue) in
            groups.iter().flat_map(|(group, _)| (0..record.queues).map(|queue| (*group, QueueId(queue))))
        {
            let leases = view.leases(topic, group, queue).unwrap_or_default().into_iter();
            let leases =
                leases.filter(|(_, lease)| !lease.held.is_empty()).map(|(at, lease)| handle(at, &lease)).collect();
            let command = Command::GiveBack(GiveBack { leases, after: Millis(0) });
            let _ = broker.propose(&command, Instant::now() + GIVE_BACK_WAIT).await;
        }
    }
}
