//! One node, from its configuration: sessions, log and state, replica, shard, routes, and what runs beside them.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::broker::{
    Arrivals, Background, Broker, BrokerParts, BrokerSettings, Caps, CatalogCount, ClientInfo, Error, Inspector,
    LogRetention, ReplicaSite, ShardCounts, Statistics, Traffic,
};
use crate::config::BrokerConfig;
use crate::env::clock::{Clock, RealClock};
use crate::model::{LogIndex, Millis, TransactionChecks};
use crate::node::classic_members::{self, Believed};
use crate::node::clients::NodeClients;
use crate::node::open::{Storage, open};
use crate::node::peer_security::peer_security;
use crate::node::portrait_codec::Portrait;
use crate::node::{
    HeartbeatClients, HeartbeatProducers, NodeSettings, Routes, Sessions, StartError, client_list, consumer_ids,
    consumers, counts_codec, portrait_codec, remembered,
};
use crate::raft::{ClusterClock, DayCounts, OnFatal, OwnFacts, Replica, ReplicaConfig, ReplicaParts};
use crate::store::kv::catalog_cache::CatalogCache;

const EXPIRE_EVERY: Duration = Duration::from_secs(5);

/// A running node.
pub struct Node {
    pub(super) settings: Arc<NodeSettings>,
    pub(super) replica: Replica,
    /// What this node says of itself.
    pub(super) facts: Arc<dyn Fn() -> OwnFacts + Send + Sync>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) heartbeat_clients: Arc<HeartbeatClients>,
    pub(super) believed: Believed,
    pub(super) heartbeat_producers: Arc<HeartbeatProducers>,
    routes: Arc<Routes>,
    pub(super) portrait: Portrait,
    broker: Arc<Broker>,
    inspector: Inspector,
    background: Background,
    loops: JoinHandle<()>,
    pub(super) leaving: CancellationToken,
    stopping: CancellationToken,
    catalog_changes: watch::Receiver<u64>,
    must_restart: CancellationToken,
}

