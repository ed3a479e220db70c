//! A message id as the window of recent sends keeps it: 96 bits of a hash over topic and id, and where the message was
//! stored.

use bytes::BytesMut;

use crate::machine::state::stored::Stored;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{LogIndex, Message, MessageRef, QueueId, QueueOffset, TopicId};

/// Marks a send as an entry and a slot instead of a queue and an offset.
const DEFERRED: u32 = 1 << 31;

/// Stands for a message id in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::machine) struct Key {
    pub low: u64,
    pub high: u32,
}

/// The key of an encoded message.
pub(in crate::machine) fn key(topic: TopicId, message: &[u8]) -> Option<Key> {
    let hash = xxhash_rust::xxh3::xxh3_128_with_seed(Message::id_in(message)?, topic.0.into());
    let [low, high] = [hash, hash >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).expect("64 bits"));
    Some(Key { low, high: u32::try_from(high >> 32).expect("32 bits") })
}

/// A message in 24 bytes, because there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecentSend {
    low: u64,
    high: u32,
    /// Queue; with [`DEFERRED`], slot.
    queue_or_slot: u32,
    /// Offset; with [`DEFERRED`], entry.
    offset_or_entry: u64,
}

impl RecentSend {
    /// A message that the entry stored there; `None` if an earlier one stored it.
    pub fn new(key: Key, index: LogIndex, stored: Stored) -> Option<Self> {
        let (queue_or_slot, offset_or_entry) = match stored {
            Stored::Queue(queue, offset) => (queue.0, offset.0),
            Stored::Deferred(slot) => (slot | DEFERRED, index.0),
            Stored::DeferredBefore(_) => return None,
        };
        Some(Self { low: key.low, high: key.high, queue_or_slot, offset_or_entry })
    }

    pub fn key(&self) -> Key {
        Key { low: self.low, high: self.high }
    }

    /// The answer to whoever sends it again.
    pub fn stored(&self) -> Stored {
        let Self { queue_or_slot, offset_or_entry, .. } = *self;
        if queue_or_slot & DEFERRED == 0 {
            Stored::Queue(QueueId(queue_or_slot), QueueOffset(offset_or_entry))
        } else {
            Stored::DeferredBefore(MessageRef { index: LogIndex(offset_or_entry), slot: queue_or_slot & !DEFERRED })
        }
    }

    /// The bytes of where it is; the key is written apart.
    pub fn put_place(&self, out: &mut BytesMut) {
        out.put_varint(self.queue_or_slot.into());
        out.put_varint(self.offset_or_entry);
    }

    /// From [`Self::put_place`].
    pub fn read(key: Key, reader: &mut Reader) -> Result<Self, Malformed> {
        let (queue_or_slot, offset_or_entry) = (reader.varint_u32()?, reader.varint()?);
        Ok(Self { low: key.low, high: key.high, queue_or_slot, offset_or_entry })
    }
}
