//! One node put together: log, state, replica, broker and its timers, from the configuration.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::broker::{Arrivals, Broker, BrokerSettings, MemberAddress, NodePlace};
use crate::config::{BrokerConfig, PeerAddress};
use crate::env::clock::RealClock;
use crate::env::disk::{self, Disk, RealDisk};
use crate::env::fault::power_loss_disk::PowerLossDisk;
use crate::model::TransactionChecks;
use crate::raft::{self, Fatal, OnFatal, OwnFacts, Replica, ReplicaConfig, ReplicaParts};
use crate::store;
use crate::store::kv::catalog_cache::CatalogCache;
use crate::store::kv::rocks::RocksKv;
use crate::store::log::commit_log::{CommitLog, FlushMode, LogOwner, Options};

/// Time for what dropped polls left to do when the node stops.
const BACKGROUND_WITHIN: Duration = Duration::from_secs(1);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder is in use or another node's.
    #[error("{0}")]
    FolderTaken(String),
    /// Its files are damaged or the disk failed.
    #[error("{0}")]
    Damaged(String),
    /// Its configuration is not the group's.
    #[error("{0}")]
    Contradiction(String),
    /// Raft refused.
    #[error("{0}")]
    Raft(String),
}

/// A running node.
pub struct Node {
    broker: Arc<Broker>,
    replica: Replica,
    timers: JoinHandle<()>,
}

impl Node {
    /// Starts everything on the current runtime, which becomes the Raft runtime.
    pub async fn start(
        config: &BrokerConfig,
        peer_port: std::net::TcpListener,
        on_fatal: OnFatal,
    ) -> Result<Self, StartError> {
        let clock = Arc::new(RealClock::start());
        let (arrivals, questions) = Arrivals::new();
        let arrivals = Arc::new(arrivals);
        let client_address = format!("{}:{}", config.advertised_host, config.grpc_port);
        let known_later: Arc<OnceLock<Arc<Broker>>> = Arc::default();
        let parts = {
            let (told, facts_of, fallback) = (arrivals.clone(), known_later.clone(), client_address.clone());
            let asked_of = known_later.clone();
            let (disk, log, kv) = open(config, on_fatal.clone())?;
            ReplicaParts {
                disk,
                clock: clock.clone(),
                log,
                kv: Arc::new(CatalogCache::new(Arc::new(kv))),
                listener: peer_port,
                on_effects: Arc::new(move |effects| told.tell(effects)),
                facts: Arc::new(move || match facts_of.get() {
                    Some(broker) => broker.own_facts(),
                    None => OwnFacts { client_address: fallback.clone(), ..OwnFacts::default() },
                }),
                on_question: Arc::new(move |question| match asked_of.get() {
                    Some(broker) => broker.sessions().answer(question),
                    None => Bytes::new(),
                }),
                on_fatal,
            }
        };
        let replica = Replica::start(replica_config(config), parts).await.map_err(|error| match &error {
            raft::StartError::StateAheadOfLog { .. } | raft::StartError::Storage(_) => {
                StartError::Damaged(error.to_string())
            }
            raft::StartError::Replaced(_) => StartError::FolderTaken(error.to_string()),
            raft::StartError::Stranger(_) | raft::StartError::OtherMembers { .. } => {
                StartError::Contradiction(error.to_string())
            }
            raft::StartError::Raft(_) => StartError::Raft(error.to_string()),
        })?;
        let settings = BrokerSettings {
            leader_wait: config.leader_wait,
            creates_topics: config.creates_topics,
            creates_groups: config.creates_groups,
            topic_queues: config.topic_queues,
            checks: TransactionChecks {
                after: config.transaction_timeout,
                every: config.transaction_check_every,
                most: config.transaction_checks_max,
            },
        };
        let broker = Broker::new(place(config, client_address), settings, replica.clone(), clock, arrivals);
        assert!(known_later.set(broker.clone()).is_ok(), "set once, here");
        let (timing, asking) = (broker.clone().run_timers(), broker.clone().ask_producers(questions));
        let timers = tokio::spawn(async move {
            tokio::join!(timing, asking);
        });
        Ok(Self { broker, replica, timers })
    }

    /// What serves requests.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Hands leadership over and stops.
    pub async fn stop(self) {
        self.timers.abort();
        self.broker.finish(BACKGROUND_WITHIN).await;
        self.replica.stop().await;
    }
}

fn snapshot_folder(config: &BrokerConfig) -> std::path::PathBuf {
    config.store.join("snapshot")
}

fn open(config: &BrokerConfig, on_fatal: OnFatal) -> Result<(Arc<dyn Disk>, CommitLog, RocksKv), StartError> {
    let damaged = |error: &dyn std::fmt::Display| StartError::Damaged(error.to_string());
    let disk: Arc<dyn Disk> = if config.loses_power { Arc::new(PowerLossDisk) } else { Arc::new(RealDisk) };
    let folder = disk::absolute(&config.store).map_err(|error| damaged(&error))?;
    let identity =
        LogOwner { cluster: config.cluster.clone(), group: config.broker_name.clone(), node: config.self_id };
    let options = Options {
        segment_bytes: config.segment_bytes,
        tail_cache_bytes: config.tail_cache_bytes,
        flush: if config.syncs_before_ack { FlushMode::Sync } else { FlushMode::Async },
    };
    let told = Box::new(move |error: &store::Error| on_fatal(Fatal::Failed(error.to_string())));
    let log =
        CommitLog::open(disk.clone(), &folder.join("log"), &identity, options, told).map_err(|error| match error {
            store::Error::Locked(_) | store::Error::Foreign { .. } => StartError::FolderTaken(error.to_string()),
            store::Error::Io { .. } | store::Error::Damaged { .. } | store::Error::Poisoned => damaged(&error),
        })?;
    disk.create_dir_all(&snapshot_folder(config)).map_err(|error| damaged(&error))?;
    let kv = RocksKv::open(&folder.join("state"), config.state_memory_bytes).map_err(|error| damaged(&error))?;
    tracing::info!(folder = %folder.display(), last = log.last().map_or(0, |last| last.index.0), "store opened");
    Ok((disk, log, kv))
}

fn replica_config(config: &BrokerConfig) -> ReplicaConfig {
    ReplicaConfig {
        cluster: config.cluster.clone(),
        group: config.broker_name.clone(),
        node: config.self_id,
        peers: config.peers.iter().map(|peer| (peer.id, format!("{}:{}", peer.host, peer.port))).collect(),
        snapshot_folder: snapshot_folder(config),
        heartbeat_ms: config.heartbeat_ms,
        election_min_ms: config.election_min_ms,
        election_max_ms: config.election_max_ms,
        pre_vote: config.pre_vote,
        in_flight_max: config.in_flight_max,
        may_lose_tail: !config.syncs_before_ack,
    }
}

fn place(config: &BrokerConfig, store_host: String) -> NodePlace {
    let member = |peer: &PeerAddress| {
        let is_self = peer.id == config.self_id;
        MemberAddress {
            id: peer.id,
            name: peer.name.clone(),
            host: if is_self { config.advertised_host.clone() } else { peer.host.clone() },
            grpc_port: is_self.then_some(config.grpc_port),
        }
    };
    NodePlace {
        cluster: config.cluster.clone(),
        broker_name: config.broker_name.clone(),
        self_id: config.self_id,
        members: config.peers.iter().map(member).collect(),
        store_host,
    }
}
