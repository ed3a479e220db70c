//! Whether Raft's thread still runs its tasks: it beats here, and whoever asks sees how long ago.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const BEAT_EVERY: Duration = Duration::from_secs(1);

/// When Raft's thread last beat. Shared by it and whoever asks.
#[derive(Clone, Default)]
pub struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    /// Beats until it is dropped; to be run on Raft's thread.
    pub async fn beat(self) {
        loop {
            self.note();
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }

    fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// For how long it has not beaten; `None` before the first time.
    pub fn silent_for(&self) -> Option<Duration> {
        self.0.lock().map(|at| at.elapsed())
    }
}
