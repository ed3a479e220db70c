//! Reading the log: from the tail cache, the page cache or the disk.
//!
//! Hot path. Replication, apply and consumers at the tail find their records in the tail cache. A reader never waits for
//! the writer, and a truncation that overtakes a read makes it shorter, never wrong.

use std::sync::Arc;

use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::log_state::LogState;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::segment::{Access, Span};

/// One file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentExtent {
    /// Its first entry.
    pub first: LogIndex,
    /// What it takes on the disk.
    pub bytes: u64,
}

/// Reads records by index. Cheap to clone; does not keep the log open.
#[derive(Clone)]
pub struct LogReader {
    log: Arc<LogState>,
}

impl LogReader {
    pub(in crate::store) fn new(log: Arc<LogState>) -> Self {
        Self { log }
    }

    /// The files of the log, oldest first.
    pub fn segments(&self) -> Vec<SegmentExtent> {
        let segments = self.log.segments.read();
        segments.iter().map(|segment| SegmentExtent { first: segment.first, bytes: segment.end() }).collect()
    }

    /// The last entry.
    pub fn last(&self) -> Option<RecordId> {
        self.log.state.lock().last
    }

    /// Reads `[from, to)`; may wait for the disk.
    ///
    /// * Shape: consecutive records; at least one if `from` is in the log, else as many as fit `bytes_max`. What is
    ///   missing at the end is left out.
    /// * Units: `bytes_max` counts wire records.
    /// * Errors: [`Error::Io`], [`Error::Damaged`].
    pub fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<Record>, Error> {
        Ok(self.read_by(Access::Blocking, from, to, bytes_max)?.unwrap_or_default())
    }

    /// As [`Self::read`], but never waits for the disk; `None` if the first record is only there.
    pub fn read_at_hand(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Option<Vec<Record>>, Error> {
        self.read_by(Access::AtHand, from, to, bytes_max)
    }

    /// As [`Self::read`], from the tail cache only; `None` if `from` is not there.
    pub fn read_cached(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Option<Vec<Record>> {
        self.log.state.lock().cache.read(from, to, bytes_max)
    }

    fn read_by(
        &self,
        access: Access,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Result<Option<Vec<Record>>, Error> {
        if let Some(found) = self.read_cached(from, to, bytes_max) {
            return Ok(Some(found));
        }
        let to = self.last().map_or(LogIndex(0), |last| last.index.next()).min(to);
        let mut found: Vec<Record> = Vec::new();
        let mut next = from;
        let mut room = bytes_max;
        while next < to {
            let segment = {
                let segments = self.log.segments.read();
                let after = segments.partition_point(|segment| segment.first <= next);
                after.checked_sub(1).map(|position| segments[position].clone())
            };
            let Some(segment) = segment else { break };
            let span = Span { from: next, to, bytes_max: room, takes_one: found.is_empty() };
            match segment.read(span, access)? {
                None if found.is_empty() => return Ok(None),
                None => break,
                Some(more) if more.is_empty() => break,
                Some(more) => {
                    next = LogIndex(next.0 + more.len() as u64);
                    room = more.iter().fold(room, |room, record| room.saturating_sub(record.wire_bytes()));
                    found.extend(more);
                }
            }
        }
        Ok(Some(found))
    }
}
