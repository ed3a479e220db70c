//! What the log's writer does when the disk is full: it asks for the reserve, and waits.
//!
//! Nothing is lost by waiting, because nothing is completed meanwhile; but votes wait too, since a vote makes the appends
//! before it durable. Whoever appends therefore looks before whether there is room.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::Error;
use crate::store::log::log_state::LogState;

/// Pause before a write is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// That it waits is said again after this long.
const REPORT_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(in crate::store) struct FullDisk {
    /// Since when nothing could be written.
    since: Option<Instant>,
    reported: Option<Instant>,
}

impl FullDisk {
    /// After a write that found the disk full, waits until it may be tried again: not at all if there was a reserve.
    ///
    /// * Errors: the same, if the log is being closed or the process is about to end.
    pub fn wait(&mut self, log: &LogState, error: Error) -> Result<(), Error> {
        let has_made_room = log.on_full.read().as_ref().is_some_and(|on_full| on_full());
        if has_made_room {
            return Ok(());
        }
        self.since.get_or_insert_with(Instant::now);
        if self.reported.is_none_or(|reported| reported.elapsed() >= REPORT_EVERY) {
            self.reported = Some(Instant::now());
            tracing::error!(%error, "the disk is full, and the log waits for room; it goes on by itself");
        }
        let mut state = log.state.lock();
        if !state.is_ending() {
            // Woken early by what is appended: then it is tried once more.
            log.changed.wait_for(&mut state, PAUSE);
        }
        if state.is_ending() { Err(error) } else { Ok(()) }
    }

    pub fn note_written(&mut self) {
        if let Some(since) = self.since.take() {
            self.reported = None;
            let waited_ms = since.elapsed().as_millis();
            tracing::info!(waited_ms, "the log is written again");
        }
    }
}
