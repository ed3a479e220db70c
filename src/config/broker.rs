//! The broker's configuration, typed and free of contradictions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::characters::shown;
use crate::config::host::host;
use crate::config::http::{HttpConfig, http};
use crate::config::logs::log;
use crate::config::members::{members, preferred_leader};
use crate::config::retention::retention;
use crate::config::value::Values;
use crate::config::{LogConfig, PeerAddress, RetentionConfig};
use crate::model::limits::{NODE_NAME_BYTES_MAX, SNAPSHOT_BYTES_MIN};
use crate::model::{DiskMark, HostPort, MemberName, Millis, Permission, TopicName};

/// A broker that reports to more of them is set up wrongly.
const NAME_SERVERS_MAX: usize = 16;

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

/// How the nodes prove to each other who they are; neither: the network is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerSecurityConfig {
    /// `peerTls*`.
    pub tls: Option<PeerTlsPaths>,
    /// `peerSecretPath`: a file with the secret that all nodes share.
    pub secret: Option<PathBuf>,
}

/// PEM files of the TLS between the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTlsPaths {
    /// `peerTlsCertPath`.
    pub certificate: PathBuf,
    /// `peerTlsKeyPath`.
    pub key: PathBuf,
    /// `peerTlsTrustCertPath`.
    pub authority: PathBuf,
}

impl PeerSecurityConfig {
    /// Whether a peer has to prove who it is.
    pub fn is_on(&self) -> bool {
        self.tls.is_some() || self.secret.is_some()
    }
}

/// What clients can have made at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapsConfig {
    /// `topicsMax`.
    pub topics: u64,
    /// `groupsMax`.
    pub groups: u64,
    /// `subscriptionsMax`.
    pub subscriptions: u64,
    /// `topicQueuesMax`.
    pub topic_queues: u32,
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
    /// Where the port for peers listens: `bindAddress` if it is given or peers prove themselves, else the address that the
    /// peers dial, if `dLegerPeers` has one and not a name.
    pub peer_bind_address: String,
    /// `namesrvAddr`.
    pub name_servers: Vec<HostPort>,
    /// `registerNameServerPeriod`.
    pub report_every: Duration,
    /// `listenPort`.
    pub listen_port: u16,
    /// `grpcServerPort`.
    pub grpc_port: u16,
    /// `grpcServerPort` is nobody's choice: if it is in use, `listenPort` alone serves clients.
    pub grpc_port_is_default: bool,
    /// `dLegerPeers`, by name.
    pub peers: Vec<PeerAddress>,
    /// `dLegerSelfId`.
    pub self_name: MemberName,
    /// `preferredLeaderId`.
    pub preferred_leader: Option<MemberName>,
    /// `storePathRootDir`.
    pub store: PathBuf,
    /// `diskSoftMark`.
    pub disk_soft: DiskMark,
    /// `diskHardMark`.
    pub disk_hard: DiskMark,
    /// `diskReserve`.
    pub disk_reserve: DiskMark,
    /// `flushDiskType` is `SYNC_FLUSH`.
    pub syncs_before_ack: bool,
    /// `autoCreateTopicEnable`.
    pub creates_topics: bool,
    /// The same for clients of the classic protocol, for whom it is RocketMQ's default.
    pub creates_topics_classic: bool,
    /// `autoCreateSubscriptionGroup`.
    pub creates_groups: bool,
    /// `defaultTopicQueueNums`.
    pub topic_queues: u32,
    /// `brokerPermission`.
    pub permission: Permission,
    /// `rejectTransactionMessage` is not set.
    pub takes_transactions: bool,
    /// `traceTopicEnable`, `msgTraceTopicName`: the topic of traces, if one is to be made.
    pub trace_topic: Option<TopicName>,
    /// `traceOn`.
    pub traces: bool,
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
    /// What is deleted, and when.
    pub retention: RetentionConfig,
    /// `memberWaitMs`.
    pub member_wait_ms: u64,
    /// `snapshotRate`; 0: no bound.
    pub snapshot_rate: u64,
    /// `openFilesMax`.
    pub open_files_max: u32,
    /// `requestMemoryMax`.
    pub request_memory_bytes: u64,
    /// `answerMemoryMax`.
    pub answer_memory_bytes: u64,
    /// `topicsMax`, `groupsMax`, `subscriptionsMax`, `topicQueuesMax`.
    pub caps: CapsConfig,
    /// `scrubRate`; 0: no scrub.
    pub scrub_rate: u64,
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
    /// `peerSecretPath`, `peerTls*`.
    pub peer_security: PeerSecurityConfig,
    /// `metrics*`.
    pub http: HttpConfig,
    /// `simulatePowerLoss`.
    pub loses_power: bool,
    /// `slowRequestMs`; `None`: none is slow.
    pub slow_request: Option<Duration>,
    /// `log*`.
    pub log: LogConfig,
}