impl Node {
    /// Starts everything on the current runtime, which becomes the Raft runtime.
    pub async fn start(
        config: &BrokerConfig,
        peer_port: TcpListener,
        on_fatal: OnFatal,
    ) -> Result<Arc<Self>, StartError> {
        let own_clock: Arc<dyn Clock> = Arc::new(RealClock::start());
        let settings = Arc::new(NodeSettings::of(config));
        let Storage { log, kv, room, store, generation, log_options } = open(config, on_fatal.clone())?;
        let clock = Arc::new(ClusterClock::open(own_clock.clone(), &kv)?);
        let sessions = Arc::new(Sessions::new(clock.clone()));
        let heartbeat_clients = Arc::new(HeartbeatClients::new(clock.clone()));
        let heartbeat_producers = Arc::new(HeartbeatProducers::new(clock.clone()));
        let traffic = Arc::new(Traffic::new(clock.clone()));
        let last_log = log.last().map_or(LogIndex(0), |last| last.index);
        let statistics = Arc::new(Statistics::new(clock.clone(), last_log));
        let facts = own_facts(&settings, &traffic, &statistics);
        let (arrivals, due_checks) = Arrivals::new();
        let arrivals = Arc::new(arrivals);
        let (notified, counting, answering) = (arrivals.clone(), statistics.clone(), sessions.clone());
        let catalog_count = Arc::new(CatalogCount::of(&kv).map_err(|error| StartError::Damaged(error.to_string()))?);
        let grown = catalog_count.clone();
        let catalog = Arc::new(CatalogCache::new(Arc::new(kv)));
        let catalog_changes = catalog.changes();
        let (listed, listed_producers) = (heartbeat_clients.clone(), heartbeat_producers.clone());
        // Weak: the replica, which the broker holds, holds this.
        let asked: Arc<OnceLock<Weak<Broker>>> = Arc::default();
        let counted = asked.clone();
        let portrait = Portrait::default();
        let said = portrait.clone();
        let must_restart = CancellationToken::new();
        let restarting = must_restart.clone();
        let parts = ReplicaParts {
            own_clock,
            clock: clock.clone(),
            log,
            kv: catalog,
            store,
            generation,
            log_options,
            on_restart: Arc::new(move || restarting.cancel()),
            room,
            listener: peer_port,
            security: peer_security(&config.peer_security)?,
            on_effects: Arc::new(move |effects| {
                counting.note(effects);
                notified.notify(effects);
                grown.note(effects);
            }),
            facts: facts.clone(),
            on_question: Arc::new(move |question| {
                if counts_codec::is_question(&question) {
                    return counts_codec::answer(counted.get(), question);
                }
                if client_list::is_question(&question) {
                    return client_list::answer(&answering, &listed, &listed_producers, &question);
                }
                if classic_members::is_question(&question) {
                    return classic_members::answer(&listed, &question);
                }
                if portrait_codec::is_question(&question) {
                    return portrait_codec::answer(&said, &question);
                }
                if consumer_ids::is_question(&question) {
                    return consumer_ids::answer(&answering, &question);
                }
                consumers::answer(&answering, &question)
            }),
            on_fatal,
        };
        let replica = Replica::start(replica_config(config), parts).await?;
        let clients = Arc::new(NodeClients {
            sessions: sessions.clone(),
            producers: heartbeat_producers.clone(),
            heartbeat_clients: heartbeat_clients.clone(),
            replica: replica.clone(),
        });
        let stopping = CancellationToken::new();
        let broker = Broker::new(BrokerParts {
            settings: broker_settings(config),
            site: ReplicaSite { store_host: settings.store_host.clone() },
            replica: replica.clone(),
            clock,
            arrivals,
            clients,
            traffic,
            statistics,
            catalog_count,
            stopping: stopping.clone(),
        });
        // It was not set before.
        let _ = asked.set(Arc::downgrade(&broker));
        let routes = Arc::new(Routes::new(settings.clone(), broker.clone(), replica.clone()));
        let background = Background::start(broker.clone(), due_checks);
        let (probing, expiring) = (routes.clone(), sessions.clone());
        let (consumers, producers) = (heartbeat_clients.clone(), heartbeat_producers.clone());
        let remembering = remembered::keep(replica.clone(), config.store.clone());
        let loops = tokio::spawn(async move {
            tokio::join!(probing.probe(), expire_clients(&expiring, &consumers, &producers), remembering);
        });
        let inspector = Inspector::new(&broker);
        Ok(Arc::new(Self {
            settings,
            replica,
            facts,
            sessions,
            heartbeat_clients,
            believed: Believed::default(),
            heartbeat_producers,
            routes,
            portrait,
            broker,
            inspector,
            background,
            loops,
            leaving: CancellationToken::new(),
            stopping,
            catalog_changes,
            must_restart,
        }))
    }

    pub fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// The clients of this node.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The consumers of this node that send heartbeats.
    pub fn heartbeat_clients(&self) -> &HeartbeatClients {
        &self.heartbeat_clients
    }

    /// The producers that say by heartbeats which groups they are in.
    pub fn heartbeat_producers(&self) -> &HeartbeatProducers {
        &self.heartbeat_producers
    }

    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The shard of this node.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The shard, read only, for operators.
    pub fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// Changes whenever topics or groups do, as this node has applied them.
    pub fn catalog_changes(&self) -> watch::Receiver<u64> {
        self.catalog_changes.clone()
    }

    /// Cancelled when the node is about to stop, and still serves clients.
    pub fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    /// Cancelled when the node begins to stop: polls and streams that would wait end then.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Forgets a client that left, and lets others have what it held soon; nothing, if it is another connection than the
    /// session's that says so.
    pub async fn client_left(&self, client: &ClientInfo) -> Result<(), Error> {
        if !self.sessions.ended(client) {
            let ClientInfo { client_id, address, .. } = client;
            tracing::debug!(%client_id, %address, "the end of a client was not believed: its session is another connection's");
            return Ok(());
        }
        self.broker.release_leases_of(&client.client_id).await
    }

