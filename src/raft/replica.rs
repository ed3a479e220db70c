//! One replica of the shard: proposes commands, shows the applied state, asks the peers, stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::env::pool::Pool;
use crate::machine::state::view::View;
use crate::machine::{Command, Outcome, Proposal};
use crate::model::{DiskRoom, LogIndex, NodeId, Term};
use crate::raft::acknowledged::acknowledged;
use crate::raft::batch_reader::BatchReader;
use crate::raft::clock::cluster_clock::ClusterClock;
use crate::raft::clock::samples::ClockSamples;
use crate::raft::digests::Digests;
use crate::raft::error::{Failed, Fatal, OnFatal};
use crate::raft::leadership::{LeaderContact, Leadership, Leaving};
use crate::raft::lost_tail::{LostTail, known_voters};
use crate::raft::measures::{Measures, ReplicaMeasures};
use crate::raft::members::{MemberTable, Members};
use crate::raft::peer::sight::{DayCounts, FollowerMark, Sight, VoteMark, millis};
use crate::raft::peer::status::{LogExtent, OwnFacts, ReplicaStatus, StatusClients, StatusReply};
use crate::raft::propose::proposer::Proposer;
use crate::raft::read_index;
use crate::raft::repair::Repairs;
use crate::raft::room::{Rooms, VoterRooms};
use crate::raft::slow_disk::SlowDisk;
use crate::raft::snapshot::install::{ReleaseReserve, Staged};
use crate::raft::snapshot::progress::CatchingUp;
use crate::raft::snapshot::sources::SnapshotSources;
use crate::raft::state_digest;
use crate::raft::state_digest::StateDigest;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types;
use crate::raft::types::CommandPlace;
use crate::store::kv::{self, Kv};
use crate::store::log::CommitLog;

/// Time for the commands in flight when the replica stops.
const STOP_DRAIN: Duration = Duration::from_millis(200);
/// A command of a newer cluster version looks this often whether it may be proposed.
const VERSION_STEP: Duration = Duration::from_millis(20);