impl BrokerConfig {
    /// This node among the members.
    pub fn me(&self) -> &PeerAddress {
        self.peers.iter().find(|peer| peer.name == self.self_name).expect("checked when the configuration was read")
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
    let (peers, self_name) = members(values);
    let me = peers.iter().find(|peer| Some(peer.name) == self_name);
    let preferred_leader = preferred_leader(values);
    if listen_port == grpc_port {
        values.complain("grpcServerPort", "is listenPort as well; both serve gRPC and need a port each");
    }
    for (name, port) in [("listenPort", listen_port), ("grpcServerPort", grpc_port)] {
        if me.is_some_and(|me| me.address.port == port) {
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
    let cluster = values.name("brokerClusterName");
    let cluster = short(values, "brokerClusterName", cluster);
    let tls = tls(values);
    let loses_power = values.bool("simulatePowerLoss");
    let flush = values.choice("flushDiskType", &[("SYNC_FLUSH", true), ("ASYNC_FLUSH", false)]);
    let log = log(values, &broker_name, &peers, self_name);
    let slow_request_ms = values.number("slowRequestMs");
    let segment_bytes = values.number("mappedFileSizeCommitLog");
    let retention = retention(values, segment_bytes);
    let size = |values: &mut Values<'_>, name| usize::try_from(values.number(name)).unwrap_or(usize::MAX);
    let own_host = me.map(|me| me.address.host.clone());
    let bind_address = bind_address(values, me);
    let mut ports = vec![("listenPort", listen_port), ("grpcServerPort", grpc_port)];
    ports.extend(me.map(|me| ("this node's port for peers in dLegerPeers", me.address.port)));
    let http = http(values, bind_address.as_deref().unwrap_or_default(), &ports);
    let peer_security = peer_security(values);
    let trusts_network = !peer_security.is_on() && peers.len() > 1 && !values.is_given("bindAddress");
    // What a name stands for on this host need not be what it stands for elsewhere.
    let own_address = own_host.clone().filter(|host| trusts_network && host.parse::<IpAddr>().is_ok());
    let peer_bind_address = own_address.or_else(|| bind_address.clone());
    let advertised_host = if values.optional("brokerIP1").is_some() { values.host("brokerIP1") } else { own_host };
    let [disk_soft, disk_hard, disk_reserve] = disk_marks(values);
    let store = values.name("storePathRootDir");
    let store = values.path("storePathRootDir").unwrap_or_else(|| store.into());
    Some(BrokerConfig {
        cluster,
        broker_name,
        advertised_host: advertised_host?,
        bind_address: bind_address?,
        peer_bind_address: peer_bind_address?,
        name_servers: name_servers(values),
        report_every: Duration::from_millis(values.number("registerNameServerPeriod")),
        listen_port,
        grpc_port,
        grpc_port_is_default: !values.is_given("grpcServerPort"),
        preferred_leader,
        store,
        disk_soft,
        disk_hard,
        disk_reserve,
        syncs_before_ack: flush?,
        creates_topics: values.bool("autoCreateTopicEnable"),
        creates_topics_classic: values.bool("autoCreateTopicEnable") || !values.is_given("autoCreateTopicEnable"),
        creates_groups: values.bool("autoCreateSubscriptionGroup"),
        topic_queues: u32::try_from(values.number("defaultTopicQueueNums")).ok()?,
        permission: permission(values)?,
        takes_transactions: !values.bool("rejectTransactionMessage"),
        trace_topic: trace_topic(values),
        traces: values.bool("traceOn"),
        transaction_timeout: Millis(values.number("transactionTimeOut")),
        transaction_check_every: Millis(values.number("transactionCheckInterval")),
        transaction_checks_max: u32::try_from(values.number("transactionCheckMax")).ok()?,
        delay_max: Millis::from_secs(values.number("timerMaxDelaySec")),
        body_bytes_max: size(values, "maxMessageSize"),
        segment_bytes,
        retention: retention?,
        member_wait_ms: values.number("memberWaitMs"),
        snapshot_rate: snapshot_rate(values),
        open_files_max: u32::try_from(values.number("openFilesMax")).ok()?,
        request_memory_bytes: values.number("requestMemoryMax"),
        answer_memory_bytes: values.number("answerMemoryMax"),
        caps: caps(values)?,
        scrub_rate: values.number("scrubRate"),
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
        peer_security,
        http: http?,
        loses_power,
        slow_request: (slow_request_ms > 0).then(|| Duration::from_millis(slow_request_ms)),
        log: log?,
        self_name: self_name?,
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
    if config.advertised_host.parse::<Ipv6Addr>().is_ok() {
        let host = &config.advertised_host;
        warnings.push(format!(
            "clients are told the IPv6 address {host}, which those of several languages cannot dial; set brokerIP1 to a \
             name or an IPv4 address"
        ));
    }
    if !config.peer_security.is_on() && config.peers.len() > 1 {
        let port = config.me().address.port;
        warnings.push(format!(
            "neither peerSecretPath nor peerTlsCertPath is set: whoever reaches port {port} is taken for the node it says \
             it is; keep that port in a private network, or set one of them on all nodes"
        ));
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

/// What clients may do at this node, in RocketMQ's bits.
fn permission(values: &mut Values<'_>) -> Option<Permission> {
    let all = [("2", Permission::WRITE), ("4", Permission::READ), ("6", Permission::READ_WRITE)];
    values.choice("brokerPermission", &all)
}

/// The topic of traces, if one is to be made.
fn trace_topic(values: &mut Values<'_>) -> Option<TopicName> {
    const KEY: &str = "msgTraceTopicName";
    let named = match TopicName::parse(&values.text(KEY)) {
        Ok(topic) if topic.dead_letter_group().or(topic.retry_group()).is_none() => Some(topic),
        Ok(_) => {
            values.complain(KEY, "is the name of a group's retries or dead letters");
            None
        }
        Err(error) => {
            values.complain(KEY, error.to_string());
            None
        }
    };
    named.filter(|_| values.bool("traceTopicEnable"))
}

fn name_servers(values: &mut Values<'_>) -> Vec<HostPort> {
    let mut all = Vec::new();
    let text = values.text("namesrvAddr");
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let read = part.rsplit_once(':').ok_or("is not HOST:PORT".to_owned()).and_then(|(name, port)| {
            let port = port.parse().ok().filter(|port| *port > 0).ok_or("has no port such as 9876".to_owned())?;
            Ok(HostPort { host: host(name)?, port })
        });
        match read {
            Ok(address) if all.contains(&address) => {}
            Ok(address) => all.push(address),
            Err(what) => values.complain("namesrvAddr", format!("'{}': {what}", shown(part))),
        }
    }
    if all.len() > NAME_SERVERS_MAX {
        values.complain("namesrvAddr", format!("has {} name servers, at most {NAME_SERVERS_MAX} are taken", all.len()));
    }
    all
}

/// What clients can have made; what topics get without being asked is within it.
fn caps(values: &mut Values<'_>) -> Option<CapsConfig> {
    let (most, default) = (values.number("topicQueuesMax"), values.number("defaultTopicQueueNums"));
    if most < default {
        let what = format!("is below defaultTopicQueueNums ({default}), which new topics get");
        values.complain("topicQueuesMax", what);
    }
    Some(CapsConfig {
        topics: values.number("topicsMax"),
        groups: values.number("groupsMax"),
        subscriptions: values.number("subscriptionsMax"),
        topic_queues: u32::try_from(most).ok()?,
    })
}

fn snapshot_rate(values: &mut Values<'_>) -> u64 {
    let rate = values.number("snapshotRate");
    if (1..SNAPSHOT_BYTES_MIN).contains(&rate) {
        let what =
            format!("must be 0 for no bound, or {SNAPSHOT_BYTES_MIN} at least: with less, no snapshot would be whole");
        values.complain("snapshotRate", what);
    }
    rate
}

fn names(values: &mut Values<'_>) -> String {
    match (values.optional("brokerName"), values.optional("dLegerGroup")) {
        (Some(name), Some(group)) if name != group => {
            values.complain("dLegerGroup", format!("must equal brokerName ('{}')", shown(&name)));
            name
        }
        (Some(name), _) => short(values, "brokerName", name),
        (None, Some(group)) => short(values, "dLegerGroup", group),
        (None, None) => "RaftNode00".to_owned(),
    }
}

/// Where all ports listen. Peers of this node dial the address in `dLegerPeers`.
fn bind_address(values: &mut Values<'_>, me: Option<&PeerAddress>) -> Option<String> {
    let dialled = me.filter(|me| me.address.host.parse::<Ipv6Addr>().is_ok());
    if dialled.is_some() && !values.is_given("bindAddress") {
        let any = Ipv6Addr::UNSPECIFIED.to_string();
        values.decide("bindAddress", &any);
        return Some(any);
    }
    let listens = values.host("bindAddress")?;
    if let Some(me) = dialled.filter(|_| listens.parse::<Ipv4Addr>().is_ok()) {
        let what = format!("is IPv4, and the others dial {} (dLegerPeers); write ::, which is both", me.address);
        values.complain("bindAddress", what);
    }
    Some(listens)
}

/// The soft mark, the hard one, and the reserve. Marks of one kind can be compared here; on a disk the soft one is at
/// least the hard one.
fn disk_marks(values: &mut Values<'_>) -> [DiskMark; 3] {
    let marks = ["diskSoftMark", "diskHardMark", "diskReserve"].map(|name| values.disk_mark(name));
    let [soft, hard, _] = marks;
    let is_below =
        |soft: Option<u64>, hard: Option<u64>| matches!((soft, hard), (Some(soft), Some(hard)) if soft < hard);
    if is_below(soft.percent.map(u64::from), hard.percent.map(u64::from)) || is_below(soft.bytes, hard.bytes) {
        let hard = values.text("diskHardMark");
        values.complain(
            "diskSoftMark",
            format!("is below diskHardMark ({hard}): retention has to run before sends stop"),
        );
    }
    marks
}

/// Complains about a name that is too long for the files and messages that carry it.
fn short(values: &mut Values<'_>, key: &'static str, name: String) -> String {
    if name.len() > NODE_NAME_BYTES_MAX {
        values.complain(key, format!("is {} bytes long, at most {NODE_NAME_BYTES_MAX} are taken", name.len()));
    }
    name
}

fn port(values: &mut Values<'_>, name: &'static str) -> u16 {
    u16::try_from(values.number(name)).unwrap_or(u16::MAX)
}

fn peer_security(values: &mut Values<'_>) -> PeerSecurityConfig {
    let names = ["peerTlsCertPath", "peerTlsKeyPath", "peerTlsTrustCertPath"];
    let tls = match names.map(|name| values.path(name)) {
        [Some(certificate), Some(key), Some(authority)] => Some(PeerTlsPaths { certificate, key, authority }),
        [None, None, None] => None,
        given => {
            let is_given = |wanted: bool| names.iter().zip(&given).find(move |(_, path)| path.is_some() == wanted);
            if let (Some((has, _)), Some((lacks, _))) = (is_given(true), is_given(false)) {
                values.complain(has, format!("needs {lacks} as well"));
            }
            None
        }
    };
    PeerSecurityConfig { tls, secret: values.path("peerSecretPath") }
}

/// `tls.*`, of a broker or a name server.
pub(super) fn tls(values: &mut Values<'_>) -> Option<TlsConfig> {
    let modes =
        [("permissive", TlsMode::Permissive), ("enforcing", TlsMode::Enforcing), ("disabled", TlsMode::Disabled)];
    let mode = values.choice("tls.server.mode", &modes);
    let files = match (values.path("tls.server.certPath"), values.path("tls.server.keyPath")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
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
