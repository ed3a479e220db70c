//! A backup of a running cluster, and a node that starts from it: messages, offsets, leases, delays and handles are there.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use super::runtime;
use crate::fixture::calls::{ack_code, commit, drain, nothing, receive, send, take};
use crate::fixture::cluster::{BINARY, Cluster, free_ports};
use crate::fixture::messages::{delayed, delivered, half, ids, message, sorted};
use crate::fixture::node::Node;
use crate::fixture::requests::{poll, seconds};
use crate::fixture::wire::Wire;

const TOPIC: &str = "kept";
const GROUP: &str = "kept-group";

fn raftmq(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(BINARY).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// As the restore says that the node is started, beside what runs on this machine.
fn settings_of(told: &str, ports: [u16; 2]) -> Vec<String> {
    let start = told.lines().find_map(|line| line.trim().strip_prefix("start it:")).expect("it says how");
    let settings = start.split(" -D ").skip(1).map(|setting| setting.trim().to_owned());
    settings.chain(small(ports)).collect()
}

fn small([grpc, listen]: [u16; 2]) -> Vec<String> {
    let marks = ["diskReserve=4MiB", "diskSoftMark=16MiB", "diskHardMark=8MiB", "bindAddress=127.0.0.1"];
    let ports = [format!("grpcServerPort={grpc}"), format!("listenPort={listen}")];
    marks.map(str::to_owned).into_iter().chain(ports).collect()
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn p2_p7_p12_a_backup_of_a_running_cluster_starts_as_a_group_of_its_own_and_grows() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", TOPIC]);
    cluster.raftmq_ok(&["topic", "create", "later", "--type", "DELAY"]);
    cluster.raftmq_ok(&["topic", "create", "deals", "--type", "TRANSACTION"]);
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup").display().to_string();
    let store = folder.path().join("store").display().to_string();
    let runtime = runtime();
    let _entered = runtime.enter();
    // Longer than all of this takes.
    let request = v2::ReceiveMessageRequest { invisible_duration: Some(seconds(120)), ..poll(GROUP, TOPIC) };
    let wires = cluster.wires();
    // One is acked, one leased, one not yet delivered; one is open, one delayed.
    let (acked, leased, open) = runtime.block_on(async {
        for id in ["a", "b"] {
            send(&wires[0], message(TOPIC, id, id)).await;
        }
        let mut both = Vec::new();
        while both.len() < 2 {
            both.extend(receive(&wires[0], request.clone()).await.iter().map(delivered));
        }
        assert_eq!(ack_code(&wires[1], GROUP, TOPIC, &both[0].1).await, Code::Ok);
        send(&wires[0], message(TOPIC, "c", "c")).await;
        let open = send(&wires[0], half("deals", "open")).await.transaction_id;
        send(&wires[0], delayed("later", "due", 40_000)).await;
        (both[0].clone(), both[1].clone(), open)
    });

    let told = cluster.raftmq_ok(&["backup", "create", &backup]);
    assert!(told.contains("raftmq backup verify"), "{told}");
    let (code, told) = raftmq(&["backup", "verify", &backup]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = raftmq(&["-n", &cluster.endpoints(), "backup", "create", &backup]);
    assert_eq!(code, Some(6), "a backup is not overwritten: {told}");
    // What comes later is not in it.
    runtime.block_on(send(&wires[0], message(TOPIC, "d", "d")));

    let [grpc, listen, peer, next_grpc, next_listen, next_peer] =
        <[u16; 6]>::try_from(free_ports("127.0.0.1", 6)).unwrap();
    let address = format!("127.0.0.1:{peer}");
    let (code, told) = raftmq(&["backup", "restore", &backup, "--into", &store, "--address", &address]);
    assert_eq!(code, Some(0), "{told}");
    // The old group runs and does not mind.
    let mut node = Node::start(&settings_of(&told, [grpc, listen]));
    node.wait_for("ready");
    let at = format!("127.0.0.1:{grpc}");
    let restored = Wire::connect(&at, "restored").within(Duration::from_secs(15));
    wait("what is delayed waits", || raftmq(&["-n", &at, "message", "delayed", "later"]).1.contains("due"));
    runtime.block_on(async {
        // What is leased does not come; handles of before the backup are good, and what is settled stays so.
        let rest = take(std::slice::from_ref(&restored), &request, 1).await;
        assert_eq!(ids(&rest), ["c"]);
        nothing(&restored, request.clone()).await;
        assert_eq!(ack_code(&restored, GROUP, TOPIC, &leased.1).await, Code::Ok);
        assert_eq!(ack_code(&restored, GROUP, TOPIC, &acked.1).await, Code::Ok);
        nothing(&restored, poll("deals-group", "deals")).await;
        assert_eq!(commit(&restored, "deals", &open).await, Code::Ok);
        let decided = take(std::slice::from_ref(&restored), &poll("deals-group", "deals"), 1).await;
        assert_eq!(ids(&decided), ["open"]);
        send(&restored, message(TOPIC, "e", "e")).await;
    });

    // As the restore says: others are added.
    let next = format!("127.0.0.1:{next_peer}");
    let (code, told) = raftmq(&["-n", &at, "cluster", "add", "n1", "--peer", &next, "--no-wait"]);
    assert_eq!(code, Some(0), "{told}");
    let mut added: Vec<String> =
        ["brokerClusterName=TestCluster", "brokerName=Test00", "dLegerSelfId=n1"].map(str::to_owned).into();
    added.push(format!("dLegerPeers=n0-{address};n1-{next}"));
    added.extend(small([next_grpc, next_listen]));
    let mut second = Node::start(&added);
    second.wait_for("ready");
    let added_at = format!("127.0.0.1:{next_grpc}");
    let described = |at: &str| {
        let (code, told) = raftmq(&["-n", at, "-o", "json", "topic", "describe", TOPIC]);
        (code == Some(0)).then(|| serde_json::from_str::<serde_json::Value>(&told).unwrap())
    };
    wait("the added node has all", || described(&added_at).is_some_and(|it| it["topic"]["messages"] == 4));
    assert_eq!(described(&at).unwrap()["topic"]["messages"], 4, "a, b, c and e");
    wait("it votes", || {
        let (code, told) = raftmq(&["-n", &at, "-o", "json", "cluster", "members"]);
        code == Some(0) && told.contains("n1.") && told.contains("\"voter\"") && told.contains("\"pending\": null")
    });
    let due = runtime.block_on(drain(std::slice::from_ref(&restored), "later-group", "later", 1));
    assert_eq!(due[0].0, "due");
    assert!(cluster.leader().is_some(), "{}", cluster.logs());
}

#[test]
fn p2_p18_a_restored_node_at_the_address_of_a_dead_one_takes_nothing_from_the_old_group() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", TOPIC]);
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup").display().to_string();
    let store = folder.path().join("store").display().to_string();
    let runtime = runtime();
    let _entered = runtime.enter();
    runtime.block_on(send(&cluster.wire(1), message(TOPIC, "a", "a")));
    cluster.raftmq_ok(&["backup", "create", &backup]);
    runtime.block_on(send(&cluster.wire(1), message(TOPIC, "later", "later")));
    cluster.kill(0);
    let address = cluster.peer_address(0);
    let (code, told) = raftmq(&["backup", "restore", &backup, "--into", &store, "--address", &address]);
    assert_eq!(code, Some(0), "{told}");
    let ports = <[u16; 2]>::try_from(free_ports("127.0.0.1", 2)).unwrap();
    let settings = settings_of(&told, ports);
    let mut node = Node::start(&settings);
    node.wait_for("ready");

    // Each of the old ones starts again and asks; each is without a leader for longer than it waits before it asks.
    for (starting, other) in [(1, 2), (2, 1)] {
        cluster.kill(starting);
        std::thread::sleep(Duration::from_secs(4));
        assert!(cluster.is_running(other), "{}", cluster.logs());
        cluster.start_node(starting);
        cluster.wait_until_serving(starting);
        let leader = cluster.wait_for_leader();
        assert!(leader > 0, "{}", cluster.logs());
    }
    let all = |wire: Wire, group: &str, count| {
        let of_group = runtime.block_on(drain(&[wire], group, TOPIC, count));
        sorted(of_group.into_iter().map(|(id, _)| id).collect())
    };
    assert_eq!(all(cluster.wire(1), "g1", 2), ["a", "later"]);
    assert_eq!(all(cluster.wire(2), "g2", 2), ["a", "later"]);
    let restored = || Wire::connect(&format!("127.0.0.1:{}", ports[0]), "restored").within(Duration::from_secs(15));
    assert_eq!(all(restored(), "g1", 1), ["a"]);
    for node in [1, 2] {
        assert!(!cluster.log_of(node).contains("is no member of the group"), "{}", cluster.log_of(node));
        assert!(!cluster.log_of(node).contains("was removed from the group"), "{}", cluster.log_of(node));
    }
    assert!(node.log().contains("another group of this name"), "{}", node.log());

    // Started with what the configuration said of old, it goes on too.
    drop(node);
    let mut settings = settings;
    settings.push(cluster.peers(&[0, 1, 2]));
    let mut node = Node::start(&settings);
    node.wait_for("ready");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(all(restored(), "g2", 1), ["a"], "{}", node.log());
}

#[test]
fn p18_no_node_starts_where_a_restore_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(Path::new(folder.path()).join("restoring"), "").unwrap();
    let [grpc, listen, peer] = <[u16; 3]>::try_from(free_ports("127.0.0.1", 3)).unwrap();
    let (code, line) = Node::refused(&[
        format!("storePathRootDir={}", folder.path().display()),
        format!("dLegerPeers=n0-127.0.0.1:{peer}"),
        "dLegerSelfId=n0".to_owned(),
        format!("grpcServerPort={grpc}"),
        format!("listenPort={listen}"),
    ]);
    assert_eq!(code, Some(12), "{line}");
    assert!(line.contains("restore the backup into it again"), "{line}");
}
