//! A histogram of `u64` values in buckets that grow with the value: the few functions that openraft calls.
//!
//! openraft counts the sizes of its batches with it. Values up to 7 have a bucket each; above that each power of two
//! has four buckets, so a percentile is at most a quarter above or below the value it stands for.

use std::fmt;
use std::marker::PhantomData;

/// Buckets of one power of two, as bits of the value after its highest.
const SUB_BITS: u32 = 2;
/// Values below this have a bucket of their own.
const EXACT: u64 = 1 << (SUB_BITS + 1);
/// Buckets for all of `u64`.
const BUCKETS: usize = (((64 - SUB_BITS) as usize) << SUB_BITS) + (1 << SUB_BITS);

/// Counts values by bucket.
///
/// `T` is a mark that openraft names and never sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    mark: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// A histogram without values.
    pub fn new() -> Self {
        Self { counts: Box::new([0; BUCKETS]), mark: PhantomData }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let counted = &mut self.counts[bucket(value)];
        *counted = counted.saturating_add(count);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The lowest value of the bucket in which the share `share` (0 to 1) of all values is reached; 0 without values.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = ((self.total() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0u64;
        for (at, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= wanted {
                return lowest(at);
            }
        }
        0
    }

    /// The percentiles that openraft prints.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The bucket of a value: its highest bits.
fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    ((shift as usize) << SUB_BITS) + (value >> shift) as usize
}

/// The lowest value of a bucket.
fn lowest(bucket: usize) -> u64 {
    if (bucket as u64) < EXACT {
        return bucket as u64;
    }
    let shift = (bucket >> SUB_BITS) - 1;
    (bucket - (shift << SUB_BITS)) as u64 * (1 << shift)
}

/// Values at or below which a share of all values lies: `p50` is the median.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    /// 0.1 %.
    pub p0_1: u64,
    /// 1 %.
    pub p1: u64,
    /// 5 %.
    pub p5: u64,
    /// 10 %.
    pub p10: u64,
    /// 50 %.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(f, "n={samples} 0.1%={p0_1} 1%={p1} 5%={p5} 10%={p10} 50%={p50} 90%={p90} 99%={p99} 99.9%={p99_9}")
    }
}

/// Named histograms, printed with a line of percentiles each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    rows: Vec<(String, Histogram)>,
}

impl AsciiChart {
    /// A chart without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row.
    #[allow(clippy::should_implement_trait, reason = "openraft calls it by this name")]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.rows.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(name, histogram)| writeln!(f, "{name}: {}", histogram.percentile_stats()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_follow_one_another() {
        for at in 0..BUCKETS {
            assert_eq!(bucket(lowest(at)), at);
            let last = if at + 1 == BUCKETS { u64::MAX } else { lowest(at + 1) - 1 };
            assert_eq!(bucket(last), at);
        }
    }

    #[test]
    fn percentiles_are_at_most_a_quarter_off() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0, "nothing was counted");
        (1..=1000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p50), (1000, 1, 448));
        for (found, exact) in [(stats.p10, 100), (stats.p50, 500), (stats.p90, 900), (stats.p99, 990)] {
            assert!(found <= exact, "{found} for {exact}");
            assert!(exact <= found + found / 4, "{found} for {exact}");
        }
    }
}
