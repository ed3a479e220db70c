//! The messages that log entries hold: from memory or the page cache at once, from the disk away from the calling thread.
//!
//! Hot path. A thread of the front end serves many clients, and may be Raft's too: none of them waits for the disk that
//! stores messages. The state store's own reads are small and mostly in its cache; they are made where they are needed.

use bytes::Bytes;

use crate::broker::{Error, ShardReader};
use crate::machine::Batch;
use crate::model::{LogIndex, Message, MessageRef, Timestamp};
use crate::raft::ReadBatches;

/// A small message does not share the bytes of more than this: it would keep them in memory.
const SHARED_MAX: usize = 1024 * 1024;

/// What was read last, in the order of the log: an entry from memory, or as many as one read of the disk gave.
#[derive(Default)]
pub(super) struct ReadEntries(ReadBatches);

impl ReadEntries {
    pub fn new(read: ReadBatches) -> Self {
        Self(read)
    }

    /// The batch of an entry, if no disk is needed for it.
    pub fn in_memory(&mut self, reader: &ShardReader, index: LogIndex) -> Option<&Batch> {
        if self.found(index).is_none() {
            self.0 = ReadBatches::in_memory(index, reader.batch_in_memory(index)?);
        }
        self.found(index)
    }

    /// Bytes that each of their messages may keep in memory: what is read from the disk at once is one piece.
    fn shared_bytes(&self) -> usize {
        self.0.batches.iter().map(|(_, batch)| batch.entry_bytes()).sum()
    }

    fn found(&self, index: LogIndex) -> Option<&Batch> {
        let position = self.0.batches.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(&self.0.batches[position].1)
    }
}

/// Reads entries and their messages; neighbours in the log cost one look-up. Only a few large entries are in the hands of
/// readers at once: whoever has one must not wait for another reader.
pub(in crate::broker) struct BodyReader<'a> {
    reader: &'a ShardReader,
    entries: ReadEntries,
    kept_bytes: usize,
}

impl<'a> BodyReader<'a> {
    pub fn new(reader: &'a ShardReader) -> Self {
        Self { reader, entries: ReadEntries::default(), kept_bytes: 0 }
    }

    pub async fn read(&mut self, message: MessageRef) -> Result<Message, Error> {
        Ok(self.read_with_stamp(message).await?.0)
    }

    /// Bytes that the message that was read last may keep in memory.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Lets go of what was read.
    pub fn forget(&mut self) {
        self.entries = ReadEntries::default();
    }

    /// The message and the time of its entry.
    ///
    /// * Errors: [`Error::Unreadable`] if this node's log does not have it.
    pub async fn read_with_stamp(&mut self, at: MessageRef) -> Result<(Message, Timestamp), Error> {
        let (bytes, stamp) = self.encoded(at).await?;
        Ok((Message::decode(bytes).map_err(|error| unreadable(at, &error))?, stamp))
    }

    /// The encoded message and the time of its entry.
    ///
    /// * Errors: [`Error::Unreadable`] if this node's log does not have it.
    pub async fn encoded(&mut self, at: MessageRef) -> Result<(Bytes, Timestamp), Error> {
        let batch = self.batch(at.index).await?.ok_or_else(|| unreadable(at, &"the entry is missing"))?;
        let bytes = batch.message(at.slot).ok_or_else(|| unreadable(at, &"no such slot"))?;
        let stamp = batch.stamp();
        let (bytes, kept_bytes) = kept(bytes, self.entries.shared_bytes());
        self.kept_bytes = kept_bytes;
        Ok((bytes, stamp))
    }

    /// The batch of an entry; `None` if this node has none there.
    pub async fn batch(&mut self, index: LogIndex) -> Result<Option<&Batch>, Error> {
        if self.entries.in_memory(self.reader, index).is_none() {
            self.forget();
            self.entries = ReadEntries::new(self.reader.batches_on_disk(index).await?);
        }
        Ok(self.entries.found(index))
    }
}

/// The bytes of a message, and how many they keep in memory: their own, if they are a small part of much that was read at once.
fn kept(bytes: Bytes, shared_bytes: usize) -> (Bytes, usize) {
    if shared_bytes <= SHARED_MAX || bytes.len() * 2 >= shared_bytes {
        return (bytes, shared_bytes);
    }
    let own = Bytes::copy_from_slice(&bytes);
    let own_bytes = own.len();
    (own, own_bytes)
}

/// Decodes one message of an entry.
pub(super) fn message(batch: &Batch, at: MessageRef) -> Result<Message, Error> {
    let bytes = batch.message(at.slot).ok_or_else(|| unreadable(at, &"no such slot"))?;
    Message::decode(bytes).map_err(|error| unreadable(at, &error))
}

fn unreadable(at: MessageRef, what: &dyn std::fmt::Display) -> Error {
    Error::Unreadable(format!("message {} of entry {} cannot be read: {what}", at.slot, at.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p20_a_small_message_does_not_keep_a_large_entry_in_memory() {
        let entry = Bytes::from(vec![7; 2 * SHARED_MAX]);
        let is_shared = |part: &Bytes| entry.as_ptr_range().contains(&part.as_ptr());
        let (small, bytes) = kept(entry.slice(5..8), entry.len());
        assert_eq!((&small[..], bytes, is_shared(&small)), (&[7; 3][..], 3, false));
        let (large, bytes) = kept(entry.slice(1..), entry.len());
        assert_eq!((bytes, is_shared(&large)), (entry.len(), true));
        let (of_small_entry, bytes) = kept(entry.slice(5..8), SHARED_MAX);
        assert_eq!((bytes, is_shared(&of_small_entry)), (SHARED_MAX, true), "copying costs more than it frees");
    }
}
