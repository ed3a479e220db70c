//! What a run counts: messages, latencies, failures, and what was sent.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies are kept to three digits, up to this many microseconds.
const LATENCY_MAX_US: u64 = 600_000_000;

/// What one worker sent.
#[derive(Debug, Clone)]
pub(super) struct SentMessage {
    pub worker: u32,
    /// Every sequence below was sent.
    pub next: u32,
    /// Of these nobody knows whether they are stored.
    pub unknown: Vec<u32>,
}

/// What the workers of one thread counted in the window.
pub(super) struct Tally {
    pub messages: u64,
    pub latency_us: Histogram<u64>,
    pub end_to_end_us: Histogram<u64>,
    pub poll_us: Histogram<u64>,
    pub ack_us: Histogram<u64>,
    pub received: u64,
    pub failures: BTreeMap<String, u64>,
    pub sent: Vec<SentMessage>,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("valid bounds");
        Self {
            messages: 0,
            latency_us: histogram(),
            end_to_end_us: histogram(),
            poll_us: histogram(),
            ack_us: histogram(),
            received: 0,
            failures: BTreeMap::new(),
            sent: Vec::new(),
        }
    }
}

impl Tally {
    /// Takes over what another thread counted.
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.received += other.received;
        self.latency_us += other.latency_us;
        self.end_to_end_us += other.end_to_end_us;
        self.poll_us += other.poll_us;
        self.ack_us += other.ack_us;
        self.sent.extend(other.sent);
        for (what, count) in other.failures {
            *self.failures.entry(what).or_default() += count;
        }
    }

    pub fn failed(&mut self, what: String) {
        *self.failures.entry(what).or_default() += 1;
    }
}

/// Microseconds, at least one.
pub(super) fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(LATENCY_MAX_US).clamp(1, LATENCY_MAX_US)
}
