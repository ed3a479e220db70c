//! Half messages as stored: undecided ones, and for a while what was decided.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::due::Due;
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::machine::state::{due, keys};
use crate::model::codec::{Malformed, Reader};
use crate::model::{LogIndex, MessageRef, QueueId, Timestamp, TopicId, TransactionChecks};
use crate::store::kv::Space;

const VERSION: u8 = 1;
/// Of a carried one.
const VERSION_CARRIED: u8 = 2;
/// With the queue that its producer chose: of one that was not carried (index 0), and of a carried one.
const VERSION_QUEUE: u8 = 3;
/// No entry has this index.
const NOT_CARRIED: LogIndex = LogIndex(0);

/// A half message, or what was decided about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    /// What a run will hold of it.
    pub item: RunItem,
    pub checks: TransactionChecks,
    /// How often its producer was asked.
    pub asked: u32,
    /// When the producer is asked next, or the record of a decision is removed.
    pub due: Timestamp,
    /// Whether it was committed; `None` while it is undecided.
    pub decided: Option<bool>,
    /// The entry that has its bytes, if that is not the one it came with.
    pub index: Option<LogIndex>,
    /// The queue that it enters when it is committed, if its producer chose one.
    pub queue: Option<QueueId>,
}

impl Half {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(match (self.queue, self.index) {
            (Some(_), _) => VERSION_QUEUE,
            (None, Some(_)) => VERSION_CARRIED,
            (None, None) => VERSION,
        });
        self.item.encode(&mut out);
        self.checks.encode(&mut out);
        out.put_u32(self.asked);
        out.put_u64(self.due.0);
        out.put_u8(self.decided.map_or(0, |commit| if commit { 1 } else { 2 }));
        if let Some(index) = self.index.or_else(|| self.queue.map(|_| NOT_CARRIED)) {
            out.put_u64(index.0);
        }
        if let Some(queue) = self.queue {
            out.put_u32(queue.0);
        }
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "half message");
        let version = reader.u8()?;
        if !(VERSION..=VERSION_QUEUE).contains(&version) {
            return Err(reader.unknown(version.into()));
        }
        Ok(Self {
            item: RunItem::decode(&mut reader)?,
            checks: TransactionChecks::decode(&mut reader)?,
            asked: reader.u32()?,
            due: Timestamp(reader.u64()?),
            decided: read_decision(&mut reader)?,
            index: if version == VERSION { None } else { Some(LogIndex(reader.u64()?)) }
                .filter(|index| *index != NOT_CARRIED),
            queue: if version == VERSION_QUEUE { Some(QueueId(reader.u32()?)) } else { None },
        })
    }

    /// Where its bytes are; `message` is where they were when it was sent.
    pub fn bytes_at(&self, message: MessageRef) -> MessageRef {
        MessageRef { index: self.index.unwrap_or(message.index), slot: self.item.slot }
    }

    /// The entry whose bytes it refers to; `None` once it is decided.
    pub fn bytes_in(&self, message: MessageRef) -> Option<LogIndex> {
        self.decided.is_none().then(|| self.index.unwrap_or(message.index))
    }
}

fn read_decision(reader: &mut Reader) -> Result<Option<bool>, Malformed> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(true)),
        2 => Ok(Some(false)),
        value => Err(reader.unknown(value.into())),
    }
}

pub(in crate::machine) fn get(stage: &Stage<'_>, topic: TopicId, message: MessageRef) -> Result<Option<Half>, Failure> {
    Ok(stage.get(Space::Queue, &keys::half(topic, message))?.map(Half::decode).transpose()?)
}

/// Stores the record, and when it is due.
pub(in crate::machine) fn put(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef, half: &Half) {
    put_record(stage, topic, message, half);
    due::put(stage, half.due, Due::Half { topic, message });
}

/// As [`put`], when it is already known when it is due.
pub(in crate::machine) fn put_record(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef, half: &Half) {
    stage.put(Space::Queue, keys::half(topic, message), half.encode());
}

pub(in crate::machine) fn delete(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef) {
    stage.delete(Space::Queue, keys::half(topic, message));
}
