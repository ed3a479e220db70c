//! Agreement: one Raft group over the commit log. The only folder that names openraft.
//!
//! Above it stands `broker/`, which proposes commands and reads the applied state; below it `machine/`
//! and `store/`. Nothing of openraft's types leaves this folder.
//!
//! Everything here runs on one current-thread runtime of its own (D22; on one or two cores clients are served on it too, D43), so that no front-end load
//! delays a heartbeat; the commit log writes on a thread of its own.
//!
//! Not here: membership changes, leader transfer by command, sending snapshots.

mod log_storage;
pub mod peer;
pub mod propose;
mod read_index;
mod snapshot;
mod state_machine;
mod types;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use peer::server::OnQuestion;
pub use peer::status::{OwnFacts, Replaced, ReplicaStatus};
pub use propose::proposer::{Failed, Leadership};
pub use state_machine::OnEffects;

use crate::env::clock::Clock;
use crate::env::disk::Disk;
use crate::machine::state::view::View;
use crate::machine::{Batch, Outcome, Proposal};
use crate::model::{LogIndex, NodeId, Term};
use crate::store::kv::{self, Kv};
use crate::store::log::CommitLog;
use log_storage::LogStorage;
use peer::client::Peers;
use peer::forward::Forwarder;
use peer::server::PeerService;
use peer::status::{StatusClients, StatusReply};
use peer::wire::PeerIdentity;
use propose::proposer::Proposer;
use snapshot::Snapshots;
use state_machine::StateMachine;
use types::Types;

/// The state store is flushed this often; bounds what a restart has to apply again (D6).
const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// How long, and how often, a follower tries to succeed a leader that vanished.
const CAMPAIGN_MAX: Duration = Duration::from_secs(1);
const CAMPAIGN_STEP: Duration = Duration::from_millis(25);
/// Followers try one after the other, by their number.
const STAGGER: Duration = Duration::from_millis(8);
const STAGGER_STEPS_MAX: u32 = 8;
/// Time for the commands under way when the replica stops.
const STOP_DRAIN: Duration = Duration::from_millis(200);
/// A read gives at least one entry, however small its bound; one entry is what is wanted.
const ONE_ENTRY: usize = 1;
/// Entries, and their bytes, that one look at the disk gives.
const READ_AHEAD_ENTRIES: u64 = 64;
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// What a replica has to know to start.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    /// This replica.
    pub node: NodeId,
    /// `host:port` of every replica, this one included.
    pub peers: BTreeMap<NodeId, String>,
    /// Folder for snapshots; exists.
    pub snapshot_folder: PathBuf,
    /// Time between heartbeats, ms.
    pub heartbeat_ms: u64,
    /// Election timeout, least, ms.
    pub election_min_ms: u64,
    /// Election timeout, most, ms.
    pub election_max_ms: u64,
    /// Ask before standing for election (Raft thesis §9.6).
    pub pre_vote: bool,
    /// Batches under way at once.
    pub in_flight_max: usize,
    /// `ASYNC_FLUSH`: a power loss may take the end of a follower's log, which then comes back shorter than
    /// it once acknowledged.
    pub may_lose_tail: bool,
}

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state is ahead of the log and the log no longer reaches back to its beginning.
    #[error("the state store has applied entry {applied} but the commit log ends at {last}")]
    StateAheadOfLog {
        /// In the state.
        applied: LogIndex,
        /// In the log.
        last: LogIndex,
    },
    /// The group knows another disk under this node's id.
    #[error(transparent)]
    Replaced(Replaced),
    /// The peers are of another group or cluster.
    #[error(
        "the peers in dLegerPeers know this node as somebody else: {0}; dLegerGroup, brokerClusterName and dLegerPeers must be the same on all of them"
    )]
    Stranger(String),
    /// The group has other members than the configuration.
    #[error("the group was made with the members {made}, dLegerPeers says {configured}; members cannot be changed yet")]
    OtherMembers {
        /// As the log says.
        made: String,
        /// As the configuration says.
        configured: String,
    },
    /// The disk failed.
    #[error("storage: {0}")]
    Storage(#[from] io::Error),
    /// openraft refused.
    #[error("raft: {0}")]
    Raft(String),
}

