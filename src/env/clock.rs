//! Clocks: the wall for stamps and display, the monotonic one for lengths.
#![allow(clippy::disallowed_methods, reason = "env/ is where clocks are read")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::model::{Millis, Timestamp};

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// The time of day; may jump, also backwards.
    fn wall(&self) -> Timestamp;
    /// Time since a fixed point of this clock; never goes backwards.
    fn mono(&self) -> Duration;
}

/// The machine's clocks.
pub struct RealClock {
    started: Instant,
}

impl RealClock {
    /// Monotonic time counts from now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for RealClock {
    fn wall(&self) -> Timestamp {
        wall()
    }

    fn mono(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The time of day.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that moves only by [`Self::advance`].
pub struct ManualClock {
    start: Timestamp,
    now: Mutex<Timestamp>,
}

impl ManualClock {
    /// Stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { start: now, now: Mutex::new(now) }
    }

    /// Moves on.
    pub fn advance(&self, length: Millis) {
        let mut now = self.now.lock();
        *now = now.plus(length);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        *self.now.lock()
    }

    fn mono(&self) -> Duration {
        self.now.lock().since(self.start).into()
    }
}
