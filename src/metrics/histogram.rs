//! How often something took how long, or was how large.
//!
//! Hot path. Threads add to different cells, so that they do not wait for each other's cache lines; reading adds them up.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// More threads than this share cells.
const SHARDS: usize = 4;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The cells of the calling thread.
fn shard() -> usize {
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get()
    })
}

/// Observations by size, since the process started. Shared by all threads.
///
/// * Units: its owner's; for lengths of time microseconds.
#[derive(Debug)]
pub struct Histogram {
    /// Upper ends of the buckets, ascending; a last bucket has what is above.
    bounds: &'static [u64],
    shards: [Cells; SHARDS],
}

/// In cache lines of their own.
#[derive(Debug)]
#[repr(align(64))]
struct Cells {
    sum: AtomicU64,
    counts: Box<[AtomicU64]>,
}

/// A histogram as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramCounts {
    pub bounds: &'static [u64],
    /// Of each bucket alone; one more than there are bounds.
    pub counts: Vec<u64>,
    pub sum: u64,
}

impl Histogram {
    pub fn new(bounds: &'static [u64]) -> Self {
        let cells =
            || Cells { sum: AtomicU64::new(0), counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect() };
        Self { bounds, shards: std::array::from_fn(|_| cells()) }
    }

    pub fn observe(&self, size: u64) {
        // Few bounds: faster than halving.
        let bucket = self.bounds.iter().take_while(|bound| **bound < size).count();
        let cells = &self.shards[shard()];
        cells.counts[bucket].fetch_add(1, Ordering::Relaxed);
        cells.sum.fetch_add(size, Ordering::Relaxed);
    }

    /// In microseconds.
    pub fn observe_time(&self, length: Duration) {
        self.observe(u64::try_from(length.as_micros()).unwrap_or(u64::MAX));
    }

    /// All cells together; what is observed meanwhile may be in a count and not in the sum yet.
    pub fn counts(&self) -> HistogramCounts {
        let mut counts = vec![0; self.bounds.len() + 1];
        let mut sum = 0u64;
        for cells in &self.shards {
            sum = sum.wrapping_add(cells.sum.load(Ordering::Relaxed));
            for (count, cell) in counts.iter_mut().zip(&cells.counts) {
                *count += cell.load(Ordering::Relaxed);
            }
        }
        HistogramCounts { bounds: self.bounds, counts, sum }
    }
}

impl HistogramCounts {
    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_of_all_threads_are_in_their_buckets_and_in_the_sum() {
        let histogram = Histogram::new(&[10, 100]);
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| [0, 10, 11, 100, 101].iter().for_each(|size| histogram.observe(*size)));
            }
        });
        let counts = histogram.counts();
        assert_eq!(counts.counts, [2, 2, 1].map(|each| each * 2 * SHARDS as u64));
        assert_eq!(counts.sum, 222 * 2 * SHARDS as u64);
        assert_eq!(counts.count(), 5 * 2 * SHARDS as u64);
        histogram.observe_time(Duration::from_millis(1));
        assert_eq!(histogram.counts().sum - counts.sum, 1000);
    }
}
