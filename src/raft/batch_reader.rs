//! Reading the batches of log entries, for those above the log: message bodies are in them.
//!
//! Hot path. What is in the tail cache or the page cache is read on the calling thread; only what is on the disk alone is
//! read on another (D35).

use std::io;

use tokio::sync::watch;

use crate::env::pool::Pool;
use crate::machine::Batch;
use crate::model::{LogIndex, Term};
use crate::store::log::LogReader;
pub use crate::store::log::SegmentExtent;

/// A read gives at least one entry however small its bound is; one entry is what is wanted.
const ONE_ENTRY: usize = 1;
/// Entries, and their bytes, that one read of the disk gives.
const READ_AHEAD_ENTRIES: u64 = 64;
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Where an entry is in this node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPlace {
    pub index: LogIndex,
    pub term: Term,
    /// The first entry of the segment that has it.
    pub segment: LogIndex,
}

/// Reads batches from this node's log. Cheap to clone.
#[derive(Clone)]
pub struct BatchReader {
    log: LogReader,
    applied: watch::Receiver<LogIndex>,
}

impl BatchReader {
    pub(super) fn new(log: LogReader, applied: watch::Receiver<LogIndex>) -> Self {
        Self { log, applied }
    }

    /// The files of this node's log, oldest first.
    pub fn segments(&self) -> Vec<SegmentExtent> {
        self.log.segments()
    }

    /// Whether something of this node's log was found to be damaged or lost, and is not repaired yet.
    pub fn has_damage(&self) -> bool {
        self.log.has_damage()
    }

    /// Whether this entry may be damaged or lost, as far as is known.
    pub fn is_in_doubt(&self, index: LogIndex) -> bool {
        self.log.is_in_doubt(index)
    }

    /// The batch in the entry at `index`, if the entry is in the tail cache and is a batch.
    pub fn in_memory(&self, index: LogIndex) -> Option<Batch> {
        let records = self.log.read_cached(index, index.next(), ONE_ENTRY)?;
        Batch::decode(records.into_iter().next()?.body).ok()
    }

    /// Where an entry is; `None` if this node does not have it.
    ///
    /// * Errors: the disk failed or the record is damaged.
    pub async fn place(&self, index: LogIndex) -> io::Result<Option<EntryPlace>> {
        let log = self.log.clone();
        let read = Pool::ColdReads.run(move || log.read(index, index.next(), ONE_ENTRY));
        let records = read.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let segment = self.segments().iter().map(|segment| segment.first).filter(|first| *first <= index).max();
        let found = records.into_iter().find(|record| record.index == index);
        Ok(found.zip(segment).map(|(record, segment)| EntryPlace { index, term: record.term, segment }))
    }

    /// The batches in the applied entries from `index` on.
    ///
    /// * Shape: by index, as many as one read of the disk gives. Entries that are no batch or not on this node are left
    ///   out, so the answer may be empty or begin after `index`.
    /// * Errors: the disk failed or a record is damaged.
    pub async fn read(&self, index: LogIndex) -> io::Result<Vec<(LogIndex, Batch)>> {
        // Not beyond what is applied: the rest may yet be cut, and whoever keeps it would take it for what replaced it.
        let applied = self.applied.borrow().next();
        let to = LogIndex(index.0.saturating_add(READ_AHEAD_ENTRIES)).min(applied).max(index.next());
        // Mostly still in the page cache: then no other thread has to be woken for it, and to wake this one.
        let records = match self.log.read_at_hand(index, to, READ_AHEAD_BYTES).map_err(io::Error::other)? {
            Some(records) => records,
            None => {
                let log = self.log.clone();
                let read = Pool::ColdReads.run(move || log.read(index, to, READ_AHEAD_BYTES));
                read.await.map_err(io::Error::other)?.map_err(io::Error::other)?
            }
        };
        let batches = records.into_iter().filter_map(|record| Some((record.index, Batch::decode(record.body).ok()?)));
        Ok(batches.collect())
    }
}
