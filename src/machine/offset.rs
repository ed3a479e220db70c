//! Group offsets set from outside: by consumers that pull, and by operators. Before: `broker/offset`.

use crate::machine::command::{OffsetMove, SetGroupOffsets};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::failure::Failure;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, keys, queue};
use crate::machine::{groups, sweep};
use crate::store::kv::Space;

/// Moves group offsets, within the ends of the queues. Handles of leases that are removed do nothing any more.
pub(super) fn set(stage: &mut Stage<'_>, set: &SetGroupOffsets) -> Result<Outcome, Failure> {
    let Some(topic) = catalog::topic(stage, set.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    let is_first = !catalog::is_subscribed(stage, set.topic, set.group)?;
    if is_first {
        let group = catalog::group(stage, set.group)?.filter(|_| set.how == OffsetMove::Advance);
        let Some(group) = group else { return Ok(Outcome::Rejected(Rejected::GroupNotFound)) };
        if stage.keys_left()? == 0 {
            return Ok(Outcome::Rejected(Rejected::EntryIsFull));
        }
        groups::begin(stage, set.group, group.settings.consume_from, set.topic, &topic)?;
    }
    let mut lost = Vec::new();
    for (queue, offset) in set.offsets.iter().filter(|(queue, _)| queue.0 < topic.queues) {
        let head = queue::head(stage, set.topic, *queue)?;
        let to = (*offset).clamp(head.min, head.max);
        let key = keys::group_offset(set.topic, set.group, *queue);
        let before = stage.number(Space::Cursor, &key)?;
        match set.how {
            OffsetMove::Advance if to.0 <= before && !is_first => continue,
            OffsetMove::Set if to.0 >= before => {}
            OffsetMove::Reset | OffsetMove::Set => lost.push(*queue),
            OffsetMove::Advance if is_first => {}
            OffsetMove::Advance => stage.counts().of_group(set.topic, set.group).acked += to.0 - before,
        }
        stage.put_number(Space::Cursor, key, to.0);
    }
    sweep::clear(stage, set.topic, set.group, &lost)?;
    stage.effects().returned.insert((set.topic, set.group));
    Ok(Outcome::Done)
}