/// One replica of the shard. Cheap to clone.
#[derive(Clone)]
pub struct Replica {
    pub(super) node: NodeId,
    pub(super) members: MemberTable,
    pub(super) raft: ShardRaft,
    pub(super) proposer: Proposer,
    pub(super) status_clients: StatusClients,
    pub(super) batches: BatchReader,
    pub(super) kv: Arc<dyn Kv>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) applied: watch::Receiver<LogIndex>,
    pub(super) clock: Arc<ClusterClock>,
    pub(super) clock_samples: Arc<ClockSamples>,
    pub(super) rooms: Arc<VoterRooms>,
    pub(super) slow_disk: SlowDisk,
    pub(super) leaving: Leaving,
    pub(super) contact: LeaderContact,
    pub(super) started_at: Instant,
    pub(super) log: CommitLog,
    pub(super) sources: SnapshotSources,
    pub(super) catching_up: watch::Receiver<Option<CatchingUp>>,
    pub(super) staged: Arc<Mutex<Option<Staged>>>,
    pub(super) lost_tail: LostTail,
    pub(super) repairs: Repairs,
    pub(super) measures: Arc<Measures>,
    pub(super) state_digests: Digests,
    pub(super) on_fatal: OnFatal,
    /// One permit: reading the whole state is work.
    pub(super) digests: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Replica {
    /// Proposes one command and waits, `wait` at most, until its entry is applied. On a follower it goes to the leader;
    /// while there is no leader it waits.
    ///
    /// * Errors: [`Failed::Ambiguous`] means an unknown outcome; every other one means that the command is not in the
    ///   log and never will be.
    pub async fn propose(&self, proposal: Proposal, wait: Duration) -> Result<(CommandPlace, Outcome), Failed> {
        let until = Instant::now() + wait;
        let required = Command::required_version(&proposal.command);
        // A cluster that was just made, or upgraded, raises its version within a moment.
        while required > 0 && self.view().cluster_version().is_ok_and(|version| version < required) {
            if Instant::now() >= until {
                return Err(Failed::Unusable);
            }
            tokio::time::sleep(VERSION_STEP).await;
        }
        self.proposer.propose(proposal, until.saturating_duration_since(Instant::now())).await
    }

    /// Whether what is committed is synced by all that acknowledged it; otherwise a power loss of a majority at once may
    /// take it (ASYNC_FLUSH on this node or on another one).
    pub fn all_sync(&self) -> bool {
        self.status_clients.all_sync()
    }

    /// The newest cluster version that all peers met so far can take part in. From now on peers that cannot take part in
    /// the `applied` one are refused.
    pub fn common_cluster_version(&self, applied: u32) -> u32 {
        self.status_clients.common_version(applied)
    }

    /// Why this node refuses a peer's links, as operators are shown it.
    pub fn refusal_of(&self, node: NodeId) -> Option<&'static str> {
        self.status_clients.refusal(node)
    }

    /// This replica.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The members as this node knows them.
    pub fn members(&self) -> Arc<Members> {
        self.members.now()
    }

    /// The last entry in this node's log, committed or not.
    pub fn last_log(&self) -> LogIndex {
        self.log.last().map_or(LogIndex(0), |last| last.index)
    }

    /// The same, whenever it changes.
    pub fn watch_members(&self) -> watch::Receiver<Arc<Members>> {
        self.members.watch()
    }

    /// What `dLegerPeers` says otherwise than the log, for people; `None` if they agree.
    pub fn members_differ(&self) -> Option<String> {
        self.members.difference()
    }

    /// The index that must be applied here before a read that began now may be answered (ReadIndex).
    ///
    /// * Errors: [`Failed::NoLeader`] if nobody could tell before `until`.
    /// * Source: Raft thesis §6.4.
    pub async fn read_index(&self, until: Instant) -> Result<LogIndex, Failed> {
        read_index::ask(&self.raft, &self.status_clients, self.leadership.clone(), until).await
    }

    /// The state as applied on this node, which may be behind the leader's.
    pub fn view(&self) -> View<'_> {
        View::new(&*self.kv)
    }

    /// The state as it is now, to be read for a while.
    pub fn state_snapshot(&self) -> kv::Result<Box<dyn Kv + '_>> {
        self.kv.snapshot()
    }

    /// A digest of everything applied on this node; `None` if entries were applied all the time, or if there is more
    /// than can be read `within` this time. One at a time: others wait for it.
    ///
    /// * Errors: the disk failed.
    pub async fn state_digest(&self, within: Duration) -> io::Result<Option<StateDigest>> {
        let until = Instant::now() + within;
        let Ok(Ok(turn)) = tokio::time::timeout_at(until, self.digests.clone().acquire_owned()).await else {
            return Ok(None);
        };
        let kv = self.kv.clone();
        // The turn ends with the reading, also if nobody waits for it any more.
        let reading = move || {
            let _turn = turn;
            state_digest::read(&*kv, until)
        };
        Pool::Upkeep.run(reading).await.map_err(io::Error::other)?
    }

    /// The batches in this node's log.
    pub fn batches(&self) -> &BatchReader {
        &self.batches
    }

    /// Whether other nodes may have what is damaged here.
    pub fn has_peers(&self) -> bool {
        self.log.has_peers()
    }

    /// The snapshots that this node gives, to backups for instance.
    pub fn snapshots(&self) -> &SnapshotSources {
        &self.sources
    }

    /// The cluster's clock.
    pub fn clock(&self) -> &Arc<ClusterClock> {
        &self.clock
    }

    /// Who leads, as this node knows it.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// The last entry applied on this node.
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.clone()
    }

    /// When this node last heard of a leader that it followed; `None` if it never did.
    pub fn leader_sign(&self) -> Option<Instant> {
        self.contact.last()
    }

    /// Room on the disks of the voters in contact, this node's included, as of a second ago at most.
    pub fn room(&self) -> Rooms {
        self.rooms.known()
    }

    /// Whether messages are taken in: a majority of the voters has room for them, as far as this node knows.
    pub fn takes_messages(&self) -> bool {
        self.rooms.takes_messages()
    }

    /// Room on this node's disk, whenever it changes.
    pub fn own_room(&self) -> watch::Receiver<DiskRoom> {
        self.rooms.own().watch()
    }

    /// This replica's marks, with the facts that only the node knows.
    pub fn status(&self, facts: OwnFacts) -> ReplicaStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let index = |id: &Option<types::LogId>| id.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index));
        // Copied one by one: within the value below each look would last until its end, and a second one at the same lock
        // waits for Raft's thread, which waits for the first.
        let leadership = *self.leadership.borrow();
        let applied = *self.applied.borrow();
        let catching_up = self.catching_up.borrow().clone();
        ReplicaStatus {
            node: NodeId(metrics.id),
            term: Term(metrics.current_term),
            leader: leadership.leader,
            last_log: metrics.last_log_index.map_or(LogIndex(0), types::index_in),
            last_id: self.log.last(),
            damage: self.repairs.damage(&self.log),
            digest: self.state_digests.latest(),
            differs_from: self.state_digests.differs_from(Instant::now()),
            voters: known_voters(&self.raft, &self.members),
            committed: index(&metrics.local_committed).max(index(&metrics.cluster_committed)),
            applied,
            process_id: std::process::id(),
            client_address: facts.client_address,
            listen_port: facts.listen_port,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            in_per_second: facts.in_per_second,
            out_per_second: facts.out_per_second,
            acknowledged: acknowledged(&metrics),
            wall: Some(self.clock_samples.own_wall()),
            clock_offset_ms: self.clock_samples.own_offset_ms(),
            room: Some(self.rooms.own().now()),
            slow_disk: self.slow_disk.is_slow(),
            log: LogExtent::of(&self.batches.segments()),
            leaving: self.leaving.is_noted(),
            catching_up,
            sight: Some(self.sight(&metrics, leadership.is_self, facts.days)),
        }
    }

    fn sight(&self, metrics: &openraft::RaftMetrics<types::Types>, leads: bool, days: Option<DayCounts>) -> Sight {
        use openraft::Instant as _;
        let heartbeats = metrics.heartbeat.as_ref();
        let follower = |(node, matching): (&u64, &Option<types::LogId>)| FollowerMark {
            node: NodeId(*node),
            matching: matching.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index)),
            answered: heartbeats.and_then(|all| all.get(node).copied().flatten()).map(|at| millis(at.elapsed())),
        };
        let others = metrics.replication.iter().flatten().filter(|(node, _)| **node != metrics.id);
        let vote = &metrics.vote;
        Sight {
            vote: VoteMark {
                term: Term(vote.leader_id.term),
                node: NodeId(vote.leader_id.node_id),
                has_won: vote.committed,
            },
            leader_heard: self.contact.age().filter(|_| !leads).map(millis),
            followers: others.map(follower).collect(),
            uptime: millis(self.started_at.elapsed()),
            days,
        }
    }

    /// What this replica measured. Asks the state store; does not wait for anything.
    pub fn measures(&self) -> ReplicaMeasures {
        ReplicaMeasures::of(&self.measures, &self.log, self.proposer.waiting_bytes(), self.kv.facts())
    }

    /// Asks another node's front end.
    ///
    /// * Shape: question and answer are the front end's own; nothing here reads them.
    /// * Errors: `None` if that node is unknown or does not answer within half a second.
    pub async fn ask(&self, node: NodeId, question: Bytes) -> Option<Bytes> {
        self.status_clients.question(node, question).await
    }

    /// Another replica's marks. If that replica refuses this one for good, `on_fatal` is called.
    ///
    /// * Errors: `None` if it refuses, is unknown, or does not answer within half a second.
    pub async fn status_of(&self, node: NodeId) -> Option<ReplicaStatus> {
        match self.status_clients.ask(node).await {
            StatusReply::Status(status) => Some(*status),
            StatusReply::Disowned(disowned) => {
                (self.on_fatal)(Fatal::Disowned(disowned));
                None
            }
            StatusReply::Stranger(_) | StatusReply::Silent => None,
        }
    }

    /// Puts log and state that were pulled in the place of those in use, if there are such; after [`Self::stop`]. Nothing else
    /// can be done with this replica afterwards: the process is to start again. Blocks.
    pub fn install_pulled(&self) {
        let Some(staged) = self.staged.lock().take() else { return };
        let room = self.rooms.own().clone();
        let release_reserve: ReleaseReserve = Arc::new(move || room.release_reserve());
        match staged.install(&self.log, &release_reserve) {
            Ok(()) => {
                let applied = staged.manifest().applied.index;
                tracing::info!(%applied, "log and state of the snapshot are in use from now on");
            }
            Err(error) => tracing::error!(%error, "the snapshot is not used, and is pulled again"),
        }
    }

    /// Transfers leadership if this node has it, ends all tasks, and flushes the state. Nothing that was acknowledged
    /// depends on it.
    pub async fn stop(self) {
        self.give_leadership_away().await;
        // What was forwarded here meanwhile is answered that this node does not lead any more.
        self.proposer.drain(STOP_DRAIN).await;
        self.stop.cancel();
        self.tasks.close();
        // Raft may wait for a vote that waits for a write that waits for room.
        self.log.stop_waiting_for_room();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        self.tasks.wait().await;
        let kv = self.kv.clone();
        let flushed = Pool::Flushes.run(move || kv.flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the state store was not flushed; the next start applies more of the log again");
        }
    }
}
