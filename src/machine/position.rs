//! Positions set from outside: by consumers that pull, and by operators. Before: `broker/offset`.

use bytes::Bytes;

use super::command::SetPositions;
use super::outcome::{Outcome, Rejected};
use super::stage::Stage;
use super::{Failure, catalog, keys};
use crate::store::kv::Space;

/// Leases of a group in a topic looked up at once.
const PAGE: usize = 1024;

/// Stores positions as given. A reset also ends what the group has at work: its leases are forgotten, and their
/// handles do nothing any more.
pub(super) fn set(stage: &mut Stage<'_>, set: &SetPositions) -> Result<Outcome, Failure> {
    let Some(topic) = catalog::topic_record(stage, set.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if stage.get(Space::Catalog, &keys::subscription(set.topic, set.group))?.is_none() {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    }
    if set.forget {
        for prefix in keys::all_at_work(set.topic, set.group) {
            let end = keys::after_prefix(&prefix);
            loop {
                let page = stage.scan(Space::Lease, &prefix, &end, PAGE)?;
                let is_last = page.len() < PAGE;
                for (key, _) in page {
                    stage.delete(Space::Lease, key);
                }
                if is_last {
                    break;
                }
            }
        }
    }
    for (queue, offset) in &set.positions {
        if queue.0 < topic.queues {
            let key = keys::cursor(set.topic, set.group, *queue);
            stage.put(Space::Cursor, key, Bytes::copy_from_slice(&offset.0.to_be_bytes()));
        }
    }
    stage.effects().returned.insert((set.topic, set.group));
    Ok(Outcome::Done)
}
