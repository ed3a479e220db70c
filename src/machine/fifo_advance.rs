//! A FIFO line goes on: from a lease of which nothing is held any more to what the line delivers next.
//!
//! Called when a lease is settled or ends (`machine/lease_life_cycle`) and when a grant passes over messages
//! (`machine/receive`).

use bytes::Bytes;

use crate::machine::state::failure::Failure;
use crate::machine::state::fifo_line::FifoLine;
use crate::machine::state::keys::{LeaseKey, LineKey};
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::machine::state::{fifo_line, keys, lease};
use crate::model::QueueOffset;
use crate::store::kv::Space;

/// Nothing of a lease is held any more. If it is the current lease of a FIFO line, the line goes on or ends.
pub(super) fn lease_is_done(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease) -> Result<(), Failure> {
    let Some(message_group) = lease.message_group else { return Ok(()) };
    let line_at = fifo_line::line_of(at, message_group);
    let Some(line) = fifo_line::get(stage, line_at)?.filter(|line| line.current == Some(at.lease)) else {
        return Ok(());
    };
    advance(stage, line_at, line)
}

/// Finds what a line delivers next: a parked lease, else the next message of its message group.
pub(super) fn advance(stage: &mut Stage<'_>, at: LineKey, mut line: FifoLine) -> Result<(), Failure> {
    stage.effects().returned.insert((at.topic, at.group));
    line.current = None;
    while !line.parked.is_empty() {
        let parked = LeaseKey { topic: at.topic, group: at.group, queue: at.queue, lease: line.parked.remove(0) };
        if lease::get(stage, parked)?.is_some() {
            stage.put(Space::Lease, keys::returned(parked), Bytes::new());
            line.current = Some(parked.lease);
            fifo_line::put(stage, at, &line);
            return Ok(());
        }
    }
    let group_offset = stage.number(Space::Cursor, &keys::group_offset(at.topic, at.group, at.queue))?;
    match fifo_line::first_member(stage, at, line.next..QueueOffset(group_offset))? {
        Some(first) => {
            line.next = first;
            fifo_line::put(stage, at, &line);
            stage.put_number(Space::Lease, keys::ready(at), first.0);
        }
        None => stage.delete(Space::Lease, keys::line(at)),
    }
    Ok(())
}
