//! Group offsets set from outside: by consumers that pull, and by operators. Before: `broker/offset`.

use crate::machine::command::SetGroupOffsets;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::failure::Failure;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, keys, queue};
use crate::model::QueueId;
use crate::store::kv::Space;

/// Keys of leases that are read at a time.
const PAGE: usize = 1024;

/// Sets group offsets, within the ends of the queues. The group's leases and FIFO lines in a queue are removed if its
/// group offset goes back or the command says so; their handles do nothing any more.
pub(super) fn set(stage: &mut Stage<'_>, set: &SetGroupOffsets) -> Result<Outcome, Failure> {
    let Some(topic) = catalog::topic(stage, set.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if !catalog::is_subscribed(stage, set.topic, set.group)? {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    }
    for (queue, offset) in set.offsets.iter().filter(|(queue, _)| queue.0 < topic.queues) {
        let head = queue::head(stage, set.topic, *queue)?;
        let to = (*offset).clamp(head.min, head.max);
        let key = keys::group_offset(set.topic, set.group, *queue);
        if set.forget || to.0 < stage.number(Space::Cursor, &key)? {
            remove_leases(stage, set, *queue)?;
        }
        stage.put_number(Space::Cursor, key, to.0);
    }
    stage.effects().returned.insert((set.topic, set.group));
    Ok(Outcome::Done)
}

fn remove_leases(stage: &mut Stage<'_>, set: &SetGroupOffsets, queue: QueueId) -> Result<(), Failure> {
    for prefix in keys::all_at_work(set.topic, set.group, queue) {
        let (mut from, end) = (prefix.clone(), keys::after_prefix(&prefix));
        loop {
            let page = stage.scan(Space::Lease, &from, &end, PAGE)?;
            let is_last = page.len() < PAGE;
            for (key, _) in page {
                from = keys::after(&key);
                stage.delete(Space::Lease, key);
            }
            if is_last {
                break;
            }
        }
    }
    Ok(())
}
