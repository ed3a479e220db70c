//! What boots, what is refused, and in which words.

use crate::config::*;
use crate::model::{HoursOfDay, Millis};

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
    assert_eq!(loaded.config.me().address.host, "10.0.0.2");
    assert_eq!(loaded.config.advertised_host, "10.0.0.2");
    assert_eq!((loaded.config.listen_port, loaded.config.grpc_port), (30911, 8081));
    assert!(loaded.config.syncs_before_ack);
    let about = |key: &str| loaded.warnings.iter().filter(|warning| warning.contains(key)).count();
    assert_eq!([about("namesrvAddr"), about("storePathCommitLog"), about("sendMessageThreadPoolNums")], [0, 1, 1]);
    let name_servers: Vec<_> = loaded.config.name_servers.iter().map(ToString::to_string).collect();
    assert_eq!(name_servers, ["10.0.0.1:9876", "10.0.0.2:9876"]);
    assert_eq!(about("peerSecretPath"), 1, "that peers are trusted is said aloud");
    assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
}

#[test]
fn the_files_of_the_repository_boot_with_the_announced_warnings() {
    let files = [
        include_str!("../../conf/dledger/broker-n0.conf"),
        include_str!("../../conf/dledger/broker-n1.conf"),
        include_str!("../../conf/dledger/broker-n2.conf"),
    ];
    for (id, text) in files.into_iter().enumerate() {
        let loaded = load_text(text).unwrap();
        assert_eq!(loaded.config.self_name.0, id as u32);
        assert_eq!(loaded.config.grpc_port, 8081 + id as u16);
        assert!(loaded.warnings.iter().any(|warning| warning.contains("peerSecretPath")), "{:?}", loaded.warnings);
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    }
}

