//! The messages that log entries hold: from memory or the page cache at once, from the disk away from the calling thread.
//!
//! Hot path. A thread of the front end serves many clients, and may be Raft's too: none of them waits for the disk that
//! stores messages. The state store's own reads are small and mostly in its cache; they are made where they are needed.

use crate::broker::{Error, ShardReader};
use crate::machine::Batch;
use crate::model::{LogIndex, Message, MessageRef, Timestamp};

/// What was read last, in the order of the log: an entry from memory, or as many as one read of the disk gave.
#[derive(Default)]
pub(super) struct ReadEntries(Vec<(LogIndex, Batch)>);

impl ReadEntries {
    pub fn new(batches: Vec<(LogIndex, Batch)>) -> Self {
        Self(batches)
    }

    /// The batch of an entry, if no disk is needed for it.
    pub fn in_memory(&mut self, reader: &ShardReader, index: LogIndex) -> Option<&Batch> {
        if self.found(index).is_none() {
            let batch = reader.batch_in_memory(index)?;
            self.0.clear();
            self.0.push((index, batch));
        }
        self.found(index)
    }

    /// Bytes that each of their messages may keep in memory: what is read from the disk at once is one piece.
    fn shared_bytes(&self) -> usize {
        self.0.iter().map(|(_, batch)| batch.entry_bytes()).sum()
    }

    fn found(&self, index: LogIndex) -> Option<&Batch> {
        let position = self.0.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(&self.0[position].1)
    }
}

/// Reads entries and their messages; neighbours in the log cost one look-up.
pub(in crate::broker) struct BodyReader<'a> {
    reader: &'a ShardReader,
    entries: ReadEntries,
}

impl<'a> BodyReader<'a> {
    pub fn new(reader: &'a ShardReader) -> Self {
        Self { reader, entries: ReadEntries::default() }
    }

    pub async fn read(&mut self, message: MessageRef) -> Result<Message, Error> {
        Ok(self.read_with_stamp(message).await?.0)
    }

    /// Bytes that the message that was read last may keep in memory.
    pub fn shared_bytes(&self) -> usize {
        self.entries.shared_bytes()
    }

    /// The message and the time of its entry.
    ///
    /// * Errors: [`Error::Unreadable`] if this node's log does not have it.
    pub async fn read_with_stamp(&mut self, at: MessageRef) -> Result<(Message, Timestamp), Error> {
        let batch = self.batch(at.index).await?.ok_or_else(|| unreadable(at, &"the entry is missing"))?;
        Ok((message(batch, at)?, batch.stamp()))
    }

    /// The batch of an entry; `None` if this node has none there.
    pub async fn batch(&mut self, index: LogIndex) -> Result<Option<&Batch>, Error> {
        if self.entries.in_memory(self.reader, index).is_none() {
            self.entries = ReadEntries::new(self.reader.batches_on_disk(index).await?);
        }
        Ok(self.entries.found(index))
    }
}

/// Decodes one message of an entry.
pub(super) fn message(batch: &Batch, at: MessageRef) -> Result<Message, Error> {
    let bytes = batch.message(at.slot).ok_or_else(|| unreadable(at, &"no such slot"))?;
    Message::decode(bytes).map_err(|error| unreadable(at, &error))
}

pub(in crate::broker) fn unreadable(at: MessageRef, what: &dyn std::fmt::Display) -> Error {
    Error::Unreadable(format!("message {} of entry {} cannot be read: {what}", at.slot, at.index))
}
