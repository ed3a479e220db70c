//! Dead letters below the log: messages whose attempts are used up, or whose consumer gave them up.
//!
//! They move to the topic `%DLQ%` plus the group's name, by reference: the bytes stay where they are. The
//! copy knows where it was (contract §16, §17). Before: `broker/dead`; called by `lease` when one ends.

use super::keys::LeaseKey;
use super::lease::{self, Lease};
use super::outcome::{Outcome, Rejected};
use super::queue::{self, Origin};
use super::send::{Entering, Sends};
use super::stage::Stage;
use super::{Failure, catalog};
use crate::model::ReceiptHandle;

/// Buries one leased message. Repeating it is fine, as with an ack.
pub(super) fn apply(stage: &mut Stage<'_>, handle: &ReceiptHandle) -> Result<Outcome, Failure> {
    let ended = Ok(Outcome::Rejected(Rejected::LeaseEnded));
    let at = lease::key_of(handle);
    let Some(mut lease) = lease::get(stage, at)? else { return ended };
    let Some(bit) = lease.bit(handle.offset) else { return ended };
    if lease.acked & bit != 0 {
        return Ok(Outcome::Done);
    }
    if lease.held & bit == 0 || !lease.is_open(stage.now()) {
        return ended;
    }
    // One that was settled before was consumed.
    if lease.behind & bit == 0 {
        bury(stage, at, &lease, bit)?;
        lease.dead |= bit;
    }
    lease.settle(bit);
    lease::shrink(stage, at, &mut lease)?;
    Ok(Outcome::Done)
}

/// Whether the messages of a lease are not to be delivered again.
pub(super) fn is_used_up(stage: &Stage<'_>, at: LeaseKey, lease: &Lease) -> Result<bool, Failure> {
    let group = catalog::group_record(stage, at.group)?;
    Ok(group.is_some_and(|group| lease.attempt > group.retries_max))
}

/// Puts messages of a lease among the group's dead letters.
pub(super) fn bury(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease, bits: u64) -> Result<(), Failure> {
    let Some(topic) = catalog::topic_record(stage, at.topic)? else { return Ok(()) };
    let Some(dead) = catalog::dead_letter_topic(stage, at.group)? else { return Ok(()) };
    let mut sends = Sends::default();
    for offset in lease.offsets(bits) {
        let Some((run, item)) = queue::find(stage, at.topic, at.queue, offset)? else { continue };
        let origin =
            Origin { topic: at.topic, name: topic.name.clone(), queue: at.queue, offset, attempts: lease.attempt };
        sends.enter(stage, dead, Entering { origin: Some(origin), ..Entering::plain(run.index, item) })?;
    }
    sends.settle(stage);
    Ok(())
}
