//! The commands against a real cluster: the README's first session, exit codes, refused starts.

use std::process::Command;

use crate::harness::{BINARY, Cluster};

#[test]
fn the_readme_s_first_session() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "demo"]);
    cluster.raftmq_ok(&["produce", "demo", "--count", "1000"]);
    let described: serde_json::Value =
        serde_json::from_str(&cluster.raftmq_ok(&["-o", "json", "topic", "describe", "demo"])).unwrap();
    let max: Vec<_> =
        described["queues"].as_array().unwrap().iter().map(|queue| queue["max_offset"].as_u64()).collect();
    assert_eq!(max, [Some(125); 8]);
    let consume = |group: &str| {
        let out = cluster.raftmq_ok(&["-o", "jsonl", "consume", "demo", "--group", group, "--max", "1000"]);
        out.lines().count()
    };
    assert_eq!(consume("g"), 1000);
    assert_eq!(consume("g"), 0);
    assert_eq!(consume("another"), 1000);
}

#[test]
fn failures_have_named_exit_codes() {
    let cluster = Cluster::start();
    let exit = |args: &[&str]| cluster.raftmq(args).status.code();
    assert_eq!(exit(&["topic", "describe", "nope"]), Some(6));
    assert_eq!(exit(&["produce", "nope", "x"]), Some(6));
    assert_eq!(exit(&["topic", "create", "t"]), Some(0));
    assert_eq!(exit(&["topic", "create", "t"]), Some(6));
    assert_eq!(exit(&["topic", "create", "a b"]), Some(2));
    assert_eq!(exit(&["topic", "nonsense"]), Some(2));
    assert_eq!(exit(&["topic", "delete", "t", "--yes"]), Some(0));
    assert_eq!(exit(&["topic", "describe", "t"]), Some(6));
    let nobody = Command::new(BINARY).args(["-n", "127.0.0.1:1", "topic", "list"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(4));
}

#[test]
fn a_start_that_cannot_be_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("storePathRootDir={}", folder.path().display());
    let start = |settings: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("broker");
        for setting in settings {
            command.args(["-D", setting]);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned())
    };
    let (code, line) = start(&["dLegerSelfId=n9", &store]);
    assert_eq!((code, line.contains("dLegerSelfId=n9")), (Some(2), true), "{line}");
    let (code, line) = start(&["brokreName=x", &store]);
    assert_eq!((code, line.contains("did you mean 'brokerName'")), (Some(2), true), "{line}");

    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("grpcServerPort={}", held.local_addr().unwrap().port());
    let (code, line) = start(&[&port, "bindAddress=127.0.0.1", &store]);
    assert_eq!((code, line.contains("in use")), (Some(10), true), "{line}");
}

#[test]
fn a_folder_in_use_or_of_another_node_is_refused() {
    let mut cluster = Cluster::start();
    let folder = cluster.folder_of(0);
    let free = |name: &str| {
        format!("{name}={}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
    };
    let start = |id: &str| {
        let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = [
            "brokerClusterName=TestCluster".to_owned(),
            "brokerName=Test00".to_owned(),
            "bindAddress=127.0.0.1".to_owned(),
            format!("dLegerSelfId={id}"),
            format!("dLegerPeers={id}-127.0.0.1:{peer}"),
            free("grpcServerPort"),
            free("listenPort"),
            format!("storePathRootDir={folder}"),
        ];
        let mut command = Command::new(BINARY);
        command.arg("broker");
        for setting in &settings {
            command.args(["-D", setting]);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned())
    };
    let (code, line) = start("n0");
    assert_eq!((code, line.contains("in use by another process")), (Some(11), true), "{line}");
    cluster.kill(0);
    let (code, line) = start("n1");
    assert_eq!((code, line.contains("belongs to node n0")), (Some(11), true), "{line}");
}
