//! When the caller of a request stops waiting.

use std::time::Duration;

use tokio::time::Instant;

/// An answer is sent this long before the caller's deadline.
const DEADLINE_MARGIN: Duration = Duration::from_millis(200);

/// When the caller stops waiting, if it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// The caller waits for as long as it takes.
    pub const NONE: Self = Self(None);

    /// The caller waits until then.
    pub fn at(until: Instant) -> Self {
        Self(Some(until))
    }

    /// Until when a request may take, all its steps together: `wait` from now on, and no later than what lets the
    /// answer reach the caller in time.
    pub(super) fn held_until(self, wait: Duration) -> Instant {
        let now = Instant::now();
        let held = now + wait;
        self.0.map_or(held, |at| held.min(at.checked_sub(DEADLINE_MARGIN).unwrap_or(now)))
    }
}
