//! Dead letters below the log: a consumer gives a message up, an operator has one delivered again.
//! Before: `broker/dead_letter`.
//!
//! Not here: messages whose attempts are used up (`machine/lease_life_cycle`).

use crate::machine::command::Redrive;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, clearing, keys, lease, queue};
use crate::machine::{dead_letter_topic, lease_life_cycle};
use crate::model::{GroupId, OffsetSet, QueueId, QueueOffset, ReceiptHandle, TopicId};
use crate::store::kv::Space;

/// Makes one leased message a dead letter. May be repeated, as an ack may.
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
    // A message that was settled before was consumed: it is no dead letter.
    if (lease.settled_after_gap & message).is_empty() {
        dead_letter_topic::add(stage, at, &lease, message)?;
        lease.dead |= message;
    }
    lease.settle(message);
    lease_life_cycle::shrink(stage, at, &mut lease)?;
    Ok(Outcome::Done)
}

/// Delivers dead letters to their group again, from the queue and offset where they died, as if their first delivery
/// had just ended. One that was redriven before, or whose topic is deleted, stays where it is; so does one whose queue is
/// being cleared for the group.
///
/// Its message group has gone on without it, so it is delivered outside of any FIFO line.
pub(super) fn redrive(stage: &mut Stage<'_>, redrive: &Redrive) -> Result<Outcome, Failure> {
    let Some(dead_letters) = dead_letter_topic::of_group(stage, redrive.group)? else {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    };
    let mut redriven = Vec::with_capacity(redrive.offsets.len());
    for (number, offset) in (0..).zip(&redrive.offsets) {
        redriven.push(redrive_one(stage, redrive.group, dead_letters, *offset, number)?);
    }
    Ok(Outcome::Redriven(redriven))
}

fn redrive_one(
    stage: &mut Stage<'_>,
    group: GroupId,
    dead_letters: TopicId,
    offset: QueueOffset,
    number: u32,
) -> Result<bool, Failure> {
    let marker = keys::redriven(dead_letters, offset);
    if stage.get(Space::Queue, &marker)?.is_some() {
        return Ok(false);
    }
    let Some((run, _)) = queue::find(stage, dead_letters, QueueId(0), offset)? else { return Ok(false) };
    let Some(origin) = run.origin else { return Ok(false) };
    let is_there = catalog::topic(stage, origin.topic)?.is_some()
        && catalog::is_subscribed(stage, origin.topic, group)?
        && !clearing::is_cleared(stage, origin.topic, group, origin.queue)?;
    if !is_there || !stage.may_lease() || queue::find(stage, origin.topic, origin.queue, origin.offset)?.is_none() {
        return Ok(false);
    }
    let now = stage.now();
    stage.put_number(Space::Queue, marker, stage.wall().0);
    let lease = stage.lease(number);
    let ended =
        Lease { first: origin.offset, held: OffsetSet::first(1), until: now, granted_at: now, ..Lease::default() };
    lease_life_cycle::start(stage, LeaseKey { topic: origin.topic, group, queue: origin.queue, lease }, ended)?;
    Ok(true)
}
