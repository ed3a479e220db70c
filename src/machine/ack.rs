//! Acks below the log: settles leased messages. Before: `broker/ack`.
//!
//! Hot path. A handle is valid while its lease is open and holds the message. That is decided here, so an ack that races
//! the end of its lease has one answer on all nodes (P7, P8). An ack may be repeated.

use crate::machine::command::Ack;
use crate::machine::lease_life_cycle;
use crate::machine::outcome::Outcome;
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::model::ReceiptHandle;

pub(super) fn apply(stage: &mut Stage<'_>, ack: &Ack) -> Result<Outcome, Failure> {
    let mut settled = Vec::with_capacity(ack.handles.len());
    // Handles of one poll name few leases: each is read and stored once for all handles in a row that name it.
    let mut rest = &ack.handles[..];
    while let Some(first) = rest.first() {
        let at = lease::key_of(first);
        let Some(lease) = lease::get(stage, at)? else {
            settled.push(false);
            rest = &rest[1..];
            continue;
        };
        let taken = settle(stage, at, lease, rest, &mut settled)?;
        rest = &rest[taken..];
    }
    Ok(Outcome::Acked(settled))
}

/// Settles the first handles, which name one lease, up to the handle that ends the lease; how many were answered.
fn settle(
    stage: &mut Stage<'_>,
    at: LeaseKey,
    mut lease: Lease,
    handles: &[ReceiptHandle],
    settled: &mut Vec<bool>,
) -> Result<usize, Failure> {
    let (mut taken, mut acked, mut has_changed) = (0, 0, false);
    for handle in handles.iter().take_while(|handle| lease::key_of(handle) == at) {
        taken += 1;
        let message = lease.one(handle.offset).unwrap_or_default();
        if (lease.held & message).is_empty() || !lease.is_open(stage.now()) {
            settled.push(!(lease.acked & message).is_empty());
            continue;
        }
        lease.settle(message);
        settled.push(true);
        // One that is only delivered again after an earlier one was counted when it was first settled.
        acked += u64::from((lease.settled_after_gap & message).is_empty());
        has_changed = true;
        if !lease.is_at_work() {
            // The handles that follow are answered by what is stored then.
            break;
        }
    }
    if acked > 0 {
        stage.counts().of_group(at.topic, at.group).acked += acked;
    }
    if has_changed {
        lease_life_cycle::shrink(stage, at, &mut lease)?;
    }
    Ok(taken)
}
