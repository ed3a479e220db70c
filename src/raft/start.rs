//! Starting a replica: what it needs, what is checked, and the tasks it runs.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::env::clock::Clock;
use crate::machine::newest_version;
use crate::machine::state::view::View;
use crate::model::{MemberName, Millis, NodeId, RoomState};
use crate::raft::acknowledged::remember_acknowledged;
use crate::raft::batch_reader::BatchReader;
use crate::raft::clock::cluster_clock::ClusterClock;
use crate::raft::clock::samples::ClockSamples;
use crate::raft::clock::watch::{ClockWatch, UNFIT_MS};
use crate::raft::digest_exchange::DigestExchange;
use crate::raft::digests::Digests;
use crate::raft::enquiry::Enquiry;
use crate::raft::error::{OnFatal, StartError};
use crate::raft::flush::StateFlush;
use crate::raft::follow_members::follow_members;
use crate::raft::foreign_state::judge;
use crate::raft::leadership::{
    GivenVote, LeaderContact, Leaving, QuorumWatch, campaign_when_leader_is_gone, watch_leadership,
};
use crate::raft::log_storage::LogStorage;
use crate::raft::lost_tail::{LostTail, Restoring};
use crate::raft::make_whole::MakeWhole;
use crate::raft::members::MemberTable;
use crate::raft::members_in_log::members_in_log;
use crate::raft::peer::forward::Forwarder;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::peers::Peers;
use crate::raft::peer::security::PeerSecurity;
use crate::raft::peer::server;
use crate::raft::peer::service::{OnPassLeadership, OnQuestion, PeerService};
use crate::raft::peer::status::{Greeted, OwnFacts, StatusClients};
use crate::raft::peer_records::PeerRecords;
#[cfg(debug_assertions)]
use crate::raft::planted;
use crate::raft::preferred_leader::prefer;
use crate::raft::propose::proposer::Proposer;
use crate::raft::purge::{Purge, flush_and_purge};
use crate::raft::repair::{Repair, Repairs};
use crate::raft::replica::Replica;
use crate::raft::room::{RoomWatch, VoterRooms};
use crate::raft::scrub::Scrub;
use crate::raft::slow_disk::{SlowDisk, SlowDiskWatch};
use crate::raft::snapshot::catch_up::{CatchUp, OnRestart};
use crate::raft::snapshot::handle::Snapshots;
use crate::raft::snapshot::progress::Behind;
use crate::raft::snapshot::rate::RateLimit;
use crate::raft::snapshot::sources::{LEASE, SnapshotSources, SourceParts};
use crate::raft::snapshot::target::Target;
use crate::raft::state_from_peer::StateFromPeer;
use crate::raft::state_machine::{OnEffects, StateMachine};
use crate::raft::types;
use crate::store::folder::StoreFolder;
use crate::store::generation::Generation;
use crate::store::kv::Kv;
use crate::store::log::{CommitLog, LogOwner, Options};
use crate::store::room::StoreRoom;

/// What a replica has to know to start.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    /// `dLegerPeers`: the members of the very first start, with `host:port` for peers, this one included.
    pub peers: BTreeMap<MemberName, String>,
    /// Where members were once, as far as this host remembers: to be asked, and no more.
    pub remembered: BTreeMap<MemberName, String>,
    /// `logRetentionBytes`; `None`: no bound.
    pub log_bytes_max: Option<u64>,
    /// `memberWaitMs`.
    pub member_wait: Millis,
    /// `snapshotRate`; 0: no bound.
    pub snapshot_rate: u64,
    /// `scrubRate`; 0: no scrub.
    pub scrub_rate: u64,
    /// Time between heartbeats.
    pub heartbeat: Millis,
    /// Election timeouts are drawn from `election_min` to `election_max`.
    pub election_min: Millis,
    pub election_max: Millis,
    /// Ask before standing for election (Raft thesis §9.6).
    pub pre_vote: bool,
    /// `preferredLeaderId`.
    pub preferred_leader: Option<MemberName>,
    /// Batches in flight at once.
    pub in_flight_max: usize,
    /// `slowRequestMs`; `None`: none is slow.
    pub slow_request: Option<Duration>,
    /// `ASYNC_FLUSH`: a power loss may take the end of a follower's log, which is then shorter than what the follower
    /// once acknowledged.
    pub may_lose_tail: bool,
}

impl ReplicaConfig {
    fn owner(&self, node: NodeId) -> LogOwner {
        LogOwner { cluster: self.cluster.clone(), group: self.group.clone(), node }
    }

