//! Starting a replica: what it needs, what is checked, and the tasks it runs.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::env::clock::Clock;
use crate::machine::state::view::View;
use crate::model::{Millis, NodeId};
use crate::raft::acknowledged::remember_acknowledged;
use crate::raft::batch_reader::BatchReader;
use crate::raft::clock::cluster_clock::ClusterClock;
use crate::raft::clock::samples::ClockSamples;
use crate::raft::clock::watch::{ClockWatch, UNFIT_MS};
use crate::raft::error::{OnFatal, StartError};
use crate::raft::flush::StateFlush;
use crate::raft::foreign_state::rebuild_if_foreign;
use crate::raft::leadership::{LeaderContact, QuorumWatch, campaign_when_leader_is_gone, watch_leadership};
use crate::raft::log_storage::LogStorage;
use crate::raft::peer::forward::Forwarder;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::peers::Peers;
use crate::raft::peer::security::PeerSecurity;
use crate::raft::peer::server;
use crate::raft::peer::service::{OnQuestion, PeerService};
use crate::raft::peer::status::{Greeted, OwnFacts, StatusClients};
use crate::raft::propose::proposer::Proposer;
use crate::raft::purge::{Purge, flush_and_purge};
use crate::raft::replica::Replica;
use crate::raft::room::{RoomWatch, VoterRooms};
use crate::raft::slow_disk::{SlowDisk, SlowDiskWatch};
use crate::raft::snapshot::Snapshots;
use crate::raft::state_machine::{OnEffects, StateMachine};
use crate::store::kv::Kv;
use crate::store::log::CommitLog;
use crate::store::room::StoreRoom;

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
    /// `logRetentionBytes`; `None`: no bound.
    pub log_bytes_max: Option<u64>,
    /// Time between heartbeats.
    pub heartbeat: Millis,
    /// Election timeouts are drawn from `election_min` to `election_max`.
    pub election_min: Millis,
    pub election_max: Millis,
    /// Ask before standing for election (Raft thesis §9.6).
    pub pre_vote: bool,
    /// Batches in flight at once.
    pub in_flight_max: usize,
    /// `ASYNC_FLUSH`: a power loss may take the end of a follower's log, which is then shorter than what the follower
    /// once acknowledged.
    pub may_lose_tail: bool,
}

impl ReplicaConfig {
    fn identity(&self, security: PeerSecurity, log: CommitLog) -> PeerIdentity {
        let names = (self.cluster.clone(), self.group.clone());
        let addresses = self.peers.iter().map(|(id, address)| (id.0, address.clone())).collect();
        PeerIdentity::new(names, self.node.0, addresses, security, log, self.may_lose_tail)
    }
}

/// What a replica is made of.
pub struct ReplicaParts {
    /// This node's own.
    pub own_clock: Arc<dyn Clock>,
    /// Started from the state in `kv`.
    pub clock: Arc<ClusterClock>,
    /// Open.
    pub log: CommitLog,
    /// Open.
    pub kv: Arc<dyn Kv>,
    /// Of the folder with both.
    pub room: Arc<StoreRoom>,
    /// Where peers connect, bound.
    pub listener: TcpListener,
    /// How peers prove who they are.
    pub security: PeerSecurity,
    /// Called with what each applied entry did.
    pub on_effects: OnEffects,
    /// Gives the node's own facts.
    pub facts: Arc<dyn Fn() -> OwnFacts + Send + Sync>,
    /// Answers another node's front end.
    pub on_question: OnQuestion,
    /// Called with the reason when the replica cannot go on; the process must end.
    pub on_fatal: OnFatal,
}

