//! Dead letters below the log: messages whose attempts are used up, or whose consumer gave them up.
//!
//! They move to the topic `%DLQ%` plus the group's name, by reference: the bytes stay where they are. The
//! copy knows where it was (contract §16, contract §17). Before: `broker/dead_letter`; called by `lease` when one ends.

use crate::machine::command::Redrive;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::send::{Entering, Sends};
use crate::machine::state::keys;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease;
use crate::machine::state::lease::Lease;
use crate::machine::state::queue;
use crate::machine::state::queue::Origin;
use crate::machine::state::stage::Stage;
use crate::machine::{Failure, topics};
use crate::model::{GroupId, OffsetSet, QueueId, QueueOffset, ReceiptHandle, TopicId};
use crate::store::kv::Space;

/// Buries one leased message. Repeating it is fine, as with an ack.
pub(super) fn apply(stage: &mut Stage<'_>, handle: &ReceiptHandle) -> Result<Outcome, Failure> {
    let ended = Ok(Outcome::Rejected(Rejected::LeaseEnded));
    let at = lease::key_of(handle);
    let Some(mut lease) = lease::get(stage, at)? else { return ended };
    let Some(message) = lease.one(handle.offset) else { return ended };
    if !(lease.acked & message).is_empty() {
        return Ok(Outcome::Done);
    }
    if (lease.held & message).is_empty() || !lease.is_open(stage.now()) {
        return ended;
    }
    // One that was settled before was consumed.
    if (lease.settled_after_gap & message).is_empty() {
        bury(stage, at, &lease, message)?;
        lease.dead |= message;
    }
    lease.settle(message);
    lease::shrink(stage, at, &mut lease)?;
    Ok(Outcome::Done)
}

/// Delivers dead letters to their group again: each as if its first delivery at its old place had just ended. One
/// that was redriven before, or whose topic is gone, stays where it is.
///
/// Its message group has gone on without it, so it comes outside of any order.
pub(super) fn redrive(stage: &mut Stage<'_>, redrive: &Redrive) -> Result<Outcome, Failure> {
    let Some(topic) = topics::dead_letter_topic(stage, redrive.group)? else {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    };
    let mut on_their_way = Vec::with_capacity(redrive.offsets.len());
    for (number, offset) in (0..).zip(&redrive.offsets) {
        on_their_way.push(redrive_one(stage, redrive.group, topic, *offset, number)?);
    }
    Ok(Outcome::Redriven(on_their_way))
}

fn redrive_one(
    stage: &mut Stage<'_>,
    group: GroupId,
    dead: TopicId,
    offset: QueueOffset,
    number: u32,
) -> Result<bool, Failure> {
    let marker = keys::redriven(dead, offset);
    if stage.get(Space::Queue, &marker)?.is_some() {
        return Ok(false);
    }
    let Some((run, _)) = queue::find(stage, dead, QueueId(0), offset)? else { return Ok(false) };
    let Some(origin) = run.origin else { return Ok(false) };
    let is_there = topics::topic_record(stage, origin.topic)?.is_some()
        && stage.get(Space::Catalog, &keys::subscription(origin.topic, group))?.is_some();
    if !is_there || !stage.may_lease() || queue::find(stage, origin.topic, origin.queue, origin.offset)?.is_none() {
        return Ok(false);
    }
    let now = stage.now();
    stage.put_number(Space::Queue, marker, now.0);
    let lease = stage.lease(number);
    let ended =
        Lease { first: origin.offset, held: OffsetSet::first(1), until: now, granted_at: now, ..Lease::default() };
    lease::start(stage, LeaseKey { topic: origin.topic, group, queue: origin.queue, lease }, ended)?;
    Ok(true)
}

/// Whether the messages of a lease are not to be delivered again.
pub(super) fn is_used_up(stage: &Stage<'_>, at: LeaseKey, lease: &Lease) -> Result<bool, Failure> {
    let group = topics::group_record(stage, at.group)?;
    Ok(group.is_some_and(|group| lease.attempt > group.settings.retries_max))
}

/// Puts messages of a lease among the group's dead letters.
pub(super) fn bury(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease, messages: OffsetSet) -> Result<(), Failure> {
    let Some(topic) = topics::topic_record(stage, at.topic)? else { return Ok(()) };
    let Some(dead) = topics::dead_letter_topic(stage, at.group)? else { return Ok(()) };
    let mut sends = Sends::default();
    for offset in lease.offsets(messages) {
        let Some((run, item)) = queue::find(stage, at.topic, at.queue, offset)? else { continue };
        let origin =
            Origin { topic: at.topic, name: topic.name.clone(), queue: at.queue, offset, attempts: lease.attempt };
        sends.enter(stage, dead, Entering { origin: Some(origin), ..Entering::plain(run.index, item) })?;
    }
    sends.settle(stage);
    Ok(())
}