/// Why a running replica cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The disk, or Raft over it, failed: nothing may be acknowledged any more.
    #[error("{0}")]
    Failed(String),
    /// The group knows another disk under this node's id.
    #[error(transparent)]
    Replaced(Replaced),
}

/// Told once why the replica cannot go on; the process must end.
pub type OnFatal = Arc<dyn Fn(Fatal) + Send + Sync>;

/// One replica of the group. Cheap to clone.
#[derive(Clone)]
pub struct Replica {
    raft: Raft<Types, StateMachine>,
    proposer: Proposer,
    status_clients: StatusClients,
    log: CommitLog,
    kv: Arc<dyn Kv>,
    leadership: watch::Receiver<Leadership>,
    applied: watch::Receiver<LogIndex>,
    on_fatal: OnFatal,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What a replica stands on.
pub struct ReplicaParts {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The log, open.
    pub log: CommitLog,
    /// The state, open.
    pub kv: Arc<dyn Kv>,
    /// Where peers connect, bound.
    pub listener: std::net::TcpListener,
    /// Told what each applied entry did.
    pub on_effects: OnEffects,
    /// Tells the node's own facts.
    pub facts: Arc<dyn Fn() -> OwnFacts + Send + Sync>,
    /// Answers another node's front end.
    pub on_question: OnQuestion,
    /// Called once when the replica cannot go on; the process must end.
    pub on_fatal: OnFatal,
}

impl Replica {
    /// Starts the replica on the current runtime. On the very first start the group makes itself: each
    /// replica writes the same initial membership.
    pub async fn start(config: ReplicaConfig, parts: ReplicaParts) -> Result<Self, StartError> {
        let ReplicaParts { disk, clock, log, kv, listener, on_effects, facts, on_question, on_fatal } = parts;
        rebuild_if_ahead(&log, &*kv)?;
        let (durable, durable_seen) = watch::channel(log.durable());
        log.on_durable(Box::new(move |index| {
            durable.send_replace(index);
        }));
        let (applied_id, _) = state_machine::read_marks(&*kv)?;
        let (applied_told, applied) = watch::channel(applied_id.map_or(LogIndex(0), |id| types::index_in(id.index)));
        let machine = StateMachine::new(
            kv.clone(),
            durable_seen,
            applied_told,
            on_effects,
            Snapshots::new(disk, config.snapshot_folder.clone()),
        )?;
        let identity = PeerIdentity {
            cluster: config.cluster.clone(),
            group: config.group.clone(),
            node: config.node.0,
            log: log.clone(),
        };
        let addresses = config.peers.iter().map(|(id, address)| (id.0, address.clone())).collect();
        let peers = Peers::new(identity.clone(), addresses);
        let status_clients = StatusClients::new(&peers);
        meet_peers(&status_clients).await?;
        let raft_config = Arc::new(raft_config(&config)?);
        let storage = LogStorage::new(log.clone());
        let raft = Raft::new(config.node.0, raft_config, peers.clone(), storage, machine)
            .await
            .map_err(|fatal| StartError::Raft(fatal.to_string()))?;

        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let leadership = watch_leadership(&raft, &tasks, stop.clone(), on_fatal.clone());
        let forwarder = Arc::new(Forwarder::new(peers.clone()));
        let (proposer, gatherer) =
            Proposer::new(raft.clone(), forwarder, leadership.clone(), clock, config.in_flight_max);
        tasks.spawn(stop.clone().run_until_cancelled_owned(gatherer.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(flush_often(kv.clone(), applied.clone(), on_fatal.clone())));

        let replica = Self { raft, proposer, status_clients, log, kv, leadership, applied, on_fatal, tasks, stop };
        replica.serve_peers(identity, listener, facts, on_question)?;

        replica.bootstrap(&config).await?;
        replica.check_members(&config)?;
        Ok(replica)
    }

    fn serve_peers(
        &self,
        identity: PeerIdentity,
        listener: std::net::TcpListener,
        facts: Arc<dyn Fn() -> OwnFacts + Send + Sync>,
        on_question: OnQuestion,
    ) -> Result<(), StartError> {
        let own = self.clone();
        let status = Arc::new(move || own.status(facts()));
        let stream_ended = Arc::new(Notify::new());
        let stagger = STAGGER * u32::try_from(identity.node).unwrap_or(u32::MAX).min(STAGGER_STEPS_MAX);
        let campaign =
            campaign_when_leader_is_gone(self.raft.clone(), self.leadership.clone(), stream_ended.clone(), stagger);
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(campaign));
        let (raft, proposer) = (self.raft.clone(), self.proposer.clone());
        let service = PeerService::new(identity, raft, proposer, status, on_question, stream_ended);
        let server = service.serve(listener)?;
        let (stop, on_fatal) = (self.stop.clone(), self.on_fatal.clone());
        self.tasks.spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled_owned(server).await {
                on_fatal(Fatal::Failed(format!("the peer server ended: {error}")));
            }
        });
        Ok(())
    }

    async fn bootstrap(&self, config: &ReplicaConfig) -> Result<(), StartError> {
        let fatal = |fatal: &dyn std::fmt::Display| StartError::Raft(fatal.to_string());
        if self.raft.is_initialized().await.map_err(|error| fatal(&error))? {
            return Ok(());
        }
        let members: BTreeMap<u64, BasicNode> =
            config.peers.iter().map(|(id, address)| (id.0, BasicNode::new(address))).collect();
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            // A peer was faster and we already have its entry: that is as good.
            Err(openraft::errors::RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(fatal(&error)),
        }
    }

    /// The ids of the members are in the log; their addresses are the configuration's, so that hosts may move.
    fn check_members(&self, config: &ReplicaConfig) -> Result<(), StartError> {
        let made: Vec<u64> = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().nodes().map(|(id, _)| *id).collect()
        };
        let configured: Vec<u64> = config.peers.keys().map(|id| id.0).collect();
        if made.is_empty() || made == configured {
            return Ok(());
        }
        let names = |ids: &[u64]| ids.iter().map(|id| format!("n{id}")).collect::<Vec<_>>().join(", ");
        Err(StartError::OtherMembers { made: names(&made), configured: names(&configured) })
    }

    /// Proposes one command and waits, `wait` at most, for its entry and its outcome.
    pub async fn propose(&self, proposal: Proposal, wait: Duration) -> Result<(LogIndex, Outcome), Failed> {
        self.proposer.propose(proposal, wait).await
    }

    /// The applied state.
    pub fn view(&self) -> View<'_> {
        View::new(&*self.kv)
    }

    /// Who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// The last applied entry.
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.clone()
    }

    /// The batch in the entry at `index`, if this node has it in memory.
    pub fn batch_in_memory(&self, index: LogIndex) -> Option<Batch> {
        let records = self.log.reader().read_cached(index, index.next(), ONE_ENTRY)?;
        Batch::decode(records.into_iter().next()?.body).ok()
    }

    /// The batches in the applied entries from `index` on, as many as one look at the disk gives, by position. What is
    /// no batch or not on this node is left out.
    pub async fn read_batches(&self, index: LogIndex) -> io::Result<Vec<(LogIndex, Batch)>> {
        // Not beyond what is applied: the rest may yet be cut, and who keeps this would take it for what came instead.
        let applied = self.applied.borrow().next();
        let to = LogIndex(index.0.saturating_add(READ_AHEAD_ENTRIES)).min(applied).max(index.next());
        // Mostly in the page cache still: then no other thread has to be woken for it, and to wake this one.
        let records = match self.log.reader().read_at_hand(index, to, READ_AHEAD_BYTES).map_err(io::Error::other)? {
            Some(records) => records,
            None => {
                let reader = self.log.reader().clone();
                let read = tokio::task::spawn_blocking(move || reader.read(index, to, READ_AHEAD_BYTES));
                read.await.map_err(io::Error::other)?.map_err(io::Error::other)?
            }
        };
        let batches = records.into_iter().filter_map(|record| Some((record.index, Batch::decode(record.body).ok()?)));
        Ok(batches.collect())
    }

    /// This replica's marks.
    pub fn status(&self, facts: OwnFacts) -> ReplicaStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let index = |id: &Option<types::LogId>| id.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index));
        ReplicaStatus {
            node: NodeId(metrics.id),
            term: Term(metrics.current_term),
            leader: metrics.current_leader.map(NodeId),
            last_log: metrics.last_log_index.map_or(LogIndex(0), types::index_in),
            committed: index(&metrics.local_committed).max(index(&metrics.cluster_committed)),
            applied: *self.applied.borrow(),
            process_id: std::process::id(),
            client_address: facts.client_address,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            in_per_second: facts.in_per_second,
            out_per_second: facts.out_per_second,
        }
    }

    /// Another node's front end's answer; `None` if it does not answer.
    pub async fn ask(&self, node: NodeId, question: Bytes) -> Option<Bytes> {
        self.status_clients.question(node, question).await
    }

    /// Another replica's marks; `None` if it does not answer. If it refuses this one for good, that ends
    /// the node.
    pub async fn status_of(&self, node: NodeId) -> Option<ReplicaStatus> {
        match self.status_clients.ask(node).await {
            StatusReply::Status(status) => Some(status),
            StatusReply::Replaced(replaced) => {
                (self.on_fatal)(Fatal::Replaced(replaced));
                None
            }
            StatusReply::Stranger(_) | StatusReply::Silent => None,
        }
    }

    /// Hands leadership over if it is ours, then stops. Nothing acknowledged depends on it.
    pub async fn stop(self) {
        self.transfer_leadership().await;
        // What was forwarded here meanwhile hears that this node does not lead any more.
        self.proposer.drain(STOP_DRAIN).await;
        self.stop.cancel();
        self.tasks.close();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        self.tasks.wait().await;
        let kv = self.kv.clone();
        let flushed = tokio::task::spawn_blocking(move || kv.flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the state store was not flushed; the next start applies more of the log again");
        }
    }

    async fn transfer_leadership(&self) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let me = metrics.id;
        let Some(replication) = metrics.replication.filter(|_| metrics.current_leader == Some(me)) else { return };
        let nearest = replication.into_iter().filter(|(id, _)| *id != me).max_by_key(|(_, matching)| *matching);
        let Some((to, Some(_))) = nearest else { return };
        if self.raft.trigger().transfer_leader(to).await.is_ok() {
            let mut leadership = self.leadership.clone();
            let moved = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader.0 != me));
            if tokio::time::timeout(Duration::from_secs(1), moved).await.is_err() {
                tracing::warn!(to, "leadership was not taken over in time");
            }
        }
    }
}

