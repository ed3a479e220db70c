//! Forgetting the log: what nothing needs any more goes, and what is applied is flushed. Each node does it for itself.
//!
//! An entry goes when nothing in the state refers to its bytes, no snapshot that is being pulled from here does, the state is
//! durable beyond it, every member has it, and the whole segment around it can go. The order is what makes it safe at any crash: read what the state needs → flush the state
//! → Raft forgets (durably) → the files go. A state that comes back after a crash is then at least the one that was asked.
//!
//! If there is no room, a member that stands still is left behind, one segment at a time; that is an error in the log.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::pool::Pool;
use crate::model::{DiskRoom, LogIndex, NodeId, RoomState};
use crate::raft::error::{Fatal, OnFatal};
use crate::raft::flush::StateFlush;
use crate::raft::marks::Marks;
use crate::raft::member_needs::MemberNeeds;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::snapshot::handle::Snapshots;
use crate::raft::snapshot::sources::SnapshotSources;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types;
use crate::store;
use crate::store::kv;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::{CommitLog, SegmentExtent};

/// How often it looks whether something is to be done.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The state is flushed this often, and what can go goes then, unless it is urgent.
const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// Longest waits for Raft; what is not done by then is done at the next look.
const SNAPSHOT_MAX: Duration = Duration::from_secs(30);
const PURGE_MAX: Duration = Duration::from_secs(5);

/// Gives the first entry that anything in the state refers to, if anything refers to one, from an entry on that nothing is
/// referred to before. May read the disk.
pub(super) type NeededFrom = Arc<dyn Fn(LogIndex) -> io::Result<Option<LogIndex>> + Send + Sync>;
/// Gives the room on this node's disk.
pub(super) type OwnRoom = Arc<dyn Fn() -> DiskRoom + Send + Sync>;

/// What it works with.
pub(super) struct Purge {
    pub raft: ShardRaft,
    pub log: CommitLog,
    pub flush: StateFlush,
    pub snapshots: Snapshots,
    /// What others pull from here.
    pub sources: SnapshotSources,
    pub identity: PeerIdentity,
    pub applied: watch::Receiver<LogIndex>,
    pub needed_from: NeededFrom,
    pub room: OwnRoom,
    /// `logRetentionBytes`.
    pub log_bytes_max: Option<u64>,
    /// `memberWaitMs`: a member that got no further for so long may be left behind, if there is no room.
    pub member_wait: Duration,
}

/// What is to go.
struct Plan {
    /// The log begins here afterwards: the first entry of a segment.
    first: LogIndex,
    /// The members that are left behind by it, with what each has.
    left_behind: Vec<(u64, LogIndex)>,
}

/// Works until it is dropped. Ends only with a failure, and calls `on_fatal` then.
pub(super) async fn flush_and_purge(purge: Purge, on_fatal: OnFatal) {
    let mut needs = MemberNeeds::default();
    let mut flushed_at = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if purge.flush.is_given_up() {
            // Found by whoever read it, a poll for instance, whose errors alone end nothing.
            return on_fatal(Fatal::Failed("the state store is damaged: the next start makes it anew".to_owned()));
        }
        let is_due = flushed_at.elapsed() >= FLUSH_EVERY;
        match purge.work(&mut needs, is_due).await {
            Ok(true) => flushed_at = Instant::now(),
            Ok(false) => {}
            Err(error) => {
                let what = "the state store cannot be flushed, or the log not be purged";
                return on_fatal(Fatal::Failed(format!("{what}: {error}")));
            }
        }
    }
}

impl Purge {
    /// One look; returns whether it flushed the state.
    pub(super) async fn work(&self, needs: &mut MemberNeeds, is_due: bool) -> io::Result<bool> {
        let segments = self.log.reader().segments();
        let begins = begins(&segments);
        let mut held = self.identity.held_by_others();
        // One that only just joins cannot be served from a log that begins later.
        held.retain(|(node, has)| {
            begins == LogIndex(1) || *has > LogIndex(0) || self.identity.members.is_voter(NodeId(*node))
        });
        needs.look(&held, begins, Instant::now());
        needs.note_moving(&self.identity.pulling(), Instant::now());
        if (self.room)().state >= RoomState::Hard {
            self.sources.end_all().await;
        }
        let pinned = self.sources.pinned_from().await;
        if !is_due && !self.is_urgent(&segments) {
            return Ok(false);
        }
        // Asked before the flush: what comes back after a crash refers to nothing before.
        let plan = self.plan(&segments, needs, pinned).await?;
        if plan.is_none() && (!is_due || *self.applied.borrow() == self.flush.flushed()) {
            return Ok(false);
        }
        let Some(marks) = self.flush().await? else { return Ok(false) };
        if let Some(plan) = plan {
            for (node, has) in &plan.left_behind {
                needs.leave_behind(*node);
                self.report(*node, *has, plan.first);
            }
            let upto = LogIndex(plan.first.0 - 1);
            let Some(upto) = self.id_of(upto).await? else { return Ok(true) };
            self.snapshots.set_next(upto, marks);
            self.forget(plan.first).await?;
        }
        Ok(true)
    }

