//! The newest records in memory: what replication, apply and consumers at the tail read.
//!
//! Hot path. Bounded by bytes, except that records not yet in a file are always kept: they cannot be read from anywhere
//! else.

use std::collections::VecDeque;

use crate::model::LogIndex;
use crate::store::log::record::Record;

/// The newest records; consecutive.
pub(in crate::store) struct TailCache {
    records: VecDeque<Record>,
    bytes: usize,
    bytes_max: usize,
}

impl TailCache {
    pub fn new(bytes_max: usize) -> Self {
        Self { records: VecDeque::new(), bytes: 0, bytes_max }
    }

    fn first(&self) -> Option<LogIndex> {
        self.records.front().map(|record| record.index)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the next record; after a gap in the log the older ones are dropped.
    pub fn push(&mut self, record: Record) {
        if self.records.back().is_some_and(|last| last.index.next() != record.index) {
            self.records.clear();
            self.bytes = 0;
        }
        self.bytes += record.wire_bytes();
        self.records.push_back(record);
    }

    /// Drops the oldest down to the bound, but no record after `written`.
    pub fn shrink(&mut self, written: LogIndex) {
        while self.bytes > self.bytes_max && self.first().is_some_and(|first| first <= written) {
            if let Some(record) = self.records.pop_front() {
                self.bytes -= record.wire_bytes();
            }
        }
    }

    /// Drops everything after `last`.
    pub fn truncate_after(&mut self, last: LogIndex) {
        while self.records.back().is_some_and(|record| record.index > last) {
            if let Some(record) = self.records.pop_back() {
                self.bytes -= record.wire_bytes();
            }
        }
    }

    /// The records of `[from, to)` that are here, if `from` is; at least one, else up to `bytes_max`.
    pub fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Option<Vec<Record>> {
        let first = self.first().filter(|first| *first <= from)?;
        let skip = usize::try_from(from.0 - first.0).ok()?;
        let mut bytes = 0;
        let mut found = Vec::new();
        for record in self.records.range(skip.min(self.records.len())..) {
            bytes += record.wire_bytes();
            if record.index >= to || (!found.is_empty() && bytes > bytes_max) {
                break;
            }
            found.push(record.clone());
        }
        Some(found)
    }
}
