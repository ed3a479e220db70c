//! Positions set from outside: by consumers that pull, and by operators. Before: `broker/offset`.

use crate::machine::command::SetPositions;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::stage::Stage;
use crate::machine::state::{keys, queue};
use crate::machine::{Failure, topics};
use crate::model::QueueId;
use crate::store::kv::Space;

/// Leases of a group in a topic looked up at once.
const PAGE: usize = 1024;

/// Moves positions, within what the queues have. What the group has at work in a queue that it moves back in, or
/// that is reset, is forgotten: the handles do nothing any more.
pub(super) fn set(stage: &mut Stage<'_>, set: &SetPositions) -> Result<Outcome, Failure> {
    let Some(topic) = topics::topic_record(stage, set.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if stage.get(Space::Catalog, &keys::subscription(set.topic, set.group))?.is_none() {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    }
    for (queue, offset) in set.positions.iter().filter(|(queue, _)| queue.0 < topic.queues) {
        let head = queue::head(stage, set.topic, *queue)?;
        let to = (*offset).clamp(head.min, head.max);
        let key = keys::cursor(set.topic, set.group, *queue);
        if set.forget || to.0 < stage.number(Space::Cursor, &key)? {
            forget(stage, set, *queue)?;
        }
        stage.put_number(Space::Cursor, key, to.0);
    }
    stage.effects().returned.insert((set.topic, set.group));
    Ok(Outcome::Done)
}

fn forget(stage: &mut Stage<'_>, set: &SetPositions, queue: QueueId) -> Result<(), Failure> {
    for prefix in keys::all_at_work(set.topic, set.group, queue) {
        let (mut from, end) = (prefix.clone(), keys::after_prefix(&prefix));
        loop {
            let page = stage.scan(Space::Lease, &from, &end, PAGE)?;
            let is_last = page.len() < PAGE;
            for (key, _) in page {
                from = [key.as_ref(), &[0]].concat().into();
                stage.delete(Space::Lease, key);
            }
            if is_last {
                break;
            }
        }
    }
    Ok(())
}
