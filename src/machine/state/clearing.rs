//! Queues whose leases and FIFO lines a group lost, by a reset of its offsets, and that are not all removed yet: ticks remove
//! the rest (`machine/sweep`). Until then the group's leases there count as gone, and nothing is leased to it there: what is
//! left of a FIFO line would have its messages passed over.
//!
//! * Shape: the value of the subscription; nothing, or a version byte and the queues as a list of u32, in the order in which
//!   they are cleared. `keys::CLEARINGS` counts the subscriptions that have one: mostly there is none to look up.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{GroupId, QueueId, TopicId};
use crate::store::kv::Space;

const VERSION: u8 = 1;

/// From the value of a subscription.
pub(super) fn decode(value: Bytes) -> Result<Vec<QueueId>, Malformed> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    Reader::versioned(value, "queues being cleared", VERSION)?.list(|reader| Ok(QueueId(reader.u32()?)))
}

fn encode(queues: &[QueueId]) -> Bytes {
    if queues.is_empty() {
        return Bytes::new();
    }
    let mut out = BytesMut::with_capacity(4 + 4 * queues.len());
    out.put_u8(VERSION);
    out.put_list(queues, |out, queue| out.put_u32(queue.0));
    out.freeze()
}

/// The queues of a topic that are being cleared for a group, in order.
pub(in crate::machine) fn of(stage: &Stage<'_>, topic: TopicId, group: GroupId) -> Result<Vec<QueueId>, Failure> {
    if stage.clearings()? == 0 {
        return Ok(Vec::new());
    }
    match stage.get(Space::Catalog, &keys::subscription(topic, group))? {
        Some(value) => Ok(decode(value)?),
        None => Ok(Vec::new()),
    }
}

/// Whether a queue is being cleared for a group.
pub(in crate::machine) fn is_cleared(
    stage: &Stage<'_>,
    topic: TopicId,
    group: GroupId,
    queue: QueueId,
) -> Result<bool, Failure> {
    Ok(of(stage, topic, group)?.contains(&queue))
}

/// Begins to clear queues for a group that is subscribed to the topic; none was being cleared before.
pub(in crate::machine) fn begin(
    stage: &mut Stage<'_>,
    topic: TopicId,
    group: GroupId,
    queues: &[QueueId],
) -> Result<(), Failure> {
    let count = stage.clearings()?;
    stage.set_clearings(count + 1);
    set(stage, topic, group, queues);
    Ok(())
}

/// Says which queues are left to be cleared, one at least.
pub(in crate::machine) fn set(stage: &mut Stage<'_>, topic: TopicId, group: GroupId, queues: &[QueueId]) {
    stage.put(Space::Catalog, keys::subscription(topic, group), encode(queues));
}

/// Nothing is left to be cleared, or the subscription is gone.
pub(in crate::machine) fn end(stage: &mut Stage<'_>, topic: TopicId, group: GroupId) -> Result<(), Failure> {
    let count = stage.clearings()?;
    stage.set_clearings(count.saturating_sub(1));
    let key = keys::subscription(topic, group);
    if stage.get(Space::Catalog, &key)?.is_some() {
        stage.put(Space::Catalog, key, Bytes::new());
        stage.effects().returned.insert((topic, group));
    }
    Ok(())
}
