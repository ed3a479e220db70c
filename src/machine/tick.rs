//! Due things: ended leases and leftovers of deleted topics. Proposed by `broker/timer`.
//!
//! Bounded: one tick does at most [`DUE_MAX`] things and says whether more is due.

use bytes::Bytes;

use super::keys::{self, LeaseKey};
use super::outcome::Outcome;
use super::stage::Stage;
use super::{Failure, lease};
use crate::model::codec::Reader;
use crate::model::{GroupId, LeaseId, QueueId, Timestamp, TopicId};
use crate::store::kv::Space;

/// Most due things of one tick.
pub const DUE_MAX: usize = 1024;
/// Most keys of a deleted topic removed in one tick.
const SWEEP_KEYS_MAX: usize = 1024;

pub(super) fn apply(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let from = Timestamp(stage.number(Space::Meta, keys::DUE_FROM)?);
    let due = stage.scan(Space::Due, &keys::due_start(from), &keys::due_end(stage.now()), DUE_MAX)?;
    let mut more = due.len() == DUE_MAX;
    if !more {
        // Whatever is put from here on is due now or later, for time never goes backwards.
        stage.put_number(Space::Meta, Bytes::from_static(keys::DUE_FROM), stage.now().0);
    }
    for (key, _) in due {
        stage.delete(Space::Due, key.clone());
        match Due::decode(key)? {
            Due::Lease(at) => lease::end(stage, at)?,
            Due::Sweep { topic } => {
                if sweep(stage, topic)? {
                    let now = stage.now();
                    stage.put_due(now, keys::due_sweep(now, topic));
                    more = true;
                }
            }
        }
    }
    Ok(Outcome::Ticked { more })
}

/// One due thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A lease ends.
    Lease(LeaseKey),
    /// A deleted topic's leftovers go.
    Sweep {
        /// Which topic.
        topic: TopicId,
    },
}

impl Due {
    /// From a key of the due space.
    pub fn decode(key: Bytes) -> Result<Self, crate::model::codec::Malformed> {
        let mut reader = Reader::new(key, "due key");
        reader.u64()?;
        match reader.u8()? {
            keys::DUE_LEASE => Ok(Self::Lease(LeaseKey {
                topic: TopicId(reader.u32()?),
                group: GroupId(reader.u32()?),
                queue: QueueId(reader.u32()?),
                lease: LeaseId(reader.u64()?),
            })),
            keys::DUE_SWEEP => Ok(Self::Sweep { topic: TopicId(reader.u32()?) }),
            kind => Err(reader.unknown(kind.into())),
        }
    }
}

/// Removes some of what a deleted topic left; true if there may be more.
fn sweep(stage: &mut Stage<'_>, topic: TopicId) -> Result<bool, Failure> {
    let mut room = SWEEP_KEYS_MAX;
    for (space, prefix) in keys::topic_prefixes(topic) {
        let found = stage.scan(space, &prefix, &keys::after_prefix(&prefix), room)?;
        room -= found.len();
        for (key, _) in found {
            stage.delete(space, key);
        }
        if room == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
