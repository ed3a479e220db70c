//! The beginning of the log is removed on every node once nothing needs it, and not before every node has it, unless there is no
//! room: then a node that was left behind catches up by a snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raftmq::proto::admin::admin_client::AdminClient;
use raftmq::proto::admin::{StateDigestRequest, StateDigestResponse};
use raftmq::proto::v2::Code;
use tonic::transport::Channel;

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
        cluster.wait_until_serving(node);
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
    cluster.wait_until_serving(down);
    wait_until("then they go", &cluster, || is_gone(&cluster));
    // The node that was down has all of it: with another one gone it is needed, and may lead.
    cluster.kill(cluster.wait_for_leader());
    cluster.wait_for_leader();
    check(&cluster, "late", "after");
}

/// The files of the state of two nodes are damaged by a loss of power, and what was acknowledged last is in their logs only.
#[test]
fn p18_p19_two_nodes_that_lost_their_states_come_back_with_what_only_their_logs_have() {
    let mut cluster = Cluster::start();
    send_and_delete(&cluster, "gone");
    send(&cluster, "kept");
    wait_until("files go", &cluster, || (0..3).all(|node| log_bytes(&cluster, node) < LEFT_BYTES_MAX));
    let without = (cluster.wait_for_leader() + 1) % 3;
    // In good order: without a leader it could not apply again what it has in its log.
    cluster.signal(without, "TERM");
    assert_eq!(cluster.wait_for_end(without), Some(0));
    send(&cluster, "late");
    let damaged: Vec<_> = (0..3).filter(|node| *node != without).collect();
    for node in &damaged {
        cluster.kill(*node);
        std::fs::write(format!("{}/state/CURRENT", cluster.folder_of(*node)), "?").unwrap();
    }
    // They ask each other, and neither has a state.
    for node in &damaged {
        cluster.start_node(*node);
    }
    wait_until("both wait", &cluster, || {
        damaged.iter().all(|node| cluster.log_of(*node).contains("this node waits for a state"))
    });
    cluster.start_node(without);
    for node in 0..3 {
        cluster.wait_until_serving(node);
    }
    cluster.wait_for_leader();
    check(&cluster, "late", "after");
    check(&cluster, "kept", "after");
}

/// What each node says of all it has applied, as soon as all have applied the same.
async fn digests(cluster: &Cluster) -> Vec<StateDigestResponse> {
    let until = Instant::now() + GOES_WITHIN;
    let mut clients = Vec::new();
    for node in 0..3 {
        let channel = Channel::from_shared(format!("http://{}", cluster.address(node))).unwrap();
        clients.push(AdminClient::new(channel.connect().await.unwrap()));
    }
    loop {
        let mut digests = Vec::new();
        for client in &mut clients {
            digests.extend(client.state_digest(StateDigestRequest {}).await.ok().map(|answer| answer.into_inner()));
        }
        if digests.len() == 3 && digests.iter().all(|digest| digest.applied == digests[0].applied) {
            return digests;
        }
        assert!(Instant::now() < until, "{digests:?}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn p18_a_node_that_was_left_behind_catches_up_by_a_snapshot_under_load() {
    // No disk has so much.
    let mut cluster = Cluster::start_with(&["diskSoftMark=1000000GiB", "memberWaitMs=1000", "logLevel=info"]);
    let leader = cluster.wait_for_leader();
    let away = (leader + 1) % 3;
    cluster.kill(away);
    send_and_delete(&cluster, "gone");
    send(&cluster, "kept");
    let others: Vec<_> = (0..3).filter(|node| *node != away).collect();
    let is_gone = |node: &usize| {
        let removed = "entries that a member does not have yet are removed from this node's log";
        log_bytes(&cluster, *node) < LEFT_BYTES_MAX && cluster.log_of(*node).contains(removed)
    };
    wait_until("files go without it", &cluster, || others.iter().all(is_gone));
    cluster.raftmq_ok(&["topic", "create", "load"]);
    let runtime = runtime();
    let _entered = runtime.enter();
    let (stop, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = cluster
        .wires_but(away)
        .into_iter()
        .enumerate()
        .map(|(number, wire)| {
            let (stop, stopped) = (stop.clone(), stopped.clone());
            runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("m{number}-{}", stopped.fetch_add(1, Ordering::Relaxed));
                    let sent = wire.send(vec![message("load", &id, &id)]).await.unwrap();
                    assert_eq!(sent.status.unwrap().code(), Code::Ok, "{id}");
                }
            })
        })
        .collect();
    cluster.start_node(away);
    let process = cluster.process_id(away);
    wait_until("the snapshot is in use", &cluster, || {
        let log = cluster.log_of(away);
        log.contains("log and state of the snapshot are in use") && log.matches("ready").count() >= 3
    });
    wait_until("it has caught up", &cluster, || {
        let status = cluster.json(&["cluster", "status"]);
        (0..3).all(|node| status["nodes"][node]["behind"].as_u64().is_some_and(|behind| behind < 200))
    });
    stop.store(true, Ordering::Relaxed);
    for load in load {
        runtime.block_on(load).unwrap();
    }
    assert!(stopped.load(Ordering::Relaxed) > 10, "hardly any load");
    let digests = runtime.block_on(digests(&cluster));
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    assert_eq!(cluster.json(&["cluster", "status"])["nodes"][away]["process_id"].as_u64(), Some(process.into()));
    // It has the bodies too, and can do without the nodes it came from.
    cluster.kill(cluster.wait_for_leader());
    cluster.wait_for_leader();
    check(&cluster, "kept", "after");
}

