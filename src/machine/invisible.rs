//! Changes of invisible time below the log. Before: `broker/invisible`.
//!
//! A client's change starts a new lease: the old handle is invalid from then on (contract §26). The broker's renewal
//! moves the end of the lease and keeps its handles valid (contract §13.4), and so does giving back a lease whose
//! messages were never delivered (contract §13.2).

use crate::machine::command::{Change, GiveBack, Prolong};
use crate::machine::lease_life_cycle;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::model::limits::RENEW_TOTAL_MAX;
use crate::model::{OffsetSet, ReceiptHandle, Timestamp};

pub(super) fn change(stage: &mut Stage<'_>, change: &Change) -> Result<Outcome, Failure> {
    let Some((at, mut old, message)) = open_lease(stage, &change.handle)? else {
        return Ok(Outcome::Rejected(Rejected::LeaseEnded));
    };
    let again_at = stage.now().plus(change.invisible_for);
    if old.message_group.is_some() {
        return change_in_order(stage, at, &mut old, message, again_at);
    }
    let attempt = old.attempt;
    change_alone(stage, &change.handle, &mut old, message, again_at, attempt)
}

/// Returns a message at once that never left the node that leased it. Its delivery is not counted: of a lease in FIFO order,
/// whose messages are redelivered together, only if none of those left its node.
pub(super) fn return_unread(stage: &mut Stage<'_>, handle: &ReceiptHandle) -> Result<Outcome, Failure> {
    let Some((at, mut old, message)) = open_lease(stage, handle)? else {
        return Ok(Outcome::Rejected(Rejected::LeaseEnded));
    };
    let now = stage.now();
    if old.message_group.is_some() {
        old.unread |= message;
        return change_in_order(stage, at, &mut old, message, now);
    }
    let attempt = old.attempt.saturating_sub(1);
    change_alone(stage, handle, &mut old, message, now, attempt)
}

/// The lease of a handle, which still holds its message.
fn open_lease(stage: &Stage<'_>, handle: &ReceiptHandle) -> Result<Option<(LeaseKey, Lease, OffsetSet)>, Failure> {
    let at = lease::key_of(handle);
    let Some(lease) = lease::get(stage, at)? else { return Ok(None) };
    let is_held = |message: &OffsetSet| !(lease.held & *message).is_empty() && lease.is_open(stage.now());
    let message = lease.one(handle.offset).filter(is_held);
    Ok(message.map(|message| (at, lease, message)))
}

/// Moves a message of a lease to one of its own.
fn change_alone(
    stage: &mut Stage<'_>,
    handle: &ReceiptHandle,
    old: &mut Lease,
    message: OffsetSet,
    until: Timestamp,
    attempt: u32,
) -> Result<Outcome, Failure> {
    let (at, now) = (lease::key_of(handle), stage.now());
    old.held -= message;
    lease_life_cycle::shrink(stage, at, old)?;
    let id = stage.lease(0);
    let new = Lease {
        first: handle.offset,
        held: OffsetSet::first(1),
        attempt,
        granted_at: now,
        until,
        again_at: now,
        ..Lease::default()
    };
    lease_life_cycle::start(stage, LeaseKey { lease: id, ..at }, new)?;
    Ok(Outcome::Changed(id))
}

/// Gives up a message of a lease in FIFO order. The messages of the lease are redelivered together: once none of them
/// is worked on, at the latest time that was asked for one of them. The handles stay valid.
fn change_in_order(
    stage: &mut Stage<'_>,
    at: LeaseKey,
    lease: &mut Lease,
    message: OffsetSet,
    again_at: Timestamp,
) -> Result<Outcome, Failure> {
    let is_only_one = ((lease.given_up & lease.held) - message).is_empty();
    lease.again_at = if is_only_one { again_at } else { again_at.max(lease.again_at) };
    lease.given_up |= message;
    if lease.until < again_at {
        lease_life_cycle::set_until(stage, at, lease, again_at);
    }
    lease_life_cycle::shrink(stage, at, lease)?;
    Ok(Outcome::Changed(at.lease))
}

/// Renews leases of clients that are alive, up to [`RENEW_TOTAL_MAX`] in all, and shortens leases of clients that left.
pub(super) fn prolong(stage: &mut Stage<'_>, prolong: &Prolong) -> Result<Outcome, Failure> {
    for handle in &prolong.leases {
        let at = lease::key_of(handle);
        let now = stage.now();
        let Some(mut lease) = lease::get(stage, at)? else { continue };
        if lease.held.is_empty() || lease.renew_for.is_none() || !lease.is_open(now) {
            continue;
        }
        let until = now.plus(prolong.invisible_for).min(lease.granted_at.plus(RENEW_TOTAL_MAX));
        if until > now && until != lease.until {
            lease_life_cycle::set_until(stage, at, &mut lease, until);
        }
    }
    Ok(Outcome::Done)
}

/// Ends leases soon whose messages never reached their consumer. They are not renewed any more.
pub(super) fn give_back(stage: &mut Stage<'_>, give_back: &GiveBack) -> Result<Outcome, Failure> {
    for handle in &give_back.leases {
        let at = lease::key_of(handle);
        let Some(mut lease) = lease::get(stage, at)? else { continue };
        if lease.held.is_empty() || !lease.is_open(stage.now()) {
            continue;
        }
        lease.renew_for = None;
        let until = stage.now().plus(give_back.after).min(lease.until);
        lease_life_cycle::set_until(stage, at, &mut lease, until);
    }
    Ok(Outcome::Done)
}
