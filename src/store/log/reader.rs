//! Reading the log: from the tail cache, the page cache or the disk.
//!
//! Hot path. Replication, apply and consumers at the tail find their records in the tail cache. A reader never waits for
//! the writer, and a truncation or a forgetting that overtakes a read makes it shorter, never wrong.

use std::sync::Arc;

use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::log_state::LogState;
use crate::store::log::places::Span;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::segment::Access;
use crate::store::log::segments::SegmentExtent;

/// How often a read that was overtaken looks again.
const TRIES_MAX: usize = 16;

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
        self.log.segments.extents()
    }

    /// Whether something of this log was found to be damaged or lost, and is not repaired yet.
    pub fn has_damage(&self) -> bool {
        self.log.segments.quarantine().has_any() || self.log.state.lock().lost_from.is_some()
    }

    /// Whether this entry may be damaged or lost, as far as is known.
    pub fn is_in_doubt(&self, index: LogIndex) -> bool {
        let is_lost = self.log.state.lock().lost_from.is_some_and(|from| index >= from);
        is_lost || self.log.segments.is_in_doubt(index)
    }

    /// The last entry.
    pub fn last(&self) -> Option<RecordId> {
        self.log.state.lock().last
    }

    /// Reads `[from, to)`; may wait for the disk.
    ///
    /// * Shape: consecutive records; at least one if `from` is in the log, else as many as fit `bytes_max`. What is
    ///   missing at the end is left out; nothing is given if `from` was forgotten.
    /// * Units: `bytes_max` counts wire records.
    /// * Errors: [`Error::Damaged`] if the first record is; what follows a damaged one is left out. [`Error::Io`].
    pub fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<Record>, Error> {
        Ok(self.read_by(Access::Blocking, from, to, bytes_max)?.unwrap_or_default())
    }

    /// As [`Self::read`], but never waits for the disk; `None` if the first record, or the knowledge where it lies, is only
    /// there.
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
        let mut found: Vec<Record> = Vec::new();
        let (mut next, mut room, mut tries) = (from, bytes_max, 0);
        let mut to = to;
        loop {
            to = self.last().map_or(LogIndex(0), |last| last.index.next()).min(to);
            let Some(segment) = self.log.segments.find(next).filter(|_| next < to) else { break };
            let span = Span { from: next, to, bytes_max: room, takes_one: found.is_empty() };
            match self.log.segments.read(&segment, span, access) {
                // What it read was cut or forgotten meanwhile, or may have been.
                Err(_) if self.log.segments.changes() != segment.changes && tries < TRIES_MAX => tries += 1,
                // What is whole before the damage is given, at least half of it: so a reader that goes on is there soon.
                Err(Error::Damaged { .. }) if to > next.next() => to = LogIndex(next.0.midpoint(to.0)),
                Err(Error::Damaged { .. }) if !found.is_empty() => break,
                Err(error) => return Err(error),
                Ok(None) if found.is_empty() => return Ok(None),
                Ok(None) => break,
                Ok(Some(more)) if more.is_empty() => break,
                Ok(Some(more)) => {
                    next = LogIndex(next.0 + more.len() as u64);
                    room = more.iter().fold(room, |room, record| room.saturating_sub(record.wire_bytes()));
                    found.extend(more);
                }
            }
        }
        Ok(Some(found))
    }
}