    /// The entry at an index, as its segment says it; `None` if it is gone already, or cannot be read now: then it is forgotten
    /// later, once it is repaired.
    async fn id_of(&self, index: LogIndex) -> io::Result<Option<RecordId>> {
        if let Some(purged) = self.log.purged().filter(|purged| purged.index == index) {
            return Ok(Some(purged));
        }
        let log = self.log.clone();
        let read = move || match log.id_at(index) {
            None => log.reader().read(index, index.next(), 1).map(|read| read.first().map(Record::id)),
            known => Ok(known),
        };
        match Pool::Upkeep.run(read).await.map_err(io::Error::other)? {
            Err(error @ (store::Error::Damaged { .. } | store::Error::Io { .. })) => {
                tracing::warn!(entry = %index, %error, "the beginning of the log is forgotten later");
                Ok(None)
            }
            read => read.map_err(io::Error::other),
        }
    }

    /// Flushes the state if the disk has room for that; one that fails stops the writes to the state as well.
    async fn flush(&self) -> io::Result<Option<Marks>> {
        // On a full disk too: what goes afterwards may be all the room there will be.
        if (self.room)().usable < self.flush.bytes() {
            return Ok(None);
        }
        match self.flush.flush().await {
            Ok(marks) => Ok(Some(marks)),
            // All of it is still in memory and in the log.
            Err(error @ kv::Error::Full { .. }) => {
                tracing::warn!(%error, "the state store is flushed later");
                Ok(None)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn is_short(&self) -> bool {
        (self.room)().state >= RoomState::Soft
    }

    fn is_urgent(&self, segments: &[SegmentExtent]) -> bool {
        let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        self.log_bytes_max.is_some_and(|max| bytes > max) || self.is_short()
    }

    /// What can go now, if that is at least a segment.
    async fn plan(
        &self,
        segments: &[SegmentExtent],
        needs: &MemberNeeds,
        pinned: Option<LogIndex>,
    ) -> io::Result<Option<Plan>> {
        // The last applied entry stays: by it a start sees that state and log belong together.
        let applied = *self.applied.borrow();
        if beginning(segments, applied).is_none() {
            return Ok(None);
        }
        let needed_from = self.needed_from.clone();
        let begins = begins(segments);
        let needed = Pool::Upkeep.run(move || needed_from(begins)).await.map_err(io::Error::other)??;
        let unneeded = needed.unwrap_or(applied).min(applied).min(pinned.unwrap_or(applied));
        let first = needs.first().map_or(unneeded, |by_members| by_members.min(unneeded));
        if let Some(first) = beginning(segments, first) {
            return Ok(Some(Plan { first, left_behind: Vec::new() }));
        }
        let next = segments.get(1).map(|segment| segment.first).filter(|next| *next <= unneeded);
        let Some(first) = next.filter(|_| self.is_short()) else { return Ok(None) };
        Ok(needs.would_miss(first, self.member_wait, Instant::now()).map(|left_behind| Plan { first, left_behind }))
    }

    /// Has Raft forget what is before `first`, and removes it; the state is flushed beyond it.
    async fn forget(&self, first: LogIndex) -> io::Result<()> {
        let Some(upto) = types::index_out(LogIndex(first.0 - 1)) else { return Ok(()) };
        // Raft purges only what a snapshot covers.
        self.raft.trigger().snapshot().await.map_err(io::Error::other)?;
        let covers = |metrics: &openraft::RaftMetrics<types::Types>| {
            metrics.snapshot.as_ref().is_some_and(|snapshot| snapshot.index >= upto)
        };
        if self.raft.wait(Some(SNAPSHOT_MAX)).metrics(covers, "a snapshot").await.is_err() {
            return Ok(());
        }
        self.raft.trigger().purge_log(upto).await.map_err(io::Error::other)?;
        let is_purged = |metrics: &openraft::RaftMetrics<types::Types>| {
            metrics.purged.as_ref().is_some_and(|purged| purged.index >= upto)
        };
        // A leader that sends these entries to a member just now purges them later.
        let _ = self.raft.wait(Some(PURGE_MAX)).metrics(is_purged, "a purge").await;
        let Some(purged) = self.log.purged() else { return Ok(()) };
        let first = first.min(purged.index.next());
        let log = self.log.clone();
        let removing = Pool::Upkeep.run(move || log.forget_before(first));
        let bytes = match removing.await.map_err(io::Error::other)? {
            Err(error @ store::Error::Poisoned) => return Err(io::Error::other(error)),
            // What cannot be removed takes room, and no more than that.
            Err(error) => {
                tracing::error!(%error, "the beginning of the log is not removed; the next look tries again");
                return Ok(());
            }
            Ok(bytes) => bytes,
        };
        if bytes > 0 {
            tracing::info!(begins = %first, bytes, "the beginning of the log is removed");
        }
        Ok(())
    }

    fn report(&self, node: u64, has: LogIndex, first: LogIndex) {
        tracing::error!(
            member = NodeId(node).to_string(),
            has = %has,
            begins = %first,
            "the disk is short of room, so entries that a member does not have yet are removed from this node's log: that \
             member catches up by a snapshot when it is back, and until it has, one more failure can stop the group. Give this \
             disk room"
        );
    }
}

/// Where the log begins.
pub(super) fn begins(segments: &[SegmentExtent]) -> LogIndex {
    segments.first().map_or(LogIndex(1), |segment| segment.first)
}

/// Where the log begins once all segments are gone that are wholly before `first`; `None` if none is.
pub(super) fn beginning(segments: &[SegmentExtent], first: LogIndex) -> Option<LogIndex> {
    segments.iter().skip(1).map(|segment| segment.first).take_while(|begins| *begins <= first).last()
}
