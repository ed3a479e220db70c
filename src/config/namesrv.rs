//! The name server's configuration: RocketMQ's namesrv.conf, read as it is.

use crate::config::broker::tls;
use crate::config::keys::{PORT, ignored, key};
use crate::config::load::Given;
use crate::config::value::Values;
use crate::config::{ConfigErrors, Effective, Key, Kind, LogFormat, Sources, Status, TlsConfig, TlsMode};

const NOTHING_KEPT: &str = "a name server of raftmq keeps nothing on disk";
const SIZES_ITSELF: &str = "threads, queues and buffers size themselves here";
const NO_CONTROLLER: &str = "replication and roles are Raft's";
const ALWAYS: &str = "there is no such switch here: it is always so";
const NOT_SERVED: &str = "not served yet";

/// All keys: RocketMQ's own and ours. A key that is not here is an error.
///
/// Source: RocketMQ 5.3, `NamesrvConfig` and `NettyServerConfig`.
pub const NAMESRV_KEYS: &[Key] = &[
    key("listenPort", PORT, "9876", "port for brokers and clients"),
    key("bindAddress", Kind::Host, "0.0.0.0", "address that port listens on"),
    key("tls.server.mode", Kind::Word, "permissive", "permissive: TLS and plaintext on one port; disabled"),
    key("tls.server.certPath", Kind::Path, "", "PEM certificate chain; default: one made at start"),
    key("tls.server.keyPath", Kind::Path, "", "PEM private key"),
    key("logLevel", Kind::Word, "info", "error, warn, info, debug or trace"),
    key("logFormat", Kind::Word, "text", "text or json; lines go to stderr"),
    ignored("rocketmqHome", NOTHING_KEPT),
    ignored("kvConfigPath", NOTHING_KEPT),
    ignored("configStorePath", NOTHING_KEPT),
    ignored("productEnvName", "there are no environments here"),
    ignored("clusterTest", "there are no environments here"),
    key(
        "orderMessageEnable",
        Kind::Bool,
        "false",
        "routes say which queues are for order (PUT_KV_CONFIG of ORDER_TOPIC_CONFIG)",
    ),
    ignored("returnOrderTopicConfigToBroker", NOT_SERVED),
    ignored("clientRequestThreadPoolNums", SIZES_ITSELF),
    ignored("defaultThreadPoolNums", SIZES_ITSELF),
    ignored("clientRequestThreadPoolQueueCapacity", SIZES_ITSELF),
    ignored("defaultThreadPoolQueueCapacity", SIZES_ITSELF),
    ignored("unRegisterBrokerQueueCapacity", SIZES_ITSELF),
    ignored(
        "scanNotActiveBrokerInterval",
        "a broker is left out when its connection ends, or after 120 s without a report",
    ),
    ignored("supportActingMaster", NO_CONTROLLER),
    ignored("notifyMinBrokerIdChanged", NO_CONTROLLER),
    ignored("enableControllerInNamesrv", NO_CONTROLLER),
    ignored("enableAllTopicList", ALWAYS),
    ignored("enableTopicList", ALWAYS),
    ignored("deleteTopicWithBrokerRegistration", ALWAYS),
    ignored("needWaitForService", "brokers report within a second of the start"),
    ignored("waitSecondsForService", "brokers report within a second of the start"),
    ignored("configBlackList", "nothing can be changed while it runs"),
    ignored("serverWorkerThreads", SIZES_ITSELF),
    ignored("serverCallbackExecutorThreads", SIZES_ITSELF),
    ignored("serverSelectorThreads", SIZES_ITSELF),
    ignored("serverOnewaySemaphoreValue", SIZES_ITSELF),
    ignored("serverAsyncSemaphoreValue", SIZES_ITSELF),
    ignored("serverChannelMaxIdleTimeSeconds", "a connection without traffic is closed after 120 s"),
    ignored("serverSocketSndBufSize", SIZES_ITSELF),
    ignored("serverSocketRcvBufSize", SIZES_ITSELF),
    ignored("writeBufferHighWaterMark", SIZES_ITSELF),
    ignored("writeBufferLowWaterMark", SIZES_ITSELF),
    ignored("serverSocketBacklog", SIZES_ITSELF),
    ignored("serverPooledByteBufAllocatorEnable", SIZES_ITSELF),
    ignored("serverNettyWorkerGroupEnable", SIZES_ITSELF),
    ignored("useEpollNativeSelector", SIZES_ITSELF),
    ignored("enableShutdownGracefully", ALWAYS),
    ignored("shutdownWaitTimeSeconds", "no request takes long enough to be waited for"),
];

