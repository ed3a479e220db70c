//! First deliveries: messages from the group offset of a queue on.

use std::collections::BTreeMap;

use crate::machine::command::Grant;
use crate::machine::outcome::Granted;
use crate::machine::receive::delivery::{Delivery, OffsetWindow, Share, deliver};
use crate::machine::state::failure::Failure;
use crate::machine::state::fifo_line::FifoLine;
use crate::machine::state::keys::LineKey;
use crate::machine::state::stage::Stage;
use crate::machine::state::{fifo_line, keys, lost, queue};
use crate::model::{MessageGroupHash, OffsetSet, QueueId, QueueOffset};
use crate::store::kv::Space;

/// The next messages of a queue, for a group that wants every message.
pub struct AnyMessages {
    pub queue: QueueId,
    /// The group offset when the plan was made.
    pub planned_first: QueueOffset,
    pub count: u8,
    /// Bytes of the messages that the plan saw.
    pub bytes: u64,
}

/// Leases the next messages of a queue, wherever the group offset is by now. If that is not where the plan saw it, the
/// messages are others than planned, and no more of them than take as many bytes.
pub fn any(stage: &mut Stage<'_>, share: Share<'_>, planned: AnyMessages) -> Result<Option<Granted>, Failure> {
    let AnyMessages { queue, planned_first, count: planned_count, bytes } = planned;
    let grant = share.grant;
    let offset_key = keys::group_offset(grant.topic, grant.group, queue);
    let group_offset = stage.number(Space::Cursor, &offset_key)?;
    let head = queue::head(stage, grant.topic, queue)?;
    let first = QueueOffset(group_offset.max(head.min.0));
    let count_max = u64::from(share.room.min(planned_count.into())).min(OffsetSet::SPAN);
    let mut count = count_max.min(head.max.0.saturating_sub(first.0));
    if count == 0 {
        return Ok(None);
    }
    if first != planned_first {
        count = queue::that_fit(stage, grant.topic, queue, first..QueueOffset(first.0 + count), bytes)?;
    }
    stage.put_number(Space::Cursor, offset_key, first.0 + count);
    lost::note(stage, grant.topic, grant.group, queue, first.0 - group_offset)?;
    let is_as_planned = first == planned_first && count == u64::from(planned_count);
    let delivery = Delivery::first(queue, first, OffsetSet::first(count), None);
    deliver(stage, share, Delivery { bytes: is_as_planned.then_some(bytes), ..delivery }).map(Some)
}

/// Leases the wanted messages of a window and advances the group offset over the window. An orderly group gets a lease
/// for each message group that has no FIFO line yet.
pub fn fresh(
    stage: &mut Stage<'_>,
    share: Share<'_>,
    window: OffsetWindow,
    orderly: bool,
) -> Result<Vec<Granted>, Failure> {
    let (grant, queue, first) = (share.grant, window.queue, window.first);
    let offset_key = keys::group_offset(grant.topic, grant.group, queue);
    let group_offset = stage.number(Space::Cursor, &offset_key)?;
    let head = queue::head(stage, grant.topic, queue)?;
    let from = group_offset.max(head.min.0);
    let to = window.end().0.min(head.max.0);
    // A plan that starts after the group offset would pass over messages that nobody looked at.
    if first.0 > from {
        return Ok(Vec::new());
    }
    let groups = if orderly {
        queue::message_groups(stage, grant.topic, queue, QueueOffset(from)..QueueOffset(to))?
    } else {
        Vec::new()
    };
    // By message group; all under one key for a group that wants no order.
    let mut leases: BTreeMap<Option<MessageGroupHash>, OffsetSet> = BTreeMap::new();
    let mut count = 0;
    let mut next = from;
    while next < to {
        if window.wanted.contains(next - first.0) {
            let group = groups.get((next - from) as usize).copied().flatten();
            let group = orderly.then(|| group.unwrap_or(MessageGroupHash::NONE));
            if has_line(stage, grant, queue, group)? {
                // The line finds it later by the index over message groups, which has only messages with one.
                if group == Some(MessageGroupHash::NONE) {
                    break;
                }
            } else {
                if count == share.room {
                    break;
                }
                leases.entry(group).or_default().insert(next - first.0);
                count += 1;
            }
        }
        next += 1;
    }
    if next > group_offset {
        stage.put_number(Space::Cursor, offset_key, next);
        lost::note(stage, grant.topic, grant.group, queue, from - group_offset)?;
    }
    let mut made = Vec::new();
    for (number, (message_group, messages)) in (share.number..).zip(leases) {
        let lease = deliver(stage, Share { number, ..share }, Delivery::first(queue, first, messages, message_group))?;
        if let Some(message_group) = message_group {
            let at = LineKey { topic: grant.topic, group: grant.group, queue, message_group };
            // All of the message group before the group offset is in this lease, or was not wanted.
            let line = FifoLine { current: Some(lease.lease), parked: Vec::new(), next: QueueOffset(next) };
            fifo_line::put(stage, at, &line);
        }
        made.push(lease);
    }
    Ok(made)
}

/// Advances the group offset over messages that the group does not want.
pub fn skip(
    stage: &mut Stage<'_>,
    grant: &Grant,
    queue: QueueId,
    first: QueueOffset,
    length: u32,
) -> Result<(), Failure> {
    let offset_key = keys::group_offset(grant.topic, grant.group, queue);
    let group_offset = stage.number(Space::Cursor, &offset_key)?;
    let head = queue::head(stage, grant.topic, queue)?;
    let to = first.0.saturating_add(length.into()).min(head.max.0);
    // As in `fresh`: messages that nobody looked at are not passed over.
    if first.0 <= group_offset.max(head.min.0) && to > group_offset {
        stage.put_number(Space::Cursor, offset_key, to);
        lost::note(stage, grant.topic, grant.group, queue, to.min(head.min.0).saturating_sub(group_offset))?;
    }
    Ok(())
}

/// Whether the message group has a FIFO line; never for a group that wants no order.
fn has_line(
    stage: &Stage<'_>,
    grant: &Grant,
    queue: QueueId,
    message_group: Option<MessageGroupHash>,
) -> Result<bool, Failure> {
    let Some(message_group) = message_group else { return Ok(false) };
    Ok(fifo_line::get(stage, LineKey { topic: grant.topic, group: grant.group, queue, message_group })?.is_some())
}
