//! Ticks below the log: what is due happens. Before: `broker/background/timer`.
//!
//! Bounded: one tick does at most [`DUE_MAX`] things and says whether more is due.

use bytes::Bytes;

use crate::machine::outcome::Outcome;
use crate::machine::state::due::Due;
use crate::machine::state::enqueue::EnqueueBuffer;
use crate::machine::state::failure::Failure;
use crate::machine::state::stage::Stage;
use crate::machine::state::{due, keys, references};
use crate::machine::{delay, lease_life_cycle, transaction};
use crate::model::Timestamp;
use crate::store::kv::Space;

/// Most due things of one tick.
pub const DUE_MAX: usize = 1024;
/// Most keys of a deleted topic or group removed in one tick.
const SWEEP_KEYS_MAX: usize = 1024;

pub(super) fn apply(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let from = Timestamp(stage.number(Space::Meta, keys::DUE_FROM)?);
    let now = stage.now();
    let found = stage.scan(Space::Due, &due::start(from), &due::end(now), DUE_MAX)?;
    let mut more = found.len() == DUE_MAX;
    if !more {
        // Everything stored from here on is due now or later, because time never goes backwards.
        stage.put_number(Space::Meta, Bytes::from_static(keys::DUE_FROM), now.0);
    }
    let mut entering = EnqueueBuffer::default();
    for (key, value) in found {
        stage.delete(Space::Due, key.clone());
        let due_at = due::time_of(&key)?;
        let due = Due::decode(key)?;
        if let Due::Message { topic, message } = due {
            delay::deliver(stage, &mut entering, topic, message, (due_at, value))?;
            continue;
        }
        // The others read queues from the stage.
        entering.put_into(stage)?;
        let is_done = match due {
            Due::Message { .. } => unreachable!("taken above"),
            Due::Half { topic, message } => {
                transaction::due(stage, topic, message)?;
                true
            }
            Due::Lease(at) => {
                lease_life_cycle::end(stage, at)?;
                true
            }
            Due::Sweep { topic } => sweep(stage, &keys::topic_prefixes(topic))?,
            Due::SweepGroup { topic, group } => sweep(stage, &keys::group_prefixes(topic, group))?,
        };
        if !is_done {
            due::put(stage, now, due);
            more = true;
        }
    }
    entering.put_into(stage)?;
    Ok(Outcome::Ticked { more })
}

/// Removes a part of what is stored for a deleted topic or group; whether nothing is left.
fn sweep(stage: &mut Stage<'_>, prefixes: &[(Space, Bytes)]) -> Result<bool, Failure> {
    let mut room = SWEEP_KEYS_MAX;
    for (space, prefix) in prefixes {
        let found = stage.scan(*space, prefix, &keys::after_prefix(prefix), room)?;
        room -= found.len();
        for (key, value) in found {
            if *space == Space::Queue {
                references::release_stored(stage, &key, value)?;
            }
            stage.delete(*space, key);
        }
        if room == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