/// Everything a name server is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesrvConfig {
    /// `listenPort`.
    pub listen_port: u16,
    /// `bindAddress`.
    pub bind_address: String,
    /// `logLevel`.
    pub log_level: String,
    /// `logFormat`.
    pub log_format: LogFormat,
    /// `orderMessageEnable`.
    pub shows_order: bool,
    /// `tls.*`.
    pub tls: TlsConfig,
}

/// A configuration that can be started with.
#[derive(Debug, Clone)]
pub struct LoadedNamesrv {
    pub config: NamesrvConfig,
    /// Every honoured key, in the table's order.
    pub effective: Vec<Effective>,
    /// For the operator.
    pub warnings: Vec<String>,
}

/// Reads and checks a name server's configuration.
pub fn load_namesrv(sources: &Sources<'_>) -> Result<LoadedNamesrv, ConfigErrors> {
    let Given { values: given, mut errors, mut warnings, refused, .. } = Given::read(NAMESRV_KEYS, sources);
    for key in NAMESRV_KEYS {
        if let (Some((_, origin)), Status::Ignored(reason)) = (given.get(key.name), key.status) {
            warnings.push(format!("{origin}: '{}' is accepted without effect: {reason}", key.name));
        }
    }
    let mut values = Values::new(NAMESRV_KEYS, &given, &mut errors, refused);
    let listen_port = u16::try_from(values.number("listenPort")).unwrap_or(u16::MAX);
    let bind_address = values.host("bindAddress");
    let level = values.choice("logLevel", &["error", "warn", "info", "debug", "trace"].map(|word| (word, word)));
    let log_format = values.choice("logFormat", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let shows_order = values.bool("orderMessageEnable");
    let tls = tls(&mut values);
    if tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Enforcing) {
        values.complain("tls.server.mode", "would shut out the brokers, which report in plaintext; use permissive");
    }
    let effective = values.effective();
    match (bind_address, level, log_format, tls) {
        (Some(bind_address), Some(level), Some(log_format), Some(tls)) if errors.is_empty() => {
            let log_level = level.to_owned();
            let config = NamesrvConfig { listen_port, bind_address, log_level, log_format, shows_order, tls };
            Ok(LoadedNamesrv { config, effective, warnings })
        }
        _ => Err(ConfigErrors(errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<LoadedNamesrv, String> {
        let sources = Sources { file: Some(("namesrv.conf", text)), ..Sources::default() };
        load_namesrv(&sources).map_err(|errors| errors.to_string())
    }

    #[test]
    fn rocketmq_s_file_is_read_as_it_is() {
        let loaded = load_text("listenPort=9877\nrocketmqHome=/opt/rocketmq\nkvConfigPath=/root/kv.json\n").unwrap();
        assert_eq!((loaded.config.listen_port, loaded.config.bind_address.as_str()), (9877, "0.0.0.0"));
        assert_eq!(
            loaded.warnings,
            [(2, "rocketmqHome"), (3, "kvConfigPath")].map(|(line, key)| format!(
                "namesrv.conf:{line}: '{key}' is accepted without effect: a name server of raftmq keeps nothing on disk"
            ))
        );
        assert_eq!(load_text("").unwrap().config.listen_port, 9876);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place() {
        let errors =
            load_text("listenPort=0\nlistenPrt=1\nbindAddress=a b\ntls.server.mode=enforcing\ntls.server.keyPath=k\n");
        let errors = errors.unwrap_err();
        for words in [
            "namesrv.conf:1: listenPort=0",
            "did you mean 'listenPort'?",
            "namesrv.conf:3",
            "would shut out the brokers",
            "needs tls.server.certPath as well",
        ] {
            assert!(errors.contains(words), "{words}: {errors}");
        }
    }

    #[test]
    fn keys_are_listed_once() {
        let mut names: Vec<_> = NAMESRV_KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
