//! Tasks that outlive the request or loop that began them: what dropped polls give back, and questions to producers.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Owns the tasks of one shard.
pub(in crate::broker) struct Tasks {
    tracker: TaskTracker,
    /// Raft's: that of the front end ends before the shard does.
    runtime: Handle,
}

impl Tasks {
    /// Tasks on the current runtime.
    pub fn here() -> Self {
        Self { tracker: TaskTracker::new(), runtime: Handle::current() }
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task, &self.runtime);
    }

    /// Takes no more tasks to wait for, and waits for those there are, for a time.
    pub async fn finish(&self, within: Duration) {
        self.tracker.close();
        let _ = tokio::time::timeout(within, self.tracker.wait()).await;
    }
}