#[test]
fn p16_the_port_for_peers_is_no_wider_than_asked_for_unless_peers_prove_themselves() {
    let listens = |more: &str| {
        let text = format!("dLegerPeers=n0-10.0.0.1:1;n1-10.0.0.2:1;n2-name:1\n{more}");
        let config = load_text(&text).unwrap().config;
        (config.peer_bind_address, config.bind_address)
    };
    let any = || "0.0.0.0".to_owned();
    assert_eq!(listens("dLegerSelfId=n1"), ("10.0.0.2".to_owned(), any()));
    assert_eq!(listens("dLegerSelfId=n2"), (any(), any()), "a name may stand for something else on its own host");
    assert_eq!(listens("bindAddress=127.0.0.1"), ("127.0.0.1".to_owned(), "127.0.0.1".to_owned()));
    assert_eq!(listens("peerSecretPath=/secret"), (any(), any()));
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
    assert_eq!(errors("listenPort=0"), "broker.conf:1: listenPort=0: must be a whole number from 1 to 65535");
    assert_eq!(errors("listenPort=x"), "broker.conf:1: listenPort=x: must be a whole number from 1 to 65535");
    assert_eq!(
        errors("maxMessageSize=5MiB"),
        "broker.conf:1: maxMessageSize=5MiB: must be a size from 1 to 4MiB: bytes, or with a unit such as KiB or MiB"
    );
    assert_eq!(
        errors("flushDiskType=NEVER"),
        "broker.conf:1: flushDiskType=NEVER: is not one of SYNC_FLUSH, ASYNC_FLUSH"
    );
    assert_eq!(errors("raftPreVote=maybe"), "broker.conf:1: raftPreVote=maybe: is neither true nor false");
    assert!(errors("leaderWaitMs=soon").contains("500ms or 30s"));
    assert_eq!(
        errors("frontendThreads=many"),
        "broker.conf:1: frontendThreads=many: must be auto, or a whole number from 0 to 64"
    );
    assert_eq!(
        errors("frontendThreads=65"),
        "broker.conf:1: frontendThreads=65: must be auto, or a whole number from 0 to 64"
    );
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
        ("peerTlsCertPath=/a\npeerTlsKeyPath=/b", "needs peerTlsTrustCertPath as well"),
        ("peerTlsTrustCertPath=/a", "needs peerTlsCertPath as well"),
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

#[test]
fn what_is_asked_for_and_not_given_ends_the_start() {
    const PEERS: &str = "\ndLegerPeers=n0-a:1;n1-b:1;n2-c:1";
    let refused = [
        ("authenticationEnabled=true", "let only trusted hosts reach the ports"),
        ("authorizationEnabled=TRUE", "let only trusted hosts reach the ports"),
        ("aclEnable=yes", "let only trusted hosts reach the ports"),
        ("brokerRole=SLAVE", "list all nodes in dLegerPeers"),
        ("brokerId=1", "list all nodes in dLegerPeers"),
        ("haMasterAddress=10.0.0.1:10912", "list all nodes in dLegerPeers"),
        ("enableControllerMode=true", "list all nodes in dLegerPeers"),
        ("duplicationEnable=true", "list all nodes in dLegerPeers"),
        ("inSyncReplicas=2", "list more members"),
        ("minInSyncReplicas=2", "list more members"),
        ("totalReplicas=3", "list more members"),
        ("allAckInSyncStateSet=true", "for no more"),
        ("asyncLearner=true", "remove the line"),
        ("tls.server.need.client.auth=require", "let only trusted hosts reach the ports"),
        ("tls.server.authClient=true", "let only trusted hosts reach the ports"),
        ("tls.server.trustCertPath=/ca.pem", "let only trusted hosts reach the ports"),
        ("tls.server.keyPassword=***", "openssl pkey"),
        ("tls.enable=true", "private network"),
        ("brokerRole=SLAVE\ndLegerPeers=n0-a:1;n1-b:1;n2-c:1", "list all nodes in dLegerPeers"),
        ("inSyncReplicas=3\ndLegerPeers=n0-a:1;n1-b:1;n2-c:1", "list more members"),
        ("enableDLegerCommitLog=false\ndLegerPeers=n0-a:1;n1-b:1;n2-c:1", "always replicated"),
    ];
    for (text, remedy) in refused {
        let found = errors(text);
        let (key, first) = (text.split('=').next().unwrap(), text.lines().next().unwrap());
        assert!(found.starts_with(&format!("broker.conf:1: {first}: ")), "{key}: {found}");
        assert!(found.contains(remedy), "{text}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    assert!(!errors("tls.server.keyPassword=secret").contains("secret"));
    let accepted = [
        "authenticationEnabled=false",
        "aclEnable=",
        "brokerRole=ASYNC_MASTER",
        "brokerRole=SYNC_MASTER",
        "brokerId=0",
        "brokerId=1\ndLegerPeers=n0-a:1;n1-b:1;n2-c:1",
        "brokerId=1\nenableDLegerCommitLog=true",
        "haMasterAddress=10.0.0.1:10912\ndLegerPeers=n0-a:1;n1-b:1;n2-c:1",
        "inSyncReplicas=1",
        "tls.server.need.client.auth=none",
    ];
    for text in accepted {
        let key = text.split('=').next().unwrap();
        let warnings = load_text(text).unwrap().warnings;
        let about = warnings.iter().filter(|warning| warning.contains(&format!("'{key}' is accepted without effect")));
        assert_eq!(about.count(), 1, "{text}: {warnings:?}");
    }
    load_text(&format!("inSyncReplicas=2\ntotalReplicas=3{PEERS}")).unwrap();
}

#[test]
fn a_slave_of_rocketmq_s_two_masters_and_two_slaves_is_no_leader_of_its_own() {
    let slave = "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=1\ndeleteWhen=04\nfileReservedTime=48\n\
                 brokerRole=SLAVE\nflushDiskType=ASYNC_FLUSH\n";
    let found = errors(slave);
    let lines: Vec<_> = found.lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    assert_eq!(lines, ["broker.conf:3: brokerId=1", "broker.conf:6: brokerRole=SLAVE"]);
}

#[test]
fn members_at_ipv6_addresses_can_be_dialled_and_listen_there() {
    let peers = "dLegerPeers=n0-::1:41911;n1-[::1]:41912;n2-::1:41913";
    let loaded = load_text(peers).unwrap();
    let addresses: Vec<_> = loaded.config.peers.iter().map(|peer| peer.address.to_string()).collect();
    assert_eq!(addresses, ["[::1]:41911", "[::1]:41912", "[::1]:41913"]);
    assert_eq!((loaded.config.bind_address.as_str(), loaded.config.advertised_host.as_str()), ("::", "::1"));
    let shown = loaded.effective.iter().find(|value| value.key == "bindAddress").unwrap();
    assert_eq!((shown.value.as_str(), &shown.origin), ("::", &Origin::Default));
    assert!(loaded.warnings.iter().any(|warning| warning.contains("set brokerIP1")), "{:?}", loaded.warnings);
    let named = load_text(&format!("{peers}\nbrokerIP1=mq.example\nbindAddress=[::1]")).unwrap();
    assert_eq!((named.config.bind_address.as_str(), named.config.advertised_host.as_str()), ("::1", "mq.example"));
    assert!(!named.warnings.iter().any(|warning| warning.contains("brokerIP1")), "{:?}", named.warnings);
    assert_eq!(
        errors(&format!("bindAddress=0.0.0.0\n{peers}")),
        "broker.conf:1: bindAddress=0.0.0.0: is IPv4, and the others dial [::1]:41911 (dLegerPeers); write ::, which is both"
    );
    assert!(
        errors("dLegerPeers=n0-::1").ends_with("is no IPv6 address; write n0-host:port, with IPv6 n0-[address]:port")
    );
    assert!(errors("dLegerPeers=n0-fe80::1%eth0:1").contains("zones such as %eth0 cannot be used"));
    assert!(errors("dLegerPeers=n0-::1:1;n1-[0:0::1]:1").contains("names one address twice"));
}

#[test]
fn separators_that_only_look_right_are_named() {
    let (semicolons, commas) = ("n0-127.0.0.1:1；n1-127.0.0.1:2", "n0-127.0.0.1:1，n1-127.0.0.1:2");
    assert_eq!(
        errors(&format!("a=1\ndLegerPeers={semicolons}")).lines().nth(1).unwrap(),
        format!("broker.conf:2: dLegerPeers={semicolons}: has '；' (U+FF1B) as character 15; write ';'")
    );
    assert!(errors(&format!("dLegerPeers={commas}")).ends_with("has '，' (U+FF0C) as character 15; write ','"));
    assert!(errors("dLegerPeers=n0-127.0.0.1:1,n1-127.0.0.1:2").contains("members are separated by ';'"));
    assert!(errors("listenPort=１０９１１").ends_with("has '１' (U+FF11) as character 1; write '1'"));
    assert_eq!(
        errors("brokerName＝a"),
        "broker.conf:1: key 'brokerName＝a' has '＝' (U+FF1D) as character 11; write '='"
    );
}

#[test]
fn blanks_from_web_pages_are_blanks_and_what_nobody_sees_is_named() {
    let loaded = load_text("\u{feff}brokerName\u{a0}=\u{a0}a\nlistenPort\u{3000}=\u{a0}30911\u{a0}\n").unwrap();
    assert_eq!((loaded.config.broker_name.as_str(), loaded.config.listen_port), ("a", 30911));
    let about: Vec<_> = loaded.warnings.iter().filter(|warning| warning.contains("blank")).collect();
    assert_eq!(about, ["broker.conf:1:11: a no-break space (U+00A0) is taken for a blank (and 4 more like it)"]);
    for (text, expected) in [
        ("a=1\nbroker\u{200b}Name=a", "broker.conf:2:7: a zero-width space (U+200B) stands here; remove it"),
        ("brokerName=a\u{feff}b", "broker.conf:1:13: a byte order mark (U+FEFF) stands here; remove it"),
        ("brokerName=\u{202e}b", "broker.conf:1:12: an invisible character (U+202E) stands here; remove it"),
        ("brokerName=“b”", "has '“' (U+201C) as character 1; a value stands without quotes"),
        ("“brokerName”=b", "has '“' (U+201C) as character 1; a key stands without quotes"),
        ("brokerName=b\\", "broker.conf:1: the last line ends in '\\'"),
    ] {
        let found = errors(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
    let comment = load_text("# \u{200b}“quoted”\u{a0}\n\u{a0}! too\n").unwrap();
    assert!(!comment.warnings.iter().any(|warning| warning.contains("blank")), "{:?}", comment.warnings);
    let flag = |value: &str| load(&Sources { flags: vec![("brokerName".into(), value.into())], ..Sources::default() });
    assert_eq!(flag("\u{a0}a ").unwrap().config.broker_name, "a");
    assert!(flag("a\u{200b}").unwrap_err().to_string().contains("has a zero-width space (U+200B) as character 2"));
}

#[test]
fn only_a_port_that_somebody_chose_must_be_had() {
    let is_default = |text: &str| load_text(text).unwrap().config.grpc_port_is_default;
    assert_eq!([is_default(""), is_default("grpcServerPort=8081")], [true, false]);
}

/// A value is refused in a short line that names its key, or everything that is made of it later can be made.
fn check_value(key: &str, value: &str, sources: &Sources<'_>) {
    match load(sources) {
        Err(ConfigErrors(lines)) => {
            assert!(lines.iter().any(|line| line.contains(key)), "{key}={value:?}: {lines:?}");
            for line in &lines {
                assert!(!line.contains(['\n', '\r']) && line.chars().count() < 600, "{key}: {line}");
            }
        }
        Ok(Loaded { config, effective, .. }) => {
            for peer in &config.peers {
                let address = peer.address.to_string();
                ::http::Uri::try_from(format!("http://{address}")).unwrap_or_else(|error| panic!("{address}: {error}"));
                assert_eq!(crate::model::HostPort::parse(&address).as_ref(), Some(&peer.address));
                if peer.address.host.contains(':') {
                    address.parse::<std::net::SocketAddr>().unwrap();
                }
            }
            for host in [&config.bind_address, &config.advertised_host] {
                assert!(!host.is_empty() && !host.contains(['[', ']', ' ', '%', '/']), "{host}");
            }
            let folder = config.store.to_str().unwrap();
            assert!(!folder.is_empty() && folder.len() < 4096 && !folder.contains('\0'), "{folder}");
            assert!(effective.iter().all(|value| !value.value.contains('\n')));
            assert!(config.me().address.port > 0 && config.election_min_ms < config.election_max_ms);
        }
    }
}

#[test]
fn every_odd_value_of_every_key_is_refused_by_name_or_can_be_used() {
    let long = "x".repeat(10_000);
    let digits = "9".repeat(10_000);
    let odd = [
        "",
        " ",
        "\t",
        "-1",
        "0",
        "00",
        "+1",
        "1.5",
        "1e3",
        "NaN",
        "inf",
        "0x10",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "9223372036854775807",
        "65535",
        "65536",
        "true",
        "TRUE",
        "yes",
        "null",
        "auto",
        "::1",
        "[::1]",
        "[::1]:1",
        "::",
        "::ffff:1.2.3.4",
        "fe80::1%lo",
        "127.0.0.1",
        "256.256.256.256",
        "localhost",
        "a b",
        "a@b",
        "a/b",
        "/",
        "..",
        "http://a:1",
        "n0-",
        "n0-:",
        "n0-::1:1",
        "n0-[::1]:1",
        "n0-a:1;",
        "n0-a:1;;n1-b:1",
        ";",
        ",",
        "-",
        ":",
        "n0-h:99999",
        "n18446744073709551615-h:1",
        "n0-a:1；n1-b:1",
        "１２３",
        "“8081”",
        "\"8081\"",
        "'a'",
        "节点",
        "n0-节点:1",
        "🦀",
        "é",
        "\u{a0}",
        "\u{200b}",
        "a\u{200b}b",
        "a\u{feff}",
        "\u{202e}a",
        "a\u{2028}b",
        "\u{0}",
        "a\u{0}b",
        "a\nb",
        "a\r\nb",
        "\u{1b}[31m",
        "%s",
        "${jndi:ldap}",
        "5µs",
        "1ｍｓ",
        "1 000",
        "64MiB",
        "99999999999GiB",
        "1h",
        "-5ms",
        &long,
        &digits,
    ];
    for (at_key, key) in KEYS.iter().enumerate() {
        for (at_value, value) in odd.into_iter().enumerate() {
            let flags = vec![(key.name.to_owned(), value.to_owned())];
            check_value(key.name, value, &Sources { flags, ..Sources::default() });
            // A file is read alike for all keys: each value with some of them.
            if (at_key + at_value).is_multiple_of(4) && !value.contains(['\n', '\r']) {
                let text = format!("{}={value}\n", key.name);
                // What is invisible in a file is named by its place; the line has the key.
                let name = if load_text(&text).is_err_and(|error| error.to_string().contains("stands here")) {
                    ""
                } else {
                    key.name
                };
                check_value(name, value, &Sources { file: Some(("broker.conf", &text)), ..Sources::default() });
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_value_of_any_key_panics(at in 0..KEYS.len(), value in "\\PC{0,40}|[n0-9:;.,\\[\\]-]{0,40}|.{0,20}") {
        let flags = vec![(KEYS[at].name.to_owned(), value.clone())];
        check_value(KEYS[at].name, &value, &Sources { flags, ..Sources::default() });
    }

    #[test]
    fn no_file_panics(text in "([a-zA-Z.]{0,8}[=: ].{0,12}\\\\?[\\n\\r]{0,2}){0,6}|(?s:.{0,60})") {
        let _ = load_text(&text);
    }
}

#[test]
fn what_is_deleted_and_when_is_read_as_rocketmq_has_it() {
    let retention = |text: &str| load_text(text).unwrap().config.retention;
    let days = |days: u64| Millis::from_secs(days * 24 * 3600);
    let default = RetentionConfig {
        kept_for: days(3),
        delete_hours: HoursOfDay::parse("04").unwrap(),
        disk_used_max: 75,
        deletes_unexpired: true,
        log_bytes_max: None,
    };
    assert_eq!(retention(""), default);
    let text = "fileReservedTime=48\ndeleteWhen=04;16\ndiskMaxUsedSpaceRatio=88\ncleanFileForciblyEnable=false\n\
                logRetentionBytes=128MiB\nopenFilesMax=64";
    let delete_hours = HoursOfDay::parse("04;16").unwrap();
    let (disk_used_max, log_bytes_max) = (88, Some(128 << 20));
    let expected =
        RetentionConfig { kept_for: days(2), delete_hours, disk_used_max, deletes_unexpired: false, log_bytes_max };
    assert_eq!(retention(text), expected);
    let warnings = load_text(text).unwrap().warnings;
    assert!(!warnings.iter().any(|warning| warning.contains("without effect")), "{warnings:?}");
    assert_eq!(retention("fileReservedTime=7d").kept_for, days(7));
    assert_eq!(retention("fileReservedTime=2147483647").kept_for, Millis(2_147_483_647 * 3_600_000));
    let files = |text: &str| load_text(text).unwrap().config.open_files_max;
    assert_eq!([files(""), files("openFilesMax=64")], [256, 64]);
}

#[test]
fn a_retention_that_cannot_be_meant_is_refused_with_the_remedy() {
    for (text, expected) in [
        ("fileReservedTime=0", "would delete every message at once; write how long messages are kept"),
        ("fileReservedTime=0d", "would delete every message at once"),
        ("fileReservedTime=2147483648", "from 1s to 2147483647 hours"),
        ("fileReservedTime=72 hours", "must be hours such as 72, or a time such as 90s, 2m, 36h or 7d"),
        ("deleteWhen=24", "write hours from 00 to 23 such as 04 or 04;16, or always"),
        ("deleteWhen=", "is no hour of the day"),
        ("diskMaxUsedSpaceRatio=101", "must be a whole number from 0 to 100"),
        ("logRetentionBytes=134217727", "must be at least 134217728, 2 segments of mappedFileSizeCommitLog (67108864)"),
        ("openFilesMax=63", "must be a whole number from 64 to 1048576"),
        ("topicQueuesMax=7", "is below defaultTopicQueueNums (8), which new topics get"),
        ("snapshotRate=1048575", "must be 0 for no bound, or 1048576 at least"),
    ] {
        let found = errors(text);
        assert!(found.starts_with(&format!("broker.conf:1: {text}: ")) && found.contains(expected), "{text}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    assert_eq!(errors("mappedFileSizeCommitLog=5\nlogRetentionBytes=1").lines().count(), 1, "one complaint is enough");
    load_text("mappedFileSizeCommitLog=1MiB\nlogRetentionBytes=2MiB").unwrap();
}

#[test]
fn a_retention_that_surprises_is_remarked_on() {
    let about = |text: &str, key: &str| -> Vec<String> {
        let loaded = load_text(text).unwrap();
        loaded.warnings.into_iter().filter(|warning| warning.contains(&format!(": {key}="))).collect()
    };
    for (given, taken) in [("99", 95), ("0", 10)] {
        let text = format!("diskMaxUsedSpaceRatio={given}");
        assert_eq!(load_text(&text).unwrap().config.retention.disk_used_max, taken);
        let expected = format!("broker.conf:1: {text}: is taken for {taken}, as in RocketMQ; write 10 to 95");
        assert_eq!(about(&text, "diskMaxUsedSpaceRatio"), [expected]);
    }
    let found = about("fileReservedTime=2h\ndeleteWhen=04", "fileReservedTime");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("(04) only, so some are kept for up to 26h; set deleteWhen=always"), "{found:?}");
    for text in
        ["", "fileReservedTime=24", "fileReservedTime=2h\ndeleteWhen=always", "fileReservedTime=12\ndeleteWhen=04;16"]
    {
        assert_eq!(about(text, "fileReservedTime"), [""; 0], "{text}");
    }
}

#[test]
fn the_port_for_http_has_its_own_keys_and_words() {
    let http = |text: &str| load_text(text).unwrap().config.http;
    let default = http("bindAddress=10.0.0.1");
    assert_eq!((default.port, default.port_is_default, default.serves_metrics), (5557, true, true));
    assert_eq!(default.host, "10.0.0.1");
    let own = http("metricsPromExporterPort=9000\nmetricsPromExporterHost=127.0.0.1\nmetricsLabel= zone:a , rack:7,");
    assert_eq!((own.port, own.port_is_default, own.host.as_str()), (9000, false, "127.0.0.1"));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(own.labels, [pair("zone", "a"), pair("rack", "7")]);
    assert!(!http("metricsExporterType=DISABLE").serves_metrics);
    for other in ["LOG", "OTLP_GRPC"] {
        let loaded = load_text(&format!("metricsExporterType={other}")).unwrap();
        assert!(loaded.config.http.serves_metrics);
        let says = |warning: &&String| warning.contains("metricsExporterType") && warning.contains("/metrics");
        assert_eq!(loaded.warnings.iter().filter(says).count(), 1, "{:?}", loaded.warnings);
    }
    // A port that nobody chose gives way (`server/run`).
    assert!(load_text("listenPort=5557").is_ok());
    let refused = [
        ("metricsPromExporterPort=8081", "is grpcServerPort as well"),
        ("metricsExporterType=STATSD", "is not one of DISABLE, PROM, OTLP_GRPC, LOG"),
        ("metricsLabel=zone", "'zone' is not like zone:a,rack:7"),
        ("metricsLabel=9a:b", "'9a:b' is not like"),
        ("metricsLabel=cluster:b", "is a label of every metric already"),
        ("metricsLabel=a:b,a:c", "is there twice"),
    ];
    for (text, expected) in refused {
        let found = errors(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn log_files_are_where_rocketmq_has_them_and_nodes_of_one_host_have_a_folder_each() {
    let files = |text: &str| load_text(text).unwrap().config.log.files;
    let folder = |text: &str| files(text).unwrap().folder.display().to_string();
    let plain = files("brokerName=a").unwrap();
    assert_eq!((plain.home, plain.bytes_max, plain.kept), (None, 32 << 20, 10));
    let names = "dLegerGroup=Raft/Node\nbrokerName=Raft/Node\ndLegerSelfId=n1\ndLegerPeers=";
    assert_eq!(folder(&format!("{names}n0-10.0.0.1:1;n1-10.0.0.2:1;n2-10.0.0.1:2")), "logs/rocketmqlogs/");
    assert_eq!(folder(&format!("{names}n0-a:1;n1-b:1;n2-b:2")), "logs/rocketmqlogs/Raft_Node_n1");
    assert_eq!(folder("isolateLogEnable=true"), "logs/rocketmqlogs/RaftNode00_n0");
    assert_eq!(files("logHome=none"), None);
    assert_eq!(files("logHome=/var/log").unwrap().home, Some("/var/log".into()));
    assert!(
        errors("logFileSize=1").contains("logFileSize=1: must be a size from 64KiB to 1TiB"),
        "{}",
        errors("logFileSize=1")
    );
}

#[test]
fn name_servers_are_hosts_with_ports_and_not_too_many() {
    let of = |text: &str| load_text(&format!("namesrvAddr={text}")).map(|loaded| loaded.config.name_servers.len());
    assert_eq!(of("").unwrap(), 0);
    assert_eq!(of("a:1; b:2;;a:1;[::1]:3").unwrap(), 3);
    for (text, words) in
        [("a", "'a': is not HOST:PORT"), ("a:x", "has no port such as 9876"), ("a b:1", "the host 'a b'")]
    {
        let errors = of(text).unwrap_err().to_string();
        assert!(errors.contains(words), "{errors}");
    }
    let many: Vec<_> = (1..=17).map(|port| format!("a:{port}")).collect();
    assert!(of(&many.join(";")).unwrap_err().to_string().contains("has 17 name servers, at most 16 are taken"));
    assert_eq!(of(&many[..16].join(";")).unwrap(), 16);
}

#[test]
fn what_clients_may_do_at_a_node_is_said_in_rocketmq_s_bits() {
    let of = |text: &str| load_text(text).map(|loaded| loaded.config.permission.0);
    assert_eq!(["", "brokerPermission=2", "brokerPermission=4"].map(|text| of(text).unwrap()), [6, 2, 4]);
    assert!(of("brokerPermission=0").unwrap_err().to_string().contains("is not one of 2, 4, 6"));
    let takes = |text: &str| load_text(text).unwrap().config.takes_transactions;
    assert!(takes("") && !takes("rejectTransactionMessage=true"));
}

#[test]
fn the_topic_of_traces_is_made_if_it_is_wanted_and_can_be_one() {
    let of = |text: &str| load_text(text).map(|loaded| loaded.config.trace_topic.map(|topic| topic.to_string()));
    assert_eq!(of("msgTraceTopicName=traces").unwrap(), None);
    assert_eq!(of("traceTopicEnable=true").unwrap().as_deref(), Some("RMQ_SYS_TRACE_TOPIC"));
    assert_eq!(of("traceTopicEnable=true\nmsgTraceTopicName=traces").unwrap().as_deref(), Some("traces"));
    for (name, words) in [
        ("a.b", "'a.b' holds a character other than letters"),
        ("TBW102", "'TBW102' is reserved for the system"),
        ("%DLQ%g", "retries or dead letters"),
        ("%RETRY%g", "retries or dead letters"),
    ] {
        let errors = of(&format!("msgTraceTopicName={name}")).unwrap_err().to_string();
        assert!(errors.contains("msgTraceTopicName") && errors.contains(words), "{errors}");
    }
    assert!(load_text("").unwrap().config.traces && !load_text("traceOn=false").unwrap().config.traces);
}

#[test]
fn docs_operate_has_every_key_that_does_something_as_it_is() {
    let operate = include_str!("../../docs/operate.md");
    let row = |key: &crate::config::Key| {
        let default = if key.default.is_empty() { "–".to_owned() } else { format!("`{}`", key.default) };
        format!("| `{}` | {default} | {} |", key.name, key.meaning.replace('|', "\\|"))
    };
    let honoured = KEYS.iter().filter(|key| key.status == Status::Honoured);
    let missing: Vec<String> = honoured.map(row).filter(|row| !operate.contains(row)).collect();
    assert!(missing.is_empty(), "docs/operate.md lacks these rows, or has others:\n{}", missing.join("\n"));
}
