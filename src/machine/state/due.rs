//! What is due: keys that begin with a time, so that a tick finds in order what is due by then.
//!
//! * Shape: `time u64, kind u8`, then the numbers of the kind. The value is empty, but for a delayed message: a
//!   version byte and the [`RunItem`] that will enter the queue.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader};
use crate::model::{GroupId, LeaseId, MessageRef, QueueId, Timestamp, TopicId};
use crate::store::kv::Space;

const LEASE: u8 = 1;
const SWEEP: u8 = 2;
const MESSAGE: u8 = 3;
const HALF: u8 = 4;
const SWEEP_GROUP: u8 = 5;
/// Version of a delayed message's value.
const VERSION: u8 = 1;

/// One due thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The lease ends.
    Lease(LeaseKey),
    /// What is stored for a deleted topic is to be removed.
    Sweep { topic: TopicId },
    /// What is stored for a deleted group in a topic is to be removed.
    SweepGroup { topic: TopicId, group: GroupId },
    /// A delayed message enters its queue.
    Message { topic: TopicId, message: MessageRef },
    /// The producer of a half message is asked, or the record of a decided one is removed.
    Half { topic: TopicId, message: MessageRef },
}

impl Due {
    /// From a key of the Due space.
    pub fn decode(key: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(key, "due key");
        reader.u64()?;
        match reader.u8()? {
            LEASE => Ok(Self::Lease(LeaseKey {
                topic: TopicId(reader.u32()?),
                group: GroupId(reader.u32()?),
                queue: QueueId(reader.u32()?),
                lease: LeaseId(reader.u64()?),
            })),
            SWEEP => Ok(Self::Sweep { topic: TopicId(reader.u32()?) }),
            SWEEP_GROUP => Ok(Self::SweepGroup { topic: TopicId(reader.u32()?), group: GroupId(reader.u32()?) }),
            MESSAGE => Ok(Self::Message { topic: TopicId(reader.u32()?), message: MessageRef::decode(&mut reader)? }),
            HALF => Ok(Self::Half { topic: TopicId(reader.u32()?), message: MessageRef::decode(&mut reader)? }),
            kind => Err(reader.unknown(kind.into())),
        }
    }

    fn key(self, at: Timestamp) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + 1 + 20);
        out.put_u64(at.0);
        match self {
            Self::Lease(LeaseKey { topic, group, queue, lease }) => {
                out.put_u8(LEASE);
                out.put_u32(topic.0);
                out.put_u32(group.0);
                out.put_u32(queue.0);
                out.put_u64(lease.0);
            }
            Self::Sweep { topic } => {
                out.put_u8(SWEEP);
                out.put_u32(topic.0);
            }
            Self::SweepGroup { topic, group } => {
                out.put_u8(SWEEP_GROUP);
                out.put_u32(topic.0);
                out.put_u32(group.0);
            }
            Self::Message { topic, message } => {
                out.put_u8(MESSAGE);
                out.put_u32(topic.0);
                message.encode(&mut out);
            }
            Self::Half { topic, message } => {
                out.put_u8(HALF);
                out.put_u32(topic.0);
                message.encode(&mut out);
            }
        }
        out.freeze()
    }
}

/// Everything that is due at `from` or later has this key or a higher one.
pub(in crate::machine) fn start(from: Timestamp) -> Bytes {
    Bytes::copy_from_slice(&from.0.to_be_bytes())
}

/// Everything that is due at `now` or before has a key below this one.
pub(in crate::machine) fn end(now: Timestamp) -> Bytes {
    Bytes::copy_from_slice(&now.0.saturating_add(1).to_be_bytes())
}

pub(in crate::machine) fn put(stage: &mut Stage<'_>, at: Timestamp, due: Due) {
    put_value(stage, at, due, Bytes::new());
}

pub(in crate::machine) fn delete(stage: &mut Stage<'_>, at: Timestamp, due: Due) {
    stage.delete(Space::Due, due.key(at));
}

/// Stores a delayed message.
pub(in crate::machine) fn put_message(
    stage: &mut Stage<'_>,
    at: Timestamp,
    topic: TopicId,
    message: MessageRef,
    item: RunItem,
) {
    let mut value = BytesMut::with_capacity(17);
    value.put_u8(VERSION);
    item.encode(&mut value);
    put_value(stage, at, Due::Message { topic, message }, value.freeze());
}

/// Removes what is due and gives its value; `None` if there is nothing of that kind at that time.
pub(in crate::machine) fn take(stage: &mut Stage<'_>, at: Timestamp, due: Due) -> Result<Option<Bytes>, Failure> {
    let key = due.key(at);
    let value = stage.get(Space::Due, &key)?;
    if value.is_some() {
        stage.delete(Space::Due, key);
    }
    Ok(value)
}

/// Stores what [`take`] gave for another time.
pub(in crate::machine) fn put_value(stage: &mut Stage<'_>, at: Timestamp, due: Due, value: Bytes) {
    stage.put(Space::Due, due.key(at), value);
    let earliest = &mut stage.effects().due_at;
    *earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
}

/// What a run will hold of a delayed message, from the value of its key.
pub(in crate::machine) fn message_item(value: Bytes) -> Result<RunItem, Malformed> {
    RunItem::decode(&mut Reader::versioned(value, "delayed message", VERSION)?)
}
