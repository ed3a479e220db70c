//! Clocks: the wall for stamps and display, the monotonic one for lengths; hours and days in this machine's time zone.
#![allow(clippy::disallowed_methods, reason = "env/ is where clocks are read")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike, Local, TimeZone, Timelike, Utc};
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

/// The hour of the day, 0 to 23, in this machine's time zone: `TZ`, else `/etc/localtime`, else UTC.
pub fn hour_of_day(at: Timestamp) -> u8 {
    u8::try_from(local(at).hour()).unwrap_or(0)
}

/// The day, counted from the calendar's first one, in this machine's time zone as [`hour_of_day`].
pub fn local_day(at: Timestamp) -> i32 {
    local(at).num_days_from_ce()
}

fn local(at: Timestamp) -> DateTime<Local> {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    // Times that no calendar has are in no hour; any will do.
    Utc.timestamp_millis_opt(millis).single().unwrap_or_default().with_timezone(&Local)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-29 06:59:59.999 UTC, and one millisecond later.
    const BEFORE_SEVEN: u64 = 1_795_935_599_999;

    #[test]
    fn hours_and_days_are_those_of_this_machine() {
        for at in [0, BEFORE_SEVEN, BEFORE_SEVEN + 1, 1_783_468_800_000] {
            let date = std::process::Command::new("date").args(["+%H", "-d", &format!("@{}", at / 1000)]).output();
            let hour: u8 = String::from_utf8(date.unwrap().stdout).unwrap().trim().parse().unwrap();
            assert_eq!(hour_of_day(Timestamp(at)), hour, "{at}");
        }
        assert!(hour_of_day(Timestamp(u64::MAX)) < 24);
        assert_eq!(local_day(Timestamp(BEFORE_SEVEN + 86_400_000)), local_day(Timestamp(BEFORE_SEVEN)) + 1);
        assert_eq!(local_day(Timestamp(12 * 3_600_000)), 719_163);
    }
}
