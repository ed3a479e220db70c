//! Apply: committed entries run on the machine, their writes become one batch with the entry's id, and the outcomes go
//! back to the proposer.
//!
//! Hot path. An entry is applied only once it is durable *here*, although a majority elsewhere may have committed it
//! before: the state can then never be ahead of the local log after a power loss (D5). The state store has no log of its
//! own; what it lost in a crash is applied again (D6).
//!
//! Called by openraft; calls `machine::apply` and the key-value store, and reports each entry's effects to the broker.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::pool::Pool;
use crate::machine::state::view::View;
use crate::machine::{self, Effects, Recent, Stage};
use crate::model::{LogIndex, Term};
use crate::raft::clock::cluster_clock::ClusterClock;
use crate::raft::digests::{DigestMark, Digests};
use crate::raft::marks::{push_marks, read_marks};
use crate::raft::measures::Measures;
#[cfg(debug_assertions)]
use crate::raft::planted;
use crate::raft::snapshot::handle::{Snapshot, SnapshotBuilder, Snapshots, not_installed};
use crate::raft::types;
use crate::raft::types::{Applied, Applying, LogId, StoredMembership, Times, Types};
use crate::store::kv::value_cache::ValueCache;
use crate::store::kv::{self, Kv, WriteBatch};

/// While the disk is full, the state is written again this often.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Once entries were applied for so long, others have their turn.
const TURN_MAX: Duration = Duration::from_millis(2);

/// Called with what each applied entry did.
pub type OnEffects = Arc<dyn Fn(&Effects) + Send + Sync>;

/// openraft's handle of this shard. Cheap to clone.
pub(super) type ShardRaft = openraft::Raft<Types, StateMachine>;

/// The applied state as openraft drives it.
pub struct StateMachine {
    kv: Arc<dyn Kv>,
    durable: watch::Receiver<LogIndex>,
    applied: watch::Sender<LogIndex>,
    on_effects: OnEffects,
    snapshots: Snapshots,
    recent: Recent,
    clock: Arc<ClusterClock>,
    digests: Digests,
    measures: Arc<Measures>,
}

impl StateMachine {
    /// Over a store whose writes all go through here. `durable` is the local log's mark; each applied index is sent to
    /// `applied`, and the machine's time to `clock`.
    pub fn new(
        kv: Arc<dyn Kv>,
        durable: watch::Receiver<LogIndex>,
        applied: watch::Sender<LogIndex>,
        on_effects: OnEffects,
        snapshots: Snapshots,
        clock: Arc<ClusterClock>,
        digests: Digests,
    ) -> io::Result<Self> {
        let start = Instant::now();
        if machine::state::references::rebuild(&*kv).map_err(io::Error::other)? {
            tracing::info!(took = ?start.elapsed(), "counted what refers to the log");
        }
        let kv: Arc<dyn Kv> = Arc::new(ValueCache::new(kv));
        let start = Instant::now();
        let recent = Recent::load(&*kv).map_err(io::Error::other)?;
        tracing::info!(took = ?start.elapsed(), "read the message ids of the last ten minutes");
        Ok(Self { kv, durable, applied, on_effects, snapshots, recent, clock, digests, measures: Arc::default() })
    }

    /// What it measures from now on.
    pub(super) fn measures(&self) -> Arc<Measures> {
        self.measures.clone()
    }

    async fn apply_one(&mut self, entry: types::Entry) -> io::Result<Applied> {
        let index = types::index_in(entry.log_id.index);
        let term = Term(entry.log_id.leader_id.term);
        let mut stage = Stage::new(&*self.kv).map_err(io::Error::other)?;
        let mut membership = None;
        let outcomes = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(body) => {
                machine::apply(&mut stage, &mut self.recent, index, body.0).map_err(io::Error::other)?
            }
            EntryPayload::Membership(new) => {
                membership = Some(StoredMembership::new(Some(entry.log_id), new));
                Vec::new()
            }
        };
        let machine_clock = stage.clock().clone();
        let (mut batch, effects) = stage.finish().map_err(io::Error::other)?;
        push_marks(&mut batch, &Some(entry.log_id), membership.as_ref());
        #[cfg(debug_assertions)]
        planted::differ(&mut batch);
        self.write(batch).await?;
        self.clock.applied(&machine_clock);
        let digest = View::new(&*self.kv).digest().map_err(io::Error::other)?;
        self.digests.note_applied(DigestMark { applied: index, digest });
        self.applied.send_replace(index);
        (self.on_effects)(&effects);
        Ok(Applied { index, term, outcomes, times: Times::default() })
    }

    /// Writes what an entry did; on a full disk it waits until there is room, and so do all later entries. A store that has to
    /// flush or compact first is waited for on another thread: heartbeats go out from this one.
    async fn write(&self, mut batch: WriteBatch) -> io::Result<()> {
        let mut is_reported = false;
        loop {
            let mut written = self.kv.write_at_once(batch);
            if let Err(kv::Error::Stalled { batch: unwritten }) = written {
                let kv = self.kv.clone();
                written = Pool::Flushes.run(move || kv.write(unwritten)).await.map_err(io::Error::other)?;
            }
            match written {
                Ok(()) => break,
                Err(kv::Error::Full { reason, batch: unwritten }) => {
                    if !std::mem::replace(&mut is_reported, true) {
                        tracing::error!(
                            reason,
                            "the state cannot be written, the disk is full: nothing is applied until it is not"
                        );
                    }
                    batch = unwritten;
                    tokio::time::sleep(FULL_PAUSE).await;
                }
                Err(error @ (kv::Error::Failed(_) | kv::Error::Stalled { .. })) => return Err(io::Error::other(error)),
            }
        }
        if is_reported {
            tracing::info!("the state is written again");
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        read_marks(&*self.kv)
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut turn = Instant::now();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let index = types::index_in(entry.log_id.index);
            let began = Instant::now();
            if self.durable.wait_for(|durable| *durable >= index).await.is_err() {
                return Err(io::Error::other("the commit log stopped"));
            }
            let durable = Instant::now();
            let mut applied = self.apply_one(entry).await?;
            if !applied.outcomes.is_empty() {
                let (delay, done) = (self.clock.since_applied(), Instant::now());
                self.measures.applied(done - began, applied.outcomes.len(), delay);
                applied.times.applying = Some(Applying { committed: began, durable, done });
            }
            if let Some(responder) = responder {
                responder.send(applied);
            }
            if turn.elapsed() > TURN_MAX {
                // Many entries may be there at once: heartbeats go out in between.
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.snapshots.builder()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &openraft::type_config::alias::SnapshotMetaOf<Types>,
        _snapshot: Snapshot,
    ) -> io::Result<()> {
        Err(not_installed())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<openraft::type_config::alias::SnapshotOf<Types, Snapshot>>> {
        Ok(self.snapshots.current())
    }
}