impl Replica {
    /// Starts the replica on the current runtime. On the very first start the shard bootstraps itself: each replica
    /// writes the same initial membership.
    ///
    /// * Errors: [`StartError`]; what was started until then ends with the runtime.
    pub async fn start(config: ReplicaConfig, parts: ReplicaParts) -> Result<Self, StartError> {
        let ReplicaParts {
            own_clock,
            clock,
            log,
            kv,
            room,
            listener,
            security,
            on_effects,
            facts,
            on_question,
            on_fatal,
        } = parts;
        rebuild_if_foreign(&log, &*kv)?;
        let (durable_sender, durable) = watch::channel(log.durable());
        log.on_durable(Box::new(move |index| {
            durable_sender.send_replace(index);
        }));
        let flush = StateFlush::new(kv.clone(), config.may_lose_tail.then(|| log.clone()))?;
        let (applied_sender, applied) = watch::channel(flush.flushed());
        let snapshots = Snapshots::new(flush.clone(), log.purged().is_some());
        let machine = StateMachine::new(
            kv.clone(),
            durable.clone(),
            applied_sender,
            on_effects,
            snapshots.clone(),
            clock.clone(),
        )?;
        let identity = config.identity(security, log.clone());
        let peers = Peers::new(identity.clone());
        let nodes = config.peers.len();
        let clock_samples = Arc::new(ClockSamples::new(own_clock, config.node, nodes));
        let rooms = Arc::new(VoterRooms::new(room, config.node, nodes));
        let noting = rooms.clone();
        let on_room = Arc::new(move |node, room| noting.note(node, room));
        let status_clients = StatusClients::new(&peers, clock_samples.clone(), on_room);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        // Before Raft: a peer that hears of this start looks whether it is this node that answers at its address.
        let (service, serving) = watch::channel(None);
        let server = server::serve(identity.clone(), serving, listener)?;
        tasks.spawn(stop.clone().run_until_cancelled_owned(server));
        if let Err(error) = meet_peers(&status_clients).await {
            stop.cancel();
            if matches!(error, StartError::Disowned(_)) {
                // The last thing this process does with its log.
                log.forget_start().map_err(std::io::Error::other)?;
            }
            return Err(error);
        }
        let raft_config = Arc::new(raft_config(&config)?);
        let batches = BatchReader::new(log.reader().clone(), applied.clone());
        let raft = Raft::new(
            config.node.0,
            raft_config,
            peers.clone(),
            LogStorage::new(log.clone(), flush.flushed()),
            machine,
        )
        .await
        .map_err(|fatal| StartError::Raft(fatal.to_string()))?;

        let contact = LeaderContact::default();
        let election_max = Duration::from_millis(config.election_max.0);
        let quorum = QuorumWatch { contact: contact.clone(), election_max };
        let term_of = identity.clone();
        let on_term = move |term| term_of.set_term(term);
        let leadership = watch_leadership(&raft, quorum, on_term, &tasks, stop.clone(), on_fatal.clone());
        let remembering = remember_acknowledged(raft.clone(), identity.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(remembering));
        let slow_disk = SlowDisk::default();
        let slow_disk_watch = SlowDiskWatch {
            raft: raft.clone(),
            leadership: leadership.clone(),
            durable,
            rooms: rooms.clone(),
            mark: slow_disk.clone(),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(slow_disk_watch.run()));
        let forwarder = Arc::new(Forwarder::new(&identity));
        let (proposer, gatherer) = Proposer::new(
            raft.clone(),
            forwarder,
            leadership.clone(),
            clock.clone(),
            rooms.clone(),
            config.in_flight_max,
        );
        tasks.spawn(stop.clone().run_until_cancelled_owned(gatherer.run()));
        let (needing, flushing, short) = (kv.clone(), kv.clone(), rooms.clone());
        let purge = Purge {
            raft: raft.clone(),
            log: log.clone(),
            flush,
            snapshots,
            identity: identity.clone(),
            applied: applied.clone(),
            needed_from: Arc::new(move |at_least| {
                View::new(&*needing).needed_from(at_least).map_err(std::io::Error::other)
            }),
            room: Arc::new(move || short.for_flush(flushing.unflushed_bytes())),
            log_bytes_max: config.log_bytes_max,
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(flush_and_purge(purge, on_fatal.clone())));

        let clock_watch = ClockWatch {
            clock: clock.clone(),
            samples: clock_samples.clone(),
            nodes,
            status_clients: status_clients.clone(),
            raft: raft.clone(),
            proposer: proposer.clone(),
            leadership: leadership.clone(),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(clock_watch.run()));
        let room_watch = RoomWatch {
            rooms: rooms.clone(),
            kv: kv.clone(),
            log: log.clone(),
            raft: raft.clone(),
            status_clients: status_clients.clone(),
            leadership: leadership.clone(),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(room_watch.run()));

        let replica = Self {
            raft,
            proposer,
            status_clients,
            batches,
            kv,
            leadership,
            applied,
            clock,
            clock_samples,
            rooms,
            slow_disk,
            log,
            on_fatal,
            digests: Arc::new(Semaphore::new(1)),
            tasks,
            stop,
        };
        // The channel is open as long as the server runs.
        let _ = service.send(Some(replica.service(identity, contact, facts, on_question)));

        replica.bootstrap(&config).await?;
        replica.check_members(&config)?;
        Ok(replica)
    }

    /// What the peers may ask of this replica.
    fn service(
        &self,
        identity: PeerIdentity,
        contact: LeaderContact,
        facts: Arc<dyn Fn() -> OwnFacts + Send + Sync>,
        on_question: OnQuestion,
    ) -> PeerService {
        let stream_ended = Arc::new(Notify::new());
        let (samples, rooms) = (self.clock_samples.clone(), self.rooms.clone());
        let campaign = campaign_when_leader_is_gone(
            self.raft.clone(),
            self.leadership.clone(),
            stream_ended.clone(),
            identity.node,
            move || {
                samples.own_offset_ms().is_some_and(|offset| offset.unsigned_abs() > UNFIT_MS)
                    || !rooms.own().now().has_room()
            },
        );
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(campaign));
        let own = self.clone();
        PeerService {
            identity,
            raft: self.raft.clone(),
            proposer: self.proposer.clone(),
            status: Arc::new(move || own.status(facts())),
            on_question,
            rooms: self.rooms.clone(),
            stream_ended,
            contact,
        }
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
            // A peer was faster and its entry is here already: that is as good.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(fatal(&error)),
        }
    }

    /// The ids of the members are in the log; their addresses are the configuration's, so that hosts may move (D30).
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
}

/// Whether the peers that answer know this node as what it is. Peers that cannot be asked now refuse the votes and acks
/// of a wiped node all the same (D18). If only some peers call this node a stranger, the mistake is theirs.
async fn meet_peers(clients: &StatusClients) -> Result<(), StartError> {
    let mut stranger = None;
    let mut has_friend = false;
    for greeted in clients.greet_all().await {
        match greeted {
            Greeted::Disowned(disowned) => return Err(StartError::Disowned(disowned)),
            Greeted::Stranger(reason) => stranger = Some(reason),
            Greeted::Friend => has_friend = true,
            Greeted::Silent => {}
        }
    }
    match stranger {
        Some(reason) if !has_friend => Err(StartError::Stranger(reason)),
        _ => {
            clients.set_started();
            Ok(())
        }
    }
}

fn raft_config(config: &ReplicaConfig) -> Result<Config, StartError> {
    let raft = Config {
        cluster_name: config.cluster.clone(),
        heartbeat_interval: config.heartbeat.0,
        election_timeout_min: config.election_min.0,
        election_timeout_max: config.election_max.0,
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
