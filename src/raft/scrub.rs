//! The scrub: reads the log and the state of this node through, gently, so that what rots on the disk is found while the
//! peers still have it.
//!
//! One pass a day at most, at `scrubRate` bytes per second. What it finds in the log is repaired (`repair`); a state that
//! cannot be read ends the node, which makes it anew when it starts (`state_damage`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::env::pool::Pool;
use crate::env::rng::random_u64;
use crate::raft::error::{Fatal, OnFatal};
use crate::store::kv::{self, Kv};
use crate::store::log::CommitLog;

/// From the beginning of one pass to the next.
const PASS_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// A start has other things to do.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// Longest sleep of the thread that reads: what it is to end with ends soon.
const SLEEP_MAX: Duration = Duration::from_millis(200);

/// What it works with.
pub(super) struct Scrub {
    pub log: CommitLog,
    pub kv: Arc<dyn Kv>,
    /// `scrubRate`; 0: no scrub.
    pub bytes_per_second: u64,
    pub on_fatal: OnFatal,
}

/// Ends the reading when the scrub is dropped.
struct EndsWith(Arc<AtomicBool>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Scrub {
    /// Works until it is dropped.
    pub async fn run(self) {
        if self.bytes_per_second == 0 {
            return;
        }
        // Short rates are for tests, and for who wants to know now.
        let first_after = if self.is_urgent() { Duration::from_millis(500) } else { FIRST_AFTER };
        tokio::time::sleep(first_after).await;
        let is_ended = Arc::new(AtomicBool::new(false));
        let _ends = EndsWith(is_ended.clone());
        loop {
            let began = Instant::now();
            match self.pass(&is_ended).await {
                Ok(()) => tracing::debug!(took = ?began.elapsed(), "log and state were read through"),
                Err(error) if error.is_damage() => {
                    return (self.on_fatal)(Fatal::Failed(format!("the state cannot be read: {error}")));
                }
                // Too many open files, for instance: nothing is wrong with what is on the disk.
                Err(error) => tracing::warn!(%error, "the state could not be read through"),
            }
            let every = if self.is_urgent() { Duration::from_secs(1) } else { PASS_EVERY };
            tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
        }
    }

    /// At the highest rate there is no gentleness to lose.
    fn is_urgent(&self) -> bool {
        self.bytes_per_second >= crate::model::limits::SCRUB_BYTES_MAX
    }

    async fn pass(&self, is_ended: &Arc<AtomicBool>) -> kv::Result<()> {
        let (log, kv, rate) = (self.log.clone(), self.kv.clone(), self.bytes_per_second);
        let is_ended = is_ended.clone();
        let reading = Pool::Upkeep.run(move || {
            let mut pace = Pace { rate, owed: Duration::ZERO, is_ended };
            let mut firsts: Vec<_> = log.segments().iter().map(|segment| segment.first).collect();
            // Not always from the beginning: nodes that start often come to the end of the log too.
            let from = usize::try_from(random_u64() % firsts.len().max(1) as u64).unwrap_or_default();
            firsts.rotate_left(from);
            for first in firsts {
                if let Err(error) = log.examine(first, &mut |bytes| pace.go_on(bytes)) {
                    tracing::warn!(segment = %first, %error, "a segment could not be read through");
                }
            }
            kv.verify(&mut |bytes| pace.go_on(bytes))
        });
        match reading.await {
            Ok(read) => read,
            // It panicked, which is reported where it did.
            Err(_) => Ok(()),
        }
    }
}

/// Sleeps as long as what was read takes at the rate.
struct Pace {
    rate: u64,
    owed: Duration,
    is_ended: Arc<AtomicBool>,
}

impl Pace {
    fn go_on(&mut self, bytes: u64) -> bool {
        self.owed += Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        while self.owed > Duration::from_millis(5) && !self.is_ended.load(Ordering::Relaxed) {
            let sleep = self.owed.min(SLEEP_MAX);
            std::thread::sleep(sleep);
            self.owed -= sleep;
        }
        !self.is_ended.load(Ordering::Relaxed)
    }
}
