//! Ticks below the log: what is due happens. Before: `broker/background/timer`.
//!
//! Bounded: one tick does at most [`DUE_MAX`] things, and once the entry has written as much as it may for what can wait it
//! begins no other; it says whether more is due.

use bytes::Bytes;

use crate::machine::outcome::Outcome;
use crate::machine::state::due::Due;
use crate::machine::state::enqueue::EnqueueBuffer;
use crate::machine::state::failure::Failure;
use crate::machine::state::stage::Stage;
use crate::machine::state::{due, keys};
use crate::machine::{delay, groups, lease_life_cycle, sweep, transaction};
use crate::model::Timestamp;
use crate::store::kv::Space;

/// Most due things of one tick.
pub const DUE_MAX: usize = 1024;
/// What a delayed message that enters its queue counts for, in keys.
const MESSAGE_KEYS: usize = 4;

pub(super) fn apply(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let from = Timestamp(stage.number(Space::Meta, keys::DUE_FROM)?);
    let now = stage.now();
    let found = stage.scan(Space::Due, &due::start(from), &due::end(now), DUE_MAX)?;
    let mut more = found.len() == DUE_MAX;
    // Everything stored from here on is due now or later, because time never goes backwards.
    let mut next_from = Some(now);
    if more {
        // The next tick need not pass over what this one did, key by key.
        let last = found.last().map_or(Ok(from), |(key, _)| due::time_of(key))?;
        next_from = stage.is_bounded()?.then_some(last);
    }
    let mut entering = EnqueueBuffer::default();
    for (key, value) in found {
        let due_at = due::time_of(&key)?;
        if stage.keys_left()? == 0 {
            more = true;
            next_from = Some(due_at);
            break;
        }
        let before = stage.written();
        stage.delete(Space::Due, key.clone());
        let due = Due::decode(key)?;
        if let Due::Message { topic, message } = due {
            delay::deliver(stage, &mut entering, topic, message, (due_at, value))?;
            stage.spend(MESSAGE_KEYS);
            continue;
        }
        // The others read queues from the stage.
        entering.put_into(stage)?;
        let is_done = match due {
            Due::Message { .. } => unreachable!("taken above"),
            Due::Half { topic, message } => {
                transaction::due(stage, topic, message)?;
                stage.spend(stage.written() - before);
                true
            }
            Due::Lease(at) => {
                lease_life_cycle::end(stage, at)?;
                stage.spend(stage.written() - before);
                true
            }
            Due::Sweep { topic } => sweep::deleted(stage, due, &keys::topic_prefixes(topic), value)?,
            Due::SweepGroup { topic, group } => sweep::deleted(stage, due, &keys::group_prefixes(topic, group), value)?,
            Due::Leave { group } => groups::leave_on(stage, group, value)?,
            Due::Clear { topic, group } => sweep::clear_on(stage, topic, group, value)?,
        };
        more |= !is_done;
    }
    entering.put_into(stage)?;
    if let Some(next_from) = next_from {
        stage.put_number(Space::Meta, Bytes::from_static(keys::DUE_FROM), next_from.0);
    }
    Ok(Outcome::Ticked { more })
}