/// The node that this one pulls a snapshot from, as it said last.
fn source_of(cluster: &Cluster, away: usize) -> usize {
    let log = cluster.log_of(away);
    let (_, after) = log.rsplit_once(PULLS).unwrap();
    after.trim_start_matches('n')[..1].parse().unwrap()
}

const PULLS: &str = "this node pulls a snapshot from ";

/// Waits until a node has pulled so much of a snapshot, at this pull or a later one.
fn wait_for_pull(cluster: &Cluster, away: usize, pull: usize, percent: u64) {
    wait_until(&format!("{percent} % at pull {pull}"), cluster, || {
        let node = &cluster.json(&["cluster", "status"])["nodes"][away];
        cluster.log_of(away).matches(PULLS).count() >= pull && node["snapshot_percent"].as_u64() >= Some(percent)
    });
}

#[test]
fn p18_a_pull_of_a_snapshot_survives_a_kill_of_the_puller_and_then_of_the_source() {
    let mut cluster =
        Cluster::start_with(&["diskSoftMark=1000000GiB", "memberWaitMs=1000", "logLevel=info", "snapshotRate=2MiB"]);
    let away = (cluster.wait_for_leader() + 1) % 3;
    cluster.kill(away);
    send_and_delete(&cluster, "gone");
    let others: Vec<_> = (0..3).filter(|node| *node != away).collect();
    wait_until("files go without it", &cluster, || {
        others.iter().all(|node| log_bytes(&cluster, *node) < LEFT_BYTES_MAX)
    });
    cluster.raftmq_ok(&["topic", "create", "large"]);
    cluster.raftmq_ok(&["produce", "large", "--count", "400", "--size", "61440", "--batch", "1"]);
    send(&cluster, "kept");

    cluster.start_node(away);
    wait_for_pull(&cluster, away, 1, 10);
    cluster.kill(away);
    cluster.start_node(away);
    wait_for_pull(&cluster, away, 2, 15);
    let source = source_of(&cluster, away);
    cluster.kill(source);
    let rest = (0..3).find(|node| ![source, away].contains(node)).unwrap();
    wait_until("it is complete from the third node", &cluster, || {
        cluster.log_of(away).contains(&format!("the snapshot from n{rest} is complete"))
    });
    cluster.start_node(source);
    (0..3).for_each(|node| cluster.wait_until_serving(node));
    cluster.wait_for_leader();
    let runtime = runtime();
    let digests = runtime.block_on(digests(&cluster));
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    cluster.kill(rest);
    cluster.wait_for_leader();
    check(&cluster, "kept", "after");
}
