//! The read side of a shard: its applied state and its log on this node, and waiting until both are up to date.
//!
//! Everything in `broker/` that only reads holds this instead of the replica, which could also propose.

use tokio::time::Instant;

use crate::broker::Error;
use crate::machine::Batch;
use crate::machine::state::view::View;
use crate::model::{LogIndex, Timestamp};
use crate::raft::Replica;

/// Reads a shard's state and log on this node. Cheap to clone.
#[derive(Clone)]
pub struct ShardReader(Replica);

impl ShardReader {
    pub(super) fn new(replica: Replica) -> Self {
        Self(replica)
    }

    /// This node's applied state; it may be behind the leader's.
    pub fn view(&self) -> View<'_> {
        self.0.view()
    }

    /// The last entry that this node has applied.
    pub fn applied(&self) -> LogIndex {
        *self.0.applied().borrow()
    }

    /// Waits until this node's view shows everything that was answered, anywhere, before now (P14).
    ///
    /// * Errors: [`Error::NoLeader`] if it does not in time; definite, as nothing is proposed.
    pub async fn read_barrier(&self, until: Instant) -> Result<(), Error> {
        let index = self.0.read_index(until).await?;
        if self.caught_up(index, until).await { Ok(()) } else { Err(Error::NoLeader) }
    }

    /// Waits until this node has applied an entry, so that its view shows what was answered; false if it
    /// has not in time.
    pub async fn caught_up(&self, index: LogIndex, until: Instant) -> bool {
        let mut applied = self.0.applied();
        matches!(tokio::time::timeout_at(until, applied.wait_for(|applied| *applied >= index)).await, Ok(Ok(_)))
    }

    /// The time of day at a machine time, as users see it.
    pub(super) fn wall_of(&self, at: Timestamp) -> Timestamp {
        self.0.clock().wall_of(at)
    }

    /// The batch of an entry, if it can be read without waiting for the disk.
    pub(super) fn batch_in_memory(&self, index: LogIndex) -> Option<Batch> {
        self.0.batches().in_memory(index)
    }

    /// The batches from an entry on that one read of the disk gives, away from the calling thread.
    ///
    /// * Errors: [`Error::Stopped`] if the log cannot be read.
    pub(super) async fn batches_on_disk(&self, index: LogIndex) -> Result<Vec<(LogIndex, Batch)>, Error> {
        let failed = |error| Error::Stopped(format!("entry {index} cannot be read: {error}"));
        self.0.batches().read(index).await.map_err(failed)
    }
}
