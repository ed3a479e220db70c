//! What boots, what is refused, and in which words.

use crate::config::*;

fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    load(&Sources { file: Some(("broker.conf", text)), ..Sources::default() })
}

fn errors(text: &str) -> String {
    load_text(text).unwrap_err().to_string()
}

const GUIDE: &str = "brokerClusterName = RaftCluster
brokerName=RaftNode00
listenPort=30911
namesrvAddr=10.0.0.1:9876;10.0.0.2:9876
storePathRootDir=/tmp/rmqstore/node00
storePathCommitLog=/tmp/rmqstore/node00/commitlog
enableDLegerCommitLog=true
dLegerGroup=RaftNode00
dLegerPeers=n0-10.0.0.1:40911;n1-10.0.0.2:40911;n2-10.0.0.3:40911
## must be unique
dLegerSelfId=n1
sendMessageThreadPoolNums=16
";

#[test]
fn a_guide_s_file_for_three_hosts_boots_unchanged() {
    let loaded = load_text(GUIDE).unwrap();
    assert_eq!(loaded.config.cluster, "RaftCluster");
    assert_eq!(loaded.config.me().host, "10.0.0.2");
    assert_eq!(loaded.config.advertised_host, "10.0.0.2");
    assert_eq!((loaded.config.listen_port, loaded.config.grpc_port), (30911, 8081));
    assert!(loaded.config.syncs_before_ack);
    let about = |key: &str| loaded.warnings.iter().filter(|warning| warning.contains(key)).count();
    assert_eq!([about("namesrvAddr"), about("storePathCommitLog"), about("sendMessageThreadPoolNums")], [1, 1, 1]);
    assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
}

#[test]
fn the_files_of_the_repository_boot_with_the_one_announced_warning() {
    let files = [
        include_str!("../../conf/dledger/broker-n0.conf"),
        include_str!("../../conf/dledger/broker-n1.conf"),
        include_str!("../../conf/dledger/broker-n2.conf"),
    ];
    for (id, text) in files.into_iter().enumerate() {
        let loaded = load_text(text).unwrap();
        assert_eq!(loaded.config.self_id.0, id as u64);
        assert_eq!(loaded.config.grpc_port, 8081 + id as u16);
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    }
}

#[test]
fn an_unknown_key_names_line_and_nearest_match() {
    assert_eq!(
        errors("a=1\nbrokreName=x\n"),
        "broker.conf:1: unknown key 'a'\nbroker.conf:2: unknown key 'brokreName'; did you mean 'brokerName'?"
    );
}

#[test]
fn a_bad_value_names_value_limit_and_remedy() {
    assert_eq!(errors("listenPort=0"), "broker.conf:1: listenPort=0: must be between 1 and 65535");
    assert_eq!(errors("listenPort=x"), "broker.conf:1: listenPort=x: is not a whole number");
    assert_eq!(errors("maxMessageSize=5MiB"), "broker.conf:1: maxMessageSize=5MiB: must be between 1 and 4194304");
    assert_eq!(
        errors("flushDiskType=NEVER"),
        "broker.conf:1: flushDiskType=NEVER: is not one of SYNC_FLUSH, ASYNC_FLUSH"
    );
    assert_eq!(errors("raftPreVote=maybe"), "broker.conf:1: raftPreVote=maybe: is neither true nor false");
    assert!(errors("leaderWaitMs=soon").contains("500ms or 30s"));
    assert_eq!(errors("frontendThreads=many"), "broker.conf:1: frontendThreads=many: is not auto or a whole number");
    assert_eq!(errors("frontendThreads=65"), "broker.conf:1: frontendThreads=65: must be between 0 and 64");
}

#[test]
fn front_end_threads_are_those_asked_for_or_the_machine_s_choice() {
    let threads = |text: &str| load_text(text).unwrap().config.frontend_threads;
    assert_eq!([threads(""), threads("frontendThreads=AUTO")], [None, None]);
    assert_eq!([threads("frontendThreads=0"), threads("frontendThreads=3")], [Some(0), Some(3)]);
}

#[test]
fn contradictions_end_the_start() {
    let cases = [
        ("dLegerSelfId=n7", "is not among the members in dLegerPeers (n0)"),
        ("brokerName=a\ndLegerGroup=b", "must equal brokerName ('a')"),
        ("dLegerPeers=n0-h:1;n0-h:2", "names one id twice"),
        ("dLegerPeers=n0-h:1;n1-h:1", "names one address twice"),
        ("dLegerPeers=n0", "'n0' is not like n0-host:port"),
        ("listenPort=8081", "is listenPort as well"),
        ("listenPort=40911", "is this node's port for peers"),
        ("enableDLegerCommitLog=false", "always replicated"),
        ("raftElectionTimeoutMinMs=60", "at least twice raftHeartbeatIntervalMs (50)"),
        ("raftElectionTimeoutMaxMs=150", "must be above raftElectionTimeoutMinMs (150)"),
        ("tls.server.certPath=/a", "needs tls.server.keyPath"),
        ("brokerName=a\nbrokerName=b", "is already set in line 1"),
    ];
    for (text, expected) in cases {
        let found = errors(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn later_sources_win_and_say_so() {
    let sources = Sources {
        file: Some(("broker.conf", GUIDE)),
        environment: vec![("grpcServerPort".into(), "9001".into()), ("listenPort".into(), "9002".into())],
        flags: vec![("grpcServerPort".into(), "9003".into())],
    };
    let loaded = load(&sources).unwrap();
    assert_eq!((loaded.config.grpc_port, loaded.config.listen_port), (9003, 9002));
    let origin = |key| loaded.effective.iter().find(|value| value.key == key).unwrap().origin.to_string();
    assert_eq!(origin("grpcServerPort"), "flag");
    assert_eq!(origin("listenPort"), "environment");
    assert_eq!(origin("brokerName"), "broker.conf:2");
    assert_eq!(origin("flushDiskType"), "default");
}

#[test]
fn async_flush_is_announced() {
    let loaded = load_text("flushDiskType=ASYNC_FLUSH").unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.contains("page cache")));
}

#[test]
fn no_key_is_in_the_table_twice_and_every_default_is_valid() {
    let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(load(&Sources::default()).is_ok());
}
