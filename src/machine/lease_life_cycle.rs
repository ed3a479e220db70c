//! The life of a lease: started, prolonged or shortened, partly settled, ended; and what becomes of the messages that
//! it still holds.
//!
//! Used by the verbs that grant, settle and change leases, and by ticks.

use bytes::Bytes;

use crate::machine::state::due::Due;
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, due, keys, lease};
use crate::machine::{dead_letter_topic, fifo_advance};
use crate::model::{Millis, OffsetSet, Timestamp};
use crate::store::kv::Space;

/// A lease of which nothing is held is remembered until its end, but not shorter and not longer than this: an ack that
/// is repeated in this time is answered OK.
const SETTLED_KEPT_MIN: Millis = Millis::from_secs(5);
const SETTLED_KEPT_MAX: Millis = Millis::from_secs(60);

/// Stores a new lease and its end. A lease that ends now is returned at once.
///
/// The lease holds at least one message.
pub(super) fn start(stage: &mut Stage<'_>, at: LeaseKey, mut lease: Lease) -> Result<(), Failure> {
    if lease.until <= stage.now() {
        return return_held(stage, at, &mut lease);
    }
    lease::put_new(stage, at, &lease)?;
    due::put(stage, lease.until, Due::Lease(at));
    Ok(())
}

/// Stores an open lease after messages were settled, moved to another lease or given up.
pub(super) fn shrink(stage: &mut Stage<'_>, at: LeaseKey, lease: &mut Lease) -> Result<(), Failure> {
    if lease.is_at_work() {
        lease::put(stage, at, lease);
        return Ok(());
    }
    if !lease.held.is_empty() {
        return end_given_up(stage, at, lease);
    }
    let kept_until = lease.until.clamp(stage.now().plus(SETTLED_KEPT_MIN), stage.now().plus(SETTLED_KEPT_MAX));
    if lease.acked.is_empty() {
        due::delete(stage, lease.until, Due::Lease(at));
        lease::delete(stage, at, lease)?;
    } else if lease.until != kept_until {
        set_until(stage, at, lease, kept_until);
    } else {
        lease::put(stage, at, lease);
    }
    fifo_advance::lease_is_done(stage, at, lease)
}

/// All that a lease in FIFO order still holds is given up: it ends when those messages are to be delivered again.
fn end_given_up(stage: &mut Stage<'_>, at: LeaseKey, lease: &mut Lease) -> Result<(), Failure> {
    let until = lease.again_at;
    lease.renew_for = None;
    set_until(stage, at, lease, until);
    if until <= stage.now() {
        due::delete(stage, until, Due::Lease(at));
        end(stage, at)?;
    }
    Ok(())
}

/// Stores an open lease with another end.
pub(super) fn set_until(stage: &mut Stage<'_>, at: LeaseKey, lease: &mut Lease, until: Timestamp) {
    due::delete(stage, lease.until, Due::Lease(at));
    lease.until = until;
    due::put(stage, until, Due::Lease(at));
    lease::put(stage, at, lease);
}

/// The time of a lease is over: what it still holds waits for redelivery, or is a dead letter.
pub(super) fn end(stage: &mut Stage<'_>, at: LeaseKey) -> Result<(), Failure> {
    let Some(mut lease) = lease::get(stage, at)? else { return Ok(()) };
    if lease.held.is_empty() {
        return lease::delete(stage, at, &lease);
    }
    return_held(stage, at, &mut lease)
}

fn return_held(stage: &mut Stage<'_>, at: LeaseKey, lease: &mut Lease) -> Result<(), Failure> {
    if lease.is_all_unread() {
        lease.attempt = lease.attempt.saturating_sub(1);
    }
    lease.unread = OffsetSet::EMPTY;
    if is_used_up(stage, at, lease)? {
        dead_letter_topic::add(stage, at, lease, lease.held - lease.settled_after_gap)?;
        lease::delete(stage, at, lease)?;
        return fifo_advance::lease_is_done(stage, at, lease);
    }
    if lease.message_group.is_some() {
        lease.settled_after_gap |= lease.acked - lease.dead;
        lease.held = lease.due_again(lease.held | lease.settled_after_gap);
        lease.acked -= lease.held;
    }
    lease.returned = true;
    lease::put(stage, at, lease);
    stage.put(Space::Lease, keys::returned(at), Bytes::new());
    stage.effects().returned.insert((at.topic, at.group));
    Ok(())
}

/// Whether the messages of a lease had their last delivery.
fn is_used_up(stage: &Stage<'_>, at: LeaseKey, lease: &Lease) -> Result<bool, Failure> {
    let group = catalog::group(stage, at.group)?;
    Ok(group.is_some_and(|group| lease.attempt > group.settings.retries_max))
}

/// Takes messages out of a returned lease: they are in another lease now, or not wanted.
pub(super) fn take_returned(
    stage: &mut Stage<'_>,
    at: LeaseKey,
    lease: &mut Lease,
    messages: OffsetSet,
) -> Result<(), Failure> {
    lease.held -= messages;
    if lease.held.is_empty() {
        stage.delete(Space::Lease, keys::returned(at));
        return lease::delete(stage, at, lease);
    }
    lease::put(stage, at, lease);
    Ok(())
}
