//! What is on the disks after all nodes died, after one disk was wiped, and where nobody waits for them.

use std::time::{Duration, Instant};

use raftmq::proto::v2::Code;

use crate::fixture::cluster::Cluster;
use crate::fixture::messages::message;

#[test]
fn p18_everything_is_there_after_all_nodes_were_killed_at_once() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "200"]);
    cluster.raftmq_ok(&["consume", "t", "--group", "g", "--max", "80"]);
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.start_node(node);
    }
    cluster.wait_for_leader();
    let rest = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "200"]);
    assert_eq!(rest.lines().count(), 120, "P7: acks are kept");
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "other", "--max", "200"]);
    assert_eq!(all.lines().count(), 200);
}

#[test]
fn d18_a_node_whose_disk_was_wiped_takes_no_part_under_its_old_id() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    let [lagging, wiped] = [(leader + 1) % 3, (leader + 2) % 3];
    // What follows is acknowledged by the leader and the node that is wiped afterwards.
    cluster.kill(lagging);
    cluster.raftmq_ok(&["produce", "t", "--count", "50"]);
    cluster.kill(leader);
    cluster.kill(wiped);
    cluster.wipe(wiped);
    // Nobody is there to tell the wiped node at its start; it hears it when a peer is back.
    cluster.start_node(wiped);
    std::thread::sleep(Duration::from_secs(1));
    cluster.start_node(lagging);
    assert_eq!(cluster.wait_for_end(wiped), Some(11), "{}", cluster.logs());
    assert!(cluster.log_of(wiped).contains("knows another data folder"), "{}", cluster.log_of(wiped));
    // With a peer up it is told so at once. Neither way do the two make a majority.
    cluster.start_node(wiped);
    assert_eq!(cluster.wait_for_end(wiped), Some(11), "{}", cluster.logs());
    assert_eq!(cluster.leader(), None, "P1: a majority without the acknowledged messages\n{}", cluster.logs());
    cluster.start_node(leader);
    cluster.wait_for_leader();
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "100"]);
    assert_eq!(all.lines().count(), 50);
}

#[test]
fn async_flush_serves_and_says_so() {
    let mut cluster = Cluster::start_with(&["flushDiskType=ASYNC_FLUSH"]);
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let sent = cluster.json(&["produce", "t", "--count", "100"]);
    assert_eq!((&sent["sent"], &sent["durability"]), (&100.into(), &"page_cache_on_majority".into()), "{sent}");
    let leader = cluster.wait_for_leader();
    cluster.kill(leader);
    cluster.wait_for_leader();
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "100"]);
    assert_eq!(all.lines().count(), 100);
    cluster.start_node(leader);
    cluster.wait_for_leader();
    assert!(cluster.log_of(leader).contains("flushDiskType=ASYNC_FLUSH: an OK means"), "it is announced");
}

#[test]
fn p21_a_leader_with_a_slow_disk_hands_leadership_on() {
    let cluster = Cluster::start_with(&["simulatePowerLoss=true"]);
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let slow = cluster.wait_for_leader();
    let file = format!("{}/slow-sync-ms", cluster.folder_of(slow));
    std::fs::write(&file, "4000").unwrap();
    let runtime = super::runtime();
    let _entered = runtime.enter();
    let until = Instant::now() + Duration::from_secs(20);
    let next = loop {
        // Its outcome may be unknown: it is there so that something waits for the disk.
        let wire = cluster.wire(slow).within(Duration::from_secs(1));
        let _ = runtime.block_on(wire.send(vec![message("t", "waits", "x")]));
        match cluster.leader() {
            Some(leader) if leader != slow => break leader,
            _ => assert!(Instant::now() < until, "{}", cluster.logs()),
        }
    };
    let wire = cluster.wire(next).within(Duration::from_secs(3));
    let sent = runtime.block_on(wire.send(vec![message("t", "goes", "x")])).unwrap();
    assert_eq!(sent.status.unwrap().code(), Code::Ok, "the slow disk holds up nobody");
    assert!(cluster.log_of(slow).contains("this node's disk is slower"), "{}", cluster.logs());
    let state = || cluster.json(&["cluster", "status"])["nodes"][slow]["state"].clone();
    let until = Instant::now() + Duration::from_secs(10);
    while state() != "slow disk" {
        assert!(Instant::now() < until, "it is shown: {}", state());
        std::thread::sleep(Duration::from_millis(100));
    }
    std::fs::remove_file(file).unwrap();
}
