//! What the log's writer measures: the time of its syncs, and how much it wrote.

use crate::metrics::{Counter, Histogram};

/// In microseconds.
const SYNC_BOUNDS: &[u64] =
    &[100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// Since the process started.
#[derive(Debug)]
pub struct LogMeasures {
    /// One observation for each sync of the last segment.
    pub sync: Histogram,
    /// Bytes of records.
    pub written_bytes: Counter,
}

impl Default for LogMeasures {
    fn default() -> Self {
        Self { sync: Histogram::new(SYNC_BOUNDS), written_bytes: Counter::default() }
    }
}
