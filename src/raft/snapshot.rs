//! Snapshots as openraft knows them: how far the state is durable. Raft forgets the log only up to there.
//!
//! A snapshot is a handle without bytes: the state store itself is durable up to the marks in the handle. It cannot be sent,
//! so a follower behind the start of the leader's log stays behind (`peer/client` says so).
//! TODO: a folder with a checkpoint and a manifest of the segments, once a follower can pull it.
//!
//! openraft asks for the current snapshot twice at a start, and builds one if the log is purged and none is there.

use std::io;
use std::sync::Arc;

use openraft::storage::RaftSnapshotBuilder;
use parking_lot::Mutex;

use crate::raft::flush::StateFlush;
use crate::raft::marks::Marks;
use crate::raft::types::Types;
use crate::store::kv::Error;

type Meta = openraft::type_config::alias::SnapshotMetaOf<Types>;
type Whole = openraft::type_config::alias::SnapshotOf<Types, Snapshot>;

/// The handle: there is nothing in it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot;

/// The last snapshot. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots {
    flush: StateFlush,
    current: Arc<Mutex<Option<Marks>>>,
    /// Of a flush that was made for the next one.
    next: Arc<Mutex<Option<Marks>>>,
}

/// Makes one snapshot.
pub struct SnapshotBuilder(Snapshots);

impl Snapshots {
    /// Of a state that was just opened: if the log is purged, it is the snapshot that covers what is gone.
    pub fn new(flush: StateFlush, log_is_purged: bool) -> Self {
        let current = log_is_purged.then(|| flush.marks());
        Self { flush, current: Arc::new(Mutex::new(current)), next: Arc::default() }
    }

    /// The next snapshot is this one, of a flush that was just made.
    pub(super) fn set_next(&self, marks: Marks) {
        *self.next.lock() = Some(marks);
    }

    pub(super) fn builder(&self) -> SnapshotBuilder {
        SnapshotBuilder(self.clone())
    }

    pub(super) fn current(&self) -> Option<Whole> {
        self.current.lock().clone().map(whole)
    }
}

fn whole((last_log_id, last_membership): Marks) -> Whole {
    Whole { meta: Meta { last_log_id, last_membership }, snapshot: Snapshot }
}

/// What a node answers that is given the snapshot of another one.
pub(super) fn not_installed() -> io::Error {
    io::Error::other("this build cannot install the snapshot of another node: there are no bytes in it")
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = Snapshot;

    /// Durable on return: the state is flushed.
    async fn build_snapshot(&mut self) -> io::Result<Whole> {
        let next = self.0.next.lock().take();
        let marks = match next {
            Some(marks) => marks,
            None => match self.0.flush.flush().await {
                // An older one is as good, and an error here would end the node.
                Err(Error::Full { .. }) => self.0.flush.marks(),
                flushed => flushed.map_err(io::Error::other)?,
            },
        };
        *self.0.current.lock() = Some(marks.clone());
        Ok(whole(marks))
    }
}
