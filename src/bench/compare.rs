//! Two servers side by side: slices take turns, each pair gives one ratio, and the median ratio comes with
//! a bootstrap interval. What drifts on the machine hits both sides of a pair alike.

use serde::{Deserialize, Serialize};

use crate::bench::report::Report;
use crate::env::rng::SeededRng;

const RESAMPLES: usize = 10_000;
const CONFIDENCE: f64 = 0.95;

/// One figure of two sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Which figure.
    pub figure: String,
    /// Median of the first side.
    pub a: f64,
    /// Median of the second side.
    pub b: f64,
    /// Median of the ratios a / b.
    pub ratio: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The ratios of paired runs; empty without pairs.
pub fn ratios(pairs: &[(Report, Report)]) -> Vec<Ratio> {
    type Figure = fn(&Report) -> f64;
    let figures: [(&str, Figure); 6] = [
        ("messages per second", |report| report.messages_per_second),
        ("p50 µs", |report| report.latency.p50_us as f64),
        ("p99 µs", |report| report.latency.p99_us as f64),
        ("server CPU µs per message", |report| report.server_cpu_us),
        ("server MiB", |report| report.server_mib),
        ("end to end p50 µs", |report| report.end_to_end.map_or(0.0, |latency| latency.p50_us as f64)),
    ];
    let compare = |(name, figure): (&str, Figure)| {
        let sides: Vec<(f64, f64)> = pairs.iter().map(|(a, b)| (figure(a), figure(b))).collect();
        ratio(name, &sides)
    };
    figures.into_iter().filter_map(compare).collect()
}

/// The ratio of paired values; `None` if there is none or one side is nothing.
pub fn ratio(figure: &str, sides: &[(f64, f64)]) -> Option<Ratio> {
    let ratios: Vec<f64> = sides.iter().filter(|(_, b)| *b > 0.0).map(|(a, b)| a / b).collect();
    if ratios.is_empty() || sides.iter().all(|(a, _)| *a == 0.0) {
        return None;
    }
    let (low, high) = interval(&ratios);
    Some(Ratio {
        figure: figure.to_owned(),
        a: median(sides.iter().map(|(a, _)| *a).collect()),
        b: median(sides.iter().map(|(_, b)| *b).collect()),
        ratio: median(ratios),
        low,
        high,
    })
}

/// The middle value; of an even number, the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

fn interval(values: &[f64]) -> (f64, f64) {
    let mut numbers = SeededRng::new(values.len() as u64);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| median(values.iter().map(|_| values[numbers.below(values.len() as u64) as usize]).collect()))
        .collect();
    medians.sort_by(f64::total_cmp);
    let outside = ((1.0 - CONFIDENCE) / 2.0 * RESAMPLES as f64) as usize;
    (medians[outside], medians[RESAMPLES - 1 - outside])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ratio_of_pairs_lies_in_its_interval() {
        let sides: Vec<(f64, f64)> = (1..=9).map(|n| (f64::from(n) * 2.0, f64::from(n))).collect();
        let same = ratio("x", &sides).unwrap();
        assert_eq!((same.ratio, same.low, same.high), (2.0, 2.0, 2.0), "drift on both sides cancels");
        let noisy = ratio("x", &[(1.0, 1.0), (3.0, 1.0), (2.0, 1.0), (4.0, 1.0), (2.5, 1.0)]).unwrap();
        assert_eq!(noisy.ratio, 2.5);
        assert!(noisy.low >= 1.0 && noisy.low < 2.5 && noisy.high > 2.5 && noisy.high <= 4.0, "{noisy:?}");
        assert_eq!(ratio("x", &[]), None);
        assert_eq!(ratio("x", &[(0.0, 1.0)]), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
