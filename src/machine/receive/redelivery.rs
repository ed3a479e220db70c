//! Redelivery: messages of an ended lease.

use crate::machine::outcome::Granted;
use crate::machine::receive::delivery::{Delivery, Share, deliver};
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::machine::state::{fifo_line, keys, lease, lost, queue};
use crate::machine::{fifo_advance, lease_life_cycle};
use crate::model::OffsetSet;
use crate::store::kv::Space;

/// Messages of an ended lease that a poll wants, and those that its filter does not want.
pub struct Redelivery {
    pub lease: LeaseKey,
    pub wanted: OffsetSet,
    pub skipped: OffsetSet,
}

/// Leases the wanted messages and settles the skipped ones; the others stay in the ended lease.
pub fn redeliver(stage: &mut Stage<'_>, share: Share<'_>, redelivery: Redelivery) -> Result<Option<Granted>, Failure> {
    let Redelivery { lease: at, wanted, skipped } = redelivery;
    let Some(mut old) = lease::get(stage, at)? else { return Ok(None) };
    if !old.returned || stage.get(Space::Lease, &keys::returned(at))?.is_none() {
        return Ok(None);
    }
    let held = old.due_again(old.held - (skipped - wanted));
    let messages = (held & wanted).lowest(share.room);
    let left = old.due_again(held - messages);
    if left == old.held {
        return Ok(None);
    }
    let leaving = old.held - left;
    note_trimmed(stage, at, &old, leaving - messages)?;
    lease_life_cycle::take_returned(stage, at, &mut old, leaving)?;
    if messages.is_empty() {
        if old.held.is_empty() {
            fifo_advance::lease_is_done(stage, at, &old)?;
        }
        return Ok(None);
    }
    let delivery = Delivery {
        queue: at.queue,
        first: old.first,
        messages,
        attempt: old.attempt.saturating_add(1),
        message_group: old.message_group,
        settled_after_gap: old.settled_after_gap & messages,
        bytes: None,
    };
    let made = deliver(stage, share, delivery)?;
    if let Some(line_at) = old.message_group.map(|group| fifo_line::line_of(at, group))
        && let Some(mut line) = fifo_line::get(stage, line_at)?
    {
        line.current = Some(made.lease);
        if !old.held.is_empty() {
            // The rest is delivered after these messages.
            stage.delete(Space::Lease, keys::returned(at));
            line.parked.insert(0, at.lease);
        }
        fifo_line::put(stage, line_at, &line);
    }
    Ok(Some(made))
}

/// Of the messages that leave a lease without being delivered, those that are not there any more are lost to the group.
fn note_trimmed(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease, passed: OffsetSet) -> Result<(), Failure> {
    if passed.is_empty() {
        return Ok(());
    }
    let min = queue::head(stage, at.topic, at.queue)?.min;
    let trimmed = passed & OffsetSet::first(min.0.saturating_sub(lease.first.0).min(OffsetSet::SPAN));
    lost::note(stage, at.topic, at.group, at.queue, trimmed.len().into())
}
