//! The broker's configuration, typed and free of contradictions.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::value::Values;
use crate::model::limits::NODE_NAME_BYTES_MAX;
use crate::model::{Millis, NodeId};

/// One member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its number.
    pub id: NodeId,
    /// Its name: `n0`.
    pub name: String,
    /// Where it is.
    pub host: String,
    /// Its port for peers.
    pub port: u16,
}

/// What the client ports speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS and plaintext.
    Permissive,
    /// TLS only.
    Enforcing,
    /// Plaintext only.
    Disabled,
}

/// TLS of the client ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// What is spoken.
    pub mode: TlsMode,
    /// Certificate chain and key files; `None`: made at start.
    pub files: Option<(PathBuf, PathBuf)>,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything a node is started with. One field per honoured key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `brokerName`, equal to `dLegerGroup`.
    pub broker_name: String,
    /// `brokerIP1`.
    pub advertised_host: String,
    /// `bindAddress`.
    pub bind_address: String,
    /// `listenPort`.
    pub listen_port: u16,
    /// `grpcServerPort`.
    pub grpc_port: u16,
    /// `dLegerPeers`, by id.
    pub peers: Vec<PeerAddress>,
    /// `dLegerSelfId`.
    pub self_id: NodeId,
    /// `storePathRootDir`.
    pub store: PathBuf,
    /// `flushDiskType` is `SYNC_FLUSH`.
    pub syncs_before_ack: bool,
    /// `autoCreateTopicEnable`.
    pub creates_topics: bool,
    /// `autoCreateSubscriptionGroup`.
    pub creates_groups: bool,
    /// `defaultTopicQueueNums`.
    pub topic_queues: u32,
    /// `transactionTimeOut`.
    pub transaction_timeout: Millis,
    /// `transactionCheckInterval`.
    pub transaction_check_every: Millis,
    /// `transactionCheckMax`.
    pub transaction_checks_max: u32,
    /// `timerMaxDelaySec`.
    pub delay_max: Millis,
    /// `maxMessageSize`.
    pub body_bytes_max: usize,
    /// `mappedFileSizeCommitLog`.
    pub segment_bytes: u64,
    /// `raftHeartbeatIntervalMs`.
    pub heartbeat_ms: u64,
    /// `raftElectionTimeoutMinMs`.
    pub election_min_ms: u64,
    /// `raftElectionTimeoutMaxMs`.
    pub election_max_ms: u64,
    /// `raftPreVote`.
    pub pre_vote: bool,
    /// `raftInflightProposals`.
    pub in_flight_max: usize,
    /// `leaderWaitMs`.
    pub leader_wait: Duration,
    /// `rocksdbMemoryBudget`.
    pub state_memory_bytes: usize,
    /// `tailCacheBytes`.
    pub tail_cache_bytes: usize,
    /// `frontendThreads`; 0: Raft's thread serves clients; `None`: as the machine is.
    pub frontend_threads: Option<usize>,
    /// `grpcShutdownTimeSeconds`.
    pub shutdown_time: Duration,
    /// `tls.*`.
    pub tls: TlsConfig,
    /// `logLevel`.
    pub log_level: String,
    /// `simulatePowerLoss`.
    pub loses_power: bool,
    /// `logFormat`.
    pub log_format: LogFormat,
}

impl BrokerConfig {
    /// This node among the members.
    pub fn me(&self) -> &PeerAddress {
        self.peers.iter().find(|peer| peer.id == self.self_id).expect("checked when the configuration was read")
    }
}

