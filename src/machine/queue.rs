//! Consume queues: the head of each and its messages in runs.
//!
//! Hot path. A *run* is what one entry added to one queue: one key for all of its messages (D7),
//! holding for each the slot in the entry, the size and the hash of its tag, so that a plan can filter
//! without reading bodies.

use bytes::{BufMut, Bytes, BytesMut};

use super::catalog::versioned;
use super::stage::Stage;
use super::{Failure, keys};
use crate::model::codec::{Malformed, Writer};
use crate::model::{LogIndex, QueueId, QueueOffset, Timestamp, TopicId};
use crate::store::kv::Space;

const VERSION: u8 = 1;

/// Both ends of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueHead {
    /// First offset that can be read.
    pub min: QueueOffset,
    /// Offset of the next message.
    pub max: QueueOffset,
    /// When the last message was stored.
    pub last_stored_at: Option<Timestamp>,
}

/// One message of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunItem {
    /// Slot in the entry.
    pub slot: u32,
    /// Encoded size in bytes.
    pub bytes: u32,
    /// Hash of the tag, 0 for none.
    pub tag_hash: u64,
}

/// Consecutive messages of one queue from one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The entry.
    pub index: LogIndex,
    /// When it was stored: the entry's stamp on the machine's clock.
    pub stored_at: Timestamp,
    /// The messages.
    pub items: Vec<RunItem>,
}

impl QueueHead {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(26);
        out.put_u8(VERSION);
        out.put_u64(self.min.0);
        out.put_u64(self.max.0);
        out.put_option(self.last_stored_at, |out, at| out.put_u64(at.0));
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = versioned(bytes, "queue head")?;
        Ok(Self {
            min: QueueOffset(reader.u64()?),
            max: QueueOffset(reader.u64()?),
            last_stored_at: reader.option(|reader| Ok(Timestamp(reader.u64()?)))?,
        })
    }
}

impl Run {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(21 + self.items.len() * 16);
        out.put_u8(VERSION);
        out.put_u64(self.index.0);
        out.put_u64(self.stored_at.0);
        out.put_list(&self.items, |out, item| {
            out.put_u32(item.slot);
            out.put_u32(item.bytes);
            out.put_u64(item.tag_hash);
        });
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = versioned(bytes, "run")?;
        Ok(Self {
            index: LogIndex(reader.u64()?),
            stored_at: Timestamp(reader.u64()?),
            items: reader
                .list(|reader| Ok(RunItem { slot: reader.u32()?, bytes: reader.u32()?, tag_hash: reader.u64()? }))?,
        })
    }
}

/// The queue's head; a queue that was never made is empty.
pub(super) fn head(stage: &Stage<'_>, topic: TopicId, queue: QueueId) -> Result<QueueHead, Failure> {
    let value = stage.get(Space::Queue, &keys::queue_head(topic, queue))?;
    Ok(value.map(QueueHead::decode).transpose()?.unwrap_or_default())
}

pub(super) fn put_head(stage: &mut Stage<'_>, topic: TopicId, queue: QueueId, head: &QueueHead) {
    stage.put(Space::Queue, keys::queue_head(topic, queue), head.encode());
}

pub(super) fn put_run(stage: &mut Stage<'_>, topic: TopicId, queue: QueueId, first: QueueOffset, run: &Run) {
    stage.put(Space::Queue, keys::run(topic, queue, first), run.encode());
}
