//! The read side of a shard: its applied state and its log on this node, and waiting until both are up to date.
//!
//! Everything in `broker/` that only reads holds this instead of the replica, which could also propose.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::Error;
use crate::machine::state::view::View;
use crate::machine::{Batch, Failure};
use crate::model::{LogIndex, Timestamp};
use crate::raft::{EntryPlace, ReadBatches, Replica, SegmentExtent};
use crate::store::kv::Kv;

/// What is read without a read barrier of its own is at most this old (P14).
const RECENT: Duration = Duration::from_millis(500);

/// Reads a shard's state and log on this node. Cheap to clone.
#[derive(Clone)]
pub struct ShardReader {
    replica: Replica,
    /// When the last read barrier began that this node's view has passed.
    passed: Arc<Mutex<Option<Instant>>>,
}

impl ShardReader {
    pub(super) fn new(replica: Replica) -> Self {
        Self { replica, passed: Arc::default() }
    }

    /// This node's applied state; it may be behind the leader's.
    pub fn view(&self) -> View<'_> {
        self.replica.view()
    }

    /// The applied state as it is now, to be read for a while: tables whose rows were all read at one entry.
    ///
    /// * Errors: the state cannot be read.
    pub fn snapshot(&self) -> Result<Box<dyn Kv + '_>, Error> {
        Ok(self.replica.state_snapshot().map_err(Failure::from)?)
    }

    /// The last entry that this node has applied.
    pub fn applied(&self) -> LogIndex {
        *self.replica.applied().borrow()
    }

    /// Waits until this node's view shows everything that was answered, anywhere, before now (P14).
    ///
    /// * Errors: [`Error::NoLeader`] if it does not in time; definite, as nothing is proposed.
    pub async fn read_barrier(&self, until: Instant) -> Result<(), Error> {
        let began = Instant::now();
        let index = self.replica.read_index(until).await?;
        if !self.caught_up(index, until).await {
            return Err(Error::NoLeader);
        }
        let mut passed = self.passed.lock();
        *passed = (*passed).max(Some(began));
        Ok(())
    }

    /// Waits until this node's view shows everything that was answered until half a second ago. A node that is cut off
    /// from the others cannot have that, so nobody is served what was deleted or forbidden long ago.
    ///
    /// * Errors: as [`Self::read_barrier`].
    pub async fn recent(&self, until: Instant) -> Result<(), Error> {
        let passed = *self.passed.lock();
        if passed.is_some_and(|passed| passed.elapsed() < RECENT) {
            return Ok(());
        }
        Box::pin(self.read_barrier(until)).await
    }

    /// Waits until this node has applied an entry, so that its view shows what was answered; false if it
    /// has not in time.
    pub async fn caught_up(&self, index: LogIndex, until: Instant) -> bool {
        let mut applied = self.replica.applied();
        matches!(tokio::time::timeout_at(until, applied.wait_for(|applied| *applied >= index)).await, Ok(Ok(_)))
    }

    /// The files of this node's log, oldest first.
    pub(super) fn segments(&self) -> Vec<SegmentExtent> {
        self.replica.batches().segments()
    }

    /// The stamp of the first batch from an entry on; `None` if there is none close to it on this node.
    pub(super) async fn stamp_from(&self, index: LogIndex) -> Result<Option<Timestamp>, Error> {
        Ok(self.batches_on_disk(index).await?.batches.first().map(|(_, batch)| batch.stamp()))
    }

    /// Whether something of this node's log was found to be damaged or lost, and is not repaired yet.
    pub(super) fn has_damage(&self) -> bool {
        self.replica.batches().has_damage()
    }

    /// Whether this entry may be damaged or lost, as far as is known.
    pub(super) fn is_in_doubt(&self, index: LogIndex) -> bool {
        self.replica.batches().is_in_doubt(index)
    }

    /// Whether other nodes may have what is damaged here.
    pub(super) fn has_peers(&self) -> bool {
        self.replica.has_peers()
    }

    /// Which entry that is, and in which file of this node's log; `None` if it is not there.
    ///
    /// * Errors: [`Error::Unreadable`].
    pub(super) async fn entry_place(&self, index: LogIndex) -> Result<Option<EntryPlace>, Error> {
        let failed = |error| Error::Unreadable(format!("entry {index} cannot be read: {error}"));
        self.replica.batches().place(index).await.map_err(failed)
    }

    /// The time of day at a machine time, as users see it.
    pub(super) fn wall_of(&self, at: Timestamp) -> Timestamp {
        self.replica.clock().wall_of(at)
    }

    /// Where machine time is now.
    pub(super) fn machine_now(&self) -> Timestamp {
        self.replica.clock().machine_now()
    }

    /// The batch of an entry, if it can be read without waiting for the disk.
    pub(super) fn batch_in_memory(&self, index: LogIndex) -> Option<Batch> {
        self.replica.batches().in_memory(index)
    }

    /// The batches from an entry on that one read of the disk gives, away from the calling thread.
    ///
    /// * Errors: [`Error::Unreadable`].
    pub(super) async fn batches_on_disk(&self, index: LogIndex) -> Result<ReadBatches, Error> {
        let failed = |error| Error::Unreadable(format!("entry {index} cannot be read: {error}"));
        self.replica.batches().read(index).await.map_err(failed)
    }
}