/// Types all values; `None` when nothing sensible can be said, with the complaints in `values`.
pub(super) fn build(values: &mut Values<'_>) -> Option<BrokerConfig> {
    if !values.bool("enableDLegerCommitLog") {
        values.complain("enableDLegerCommitLog", "the log is always replicated; remove the line or set true");
    }
    let broker_name = names(values);
    let listen_port = port(values, "listenPort");
    let grpc_port = port(values, "grpcServerPort");
    let (peers, self_id) = members(values);
    let me = peers.iter().find(|peer| Some(peer.id) == self_id);
    if listen_port == grpc_port {
        values.complain("grpcServerPort", "is listenPort as well; both serve gRPC and need a port each");
    }
    for (name, port) in [("listenPort", listen_port), ("grpcServerPort", grpc_port)] {
        if me.is_some_and(|me| me.port == port) {
            values.complain(name, "is this node's port for peers in dLegerPeers as well");
        }
    }
    let heartbeat_ms = values.number("raftHeartbeatIntervalMs");
    let election_min_ms = values.number("raftElectionTimeoutMinMs");
    let election_max_ms = values.number("raftElectionTimeoutMaxMs");
    if election_min_ms < heartbeat_ms * 2 {
        let what = format!(
            "must be at least twice raftHeartbeatIntervalMs ({heartbeat_ms}), or followers rise against a living leader"
        );
        values.complain("raftElectionTimeoutMinMs", what);
    }
    if election_max_ms <= election_min_ms {
        values.complain(
            "raftElectionTimeoutMaxMs",
            format!("must be above raftElectionTimeoutMinMs ({election_min_ms})"),
        );
    }
    let cluster = values.text("brokerClusterName");
    let cluster = short(values, "brokerClusterName", cluster);
    let tls = tls(values);
    let loses_power = values.bool("simulatePowerLoss");
    let flush = values.choice("flushDiskType", &[("SYNC_FLUSH", true), ("ASYNC_FLUSH", false)]);
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    let log_level = values.choice("logLevel", &levels);
    let log_format = values.choice("logFormat", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let size = |values: &mut Values<'_>, name| usize::try_from(values.number(name)).unwrap_or(usize::MAX);
    let advertised_host = values.optional("brokerIP1").or_else(|| me.map(|me| me.host.clone()));
    Some(BrokerConfig {
        cluster,
        broker_name,
        advertised_host: advertised_host?,
        bind_address: values.text("bindAddress"),
        listen_port,
        grpc_port,
        store: values.text("storePathRootDir").into(),
        syncs_before_ack: flush?,
        creates_topics: values.bool("autoCreateTopicEnable"),
        creates_groups: values.bool("autoCreateSubscriptionGroup"),
        topic_queues: u32::try_from(values.number("defaultTopicQueueNums")).ok()?,
        transaction_timeout: Millis(values.number("transactionTimeOut")),
        transaction_check_every: Millis(values.number("transactionCheckInterval")),
        transaction_checks_max: u32::try_from(values.number("transactionCheckMax")).ok()?,
        delay_max: Millis::from_secs(values.number("timerMaxDelaySec")),
        body_bytes_max: size(values, "maxMessageSize"),
        segment_bytes: values.number("mappedFileSizeCommitLog"),
        heartbeat_ms,
        election_min_ms,
        election_max_ms,
        pre_vote: values.bool("raftPreVote"),
        in_flight_max: size(values, "raftInflightProposals"),
        leader_wait: Duration::from_millis(values.number("leaderWaitMs")),
        state_memory_bytes: size(values, "rocksdbMemoryBudget"),
        tail_cache_bytes: size(values, "tailCacheBytes"),
        frontend_threads: (!values.is_auto("frontendThreads")).then(|| size(values, "frontendThreads")),
        shutdown_time: Duration::from_secs(values.number("grpcShutdownTimeSeconds")),
        tls: tls?,
        loses_power,
        log_level: log_level?.to_owned(),
        log_format: log_format?,
        self_id: self_id?,
        peers,
    })
}

/// What is legal but worth a word.
pub(super) fn warn(config: &BrokerConfig, warnings: &mut Vec<String>) {
    if !config.syncs_before_ack {
        warnings.push(
            "flushDiskType=ASYNC_FLUSH: an OK means that a majority has the message in its page cache; \
             a power loss of a majority within about half a second can lose it"
                .to_owned(),
        );
    }
    if config.loses_power {
        warnings.push("simulatePowerLoss=true: a killed process loses what it had not synced; for drills".to_owned());
    }
    if config.peers.len() == 1 {
        warnings.push("one node only: nothing is replicated; list the members in dLegerPeers".to_owned());
    } else if config.peers.len().is_multiple_of(2) {
        let count = config.peers.len();
        warnings.push(format!("{count} members tolerate no more failures than {}", count - 1));
    }
}

fn names(values: &mut Values<'_>) -> String {
    match (values.optional("brokerName"), values.optional("dLegerGroup")) {
        (Some(name), Some(group)) if name != group => {
            values.complain("dLegerGroup", format!("must equal brokerName ('{name}')"));
            name
        }
        (Some(name), _) | (None, Some(name)) => short(values, "brokerName", name),
        (None, None) => "RaftNode00".to_owned(),
    }
}

/// Complains about a name that is too long for the files and messages that carry it.
fn short(values: &mut Values<'_>, key: &'static str, name: String) -> String {
    if name.len() > NODE_NAME_BYTES_MAX {
        values.complain(key, format!("is {} bytes long, at most {NODE_NAME_BYTES_MAX} are taken", name.len()));
    }
    name
}

fn port(values: &mut Values<'_>, name: &str) -> u16 {
    u16::try_from(values.number(name)).unwrap_or(u16::MAX)
}

fn members(values: &mut Values<'_>) -> (Vec<PeerAddress>, Option<NodeId>) {
    let mut peers: Vec<PeerAddress> = Vec::new();
    let text = values.optional("dLegerPeers");
    for part in
        text.as_deref().unwrap_or("n0-127.0.0.1:40911").split(';').map(str::trim).filter(|part| !part.is_empty())
    {
        match member(part) {
            Some(peer) => peers.push(peer),
            None => values.complain("dLegerPeers", format!("'{part}' is not like n0-host:port")),
        }
    }
    let ids: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let addresses: BTreeSet<_> = peers.iter().map(|peer| (&peer.host, peer.port)).collect();
    if ids.len() < peers.len() {
        values.complain("dLegerPeers", "names one id twice");
    }
    if addresses.len() < peers.len() {
        values.complain("dLegerPeers", "names one address twice");
    }
    peers.sort_by_key(|peer| peer.id);
    let self_text = values.text("dLegerSelfId");
    let self_id = node_id(&self_text);
    if !self_id.is_some_and(|id| ids.contains(&id)) {
        let names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        values.complain("dLegerSelfId", format!("is not among the members in dLegerPeers ({})", names.join(", ")));
        return (peers, None);
    }
    (peers, self_id)
}

/// RocketMQ drops the first character and reads the rest as a number.
fn node_id(text: &str) -> Option<NodeId> {
    let mut rest = text.chars();
    rest.next()?;
    rest.as_str().parse().ok().map(NodeId)
}

fn member(text: &str) -> Option<PeerAddress> {
    let (name, address) = text.split_once('-')?;
    let (host, port) = address.rsplit_once(':')?;
    if host.is_empty() || host.contains(char::is_whitespace) || host.contains('/') {
        return None;
    }
    let id = node_id(name)?;
    Some(PeerAddress {
        id,
        name: format!("n{id}"),
        host: host.to_owned(),
        port: port.parse().ok().filter(|port| *port > 0)?,
    })
}

fn tls(values: &mut Values<'_>) -> Option<TlsConfig> {
    let modes =
        [("permissive", TlsMode::Permissive), ("enforcing", TlsMode::Enforcing), ("disabled", TlsMode::Disabled)];
    let mode = values.choice("tls.server.mode", &modes);
    let files = match (values.optional("tls.server.certPath"), values.optional("tls.server.keyPath")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        (Some(_), None) => {
            values.complain("tls.server.certPath", "needs tls.server.keyPath as well");
            None
        }
        (None, Some(_)) => {
            values.complain("tls.server.keyPath", "needs tls.server.certPath as well");
            None
        }
    };
    Some(TlsConfig { mode: mode?, files })
}
