//! Starts that are refused, in one line that says why, and those that must not be.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixture::cluster::{BINARY, Cluster, free_ports};
use crate::fixture::node::Node;

#[test]
fn a_start_that_cannot_be_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("storePathRootDir={}", folder.path().display());
    let start = |settings: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(["broker", "-D", "logHome=none"]);
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

/// The broker under a limit of its address space: its exit code, or `None` if it is ready, and what it wrote.
fn start_with_memory(mebibytes: u64) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let ports = free_ports("127.0.0.1", 4);
    let settings = [
        format!("storePathRootDir={}", folder.path().join("store").display()),
        "dLegerSelfId=n0".to_owned(),
        format!("dLegerPeers=n0-127.0.0.1:{}", ports[3]),
        format!("grpcServerPort={}", ports[0]),
        format!("listenPort={}", ports[1]),
        format!("metricsPromExporterPort={}", ports[2]),
        "bindAddress=127.0.0.1".to_owned(),
        "logHome=none".to_owned(),
    ];
    let path = folder.path().join("stderr");
    let mut command = Command::new("prlimit");
    command.args([&format!("--as={}", mebibytes << 20), BINARY, "broker"]);
    for setting in &settings {
        command.args(["-D", setting]);
    }
    let mut child = command.stderr(std::fs::File::create(&path).unwrap()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let ended = child.try_wait().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        if ended.is_some() || text.contains("ready") {
            if ended.is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            // Ended by a signal is a code that no program names.
            return (ended.map(|status| status.code().unwrap_or(-1)), text);
        }
        assert!(Instant::now() < until, "{mebibytes} MiB: {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn too_little_memory_ends_a_node_in_one_line_with_a_code_of_its_own() {
    let (code, text) = start_with_memory(200);
    let line = text.lines().last().unwrap_or_default();
    assert_eq!((code, line.contains("ulimit -v unlimited")), (Some(15), true), "{text}");
    // What a start takes is not known before: from some limit on it goes on.
    let mut ended = 0;
    // Which part gets no more differs with each of them; RocksDB stood still at some.
    for mebibytes in (300..=620).step_by(20).chain([370, 430, 1500]) {
        let (code, text) = start_with_memory(mebibytes);
        let line = text.lines().last().unwrap_or_default();
        let said = code == Some(15) && line.contains("it gets no more memory. Raise what limits it");
        let goes_on = code.is_none() && text.contains("ready");
        assert!(said || goes_on, "{mebibytes} MiB: {code:?} {text}");
        ended += u32::from(said);
    }
    assert!(ended > 0, "a limit that is too low for this build has to be among them");
}

#[test]
fn a_folder_in_use_or_of_another_node_is_refused() {
    let mut cluster = Cluster::start();
    let folder = cluster.folder_of(0);
    let free = |name: &str| {
        format!("{name}={}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
    };
    let start = |id: &str, cluster: &str, group: &str| {
        let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = [
            format!("brokerClusterName={cluster}"),
            format!("brokerName={group}"),
            "bindAddress=127.0.0.1".to_owned(),
            format!("dLegerSelfId={id}"),
            format!("dLegerPeers={id}-127.0.0.1:{peer}"),
            free("grpcServerPort"),
            free("listenPort"),
            format!("storePathRootDir={folder}"),
        ];
        let mut command = Command::new(BINARY);
        command.args(["broker", "-D", "logHome=none"]);
        for setting in &settings {
            command.args(["-D", setting]);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned())
    };
    let (code, line) = start("n0", "TestCluster", "Test00");
    assert_eq!((code, line.contains("in use by another process")), (Some(11), true), "{line}");
    cluster.kill(0);
    for (id, of_cluster, group) in
        [("n1", "TestCluster", "Test00"), ("n0", "OtherCluster", "Test00"), ("n0", "TestCluster", "Test01")]
    {
        let (code, line) = start(id, of_cluster, group);
        let is_told = line.contains("belongs to node n0 of group Test00 in cluster TestCluster");
        assert_eq!((code, is_told), (Some(11), true), "{line}");
    }
}

#[test]
fn a_node_whose_group_is_not_its_peers_does_not_start_and_other_members_are_said() {
    let mut cluster = Cluster::start();
    cluster.kill(0);
    let started = |cluster: &mut Cluster, setting: &str| {
        cluster.start_node_with(0, &[setting]);
        (cluster.wait_for_end(0), cluster.log_of(0).lines().last().unwrap_or_default().to_owned())
    };
    cluster.wipe(0);
    for setting in ["brokerName=Test01", "brokerClusterName=OtherCluster"] {
        let (code, line) = started(&mut cluster, setting);
        assert_eq!((code, line.contains("know this node as somebody else")), (Some(2), true), "{line}");
        cluster.wipe(0);
    }
    // The others go on. What dLegerPeers says counts at the very first start only.
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.kill(1);
    let peers = cluster.peers(&[1, 2]);
    cluster.start_node_with(1, &[&peers]);
    cluster.wait_for_leader();
    let status = Command::new(BINARY).args(["-n", &cluster.address(1), "cluster", "status"]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("dLegerPeers of the node that answered is older: it does not name n0"), "{status}");
    assert!(
        cluster.log_of(1).contains("differs from the members by now: it does not name n0"),
        "{}",
        cluster.log_of(1)
    );
}

/// An address of this host that nothing else is bound to.
const OWN_HOST: &str = "127.0.0.84";

#[test]
fn rocketmq_s_three_samples_for_one_host_start_though_all_have_the_same_grpc_port() {
    // Whoever holds it: the test, or somebody on all addresses of this host.
    let _held = std::net::TcpListener::bind((OWN_HOST, 8081));
    let ports = free_ports(OWN_HOST, 6);
    let _second_port = std::net::TcpListener::bind((OWN_HOST, ports[1] - 2)).unwrap();
    let peers: Vec<_> = (0..3).map(|node| format!("n{node}-{OWN_HOST}:{}", ports[3 + node])).collect();
    let settings = |node: usize| {
        vec![
            format!("dLegerSelfId=n{node}"),
            format!("dLegerPeers={}", peers.join(";")),
            "dLegerGroup=RaftNode00".to_owned(),
            "brokerName=RaftNode00".to_owned(),
            format!("listenPort={}", ports[node]),
            format!("bindAddress={OWN_HOST}"),
        ]
    };
    let mut nodes: Vec<Node> = (0..3).map(|node| Node::start(&settings(node))).collect();
    for node in &mut nodes {
        node.wait_for("ready");
        assert_eq!(node.log().matches("8081 is in use").count(), 1, "{}", node.log());
    }
    let lacks_second = |node: &Node| node.log().contains("listenPort - 2 is not served");
    assert_eq!([0, 1, 2].map(|node| lacks_second(&nodes[node])), [false, true, false], "{}", nodes[1].log());
    let asked = |address: &str| Command::new(BINARY).args(["-n", address, "topic", "create", "t"]).output().unwrap();
    let output = asked(&format!("{OWN_HOST}:{}", ports[1]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let status = Command::new(BINARY).args(["-n", &format!("{OWN_HOST}:{}", ports[2]), "cluster", "status"]).output();
    let status = String::from_utf8(status.unwrap().stdout).unwrap();
    for port in &ports[..3] {
        assert!(status.contains(&format!("{OWN_HOST}:{port}")), "{status}");
    }
    let chosen = [settings(0), vec!["grpcServerPort=8081".to_owned()]].concat();
    drop(nodes);
    let (code, line) = Node::refused(&chosen);
    assert_eq!((code, line.contains("8081") && line.contains("in use")), (Some(10), true), "{line}");
}

#[test]
fn members_at_ipv6_addresses_find_each_other() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // This host has no IPv6.
    }
    let ports = free_ports("::", 9);
    let peers = format!("dLegerPeers=n0-::1:{};n1-[::1]:{};n2-::1:{}", ports[0], ports[1], ports[2]);
    let mut nodes: Vec<Node> = (0..3)
        .map(|node| {
            let own = [
                ("dLegerSelfId=n", node as u16),
                ("listenPort=", ports[3 + node]),
                ("grpcServerPort=", ports[6 + node]),
            ];
            Node::start(&[own.map(|(key, value)| format!("{key}{value}")).to_vec(), vec![peers.clone()]].concat())
        })
        .collect();
    nodes.iter_mut().for_each(|node| node.wait_for("ready"));
    let address = format!("[::1]:{}", ports[3]);
    let created = Command::new(BINARY).args(["-n", &address, "topic", "create", "t"]).output().unwrap();
    assert!(created.status.success(), "{}\n{}", String::from_utf8_lossy(&created.stderr), nodes[0].log());
}

#[test]
fn a_second_process_with_the_id_of_a_running_one_is_told_both_reasons() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let others = cluster.peers(&[1, 2]);
    let ports = free_ports("127.0.0.1", 3);
    let (code, line) = Node::refused(&[
        "brokerClusterName=TestCluster".to_owned(),
        "brokerName=Test00".to_owned(),
        "bindAddress=127.0.0.1".to_owned(),
        format!("{others};n0-127.0.0.1:{}", ports[0]),
        "dLegerSelfId=n0".to_owned(),
        format!("grpcServerPort={}", ports[1]),
        format!("listenPort={}", ports[2]),
    ]);
    assert_eq!(code, Some(11), "{line}");
    for words in
        ["another process runs with this id", "dLegerSelfId", "the disk was replaced", "bring the old folder back"]
    {
        assert!(line.contains(words), "{words}: {line}");
    }
}

#[test]
fn a_hangup_ends_nothing_and_is_answered_with_a_line() {
    let ports = free_ports("127.0.0.1", 3);
    let keys = ["dLegerPeers=n0-127.0.0.1:", "grpcServerPort=", "listenPort="];
    let settings = keys.iter().zip(ports).map(|(key, port)| format!("{key}{port}"));
    let mut node = Node::start(&settings.chain(["bindAddress=127.0.0.1".to_owned()]).collect::<Vec<_>>());
    node.wait_for("ready");
    node.signal("HUP");
    node.wait_for("SIGHUP is ignored: there is nothing to reload yet");
    node.signal("TERM");
    node.wait_for("stopped");
}

#[test]
fn what_is_asked_for_and_not_given_is_refused_at_start_and_by_the_check() {
    for (setting, words) in [
        ("authenticationEnabled=true", "let only trusted hosts reach the ports"),
        ("brokerRole=SLAVE", "list all nodes in dLegerPeers"),
        ("dLegerPeers=n0-127.0.0.1:41911；n1-127.0.0.1:41912", "'；' (U+FF1B) as character 19"),
        ("dLegerPeers=n0-::1", "with IPv6 n0-[address]:port"),
    ] {
        let (code, line) = Node::refused(&[setting.to_owned()]);
        assert_eq!((code, line.contains(setting) && line.contains(words)), (Some(2), true), "{line}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), setting).unwrap();
        let output = Command::new(BINARY).args(["config", "check"]).arg(file.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.lines().count(), text.contains(words)), (Some(2), 1, true), "{text}");
    }
}
