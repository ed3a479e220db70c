//! Due things: ended leases, delivery times, questions about transactions and leftovers of deleted topics.
//! Proposed by `broker/background/timer`.
//!
//! Bounded: one tick does at most [`DUE_MAX`] things and says whether more is due.

use bytes::Bytes;

use crate::machine::outcome::Outcome;
use crate::machine::send::Sends;
use crate::machine::state::keys;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease;
use crate::machine::state::stage::Stage;
use crate::machine::{Failure, delay, transaction};
use crate::model::codec::{Malformed, Reader};
use crate::model::{GroupId, LeaseId, MessageRef, QueueId, Timestamp, TopicId};
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
    let mut sends = Sends::default();
    for (key, value) in due {
        stage.delete(Space::Due, key.clone());
        let due = Due::decode(key)?;
        if let Due::Message { topic, message } = due {
            delay::come(stage, &mut sends, topic, message, value)?;
            continue;
        }
        // The others see queues as they are.
        sends.settle(stage);
        match due {
            Due::Message { .. } => unreachable!("taken above"),
            Due::Half { topic, message } => transaction::due(stage, topic, message)?,
            Due::Lease(at) => lease::end(stage, at)?,
            Due::Sweep { topic } => {
                if sweep(stage, &keys::topic_prefixes(topic))? {
                    let now = stage.now();
                    stage.put_due(now, keys::due_sweep(now, topic));
                    more = true;
                }
            }
            Due::SweepGroup { topic, group } => {
                if sweep(stage, &keys::group_prefixes(topic, group))? {
                    let now = stage.now();
                    stage.put_due(now, keys::due_sweep_group(now, topic, group));
                    more = true;
                }
            }
        }
    }
    sends.settle(stage);
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
    /// What a deleted group left in a topic goes.
    SweepGroup {
        /// Which topic.
        topic: TopicId,
        /// Which group.
        group: GroupId,
    },
    /// A message enters its queue.
    Message {
        /// Its topic.
        topic: TopicId,
        /// Which.
        message: MessageRef,
    },
    /// Something is to be done about a half message.
    Half {
        /// Its topic.
        topic: TopicId,
        /// Which.
        message: MessageRef,
    },
}

impl Due {
    /// From a key of the due space.
    pub fn decode(key: Bytes) -> Result<Self, Malformed> {
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
            keys::DUE_SWEEP_GROUP => {
                Ok(Self::SweepGroup { topic: TopicId(reader.u32()?), group: GroupId(reader.u32()?) })
            }
            keys::DUE_MESSAGE => {
                Ok(Self::Message { topic: TopicId(reader.u32()?), message: MessageRef::decode(&mut reader)? })
            }
            keys::DUE_HALF => {
                Ok(Self::Half { topic: TopicId(reader.u32()?), message: MessageRef::decode(&mut reader)? })
            }
            kind => Err(reader.unknown(kind.into())),
        }
    }
}

/// Removes some of what a deleted topic or group left; true if there may be more.
fn sweep(stage: &mut Stage<'_>, prefixes: &[(Space, Bytes)]) -> Result<bool, Failure> {
    let mut room = SWEEP_KEYS_MAX;
    for (space, prefix) in prefixes {
        let found = stage.scan(*space, prefix, &keys::after_prefix(prefix), room)?;
        room -= found.len();
        for (key, _) in found {
            stage.delete(*space, key);
        }
        if room == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
