//! Locks of queues below the log: of the clients of a group that pull in order, one at a time consumes a queue. Before:
//! `broker/queue_lock`.
//!
//! A lock ends by machine time, if its client does not say again that it wants it. Nothing happens then: the next client that
//! asks gets it.

use crate::machine::command::{LockQueues, UnlockQueues};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::failure::Failure;
use crate::machine::state::queue_lock::QueueLock;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, queue_lock};

pub(super) fn lock(stage: &mut Stage<'_>, wanted: &LockQueues) -> Result<Outcome, Failure> {
    if catalog::group(stage, wanted.group)?.is_none() {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    }
    let now = stage.now();
    let mut locked = Vec::with_capacity(wanted.queues.len());
    for (topic, queue) in &wanted.queues {
        let is_there = catalog::topic(stage, *topic)?.is_some_and(|topic| queue.0 < topic.queues);
        let held = queue_lock::get(stage, *topic, wanted.group, *queue)?;
        let is_free = held.is_none_or(|held| held.client == wanted.client || held.until <= now);
        if is_there && is_free {
            let lock = QueueLock { client: wanted.client.clone(), until: now.plus(wanted.locked_for) };
            queue_lock::put(stage, *topic, wanted.group, *queue, &lock);
        }
        locked.push(is_there && is_free);
    }
    Ok(Outcome::Locked(locked))
}

/// Gives up what the client has locked; what it has not is passed over.
pub(super) fn unlock(stage: &mut Stage<'_>, given_up: &UnlockQueues) -> Result<Outcome, Failure> {
    for (topic, queue) in &given_up.queues {
        let held = queue_lock::get(stage, *topic, given_up.group, *queue)?;
        if held.is_some_and(|held| held.client == given_up.client) {
            queue_lock::delete(stage, *topic, given_up.group, *queue);
        }
    }
    Ok(Outcome::Done)
}
