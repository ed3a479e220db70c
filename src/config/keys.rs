//! The table of keys: RocketMQ's own and ours. A key that is not here is an error.
//!
//! Source: RocketMQ 5.3, `BrokerConfig` and `MessageStoreConfig` (D21).

use std::ops::RangeInclusive;

use crate::config::demand::Harmless;

/// What a value looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A file or folder.
    Path,
    /// One of a few words, or a name of ASCII letters.
    Word,
    /// A host name or address.
    Host,
    /// Members with their addresses.
    Members,
    /// true or false.
    Bool,
    /// A whole number.
    Number(RangeInclusive<u64>),
    /// A whole number, or `auto`.
    AutoNumber(RangeInclusive<u64>),
    /// A size in bytes.
    Bytes(RangeInclusive<u64>),
    /// A length of time in milliseconds.
    Millis(RangeInclusive<u64>),
    /// A length of time; a number without a unit is hours.
    Kept,
    /// Hours of the day.
    HoursOfDay,
    /// A share of the disk, a size in bytes, or both, of which the lesser counts.
    DiskMark,
}

impl Kind {
    /// Whether only ASCII characters can be meant.
    pub fn is_ascii(&self) -> bool {
        !matches!(self, Self::Text | Self::Path)
    }
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Honoured,
    /// It is accepted, warned about once, and does nothing, for this reason.
    Ignored(&'static str),
    /// It asks for protection, replication or a role that this build does not give. Harmless values are accepted as
    /// those of an ignored key; any other ends the start, with what to do instead.
    Demanding {
        /// Values that ask for nothing.
        harmless: Harmless,
        /// Why those do nothing.
        reason: &'static str,
        /// What is so instead, and what to write.
        remedy: &'static str,
    },
}

/// One key.
#[derive(Debug, Clone)]
pub struct Key {
    /// As written in files.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// The value when it is not set; empty for none.
    pub default: &'static str,
    /// Whether it does anything.
    pub status: Status,
    /// What it means.
    pub meaning: &'static str,
}

pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, status: Status::Honoured, meaning }
}

pub(super) const fn ignored(name: &'static str, reason: &'static str) -> Key {
    Key { name, kind: Kind::Text, default: "", status: Status::Ignored(reason), meaning: "" }
}

const fn demanding(name: &'static str, harmless: Harmless, reason: &'static str, remedy: &'static str) -> Key {
    Key { name, kind: Kind::Text, default: "", status: Status::Demanding { harmless, reason, remedy }, meaning: "" }
}

const OFF: Harmless = Harmless::Words(&["false"]);
pub(super) const PORT: Kind = Kind::Number(1..=65535);
const THREADS: &str = "threads and queues size themselves here";
const RAFT_ROLES: &str = "roles come from Raft";
const ONE_LOG: &str = "there is one log, the Raft log, and the state beside it";
const NATIVE_HA: &str = "replication is Raft's";
const LATER: &str = "not served yet";
const NO_SWEEP: &str = "what has expired is looked for all the time and goes in small steps, and a file that is being read \
                        is never waited for";
const TRUTH: &str = "there is no such switch here: it is always so";
const NO_USERS: &str = "there are no users here yet";
const LET_IN: &str = "there are no users here yet: whoever reaches a port is let in; remove the line and let only trusted \
                      hosts reach the ports (bindAddress, a firewall)";
const LIST_MEMBERS: &str = "roles come from Raft, and this node would take writes of its own, unreplicated; remove the \
                            line and list all nodes in dLegerPeers";
const MAJORITY: &str = "a majority of the group, always";
const NO_MORE_THAN_MAJORITY: &str = "an OK waits for a majority of the members in dLegerPeers and for no more; remove the \
                                     line, or list more members";
const CLIENTS_UNKNOWN: &str = "certificates of clients are not asked for";
const ANY_CLIENT: &str = "certificates of clients are not asked for, and any client is let in; remove the line and let only \
                          trusted hosts reach the ports (bindAddress, a firewall)";
const SCRAPED: &str = "nothing is pushed: Prometheus, or an OpenTelemetry collector, scrapes /metrics on \
                       metricsPromExporterPort";
const NO_INDEX: &str = "there is no index: a query by key reads the topic";
const DELAY_LEVELS: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";
const NO_PAGE_CACHE: &str = "the log is written with synced writes, not through mapped files";