/// Whether the peers that answer take this node for what it is. Peers that cannot be asked now refuse the
/// votes and acks of a wiped node all the same (D18). One stranger among friends is the stranger's mistake.
async fn meet_peers(clients: &StatusClients) -> Result<(), StartError> {
    let mut stranger = None;
    let mut has_friend = false;
    for asked in clients.ask_all().await {
        match asked {
            StatusReply::Replaced(replaced) => return Err(StartError::Replaced(replaced)),
            StatusReply::Stranger(reason) => stranger = Some(reason),
            StatusReply::Status(_) => has_friend = true,
            StatusReply::Silent => {}
        }
    }
    match stranger {
        Some(reason) if !has_friend => Err(StartError::Stranger(reason)),
        _ => Ok(()),
    }
}

/// The state may only be behind the log (D5). With `ASYNC_FLUSH` a power loss can turn that round; then
/// the state is thrown away and applied anew from the log, which still has everything.
fn rebuild_if_ahead(log: &CommitLog, kv: &dyn Kv) -> Result<(), StartError> {
    let (applied, _) = state_machine::read_marks(kv)?;
    let applied = applied.map_or(LogIndex(0), |id| types::index_in(id.index));
    let last = log.last().map_or(LogIndex(0), |last| last.index);
    if applied <= last {
        return Ok(());
    }
    if last > LogIndex(0) && log.first_index() != Some(LogIndex(1)) {
        return Err(StartError::StateAheadOfLog { applied, last });
    }
    tracing::warn!(%applied, %last, "the state is ahead of the log after a power loss; applying the log anew");
    snapshot::clear(kv)?;
    Ok(())
}

