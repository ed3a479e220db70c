//! Acks below the log: settles leased messages. Before: `broker/ack`.
//!
//! Hot path. A handle is valid while its lease is open and holds the message: decided here, so an ack
//! that races the end of its lease has one answer on all nodes (P7, P8). Repeating an ack is fine.

use super::command::Ack;
use super::outcome::Outcome;
use super::stage::Stage;
use super::{Failure, lease};
use crate::model::ReceiptHandle;

pub(super) fn apply(stage: &mut Stage<'_>, ack: &Ack) -> Result<Outcome, Failure> {
    let mut settled = Vec::with_capacity(ack.handles.len());
    for handle in &ack.handles {
        settled.push(settle(stage, handle)?);
    }
    Ok(Outcome::Acked(settled))
}

fn settle(stage: &mut Stage<'_>, handle: &ReceiptHandle) -> Result<bool, Failure> {
    let at = lease::key_of(handle);
    let Some(mut lease) = lease::get(stage, at)? else { return Ok(false) };
    let Some(bit) = lease.bit(handle.offset) else { return Ok(false) };
    if lease.acked & bit != 0 {
        return Ok(true);
    }
    if lease.held & bit == 0 || !lease.is_open(stage.now()) {
        return Ok(false);
    }
    lease.settle(bit);
    lease::shrink(stage, at, &mut lease)?;
    Ok(true)
}