/// All of them.
pub const KEYS: &[Key] = &[
    key("brokerClusterName", Kind::Text, "DefaultCluster", "name of the cluster"),
    key("brokerName", Kind::Text, "", "name of the replica group, as clients see it; default: dLegerGroup"),
    key("brokerIP1", Kind::Host, "", "address told to clients that did not dial one; default: the host in dLegerPeers"),
    key(
        "listenPort",
        PORT,
        "10911",
        "port that classic clients are given; it serves gRPC clients too, and so does listenPort - 2 if it is free",
    ),
    key("grpcServerPort", PORT, "8081", "port for gRPC clients; not set and in use: listenPort alone serves them"),
    key(
        "bindAddress",
        Kind::Host,
        "0.0.0.0",
        "address all ports listen on; default with an IPv6 address in dLegerPeers: ::",
    ),
    key("enableDLegerCommitLog", Kind::Bool, "true", "must not be false: the log is always replicated"),
    key("dLegerGroup", Kind::Text, "", "name of the Raft group; default: brokerName"),
    key("dLegerPeers", Kind::Members, "", "members: n0-host:port;n1-host:port;… default: this node alone"),
    key("dLegerSelfId", Kind::Word, "n0", "this node among the members"),
    key("storePathRootDir", Kind::Path, "store", "folder of all data of this node"),
    key(
        "diskSoftMark",
        Kind::DiskMark,
        "10%,8GiB",
        "with less free than this, retention runs early: a share of the disk, a size, or both, of which the lesser counts",
    ),
    key(
        "diskHardMark",
        Kind::DiskMark,
        "5%,2GiB",
        "with less free than this on a majority of the nodes, sends are refused; everything else goes on",
    ),
    key(
        "diskReserve",
        Kind::DiskMark,
        "10%,128MiB",
        "held in a file, and used for all but sends when nothing else is free",
    ),
    key(
        "flushDiskType",
        Kind::Word,
        "SYNC_FLUSH",
        "SYNC_FLUSH: OK means synced on a majority; ASYNC_FLUSH: in the page cache of a majority",
    ),
    key(
        "autoCreateTopicEnable",
        Kind::Bool,
        "false",
        "topics (NORMAL) come into being when a client first asks for them; not set: for classic clients only",
    ),
    key("autoCreateSubscriptionGroup", Kind::Bool, "true", "consumer groups come into being at first use"),
    key("defaultTopicQueueNums", Kind::Number(1..=1024), "8", "queues of a new topic"),
    key(
        "brokerPermission",
        Kind::Word,
        "6",
        "what clients may do at this node, the same on all of a group: 2 send, 4 receive, 6 both",
    ),
    key("rejectTransactionMessage", Kind::Bool, "false", "true: this node takes no transactions"),
    key(
        "traceTopicEnable",
        Kind::Bool,
        "false",
        "make the topic that classic clients write their traces to; without it autoCreateTopicEnable decides",
    ),
    key("msgTraceTopicName", Kind::Text, "RMQ_SYS_TRACE_TOPIC", "the topic that traceTopicEnable makes"),
    key("traceOn", Kind::Bool, "true", "false: classic clients with traces switched on write none"),
    key("maxMessageSize", Kind::Bytes(1..=4_194_304), "4194304", "largest body"),
    key("timerMaxDelaySec", Kind::Number(1..=3_456_000), "86400", "furthest delivery time ahead, in seconds"),
    key(
        "transactionTimeOut",
        Kind::Millis(100..=3_600_000),
        "6000",
        "a half message's producer is asked after this time",
    ),
    key("transactionCheckInterval", Kind::Millis(1000..=3_600_000), "30000", "then again after as long"),
    key("transactionCheckMax", Kind::Number(1..=1000), "15", "so often at most; then it counts as rolled back"),
    key("mappedFileSizeCommitLog", Kind::Bytes(1_048_576..=1_073_741_824), "64MiB", "size of a log segment"),
    key(
        "fileReservedTime",
        Kind::Kept,
        "72",
        "how long messages are kept, in hours, or with a unit: 90s, 2m, 36h, 7d; a topic can have its own",
    ),
    key(
        "deleteWhen",
        Kind::HoursOfDay,
        "04",
        "hours of the day in which expired messages are deleted, in the leader's time zone: 04;16; always: at any hour",
    ),
    key(
        "diskMaxUsedSpaceRatio",
        Kind::Number(0..=100),
        "75",
        "percentage of the disk in use above which expired messages are deleted at any hour; 10 to 95",
    ),
    key(
        "cleanFileForciblyEnable",
        Kind::Bool,
        "true",
        "when that does not make room, the oldest messages are deleted before they expire",
    ),
    key(
        "logRetentionBytes",
        Kind::Bytes(0..=1 << 50),
        "0",
        "size of the log on each node above which its oldest messages are deleted; at least two segments; 0: no bound",
    ),
    key(
        "memberWaitMs",
        Kind::Millis(500..=86_400_000),
        "30000",
        "below diskSoftMark the log that a member lacks is deleted once it got no further for this long; it then catches up by a \
         snapshot",
    ),
    key(
        "snapshotRate",
        Kind::Bytes(0..=1 << 40),
        "64MiB",
        "bytes per second that this node sends of its state and old log to replicas that lack them, 1MiB at least; 0: no bound",
    ),
    key(
        "openFilesMax",
        Kind::Number(64..=1_048_576),
        "256",
        "files of the store kept open: half for the log, half for the state",
    ),
    key(
        "requestMemoryMax",
        // A quarter holds the largest request.
        Kind::Bytes(80 << 20..=1 << 40),
        "96MiB",
        "memory for requests of clients while they are read and at work; an address gets half of it, a connection a quarter; a \
         poll that waits takes 16 KiB",
    ),
    key(
        "answerMemoryMax",
        Kind::Bytes(64 << 20..=1 << 40),
        "64MiB",
        "memory for answers that clients have not taken yet; an address gets half of it, a connection a quarter",
    ),
    key(
        "topicsMax",
        Kind::Number(1..=1_000_000),
        "10000",
        "topics that there may be; with so many no more are made, topics of retries included; of dead letters they always are",
    ),
    key(
        "groupsMax",
        Kind::Number(1..=1_000_000),
        "10000",
        "consumer groups that there may be, which come into being at first use",
    ),
    key(
        "subscriptionsMax",
        Kind::Number(1..=10_000_000),
        "100000",
        "subscriptions that there may be: pairs of a consumer group and a topic",
    ),
    key(
        "topicQueuesMax",
        Kind::Number(1..=crate::model::limits::TOPIC_QUEUES_MAX as u64),
        "1024",
        "queues that a topic may be given",
    ),
    key(
        "scrubRate",
        Kind::Bytes(0..=crate::model::limits::SCRUB_BYTES_MAX),
        "4MiB",
        "bytes of log and state that are read per second to find damage, one pass a day at most; 0: none",
    ),
    key("raftHeartbeatIntervalMs", Kind::Millis(10..=10_000), "50", "time between the leader's heartbeats"),
    key("raftElectionTimeoutMinMs", Kind::Millis(50..=60_000), "150", "shortest election timeout"),
    key("raftElectionTimeoutMaxMs", Kind::Millis(60..=120_000), "300", "longest election timeout"),
    key("raftPreVote", Kind::Bool, "true", "ask before standing for election"),
    key("preferredLeaderId", Kind::Text, "", "the node that leads whenever it can: n0"),
    key("raftInflightProposals", Kind::Number(1..=64), "4", "batches under way at once"),
    key("leaderWaitMs", Kind::Millis(100..=5000), "2500", "how long a request is held for a leader and its majority"),
    key("rocksdbMemoryBudget", Kind::Bytes(16_777_216..=17_179_869_184), "96MiB", "memory of the state store"),
    key("tailCacheBytes", Kind::Bytes(1_048_576..=17_179_869_184), "24MiB", "memory for the newest log records"),
    key(
        "frontendThreads",
        Kind::AutoNumber(0..=64),
        "auto",
        "threads that serve clients; 0: Raft's does; auto: one per core, and 0 on up to two",
    ),
    key("grpcShutdownTimeSeconds", Kind::Number(0..=600), "5", "time for calls under way when the node stops"),
    key("tls.server.mode", Kind::Word, "permissive", "permissive: TLS and plaintext on one port; enforcing; disabled"),
    key("tls.server.certPath", Kind::Path, "", "PEM certificate chain; default: one made at start"),
    key("tls.server.keyPath", Kind::Path, "", "PEM private key"),
    key(
        "peerSecretPath",
        Kind::Path,
        "",
        "file with a secret of at least 16 bytes, the same on all nodes: peers prove that they know it",
    ),
    key(
        "peerTlsCertPath",
        Kind::Path,
        "",
        "PEM certificate chain of this node for its peers, with its id (n0) as DNS name",
    ),
    key("peerTlsKeyPath", Kind::Path, "", "PEM private key of it"),
    key("peerTlsTrustCertPath", Kind::Path, "", "PEM certificates of the authority that signs all nodes' certificates"),
    key(
        "simulatePowerLoss",
        Kind::Bool,
        "false",
        "for drills: what is not synced is lost when the process is killed, as in a power loss",
    ),
    key(
        "metricsExporterType",
        Kind::Word,
        "PROM",
        "PROM: /metrics is served for Prometheus; DISABLE: it is not, only health; LOG and OTLP_GRPC: as PROM",
    ),
    key(
        "metricsPromExporterPort",
        PORT,
        "5557",
        "port for HTTP: /metrics, /livez, /readyz, /healthz; not set and in use: none",
    ),
    key("metricsPromExporterHost", Kind::Host, "", "address that port listens on; default: bindAddress"),
    key(
        "adminOpen",
        Kind::Bool,
        "false",
        "the dashboard on that port answers others than this machine too: no users yet",
    ),
    key("metricsLabel", Kind::Text, "", "labels of every metric of this node: zone:a,rack:7"),
    key(
        "logLevel",
        Kind::Word,
        "info",
        "error, warn, info, debug or trace; raftmq debug log-level changes it at run time",
    ),
    key("logFormat", Kind::Word, "text", "text or json"),
    key(
        "logHome",
        Kind::Path,
        "",
        "folder below which logs/rocketmqlogs/broker.log is written; default: the user's home folder; none: stderr only",
    ),
    key(
        "isolateLogEnable",
        Kind::Bool,
        "false",
        "a log folder for this node alone: brokerName_dLegerSelfId; always so if dLegerPeers has its host more than once",
    ),
    key("logFileSize", Kind::Bytes(65_536..=1 << 40), "32MiB", "size of a log file, after which the next one begins"),
    key("logFilesKept", Kind::Number(0..=1000), "10", "log files kept beside the one that is written"),
    key(
        "slowRequestMs",
        Kind::Millis(0..=3_600_000),
        "500",
        "a request that takes longer is logged with its parts, some in ten seconds; 0: none is",
    ),
    key(
        "namesrvAddr",
        Kind::Text,
        "",
        "name servers that this node reports to, HOST:PORT separated by a semicolon: raftmq's, and RocketMQ's as well",
    ),
    key(
        "registerNameServerPeriod",
        Kind::Millis(10_000..=60_000),
        "30000",
        "a report is repeated so often, changed or not",
    ),
    demanding("brokerId", Harmless::WordsOrGroup(&["0", "-1"]), RAFT_ROLES, LIST_MEMBERS),
    demanding("brokerRole", Harmless::Words(&["ASYNC_MASTER", "SYNC_MASTER"]), RAFT_ROLES, LIST_MEMBERS),
    ignored("brokerIP2", NATIVE_HA),
    ignored("haListenPort", NATIVE_HA),
    demanding("haMasterAddress", Harmless::WordsOrGroup(&[]), NATIVE_HA, LIST_MEMBERS),
    ignored("haSendHeartbeatInterval", NATIVE_HA),
    ignored("haTransferBatchSize", NATIVE_HA),
    ignored("haSlaveFallbehindMax", NATIVE_HA),
    ignored("haHousekeepingInterval", NATIVE_HA),
    demanding("inSyncReplicas", Harmless::UpToMajority, MAJORITY, NO_MORE_THAN_MAJORITY),
    demanding("minInSyncReplicas", Harmless::UpToMajority, MAJORITY, NO_MORE_THAN_MAJORITY),
    demanding(
        "totalReplicas",
        Harmless::UpToMembers,
        "the members in dLegerPeers",
        "there are as many replicas as members in dLegerPeers; remove the line, or list more members",
    ),
    demanding("allAckInSyncStateSet", OFF, MAJORITY, NO_MORE_THAN_MAJORITY),
    demanding("asyncLearner", OFF, LATER, "every member votes: there are no learners; remove the line"),
    demanding("enableControllerMode", OFF, NATIVE_HA, LIST_MEMBERS),
    ignored("controllerAddr", NATIVE_HA),
    ignored("enableBatchPush", TRUTH),
    ignored("storePathDLedgerCommitLog", ONE_LOG),
    ignored("storePathCommitLog", ONE_LOG),
    ignored("storePathConsumeQueue", ONE_LOG),
    ignored("storePathIndex", ONE_LOG),
    ignored("storeCheckpoint", ONE_LOG),
    ignored("abortFile", ONE_LOG),
    ignored("storePathEpochFile", ONE_LOG),
    ignored("storePathBrokerIdentity", ONE_LOG),
    ignored("readOnlyCommitLogStorePaths", ONE_LOG),
    ignored("mappedFileSizeConsumeQueue", ONE_LOG),
    ignored("storeType", ONE_LOG),
    ignored("sendMessageThreadPoolNums", THREADS),
    ignored("pullMessageThreadPoolNums", THREADS),
    ignored("litePullMessageThreadPoolNums", THREADS),
    ignored("ackMessageThreadPoolNums", THREADS),
    ignored("processReplyMessageThreadPoolNums", THREADS),
    ignored("queryMessageThreadPoolNums", THREADS),
    ignored("adminBrokerThreadPoolNums", THREADS),
    ignored("clientManageThreadPoolNums", THREADS),
    ignored("consumerManageThreadPoolNums", THREADS),
    ignored("heartbeatThreadPoolNums", THREADS),
    ignored("endTransactionThreadPoolNums", THREADS),
    ignored("putMessageFutureThreadPoolNums", THREADS),
    ignored("useReentrantLockWhenPutMessage", THREADS),
    ignored("sendThreadPoolQueueCapacity", THREADS),
    ignored("pullThreadPoolQueueCapacity", THREADS),
    ignored("ackThreadPoolQueueCapacity", THREADS),
    ignored("queryThreadPoolQueueCapacity", THREADS),
    ignored("clientManagerThreadPoolQueueCapacity", THREADS),
    ignored("consumerManagerThreadPoolQueueCapacity", THREADS),
    ignored("heartbeatThreadPoolQueueCapacity", THREADS),
    ignored("endTransactionPoolQueueCapacity", THREADS),
    ignored("waitTimeMillsInSendQueue", THREADS),
    ignored("waitTimeMillsInPullQueue", THREADS),
    ignored("waitTimeMillsInHeartbeatQueue", THREADS),
    ignored("waitTimeMillsInTransactionQueue", THREADS),
    ignored("brokerFastFailureEnable", TRUTH),
    ignored("osPageCacheBusyTimeOutMills", NO_PAGE_CACHE),
    ignored("warmMapedFileEnable", NO_PAGE_CACHE),
    ignored("transientStorePoolEnable", NO_PAGE_CACHE),
    ignored("transientStorePoolSize", NO_PAGE_CACHE),
    ignored("fastFailIfNoBufferInStorePool", NO_PAGE_CACHE),
    ignored("accessMessageInMemoryMaxRatio", NO_PAGE_CACHE),
    ignored("flushIntervalCommitLog", "the log syncs in groups, without a timer"),
    ignored("flushCommitLogTimed", "the log syncs in groups, without a timer"),
    ignored("flushCommitLogLeastPages", "the log syncs in groups, without a timer"),
    ignored("flushCommitLogThoroughInterval", "the log syncs in groups, without a timer"),
    ignored("flushIntervalConsumeQueue", ONE_LOG),
    ignored("flushConsumeQueueLeastPages", ONE_LOG),
    ignored("flushConsumeQueueThoroughInterval", ONE_LOG),
    ignored("commitIntervalCommitLog", NO_PAGE_CACHE),
    ignored("syncFlushTimeout", "a request waits until its own deadline"),
    ignored("slaveTimeout", "a request waits until its own deadline"),
    ignored("cleanResourceInterval", NO_SWEEP),
    ignored("deleteCommitLogFilesInterval", NO_SWEEP),
    ignored("deleteConsumeQueueFilesInterval", NO_SWEEP),
    ignored("deleteFileBatchMax", NO_SWEEP),
    ignored("destroyMapedFileIntervalForcibly", NO_SWEEP),
    ignored("redeleteHangedFileInterval", NO_SWEEP),
    ignored("messageIndexEnable", NO_INDEX),
    ignored("messageIndexSafe", NO_INDEX),
    ignored("maxHashSlotNum", NO_INDEX),
    ignored("maxIndexNum", NO_INDEX),
    ignored("maxMsgsNumBatch", "a query brings as many messages as it asks for, within its time"),
    demanding(
        "messageDelayLevel",
        Harmless::Words(&[DELAY_LEVELS]),
        "they are the delay levels that there are",
        "the delay levels are RocketMQ's own eighteen; remove the line, and have producers that need other delays name delivery \
         times",
    ),
    ignored("timerWheelEnable", TRUTH),
    ignored("timerPrecisionMs", "delivery times are exact to the millisecond"),
    ignored("recallMessageEnable", TRUTH),
    ignored("longPollingEnable", TRUTH),
    ignored("shortPollingTimeMills", "polls are long"),
    ignored("notifyConsumerIdsChangedEnable", TRUTH),
    ignored("flushConsumerOffsetInterval", "positions are in the log with every ack"),
    ignored("flushConsumerOffsetHistoryInterval", "positions are in the log with every ack"),
    ignored("slaveReadEnable", TRUTH),
    ignored("offsetCheckInSlave", TRUTH),
    ignored("enablePropertyFilter", TRUTH),
    ignored("enableCalcFilterBitMap", "filters read the messages themselves"),
    ignored("filterSupportRetry", LATER),
    ignored("defaultMessageRequestMode", "consumption is by pop"),
    ignored("defaultPopShareQueueNum", "consumption is by pop"),
    ignored("enablePopBufferMerge", "leases are in the log"),
    ignored("enablePopLog", "leases are in the log"),
    ignored("popPollingSize", THREADS),
    ignored("reviveQueueNum", "leases are in the log"),
    ignored("registerBrokerTimeoutMills", "a name server that does not answer delays nothing"),
    ignored("forceRegister", TRUTH),
    ignored("fetchNamesrvAddrByAddressServer", "namesrvAddr has the name servers"),
    ignored("compressedRegister", "reports are not compressed"),
    ignored("metricsGrpcExporterTarget", SCRAPED),
    ignored("metricsGrpcExporterHeader", SCRAPED),
    ignored("metricsInDelta", SCRAPED),
    ignored("metricsOtelCardinalityLimit", "a scrape has 10000 rows of a kind at most, and says how many it left out"),
    demanding("authenticationEnabled", OFF, NO_USERS, LET_IN),
    demanding("authorizationEnabled", OFF, NO_USERS, LET_IN),
    demanding("aclEnable", OFF, NO_USERS, LET_IN),
    ignored("clusterTopicEnable", "no topic comes into being by itself at the start"),
    ignored("brokerTopicEnable", "no topic comes into being by itself at the start"),
    demanding("duplicationEnable", OFF, NATIVE_HA, LIST_MEMBERS),
    demanding(
        "startAcceptSendRequestTimeStamp",
        Harmless::Words(&["0"]),
        "sends are taken as soon as the node is ready",
        "sends are taken as soon as the node is ready; remove the line, and start the node when they are wanted",
    ),
    ignored("disableConsumeIfConsumerReadSlowly", "no consumer is stopped because it is behind"),
    ignored("consumerFallbehindThreshold", "no consumer is stopped because it is behind"),
    ignored("commercialEnable", "nothing is counted for bills; raftmq stats counts what clients did"),
    ignored("regionId", "clients are told no region"),
    ignored("rocketmqHome", "nothing is read from there"),
    ignored("serverWorkerThreads", THREADS),
    ignored("serverCallbackExecutorThreads", THREADS),
    ignored("serverSelectorThreads", THREADS),
    ignored("serverOnewaySemaphoreValue", THREADS),
    ignored("serverAsyncSemaphoreValue", THREADS),
    ignored("serverChannelMaxIdleTimeSeconds", THREADS),
    ignored("serverSocketSndBufSize", THREADS),
    ignored("serverSocketRcvBufSize", THREADS),
    ignored("serverPooledByteBufAllocatorEnable", THREADS),
    ignored("useEpollNativeSelector", THREADS),
    demanding("tls.server.need.client.auth", Harmless::Words(&["none", "optional"]), CLIENTS_UNKNOWN, ANY_CLIENT),
    demanding("tls.server.authClient", OFF, CLIENTS_UNKNOWN, ANY_CLIENT),
    demanding("tls.server.trustCertPath", Harmless::Words(&[]), CLIENTS_UNKNOWN, ANY_CLIENT),
    demanding(
        "tls.server.keyPassword",
        Harmless::Words(&[]),
        LATER,
        "encrypted keys are not read; decrypt it (openssl pkey -in KEY -out PLAIN), let only this user read it, and remove \
         the line",
    ),
    demanding(
        "tls.enable",
        OFF,
        "members speak plaintext among themselves",
        "members speak plaintext among themselves; remove the line and put their ports in dLegerPeers on a private network",
    ),
    ignored("tlsTestModeEnable", "without tls.server.certPath a certificate is made at start"),
];
