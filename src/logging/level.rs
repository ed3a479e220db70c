//! The level, which may be another one for a while.
//!
//! Changing it costs nothing where lines are logged: a line that no level of now shows is left out after one relaxed load.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Level;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload;

use crate::logging::queue::LineQueue;
use crate::logging::targets::{ANNOUNCEMENTS, shown};

static CONTROL: OnceLock<Control> = OnceLock::new();

struct Control {
    filter: reload::Handle<Targets, Registry>,
    configured: Level,
    now: Mutex<(Level, Option<Instant>)>,
    queue: Arc<LineQueue>,
}

/// Which level is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelNow {
    pub level: Level,
    /// `logLevel`.
    pub configured: Level,
    /// After so long it is the configured one again.
    pub falls_back_in: Option<Duration>,
}

/// This process logs nothing, or somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process has no log whose level could be changed")]
pub struct NotStarted;

/// The level that is shown now.
pub fn level() -> Result<LevelNow, NotStarted> {
    let control = CONTROL.get().ok_or(NotStarted)?;
    Ok(control.read(*control.now.lock()))
}

/// Shows another level from now on: until this process ends, or for a while.
pub fn set_level(level: Level, lasts: Option<Duration>) -> Result<LevelNow, NotStarted> {
    let control = CONTROL.get().ok_or(NotStarted)?;
    let mut now = control.now.lock();
    let until = lasts.map(|lasts| Instant::now() + lasts);
    *now = (level, until);
    let read = control.read(*now);
    control.show(level)?;
    drop(now);
    control.queue.wake();
    let level = name(level);
    match lasts {
        Some(lasts) => {
            tracing::info!(target: ANNOUNCEMENTS, level, falls_back_in = ?lasts, "the log level was changed")
        }
        None => tracing::info!(target: ANNOUNCEMENTS, level, "the log level was changed"),
    }
    Ok(read)
}

/// Once, when logging starts.
pub(super) fn control(filter: reload::Handle<Targets, Registry>, configured: Level, queue: Arc<LineQueue>) {
    let control = Control { filter, configured, now: Mutex::new((configured, None)), queue };
    // A second start is refused by tracing before it comes here.
    let _ = CONTROL.set(control);
}

/// Falls back if that is due; how long until it is, if it will be.
pub(super) fn fall_back() -> Option<Duration> {
    let control = CONTROL.get()?;
    let mut now = control.now.lock();
    let left = now.1?.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        return Some(left);
    }
    *now = (control.configured, None);
    let shown = control.show(control.configured);
    drop(now);
    if shown.is_ok() {
        let level = name(control.configured);
        tracing::info!(target: ANNOUNCEMENTS, level, "the log level is the configured one again");
    }
    None
}

/// As it is configured.
fn name(level: Level) -> String {
    level.as_str().to_lowercase()
}

impl Control {
    fn show(&self, level: Level) -> Result<(), NotStarted> {
        self.filter.reload(shown(level)).map_err(|_| NotStarted)
    }

    fn read(&self, (level, until): (Level, Option<Instant>)) -> LevelNow {
        let falls_back_in = until.map(|until| until.saturating_duration_since(Instant::now()));
        LevelNow { level, configured: self.configured, falls_back_in }
    }
}
