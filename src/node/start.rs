//! One node, from its configuration: sessions, log and state, replica, shard, routes, and what runs beside them.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::broker::{
    Arrivals, Background, Broker, BrokerParts, BrokerSettings, ClientInfo, Error, Inspector, LogRetention, ReplicaSite,
    Traffic,
};
use crate::config::BrokerConfig;
use crate::env::clock::{Clock, RealClock};
use crate::model::{Millis, TransactionChecks};
use crate::node::clients::NodeClients;
use crate::node::open::{Storage, open};
use crate::node::peer_security::peer_security;
use crate::node::{NodeSettings, Routes, Sessions, StartError, consumers};
use crate::raft::{ClusterClock, OnFatal, OwnFacts, Replica, ReplicaConfig, ReplicaParts};
use crate::store::kv::catalog_cache::CatalogCache;

const EXPIRE_EVERY: Duration = Duration::from_secs(5);

/// A running node.
pub struct Node {
    pub(super) settings: Arc<NodeSettings>,
    pub(super) replica: Replica,
    /// What this node says of itself.
    pub(super) facts: Arc<dyn Fn() -> OwnFacts + Send + Sync>,
    sessions: Arc<Sessions>,
    routes: Arc<Routes>,
    broker: Arc<Broker>,
    inspector: Inspector,
    background: Background,
    loops: JoinHandle<()>,
    stopping: CancellationToken,
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
        let Storage { log, kv, room } = open(config, on_fatal.clone())?;
        let clock = Arc::new(ClusterClock::open(own_clock.clone(), &kv)?);
        let sessions = Arc::new(Sessions::new(clock.clone()));
        let traffic = Arc::new(Traffic::new(clock.clone()));
        let facts = own_facts(&settings, &traffic);
        let (arrivals, due_checks) = Arrivals::new();
        let arrivals = Arc::new(arrivals);
        let (notified, answering) = (arrivals.clone(), sessions.clone());
        let parts = ReplicaParts {
            own_clock,
            clock: clock.clone(),
            log,
            kv: Arc::new(CatalogCache::new(Arc::new(kv))),
            room,
            listener: peer_port,
            security: peer_security(&config.peer_security)?,
            on_effects: Arc::new(move |effects| notified.notify(effects)),
            facts: facts.clone(),
            on_question: Arc::new(move |question| consumers::answer(&answering, &question)),
            on_fatal,
        };
        let replica = Replica::start(replica_config(config), parts).await?;
        let clients =
            Arc::new(NodeClients { settings: settings.clone(), sessions: sessions.clone(), replica: replica.clone() });
        let stopping = CancellationToken::new();
        let broker = Broker::new(BrokerParts {
            settings: broker_settings(config),
            site: ReplicaSite {
                self_id: settings.self_id,
                nodes: settings.nodes.iter().map(|node| node.id).collect(),
                store_host: settings.store_host.clone(),
            },
            replica: replica.clone(),
            clock,
            arrivals,
            clients,
            traffic,
            stopping: stopping.clone(),
        });
        let routes = Arc::new(Routes::new(settings.clone(), broker.clone(), replica.clone()));
        let background = Background::start(broker.clone(), due_checks);
        let (probing, expiring) = (routes.clone(), sessions.clone());
        let loops = tokio::spawn(async move {
            tokio::join!(probing.probe(), expire_sessions(&expiring));
        });
        let inspector = Inspector::new(&broker);
        Ok(Arc::new(Self {
            settings,
            replica,
            facts,
            sessions,
            routes,
            broker,
            inspector,
            background,
            loops,
            stopping,
        }))
    }

    pub fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// The clients of this node.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
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

    /// Transfers leadership and stops. Front ends end before.
    pub async fn stop(&self) {
        self.loops.abort();
        self.background.stop().await;
        self.replica.clone().stop().await;
    }
}

async fn expire_sessions(sessions: &Sessions) {
    loop {
        tokio::time::sleep(EXPIRE_EVERY).await;
        sessions.expire();
    }
}

fn own_facts(settings: &Arc<NodeSettings>, traffic: &Arc<Traffic>) -> Arc<dyn Fn() -> OwnFacts + Send + Sync> {
    let (settings, traffic) = (settings.clone(), traffic.clone());
    Arc::new(move || {
        let (in_per_second, out_per_second) = traffic.per_second();
        OwnFacts { client_address: settings.store_host.clone(), in_per_second, out_per_second }
    })
}

fn broker_settings(config: &BrokerConfig) -> BrokerSettings {
    BrokerSettings {
        leader_wait: config.leader_wait,
        creates_topics: config.creates_topics,
        creates_groups: config.creates_groups,
        topic_queues: config.topic_queues,
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
    }
}

fn replica_config(config: &BrokerConfig) -> ReplicaConfig {
    ReplicaConfig {
        cluster: config.cluster.clone(),
        group: config.broker_name.clone(),
        node: config.self_id,
        peers: config.peers.iter().map(|peer| (peer.id, peer.address.to_string())).collect(),
        log_bytes_max: config.retention.log_bytes_max,
        heartbeat: Millis(config.heartbeat_ms),
        election_min: Millis(config.election_min_ms),
        election_max: Millis(config.election_max_ms),
        pre_vote: config.pre_vote,
        in_flight_max: config.in_flight_max,
        may_lose_tail: !config.syncs_before_ack,
    }
}
