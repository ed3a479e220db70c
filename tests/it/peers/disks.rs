//! A disk that was put back to an earlier state (P1, P18): it is recognised, named, and never votes.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixture::cluster::Cluster;

/// The exit code of a folder that this node must not use.
const FOLDER_TAKEN: i32 = 11;

fn copy(from: &str, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Ends a node in order, once it follows.
fn stop(cluster: &mut Cluster, node: usize) {
    wait_until_it_follows(cluster, node);
    cluster.signal(node, "TERM");
    assert_eq!(cluster.wait_for_end(node), Some(0));
}

fn role_of(cluster: &Cluster, node: usize) -> String {
    let output = cluster.raftmq(&["-o", "json", "cluster", "status"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    let own = nodes.iter().find(|row| row["node"] == format!("n{node}")).unwrap();
    own["role"].as_str().unwrap().to_owned()
}

fn wait_until_it_follows(cluster: &Cluster, node: usize) {
    let until = Instant::now() + Duration::from_secs(20);
    while role_of(cluster, node) != "follower" {
        assert!(Instant::now() < until, "{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn p1_p18_a_rolled_back_disk_is_named_and_kept_out() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    let [third, rolled_back] = [(leader + 1) % 3, (leader + 2) % 3];
    stop(&mut cluster, rolled_back);
    let copies = tempfile::tempdir().unwrap();
    let old = copies.path().join("old");
    copy(&cluster.folder_of(rolled_back), &old);
    cluster.start_node(rolled_back);
    cluster.raftmq_ok(&["produce", "t", "--count", "300"]);
    stop(&mut cluster, rolled_back);
    let newest = copies.path().join("newest");
    copy(&cluster.folder_of(rolled_back), &newest);
    cluster.wipe(rolled_back);
    copy(old.to_str().unwrap(), Path::new(&cluster.folder_of(rolled_back)));
    cluster.start_node(rolled_back);
    let started = Instant::now();
    assert_eq!(cluster.wait_for_end(rolled_back), Some(FOLDER_TAKEN), "{}", cluster.logs());
    assert!(started.elapsed() < Duration::from_secs(10), "it is told so at its first hello");
    let own = cluster.log_of(rolled_back);
    assert!(own.contains("the data folder was rolled back"), "{own}");
    let leaders = cluster.log_of(leader);
    assert!(leaders.contains(&format!("n{rolled_back} runs on an older state of its disk")), "{leaders}");
    assert_eq!(role_of(&cluster, rolled_back), "rolled back");
    // The others go on, and without the third one there is no majority, whatever the old disk says.
    cluster.raftmq_ok(&["produce", "t", "--count", "10"]);
    cluster.kill(third);
    cluster.start_node(rolled_back);
    assert_eq!(cluster.wait_for_end(rolled_back), Some(FOLDER_TAKEN), "{}", cluster.logs());
    let until = Instant::now() + Duration::from_secs(5);
    while cluster.leader().is_some() {
        assert!(Instant::now() < until, "a majority with an old disk\n{}", cluster.logs());
    }
    // The newest folder is taken back.
    cluster.wipe(rolled_back);
    copy(newest.to_str().unwrap(), Path::new(&cluster.folder_of(rolled_back)));
    cluster.start_node(rolled_back);
    cluster.wait_for_leader();
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "310"]);
    assert_eq!(all.lines().count(), 310);
}

#[test]
fn p18_the_newest_folder_is_taken_back_also_by_a_peer_that_saw_the_old_one_only() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    let [away, node] = [(leader + 1) % 3, (leader + 2) % 3];
    stop(&mut cluster, node);
    let copies = tempfile::tempdir().unwrap();
    let [old, newest] = ["old", "newest"].map(|name| copies.path().join(name));
    copy(&cluster.folder_of(node), &old);
    // The next start is seen by the leader alone.
    cluster.kill(away);
    cluster.start_node(node);
    cluster.raftmq_ok(&["produce", "t", "--count", "30"]);
    stop(&mut cluster, node);
    copy(&cluster.folder_of(node), &newest);
    cluster.start_node(away);
    wait_until_it_follows(&cluster, away);
    cluster.wipe(node);
    copy(old.to_str().unwrap(), Path::new(&cluster.folder_of(node)));
    cluster.start_node(node);
    assert_eq!(cluster.wait_for_end(node), Some(FOLDER_TAKEN), "{}", cluster.logs());
    cluster.wipe(node);
    copy(newest.to_str().unwrap(), Path::new(&cluster.folder_of(node)));
    cluster.start_node(node);
    wait_until_it_follows(&cluster, node);
    assert!(!cluster.log_of(away).contains("runs on an older state"), "{}", cluster.log_of(away));
}

#[test]
fn p18_a_state_folder_put_back_alone_is_brought_up_from_the_log() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "50"]);
    let follower = (cluster.wait_for_leader() + 1) % 3;
    stop(&mut cluster, follower);
    let copies = tempfile::tempdir().unwrap();
    let state = format!("{}/state", cluster.folder_of(follower));
    copy(&state, &copies.path().join("state"));
    cluster.start_node(follower);
    cluster.raftmq_ok(&["produce", "t", "--count", "50"]);
    stop(&mut cluster, follower);
    std::fs::remove_dir_all(&state).unwrap();
    copy(copies.path().join("state").to_str().unwrap(), Path::new(&state));
    cluster.start_node(follower);
    wait_until_it_follows(&cluster, follower);
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "100"]);
    assert_eq!(all.lines().count(), 100);
}

/// A group of one, whose log was put back without its state.
#[test]
fn p18_a_state_ahead_of_a_log_that_was_put_back_alone_is_made_anew_of_the_log() {
    let mut cluster = Cluster::prepare(&[]);
    let only = cluster.peers(&[0]);
    let start = |cluster: &mut Cluster| {
        cluster.start_node_with(0, &[&only]);
        cluster.wait_until_serving(0);
        cluster.wait_for_leader();
    };
    let end = |cluster: &mut Cluster| {
        cluster.signal(0, "TERM");
        assert_eq!(cluster.wait_for_end(0), Some(0));
    };
    start(&mut cluster);
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "50"]);
    end(&mut cluster);
    let copies = tempfile::tempdir().unwrap();
    let log = format!("{}/log", cluster.folder_of(0));
    copy(&log, &copies.path().join("log"));
    start(&mut cluster);
    cluster.raftmq_ok(&["produce", "t", "--count", "50"]);
    end(&mut cluster);
    std::fs::remove_dir_all(&log).unwrap();
    copy(copies.path().join("log").to_str().unwrap(), Path::new(&log));
    start(&mut cluster);
    let written = cluster.log_of(0);
    assert!(written.contains("it is ahead of the log") && written.contains("starts again"), "{written}");
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "100"]);
    assert_eq!(all.lines().count(), 50, "{}", cluster.logs());
}

#[test]
fn nodes_with_different_members_say_so() {
    let mut cluster = Cluster::prepare(&[]);
    cluster.start_node(0);
    cluster.start_node(1);
    let others = cluster.peers(&[0, 1, 2]).replacen("127.0.0.1", "localhost", 1);
    cluster.start_node_with(2, &[&others]);
    cluster.wait_for_leader();
    let until = Instant::now() + Duration::from_secs(20);
    while !(0..3).any(|node| cluster.log_of(node).contains("dLegerPeers differs from this node's")) {
        assert!(Instant::now() < until, "{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}
