//! A bound on bytes per second, shared by all that send (`snapshotRate`).

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// No more is booked ahead: who waits longer has given up when its time comes.
const BOOKED_MAX: Duration = Duration::from_secs(10);

/// Lets so many bytes pass in a second, on average.
pub(in crate::raft) struct RateLimit {
    /// 0: no bound.
    bytes_per_second: u64,
    /// When what was taken so far has had its time.
    paid_at: Mutex<Instant>,
}

impl RateLimit {
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid_at: Mutex::new(Instant::now()) }
    }

    /// Waits until these bytes may be sent; in the order of the calls. False if too many are to be sent before.
    pub async fn take(&self, bytes: usize) -> bool {
        if self.bytes_per_second == 0 {
            return true;
        }
        #[expect(clippy::cast_precision_loss, reason = "a time to wait")]
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let begins = {
            let mut paid_at = self.paid_at.lock();
            let now = Instant::now();
            let begins = (*paid_at).max(now);
            if begins - now > BOOKED_MAX {
                return false;
            }
            *paid_at = begins + cost;
            begins
        };
        tokio::time::sleep_until(begins).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn more_than_can_be_waited_for_is_refused_and_not_booked() {
        let rate = RateLimit::new(1000);
        assert_ne!(rate.take(9_500).now_or_never(), Some(false));
        // Who waits for it is gone: it stays booked.
        assert_eq!(rate.take(1_000).now_or_never(), None);
        let booked_until = *rate.paid_at.lock();
        for _ in 0..100 {
            assert_eq!(rate.take(1_000).now_or_never(), Some(false));
        }
        assert_eq!(*rate.paid_at.lock(), booked_until);
        *rate.paid_at.lock() -= Duration::from_secs(1);
        assert_eq!(rate.take(1_000).now_or_never(), None, "it is its turn soon enough");
    }

    #[tokio::test]
    async fn no_more_passes_than_the_rate_and_nothing_is_saved_up() {
        let rate = RateLimit::new(10_000);
        let start = Instant::now();
        for _ in 0..5 {
            rate.take(500).await;
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(200), "{took:?}: the last of them has its time afterwards");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        rate.take(500).await;
        rate.take(1).await;
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(50), "{took:?}");
        let start = Instant::now();
        RateLimit::new(0).take(usize::MAX).await;
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
