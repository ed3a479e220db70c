//! The beginning of the log is removed on every node once nothing needs it, and not before every node has it.

use std::time::{Duration, Instant};

use raftmq::proto::v2::Code;

use super::runtime;
use crate::fixture::cluster::Cluster;
use crate::fixture::messages::message;

/// Nodes look every other second and flush every ten.
const GOES_WITHIN: Duration = Duration::from_secs(60);
/// What [`send_and_delete`] adds to a log, and what may be left of it: references are counted for 64 entries together.
const SENT_BYTES: u64 = 600 * 60 * 1024;
const LEFT_BYTES_MAX: u64 = SENT_BYTES / 2;

/// Bytes of the segments of a node.
fn log_bytes(cluster: &Cluster, node: usize) -> u64 {
    let files = std::fs::read_dir(format!("{}/log", cluster.folder_of(node))).unwrap().map(Result::unwrap);
    let segments = files.filter(|file| file.file_name().to_string_lossy().ends_with(".seg"));
    segments.map(|file| file.metadata().map_or(0, |file| file.len())).sum()
}

fn wait_until(what: &str, cluster: &Cluster, is_so: impl Fn() -> bool) {
    let until = Instant::now() + GOES_WITHIN;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not in {GOES_WITHIN:?}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Sends to a new topic, in many entries, and deletes the topic.
fn send_and_delete(cluster: &Cluster, topic: &str) {
    cluster.raftmq_ok(&["topic", "create", topic]);
    cluster.raftmq_ok(&["produce", topic, "--count", "600", "--size", "61440", "--batch", "1"]);
    cluster.raftmq_ok(&["topic", "delete", topic, "--yes"]);
}

/// Sends twenty messages to a new topic.
fn send(cluster: &Cluster, topic: &str) {
    cluster.raftmq_ok(&["topic", "create", topic]);
    cluster.raftmq_ok(&["produce", topic, "--count", "20"]);
}

fn check(cluster: &Cluster, topic: &str, group: &str) {
    let kept = cluster.raftmq_ok(&["-o", "jsonl", "consume", topic, "--group", group, "--max", "100"]);
    assert_eq!(kept.lines().count(), 20, "{topic} {group}\n{}", cluster.logs());
}

#[test]
fn p18_the_log_is_removed_behind_what_is_needed_and_nodes_start_again_and_catch_up_from_the_rest() {
    let mut cluster = Cluster::start();
    send_and_delete(&cluster, "gone");
    send(&cluster, "kept");
    let is_gone = |cluster: &Cluster| (0..3).all(|node| log_bytes(cluster, node) < LEFT_BYTES_MAX);
    wait_until("files go on every node", &cluster, || is_gone(&cluster));
    check(&cluster, "kept", "before");
    for node in 0..3 {
        cluster.kill(node);
        cluster.start_node(node);
        cluster.wait_for_port(node);
        cluster.wait_for_leader();
        check(&cluster, "kept", &format!("restarted-{node}"));
    }

    cluster.raftmq_ok(&["topic", "delete", "kept", "--yes"]);
    let leader = cluster.wait_for_leader();
    let down = (leader + 1) % 3;
    cluster.kill(down);
    send_and_delete(&cluster, "gone-too");
    send(&cluster, "late");
    // Longer than it takes if all nodes are there.
    std::thread::sleep(Duration::from_secs(14));
    for node in (0..3).filter(|node| *node != down) {
        let bytes = log_bytes(&cluster, node);
        assert!(bytes > SENT_BYTES, "n{node} has {bytes} bytes and removed what n{down} lacks\n{}", cluster.logs());
    }
    cluster.start_node(down);
    cluster.wait_for_port(down);
    wait_until("then they go", &cluster, || is_gone(&cluster));
    // The node that was down has all of it: with another one gone it is needed, and may lead.
    cluster.kill(cluster.wait_for_leader());
    cluster.wait_for_leader();
    check(&cluster, "late", "after");
}

#[test]
fn a_node_that_stays_away_is_left_behind_when_room_is_short_and_that_is_said() {
    // No disk has so much.
    let mut cluster = Cluster::start_with(&["diskSoftMark=1000000GiB"]);
    send_and_delete(&cluster, "first");
    wait_until("files go on every node", &cluster, || (0..3).all(|node| log_bytes(&cluster, node) < LEFT_BYTES_MAX));
    cluster.raftmq_ok(&["topic", "create", "late"]);
    let leader = cluster.wait_for_leader();
    let away = (leader + 1) % 3;
    cluster.kill(away);
    send_and_delete(&cluster, "second");
    let others: Vec<_> = (0..3).filter(|node| *node != away).collect();
    let is_gone = |node: &usize| {
        let removed = "entries that a member does not have yet are removed from this node's log";
        log_bytes(&cluster, *node) < LEFT_BYTES_MAX && cluster.log_of(*node).contains(removed)
    };
    wait_until("files go without it", &cluster, || others.iter().all(is_gone));
    cluster.start_node(away);
    cluster.wait_for_port(away);
    wait_until("its leader says so", &cluster, || {
        others.iter().any(|node| cluster.log_of(*node).contains("behind the start of the leader's log"))
    });
    // Nobody ends, and the others serve.
    let runtime = runtime();
    let _entered = runtime.enter();
    for (number, wire) in cluster.wires_but(away).into_iter().enumerate() {
        let id = format!("m{number}");
        let sent = runtime.block_on(wire.send(vec![message("late", &id, &id)])).unwrap();
        assert_eq!(sent.status.unwrap().code(), Code::Ok, "{}", cluster.logs());
    }
    assert!((0..3).all(|node| cluster.is_running(node)), "{}", cluster.logs());
    let status = cluster.json(&["cluster", "status"]);
    let behind = |node: usize| status["nodes"][node]["behind"].as_u64();
    assert!(behind(away) > Some(0) && others.iter().all(|node| behind(*node) == Some(0)), "{status}");
}
