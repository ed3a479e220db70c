//! Reading the batches of log entries, for those above the log: message bodies are in them.
//!
//! Hot path. What is in the tail cache or the page cache is read on the calling thread; only what is on the disk alone is
//! read on another (D35).

use std::io;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::env::pool::Pool;
use crate::machine::Batch;
use crate::model::{LogIndex, Term};
use crate::store::log::LogReader;
pub use crate::store::log::SegmentExtent;
use crate::store::log::record::Record;

/// A read gives at least one entry however small its bound is; one entry is what is wanted.
const ONE_ENTRY: usize = 1;
/// Entries, and their bytes, that one read of the disk gives.
const READ_AHEAD_ENTRIES: u64 = 64;
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// Reads that give more than this are large; so many of them are in memory at once.
const LARGE_BYTES: usize = 1024 * 1024;
const LARGE_READS_MAX: usize = 4;

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
    large_reads: Arc<Semaphore>,
}

/// What one read gave, by index. While it lives, a large one keeps others from being read: whoever has it must not wait for
/// another one.
#[derive(Debug, Default)]
pub struct ReadBatches {
    pub batches: Vec<(LogIndex, Batch)>,
    _place: Option<OwnedSemaphorePermit>,
}

impl ReadBatches {
    /// Of a batch that is in memory anyway.
    pub fn in_memory(index: LogIndex, batch: Batch) -> Self {
        Self { batches: vec![(index, batch)], _place: None }
    }
}

impl BatchReader {
    pub(super) fn new(log: LogReader, applied: watch::Receiver<LogIndex>) -> Self {
        Self { log, applied, large_reads: Arc::new(Semaphore::new(LARGE_READS_MAX)) }
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
    pub async fn read(&self, index: LogIndex) -> io::Result<ReadBatches> {
        // Not beyond what is applied: the rest may yet be cut, and whoever keeps it would take it for what replaced it.
        let applied = self.applied.borrow().next();
        let to = LogIndex(index.0.saturating_add(READ_AHEAD_ENTRIES)).min(applied).max(index.next());
        // Mostly still in the page cache: then no other thread has to be woken for it, and to wake this one.
        let (records, place) = match self.log.read_at_hand(index, to, READ_AHEAD_BYTES).map_err(io::Error::other)? {
            Some(records) => (records, None),
            None => {
                // How much it gives is known once it is read.
                let place = self.large_reads.clone().acquire_owned().await.map_err(io::Error::other)?;
                let log = self.log.clone();
                let read = Pool::ColdReads.run(move || log.read(index, to, READ_AHEAD_BYTES));
                let records = read.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
                let bytes: usize = records.iter().map(Record::wire_bytes).sum();
                (records, (bytes > LARGE_BYTES).then_some(place))
            }
        };
        let batches = records.into_iter().filter_map(|record| Some((record.index, Batch::decode(record.body).ok()?)));
        Ok(ReadBatches { batches: batches.collect(), _place: place })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::timeout;

    use super::*;
    use crate::env::fault::sim::SimDisk;
    use crate::machine::Proposal;
    use crate::model::{NodeId, Timestamp};
    use crate::store::log::record::RecordKind;
    use crate::store::log::{CommitLog, FlushMode, LogOwner, Options};

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(20);
    const LARGE_ONES: u64 = LARGE_READS_MAX as u64 + 1;

    /// A log of batches, of which nothing is in memory: large ones, and a small one at the end.
    fn log() -> CommitLog {
        let disk = Arc::new(SimDisk::default());
        let owner = LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(1) };
        let options = Options {
            segment_bytes: 1 << 30,
            tail_cache_bytes: 1,
            flush: FlushMode::Sync,
            open_files_max: 16,
            has_peers: false,
        };
        let log = CommitLog::open(disk, Path::new("/log"), &owner, options, Box::new(|_| {})).unwrap();
        let record = |index: u64| {
            let bytes = if index <= LARGE_ONES { LARGE_BYTES } else { 1 };
            let proposal = Proposal { command: Bytes::new(), messages: vec![Bytes::from(vec![0; bytes])] };
            let body = Batch::encode(Timestamp(0), std::iter::once(&proposal));
            Record { term: Term(1), node: NodeId(1), index: LogIndex(index), kind: RecordKind::Batch, body }
        };
        let (sender, done) = channel();
        let completed = move |result: io::Result<()>| sender.send(result.is_ok()).unwrap();
        log.append((1..=LARGE_ONES + 1).map(record).collect(), Box::new(completed)).unwrap();
        assert!(done.recv().unwrap());
        log
    }

    #[tokio::test]
    async fn p20_only_a_few_large_entries_are_in_the_hands_of_readers() {
        let log = log();
        let (_applied, applied) = watch::channel(LogIndex(LARGE_ONES + 1));
        let reader = BatchReader::new(log.reader().clone(), applied);
        let mut held = Vec::new();
        // Small ones take no place for longer than they are read.
        held.push(reader.read(LogIndex(LARGE_ONES + 1)).await.unwrap());
        for index in 1..LARGE_ONES {
            held.push(timeout(LONG, reader.read(LogIndex(index))).await.unwrap().unwrap());
        }
        assert!(held.iter().all(|read| read.batches.len() == 1));
        assert!(timeout(SHORT, reader.read(LogIndex(LARGE_ONES))).await.is_err(), "it waits");
        held.pop();
        let last = timeout(LONG, reader.read(LogIndex(LARGE_ONES))).await.unwrap().unwrap();
        assert_eq!(last.batches[0].0, LogIndex(LARGE_ONES));
    }
}