fn raft_config(config: &ReplicaConfig) -> Result<Config, StartError> {
    let raft = Config {
        cluster_name: config.cluster.clone(),
        heartbeat_interval: config.heartbeat_ms,
        election_timeout_min: config.election_min_ms,
        election_timeout_max: config.election_max_ms,
        enable_pre_vote: Some(config.pre_vote),
        // A restarted leader must win again: its state may be behind what it had committed.
        enable_leader_restore: Some(false),
        max_payload_entries: 1024,
        api_channel_size: Some(8192),
        api_batch_capacity: 1024,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 30_000,
        allow_log_reversion: config.may_lose_tail.then_some(true),
        backoff: "20ms 40ms 80ms 160ms 320ms 500ms".to_owned(),
        ..Config::default()
    };
    raft.validate().map_err(|error| StartError::Raft(error.to_string()))
}

fn watch_leadership(
    raft: &Raft<Types, StateMachine>,
    tasks: &TaskTracker,
    stop: CancellationToken,
    on_fatal: OnFatal,
) -> watch::Receiver<Leadership> {
    let (told, leadership) = watch::channel(Leadership::default());
    let raft = raft.clone();
    // These change with the leader; the whole metrics change with every entry.
    let mut metrics = raft.server_metrics();
    // Ends with Raft, whose metrics end.
    tasks.spawn(async move {
        loop {
            // Not held across the await: a held reference blocks Raft's core.
            let now = {
                let metrics = metrics.borrow_and_update();
                Leadership {
                    leader: metrics.current_leader.map(NodeId),
                    term: Term(metrics.vote.leader_id.term),
                    is_self: metrics.current_leader == Some(metrics.id) && metrics.state.is_leader(),
                }
            };
            if stop.is_cancelled() {
                return;
            }
            told.send_if_modified(|before| {
                if *before == now {
                    return false;
                }
                tracing::info!(term = now.term.0, leader = ?now.leader.map(|id| id.0), is_self = now.is_self, "leadership");
                *before = now;
                true
            });
            if metrics.changed().await.is_err() {
                if stop.is_cancelled() {
                    return;
                }
                // A core that panicked leaves no reason behind. Either way this node can do nothing more.
                let reason = raft.metrics().borrow_watched().running_state.as_ref().err().map(ToString::to_string);
                let reason = reason.unwrap_or_else(|| "its core panicked".to_owned());
                return on_fatal(Fatal::Failed(format!("raft stopped: {reason}")));
            }
        }
    });
    leadership
}

