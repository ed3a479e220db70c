//! What is due: keys that begin with a time, so that a tick finds in order what is due by then.
//!
//! * Shape: `time u64, kind u8`, then the numbers of the kind. The time is machine time. The value is empty, but for
//!   what is deleted or cleared and is removed in part: where to go on (`machine/sweep`, `machine/groups`); and for a
//!   delayed message: a version byte, in version 2 the shift u64 by which its delivery time was converted, in version
//!   3 also the entry u64 that has its bytes since it was carried, in version 4 also (with entry 0 if it was not carried) the
//!   queue u32 that its producer chose, and the [`RunItem`] that will enter the queue.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader};
use crate::model::{GroupId, LeaseId, LogIndex, MessageRef, Millis, QueueId, Timestamp, TopicId};
use crate::store::kv::Space;

const LEASE: u8 = 1;
const SWEEP: u8 = 2;
const MESSAGE: u8 = 3;
const HALF: u8 = 4;
const SWEEP_GROUP: u8 = 5;
const CLEAR: u8 = 6;
const LEAVE: u8 = 7;
/// Versions of a delayed message's value: without a shift, with one, of a carried message, and for a queue that was chosen.
const VERSION: u8 = 1;
const VERSION_SHIFTED: u8 = 2;
const VERSION_CARRIED: u8 = 3;
const VERSION_QUEUE: u8 = 4;
/// No entry has this index.
const NOT_CARRIED: LogIndex = LogIndex(0);

/// One due thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The lease ends.
    Lease(LeaseKey),
    /// What is stored for a deleted topic is to be removed.
    Sweep { topic: TopicId },
    /// What is stored for a deleted group in a topic is to be removed.
    SweepGroup { topic: TopicId, group: GroupId },
    /// Leases that a group lost are to be removed, in the queues that its subscription to the topic names.
    Clear { topic: TopicId, group: GroupId },
    /// A deleted group is still subscribed to topics.
    Leave { group: GroupId },
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
            CLEAR => Ok(Self::Clear { topic: TopicId(reader.u32()?), group: GroupId(reader.u32()?) }),
            LEAVE => Ok(Self::Leave { group: GroupId(reader.u32()?) }),
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
            Self::Clear { topic, group } => {
                out.put_u8(CLEAR);
                out.put_u32(topic.0);
                out.put_u32(group.0);
            }
            Self::Leave { group } => {
                out.put_u8(LEAVE);
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

/// Stores a delayed message for a machine time.
pub(in crate::machine) fn put_message(
    stage: &mut Stage<'_>,
    at: Timestamp,
    topic: TopicId,
    message: MessageRef,
    delayed: DelayedItem,
) {
    put_value(stage, at, Due::Message { topic, message }, delayed.encode());
}

/// The value of what is due; `None` if there is nothing of that kind at that time.
pub(in crate::machine) fn get(stage: &Stage<'_>, at: Timestamp, due: Due) -> Result<Option<Bytes>, Failure> {
    Ok(stage.get(Space::Due, &due.key(at))?)
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

/// Stores what is due with a value of its own.
pub(in crate::machine) fn put_with(stage: &mut Stage<'_>, at: Timestamp, due: Due, value: Bytes) {
    put_value(stage, at, due, value);
}

fn put_value(stage: &mut Stage<'_>, at: Timestamp, due: Due, value: Bytes) {
    stage.put(Space::Due, due.key(at), value);
    let earliest = &mut stage.effects().due_at;
    *earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
}

/// The time at which the thing with this key is due.
pub(in crate::machine) fn time_of(key: &Bytes) -> Result<Timestamp, Malformed> {
    Ok(Timestamp(Reader::new(key.clone(), "due key").u64()?))
}

/// What is stored of a delayed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayedItem {
    /// What a run will hold of it.
    pub item: RunItem,
    /// What machine time was ahead of the time of day when its delivery time became a key.
    pub shift: Millis,
    /// The entry that has its bytes, if that is not the one it came with.
    pub index: Option<LogIndex>,
    /// The queue that it enters, if its producer chose one.
    pub queue: Option<QueueId>,
}

impl DelayedItem {
    fn encode(self) -> Bytes {
        let mut value = BytesMut::with_capacity(37);
        match (self.queue, self.index) {
            (Some(queue), index) => {
                value.put_u8(VERSION_QUEUE);
                value.put_u64(self.shift.0);
                value.put_u64(index.unwrap_or(NOT_CARRIED).0);
                value.put_u32(queue.0);
            }
            (None, Some(index)) => {
                value.put_u8(VERSION_CARRIED);
                value.put_u64(self.shift.0);
                value.put_u64(index.0);
            }
            (None, None) if self.shift == Millis(0) => value.put_u8(VERSION),
            (None, None) => {
                value.put_u8(VERSION_SHIFTED);
                value.put_u64(self.shift.0);
            }
        }
        self.item.encode(&mut value);
        value.freeze()
    }

    /// Where its bytes are; `message` is where they were when it was sent.
    pub fn bytes_at(&self, message: MessageRef) -> MessageRef {
        MessageRef { index: self.bytes_in(message), slot: self.item.slot }
    }

    /// The entry whose bytes it refers to.
    pub fn bytes_in(&self, message: MessageRef) -> LogIndex {
        self.index.unwrap_or(message.index)
    }

    /// From the value of its key.
    pub fn decode(value: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(value, "delayed message");
        let version = reader.u8()?;
        if !(VERSION..=VERSION_QUEUE).contains(&version) {
            return Err(reader.unknown(version.into()));
        }
        let shift = if version >= VERSION_SHIFTED { Millis(reader.u64()?) } else { Millis(0) };
        let index = if version >= VERSION_CARRIED { Some(LogIndex(reader.u64()?)) } else { None };
        let queue = if version == VERSION_QUEUE { Some(QueueId(reader.u32()?)) } else { None };
        let index = index.filter(|index| *index != NOT_CARRIED);
        Ok(Self { item: RunItem::decode(&mut reader)?, shift, index, queue })
    }

    /// The delivery time that was asked for, from the time in its key.
    pub fn wall_of(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_sub(self.shift.0))
    }
}
