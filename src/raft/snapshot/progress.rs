//! What is known of a replica that needs a snapshot, and how it gets on.

use tokio::time::Instant;

use crate::model::LogIndex;

/// Somebody knows that this node needs a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) struct Behind {
    /// The snapshot must have applied this entry.
    pub needs: LogIndex,
    pub said_at: Instant,
}

/// How a replica that catches up by a snapshot gets on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatchingUp {
    pub progress: PullProgress,
    /// Why it does not get on now.
    pub waits_for: Option<String>,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PullProgress {
    /// The last entry that the snapshot has applied.
    pub applied: LogIndex,
    /// Bytes that are there, of all that there will be; those of the log are an estimate.
    pub done: u64,
    pub total: u64,
}

impl PullProgress {
    /// 0 to 100.
    pub fn percent(&self) -> u64 {
        (self.done.min(self.total) * 100).checked_div(self.total).unwrap_or(0)
    }
}