    fn identity(&self, members: MemberTable, security: PeerSecurity, log: CommitLog) -> PeerIdentity {
        let names = (self.cluster.clone(), self.group.clone());
        PeerIdentity::new(names, log.node().0, members, security, log, self.may_lose_tail)
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
    /// The folder with both, and which generation they are of.
    pub store: StoreFolder,
    pub generation: Generation,
    /// Of a log that is pulled.
    pub log_options: Options,
    /// Called when the process is to start again, because a snapshot was pulled.
    pub on_restart: OnRestart,
    /// Of that folder.
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
    /// Starts the replica on the current runtime. At the very first start the members of `dLegerPeers` found the group
    /// once a majority of them is there.
    ///
    /// * Errors: [`StartError`]; what was started until then ends with the runtime.
    pub async fn start(config: ReplicaConfig, parts: ReplicaParts) -> Result<Self, StartError> {
        let ReplicaParts {
            own_clock,
            clock,
            log,
            kv,
            store,
            generation,
            log_options,
            on_restart,
            room,
            listener,
            security,
            on_effects,
            facts,
            on_question,
            on_fatal,
        } = parts;
        #[cfg(debug_assertions)]
        planted::be_newer();
        check_version(&*kv)?;
        let (state, of_state, end) = (kv.clone(), log.clone(), on_fatal);
        let on_fatal: OnFatal = Arc::new(move |fatal| {
            // What a log wrote when it failed may be in memory only: an operator looks first (D18).
            let is_alone = state.is_given_up() && !of_state.is_poisoned();
            end(if is_alone { fatal.with_state_given_up() } else { fatal });
        });
        let fit = judge(&log, &*kv, config.may_lose_tail)?;
        let (durable_sender, durable) = watch::channel(log.durable());
        log.on_durable(Box::new(move |index| {
            durable_sender.send_replace(index);
        }));
        let flush = StateFlush::new(kv.clone(), config.may_lose_tail.then(|| log.clone()))?;
        let (applied_sender, applied) = watch::channel(flush.flushed());
        let digests = Digests::default();
        let snapshots = Snapshots::new(flush.clone(), log.purged());
        let machine = StateMachine::new(
            kv.clone(),
            durable.clone(),
            applied_sender,
            on_effects,
            snapshots.clone(),
            clock.clone(),
            digests.clone(),
        )?;
        let measures = machine.measures();
        let has_room = room.clone();
        let rate = Arc::new(RateLimit::new(config.snapshot_rate));
        let sources = SnapshotSources::new(SourceParts {
            cluster: config.cluster.clone(),
            group: config.group.clone(),
            store: store.clone(),
            log: log.clone(),
            kv: kv.clone(),
            flush: flush.clone(),
            applied: applied.clone(),
            rate: rate.clone(),
            lease: LEASE,
            has_room: Arc::new(move || has_room.now().state < RoomState::Hard),
        })?;
        let node = log.node();
        let members = MemberTable::new(config.peers.clone());
        let in_state = types::members(&flush.marks().1);
        let in_log = members_in_log(&log, flush.flushed())?;
        members.set_own(in_log.unwrap_or_else(|| in_state.clone()), in_state);
        let identity = config.identity(members.clone(), security, log.clone());
        let peers = Peers::new(identity.clone(), rate);
        let clock_samples = Arc::new(ClockSamples::new(own_clock, node, members.clone()));
        let rooms = Arc::new(VoterRooms::new(room, node, members.clone()));
        let noting = rooms.clone();
        let on_room = Arc::new(move |node, room| noting.note(node, room));
        let status_clients = StatusClients::new(&peers, clock_samples.clone(), on_room, digests.clone());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        // Before Raft: a peer that hears of this start looks whether it is this node that answers at its address.
        let (service, serving) = watch::channel(None);
        let server = server::serve(identity.clone(), serving, listener)?;
        tasks.spawn(stop.clone().run_until_cancelled_owned(server));
        let remembered = Arc::new(config.remembered.clone());
        let enquiry = Enquiry { identity: identity.clone(), members: members.clone(), remembered };
        let repairs = Repairs::default();
        let repair = Repair {
            log: log.clone(),
            applied: applied.clone(),
            peers: PeerRecords::new(&identity),
            repairs: repairs.clone(),
        };
        let target = Target { store, owner: config.owner(node), log_options, kv: kv.clone(), generation };
        let from_peer = StateFromPeer {
            enquiry: enquiry.clone(),
            status_clients: status_clients.clone(),
            target: target.clone(),
            log: log.clone(),
            rooms: rooms.clone(),
        };
        let may_lose_tail = config.may_lose_tail;
        let make_whole = MakeWhole { log: &log, kv: &kv, may_lose_tail, repair: &repair, from_peer: &from_peer };
        let ready = async {
            enquiry.before_start().await?;
            meet_peers(&status_clients).await?;
            make_whole.run(fit).await
        };
        if let Err(error) = ready.await {
            stop.cancel();
            if matches!(error, StartError::Disowned(_)) {
                // The last thing this process does with its log.
                log.forget_start().map_err(std::io::Error::other)?;
            }
            return Err(error);
        }
        let lost_tail = LostTail::of(&log);
        let raft_config = Arc::new(raft_config(&config, &lost_tail)?);
        let batches = BatchReader::new(log.reader().clone(), applied.clone());
        let raft =
            Raft::new(node.0, raft_config, peers.clone(), LogStorage::new(log.clone(), flush.flushed()), machine)
                .await
                .map_err(|fatal| StartError::Raft(fatal.to_string()))?;

        let following = follow_members(raft.clone(), members.clone(), log.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(following));
        let contact = LeaderContact::default();
        let election_max = Duration::from_millis(config.election_max.0);
        let quorum = QuorumWatch { contact: contact.clone(), election_max };
        let term_of = identity.clone();
        let term_measures = measures.clone();
        let on_term = move |term| {
            term_of.set_term(term);
            term_measures.in_term(term);
        };
        let leadership = watch_leadership(&raft, quorum, on_term, &tasks, stop.clone(), on_fatal.clone());
        let remembering = remember_acknowledged(raft.clone(), identity.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(remembering));
        let slow_disk = SlowDisk::default();
        let slow_disk_watch = SlowDiskWatch {
            raft: raft.clone(),
            leadership: leadership.clone(),
            durable,
            rooms: rooms.clone(),
            status_clients: status_clients.clone(),
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
            config.slow_request,
        );
        tasks.spawn(stop.clone().run_until_cancelled_owned(gatherer.run()));
        let (needing, flushing, short) = (kv.clone(), kv.clone(), rooms.clone());
        let purge = Purge {
            raft: raft.clone(),
            log: log.clone(),
            flush,
            snapshots,
            sources: sources.clone(),
            identity: identity.clone(),
            applied: applied.clone(),
            needed_from: Arc::new(move |at_least| {
                View::new(&*needing).needed_from(at_least).map_err(std::io::Error::other)
            }),
            room: Arc::new(move || short.for_flush(flushing.unflushed_bytes())),
            log_bytes_max: config.log_bytes_max,
            member_wait: Duration::from_millis(config.member_wait.0),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(flush_and_purge(purge, on_fatal.clone())));

        let clock_watch = ClockWatch {
            clock: clock.clone(),
            samples: clock_samples.clone(),
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

        let (behind_sender, behind) = watch::channel(None);
        let (catching_up_sender, catching_up) = watch::channel(None);
        let staged = Arc::new(Mutex::new(None));
        let catch_up = CatchUp {
            identity: identity.clone(),
            status_clients: status_clients.clone(),
            target,
            log: log.clone(),
            applied: applied.clone(),
            leadership: leadership.clone(),
            rooms: rooms.clone(),
            behind,
            state: catching_up_sender,
            staged: staged.clone(),
            on_restart,
            choice: Mutex::default(),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(catch_up.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(repair.run()));
        let exchange = DigestExchange {
            digests: digests.clone(),
            raft: raft.clone(),
            node,
            kv: kv.clone(),
            on_fatal: on_fatal.clone(),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(exchange.run()));
        let scrub =
            Scrub { log: log.clone(), kv: kv.clone(), bytes_per_second: config.scrub_rate, on_fatal: on_fatal.clone() };
        tasks.spawn(stop.clone().run_until_cancelled_owned(scrub.run()));
        let leaving = Leaving::default();
        let restoring = Restoring {
            lost_tail: lost_tail.clone(),
            log: log.clone(),
            raft: raft.clone(),
            leadership: leadership.clone(),
            applied: applied.clone(),
            status_clients: status_clients.clone(),
            members: members.clone(),
            leaving: leaving.clone(),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(restoring.run()));

        let replica = Self {
            node,
            members,
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
            leaving,
            contact: contact.clone(),
            started_at: tokio::time::Instant::now(),
            log,
            sources,
            catching_up,
            staged,
            lost_tail,
            repairs,
            measures,
            state_digests: digests,
            on_fatal,
            digests: Arc::new(Semaphore::new(1)),
            tasks,
            stop,
        };
        if let Some(preferred) = config.preferred_leader.filter(|preferred| *preferred != node.name()) {
            replica.tasks.spawn(replica.stop.clone().run_until_cancelled_owned(prefer(replica.clone(), preferred)));
        }
        // The channel is open as long as the server runs.
        let _ = service.send(Some(replica.service(identity, contact, behind_sender, facts, on_question)));

        let enquiring = enquiry.while_running(replica.clone());
        replica.tasks.spawn(replica.stop.clone().run_until_cancelled_owned(enquiring));
        Ok(replica)
    }

    /// What the peers may ask of this replica.
    fn service(
        &self,
        identity: PeerIdentity,
        contact: LeaderContact,
        behind: watch::Sender<Option<Behind>>,
        facts: Arc<dyn Fn() -> OwnFacts + Send + Sync>,
        on_question: OnQuestion,
    ) -> PeerService {
        let stream_ended = Arc::new(Notify::new());
        let (samples, rooms, leaving) = (self.clock_samples.clone(), self.rooms.clone(), self.leaving.clone());
        let lost_tail = self.lost_tail.clone();
        let (members, own_node) = (self.members.clone(), self.node);
        let given_vote = GivenVote::new(Duration::from_millis(self.raft.config().election_timeout_min));
        let given = given_vote.clone();
        let campaign = campaign_when_leader_is_gone(
            self.raft.clone(),
            self.leadership.clone(),
            stream_ended.clone(),
            NodeId(identity.node).name(),
            Duration::from_millis(self.raft.config().election_timeout_max),
            move || {
                samples.own_offset_ms().is_some_and(|offset| offset.unsigned_abs() > UNFIT_MS)
                    || !rooms.own().now().has_room()
            },
            move || {
                let is_voter = members.is_voter(own_node);
                is_voter && !lost_tail.is_lost() && !leaving.is_noted() && given.holder().is_none()
            },
        );
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(campaign));
        let (own, passing) = (self.clone(), self.clone());
        let on_pass_leadership: OnPassLeadership = Arc::new(move |to| {
            let replica = passing.clone();
            Box::pin(async move { replica.answer_pass_leadership(to).await })
        });
        PeerService {
            identity,
            raft: self.raft.clone(),
            proposer: self.proposer.clone(),
            status: Arc::new(move || own.status(facts())),
            on_question,
            on_pass_leadership,
            rooms: self.rooms.clone(),
            sources: self.sources.clone(),
            behind: Arc::new(behind),
            stream_ended,
            contact,
            lost_tail: self.lost_tail.clone(),
            given_vote,
            status_clients: self.status_clients.clone(),
        }
    }
}

/// What a newer build wrote may mean something that this one does not know (D83).
fn check_version(kv: &dyn Kv) -> Result<(), StartError> {
    let (found, newest) = (View::new(kv).cluster_version().map_err(std::io::Error::other)?, newest_version());
    if found > newest { Err(StartError::TooOld { found, newest }) } else { Ok(()) }
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

fn raft_config(config: &ReplicaConfig, lost_tail: &LostTail) -> Result<Config, StartError> {
    let raft = Config {
        cluster_name: config.cluster.clone(),
        heartbeat_interval: config.heartbeat.0,
        election_timeout_min: config.election_min.0,
        election_timeout_max: config.election_max.0,
        enable_pre_vote: Some(config.pre_vote),
        // Who lost the end of its log stands for election only when `lost_tail` says so.
        enable_elect: !lost_tail.is_lost(),
        // A restarted leader must win again: its state may be behind what it had committed.
        enable_leader_restore: Some(false),
        max_payload_entries: 1024,
        api_channel_size: Some(8192),
        api_batch_capacity: 1024,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 30_000,
        // A follower that lost the end of its log to damage says so, does not vote, and is sent it again (D116). One that does
        // not know what it lost is refused at its greeting (D82).
        allow_log_reversion: Some(true),
        backoff: "20ms 40ms 80ms 160ms 320ms 500ms".to_owned(),
        ..Config::default()
    };
    raft.validate().map_err(|error| StartError::Raft(error.to_string()))
}
