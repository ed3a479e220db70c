//! What a replica measures of itself, for metrics: how long applying takes and how far behind the log it is, how much there
//! is in an entry, how often there was an election.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics::{Counter, Histogram, HistogramCounts};
use crate::model::Millis;
use crate::store::kv::KvFacts;
use crate::store::log::{CommitLog, LogMeasures};

/// In microseconds.
const APPLY_BOUNDS: &[u64] = &[50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 10_000_000];
/// In microseconds; stamps are whole milliseconds.
const DELAY_BOUNDS: &[u64] =
    &[1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000, 60_000_000];
const COMMANDS_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// Since the process started. Shared by the tasks of a replica.
#[derive(Debug)]
pub(super) struct Measures {
    apply: Histogram,
    apply_delay: Histogram,
    commands: Histogram,
    elections: Counter,
    term: AtomicU64,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            apply: Histogram::new(APPLY_BOUNDS),
            apply_delay: Histogram::new(DELAY_BOUNDS),
            commands: Histogram::new(COMMANDS_BOUNDS),
            elections: Counter::default(),
            term: AtomicU64::new(0),
        }
    }
}

impl Measures {
    /// An entry with commands was applied: how long that took since it was handed over, how many there were in it, and how
    /// long ago the leader had stamped it.
    pub fn applied(&self, took: Duration, commands: usize, delay: Millis) {
        self.apply.observe_time(took);
        self.commands.observe(commands as u64);
        self.apply_delay.observe(delay.0.saturating_mul(1000));
    }

    /// Raft is in this term.
    pub fn in_term(&self, term: u64) {
        let before = self.term.swap(term, Ordering::Relaxed);
        if before != 0 && before < term {
            self.elections.add(1);
        }
    }
}

/// What was measured, as it is now.
#[derive(Debug, Clone)]
pub struct ReplicaMeasures {
    /// Time of a sync of the log, in microseconds.
    pub sync: HistogramCounts,
    /// Bytes of records written to the log.
    pub log_written_bytes: u64,
    /// Time from when Raft hands a committed entry over until it is applied, in microseconds; waiting for this node's own disk
    /// is part of it.
    pub apply: HistogramCounts,
    /// Time from the leader's stamp of an entry until it is applied here, in microseconds.
    pub apply_delay: HistogramCounts,
    /// Commands in an entry.
    pub commands: HistogramCounts,
    /// Terms that began since the process started.
    pub elections: u64,
    /// Newest records of the log that are held in memory.
    pub tail_cache_bytes: u64,
    /// Appended and not yet written to the log.
    pub waiting_bytes: u64,
    /// What waits to become an entry, of at most as much.
    pub proposed_bytes: u64,
    pub proposed_bytes_max: u64,
    /// The lists and places of the log's segments in memory.
    pub log_places_bytes: u64,
    pub store: KvFacts,
}

impl ReplicaMeasures {
    /// `proposed` is what waits to become an entry, and how much may.
    pub(super) fn of(measures: &Measures, log: &CommitLog, proposed: (u64, u64), store: KvFacts) -> Self {
        let LogMeasures { sync, written_bytes } = log.measures();
        let memory = log.memory();
        let (proposed_bytes, proposed_bytes_max) = proposed;
        Self {
            sync: sync.counts(),
            log_written_bytes: written_bytes.now(),
            apply: measures.apply.counts(),
            apply_delay: measures.apply_delay.counts(),
            commands: measures.commands.counts(),
            elections: measures.elections.now(),
            tail_cache_bytes: log.tail_cache_bytes(),
            waiting_bytes: log.waiting_bytes(),
            proposed_bytes,
            proposed_bytes_max,
            log_places_bytes: (memory.list_bytes + memory.places_bytes) as u64,
            store,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_term_after_the_first_is_an_election() {
        let measures = Measures::default();
        for term in [0, 3, 3, 4, 6, 6] {
            measures.in_term(term);
        }
        assert_eq!(measures.elections.now(), 2);
    }
}