    /// Cancelled when this process is to stop and start again, with log and state that were pulled from another node.
    pub fn must_restart(&self) -> &CancellationToken {
        &self.must_restart
    }

    /// Puts what was pulled in the place of what was in use; after [`Self::stop`], and before the process starts again.
    /// Blocks.
    pub fn install_pulled(&self) {
        self.replica.install_pulled();
    }

    /// Transfers leadership and stops. Front ends end before.
    pub async fn stop(&self) {
        self.loops.abort();
        self.background.stop().await;
        self.replica.clone().stop().await;
    }
}

async fn expire_clients(sessions: &Sessions, consumers: &HeartbeatClients, producers: &HeartbeatProducers) {
    loop {
        tokio::time::sleep(EXPIRE_EVERY).await;
        sessions.expire();
        consumers.expire();
        producers.expire();
    }
}

fn own_facts(
    settings: &Arc<NodeSettings>,
    traffic: &Arc<Traffic>,
    statistics: &Arc<Statistics>,
) -> Arc<dyn Fn() -> OwnFacts + Send + Sync> {
    let (settings, traffic, statistics) = (settings.clone(), traffic.clone(), statistics.clone());
    Arc::new(move || {
        let (in_per_second, out_per_second) = traffic.per_second();
        let days = Some(by_day(&statistics.shard()));
        let (client_address, listen_port) = (settings.store_host.clone(), Some(settings.listen_port));
        OwnFacts { client_address, listen_port, in_per_second, out_per_second, days }
    })
}

fn by_day(counts: &ShardCounts) -> DayCounts {
    DayCounts {
        since: counts.since,
        in_today: counts.taken_in.today.messages,
        in_yesterday: counts.taken_in.yesterday.messages,
        out_today: counts.given_out.today.deliveries,
        out_yesterday: counts.given_out.yesterday.deliveries,
    }
}

fn broker_settings(config: &BrokerConfig) -> BrokerSettings {
    BrokerSettings {
        leader_wait: config.leader_wait,
        creates_topics: config.creates_topics,
        creates_groups: config.creates_groups,
        topic_queues: config.topic_queues,
        permission: config.permission,
        takes_transactions: config.takes_transactions,
        trace_topic: config.trace_topic.clone(),
        checks: TransactionChecks {
            after: config.transaction_timeout,
            every: config.transaction_check_every,
            most: config.transaction_checks_max,
        },
        retention: LogRetention {
            kept_for: config.retention.kept_for,
            delete_hours: config.retention.delete_hours,
            disk_used_max: config.retention.disk_used_max,
            deletes_unexpired: config.retention.deletes_unexpired,
            bytes_max: config.retention.log_bytes_max,
        },
        caps: Caps {
            topics: config.caps.topics,
            groups: config.caps.groups,
            subscriptions: config.caps.subscriptions,
            topic_queues: config.caps.topic_queues,
        },
    }
}

fn replica_config(config: &BrokerConfig) -> ReplicaConfig {
    ReplicaConfig {
        cluster: config.cluster.clone(),
        group: config.broker_name.clone(),
        peers: config.peers.iter().map(|peer| (peer.name, peer.address.to_string())).collect(),
        remembered: remembered::read(&config.store),
        log_bytes_max: config.retention.log_bytes_max,
        member_wait: Millis(config.member_wait_ms),
        snapshot_rate: config.snapshot_rate,
        scrub_rate: config.scrub_rate,
        heartbeat: Millis(config.heartbeat_ms),
        election_min: Millis(config.election_min_ms),
        election_max: Millis(config.election_max_ms),
        pre_vote: config.pre_vote,
        preferred_leader: config.preferred_leader,
        in_flight_max: config.in_flight_max,
        slow_request: config.slow_request,
        may_lose_tail: !config.syncs_before_ack,
    }
}
