//! Snapshots as openraft knows them: how far the state is durable. Raft forgets the log only up to there.
//!
//! A snapshot is a handle without bytes: the state store itself is durable at least up to the id in the handle. Whoever needs
//! the bytes pulls them (`sources`), and the leader takes the handle for sent once that is done (`peer/client`). So the
//! handle says no more than it has to: what is purged. A follower that has pulled as much can go on with the log.
//!
//! openraft asks for the current snapshot twice at a start, and builds one if the log is purged and none is there.

use std::io;
use std::sync::Arc;

use openraft::storage::RaftSnapshotBuilder;
use parking_lot::Mutex;

use crate::raft::flush::StateFlush;
use crate::raft::marks::Marks;
use crate::raft::types;
use crate::raft::types::Types;
use crate::store::kv::Error;
use crate::store::log::record::RecordId;

type Meta = openraft::type_config::alias::SnapshotMetaOf<Types>;
type Whole = openraft::type_config::alias::SnapshotOf<Types, Snapshot>;

/// The handle: there is nothing in it.
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
    /// Of a state that was just opened: if the log is purged, up to this entry, the snapshot covers that.
    pub fn new(flush: StateFlush, purged: Option<RecordId>) -> Self {
        let current = purged.map(|purged| covering(purged, flush.marks()));
        Self { flush, current: Arc::new(Mutex::new(current)), next: Arc::default() }
    }

    /// The next snapshot covers the log up to this entry, and is of a flush that was just made.
    pub(in crate::raft) fn set_next(&self, upto: RecordId, flushed: Marks) {
        *self.next.lock() = Some(covering(upto, flushed));
    }

    pub(in crate::raft) fn builder(&self) -> SnapshotBuilder {
        SnapshotBuilder(self.clone())
    }

    pub(in crate::raft) fn current(&self) -> Option<Whole> {
        self.current.lock().clone().map(whole)
    }
}

/// The marks of a state that is flushed beyond `upto`, which say no more than that it has this entry.
fn covering(upto: RecordId, (applied, membership): Marks) -> Marks {
    let upto = types::log_id(upto.term, upto.node, upto.index);
    (upto.min(applied), membership)
}

fn whole((last_log_id, last_membership): Marks) -> Whole {
    Whole { meta: Meta { last_log_id, last_membership }, snapshot: Snapshot }
}

/// What openraft is told that wants the snapshot of another node installed: bytes do not go through it.
pub(in crate::raft) fn not_installed() -> io::Error {
    io::Error::other("a snapshot of another node is pulled, never handed to Raft: there are no bytes in it")
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
