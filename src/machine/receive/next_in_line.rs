//! The next messages of a FIFO line, which waited for the messages before them.

use crate::machine::fifo_advance;
use crate::machine::outcome::Granted;
use crate::machine::receive::delivery::{Delivery, OffsetWindow, Share, deliver};
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LineKey;
use crate::machine::state::stage::Stage;
use crate::machine::state::{fifo_line, keys, queue as queues};
use crate::model::{MessageGroupHash, QueueOffset};
use crate::store::kv::Space;

/// Leases the wanted messages of the message group, if the line still waits at the start of the window.
pub fn deliver_next(
    stage: &mut Stage<'_>,
    share: Share<'_>,
    window: OffsetWindow,
    message_group: MessageGroupHash,
) -> Result<Option<Granted>, Failure> {
    let (queue, first, wanted) = (window.queue, window.first, window.wanted);
    let at = LineKey { topic: share.grant.topic, group: share.grant.group, queue, message_group };
    let is_ready = stage.get(Space::Lease, &keys::ready(at))?.is_some();
    let Some(mut line) =
        fifo_line::get(stage, at)?.filter(|line| is_ready && line.current.is_none() && line.next == first)
    else {
        return Ok(None);
    };
    let group_offset = stage.number(Space::Cursor, &keys::group_offset(at.topic, at.group, queue))?;
    let to = window.end().min(QueueOffset(group_offset));
    let members = fifo_line::members(stage, at, first..to)?;
    let messages = (members & wanted).lowest(share.room);
    let left = (members & wanted) - messages;
    if members.is_empty() {
        // Retention took them: the line goes on after them, or it would be planned for ever.
        let min = queues::head(stage, at.topic, queue)?.min;
        line.next = line.next.max(min);
        stage.delete(Space::Lease, keys::ready(at));
        fifo_advance::advance(stage, at, line)?;
        return Ok(None);
    }
    if messages.is_empty() && !left.is_empty() {
        return Ok(None);
    }
    // What is not wanted before the first message left is passed over.
    line.next = left.offsets(first).next().unwrap_or(to);
    stage.delete(Space::Lease, keys::ready(at));
    if messages.is_empty() {
        fifo_advance::advance(stage, at, line)?;
        return Ok(None);
    }
    let made = deliver(stage, share, Delivery::first(queue, first, messages, Some(message_group)))?;
    line.current = Some(made.lease);
    fifo_line::put(stage, at, &line);
    Ok(Some(made))
}
