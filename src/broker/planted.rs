//! Bugs that a debug build makes on purpose, when `RAFTMQ_PLANT` names one, to test that the drill finds them
//! (`env/fault/planted_bug`). The verbs and the timer call them in one line each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::lease_handle::handle;
use crate::broker::{Broker, Deadline};
use crate::env::fault::planted_bug::{self, PlantedBug};
use crate::machine::command::{Ack, Change, GiveBack, Placement};
use crate::machine::state::lease::key_of;
use crate::machine::{self, Proposal};
use crate::machine::{Command, Stored};
use crate::model::{Millis, QueueId, QueueOffset, ReceiptHandle, Timestamp};

const GIVE_BACK_WAIT: Duration = Duration::from_secs(1);
const ACK_AFTER: Duration = Duration::from_secs(1);
/// Longer than the drill's delays, so that it is seen on a slow machine, too.
const ROUNDED_MS: u64 = 10_000;
/// Of the encoding of commands.
const COMMAND_VERSION: u8 = 2;
const NEW_COMMAND_WAIT: Duration = Duration::from_millis(500);

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

/// When messages are to be delivered, as the log gets it.
pub(super) fn placement(placement: Placement) -> Placement {
    match placement {
        Placement::DeliverAt(times) if planted_bug::is(PlantedBug::DelayRoundedDown) => {
            Placement::DeliverAt(times.into_iter().map(|at| Timestamp(at.0 - at.0 % ROUNDED_MS)).collect())
        }
        placement => placement,
    }
}

/// Proposes the command that only newer builds know, as soon as the cluster takes it; once.
pub(super) async fn propose_new_command(broker: &Broker) {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    let is_newer = planted_bug::is(PlantedBug::NewCommand) || planted_bug::is(PlantedBug::NewCommandTooEarly);
    if !is_newer || IS_DONE.load(Ordering::Relaxed) {
        return;
    }
    let command = bytes::Bytes::from_static(&[COMMAND_VERSION, machine::planted::TAG]);
    match broker.replica.propose(Proposal { command, messages: Vec::new() }, NEW_COMMAND_WAIT).await {
        Ok(_) => {
            IS_DONE.store(true, Ordering::Relaxed);
            tracing::info!("the new command is applied");
        }
        Err(error) => tracing::info!(%error, "the new command is not taken"),
    }
}

/// What the log gets for a decision.
pub(super) fn decision(commit: bool) -> bool {
    commit || planted_bug::is(PlantedBug::RollbackCommits)
}

/// What the log gets for a change of invisible time.
pub(super) fn change(broker: &Broker, change: Change) -> Command {
    let is_last = || {
        let view = broker.reader.view();
        let lease = view.lease(key_of(&change.handle)).ok().flatten();
        let group = view.group_record(change.handle.group).ok().flatten();
        lease.zip(group).is_some_and(|(lease, group)| lease.attempt > group.settings.retries_max)
    };
    if planted_bug::is(PlantedBug::DeadLettersDropped) && is_last() {
        return Command::Ack(Ack { handles: vec![change.handle] });
    }
    Command::Change(change)
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
