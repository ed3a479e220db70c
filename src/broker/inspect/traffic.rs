//! Messages per second through this node, over the last ten seconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::clock::Clock;

const SAMPLES: usize = 11;

#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    taken_in: u64,
    handed_out: u64,
}

/// Counts messages in and out. Shared by the shard, which counts, and the node, which tells.
pub struct Traffic {
    clock: Arc<dyn Clock>,
    taken_in: AtomicU64,
    handed_out: AtomicU64,
    samples: Mutex<VecDeque<Sample>>,
}

impl Traffic {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, taken_in: AtomicU64::new(0), handed_out: AtomicU64::new(0), samples: Mutex::default() }
    }

    pub(in crate::broker) fn count_in(&self, messages: usize) {
        self.taken_in.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(in crate::broker) fn count_out(&self, messages: usize) {
        self.handed_out.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Takes a sample; to be called once a second.
    pub(in crate::broker) fn sample(&self) {
        let sample = self.now();
        let mut samples = self.samples.lock();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn now(&self) -> Sample {
        Sample {
            at: self.clock.mono(),
            taken_in: self.taken_in.load(Ordering::Relaxed),
            handed_out: self.handed_out.load(Ordering::Relaxed),
        }
    }

    /// Messages in and out per second, since the oldest sample; (0, 0) before the first.
    pub fn per_second(&self) -> (f64, f64) {
        let now = self.now();
        let Some(first) = self.samples.lock().front().copied() else { return (0.0, 0.0) };
        let seconds = now.at.saturating_sub(first.at).as_secs_f64();
        if seconds <= 0.0 {
            return (0.0, 0.0);
        }
        let rate = |now: u64, then: u64| (now - then) as f64 / seconds;
        (rate(now.taken_in, first.taken_in), rate(now.handed_out, first.handed_out))
    }
}