/// Stands for election as soon as the lease of a leader that broke its connection is over, rather than
/// after a whole election timeout.
///
/// Safe at any time: the round is a pre-vote, which this node refuses to itself while its own lease
/// holds, and others while theirs does (Raft thesis §9.6). A leader that only reset the stream goes on
/// heartbeating, so nothing comes of it.
async fn campaign_when_leader_is_gone(
    raft: Raft<Types, StateMachine>,
    leadership: watch::Receiver<Leadership>,
    stream_ended: Arc<Notify>,
    stagger: Duration,
) {
    loop {
        stream_ended.notified().await;
        let before = *leadership.borrow();
        let until = tokio::time::Instant::now() + CAMPAIGN_MAX;
        tokio::time::sleep(stagger).await;
        while *leadership.borrow() == before && !before.is_self && tokio::time::Instant::now() < until {
            if raft.trigger().elect(true).await.is_err() {
                return;
            }
            tokio::time::sleep(CAMPAIGN_STEP).await;
        }
    }
}

async fn flush_often(kv: Arc<dyn Kv>, applied: watch::Receiver<LogIndex>, on_fatal: OnFatal) {
    let mut flushed = LogIndex(0);
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        let now = *applied.borrow();
        if now == flushed {
            continue;
        }
        let kv = kv.clone();
        let result: Result<kv::Result<()>, _> = tokio::task::spawn_blocking(move || kv.flush()).await;
        match result {
            Ok(Ok(())) => flushed = now,
            Ok(Err(error)) => return on_fatal(Fatal::Failed(format!("the state store cannot be flushed: {error}"))),
            Err(panic) => return on_fatal(Fatal::Failed(format!("the state store's flush panicked: {panic}"))),
        }
    }
}
