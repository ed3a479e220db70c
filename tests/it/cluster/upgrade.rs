//! A cluster of two builds: nodes restarted one after the other with a build that knows a command that the others do not.

use std::time::{Duration, Instant};

use crate::fixture::cluster::Cluster;

const NEW: &str = "new-command";
const APPLIED: &str = "the new command is applied";
const WITHIN: Duration = Duration::from_secs(20);
/// Long enough that a new command would come: its build tries twice a second.
const SOME_TRIES: Duration = Duration::from_millis(1500);

fn restart_as(cluster: &mut Cluster, node: usize, bug: &str) {
    cluster.signal(node, "TERM");
    assert_eq!(cluster.wait_for_end(node), Some(0), "{}", cluster.logs());
    cluster.start_node_planted(node, &[], bug);
    cluster.wait_until_serving(node);
    cluster.wait_for_leader();
}

/// Gives leadership to a node, which may have to catch up first.
fn lead(cluster: &Cluster, node: usize) {
    let until = Instant::now() + WITHIN;
    while !cluster.raftmq(&["cluster", "transfer-leader", &format!("n{node}")]).status.success() {
        assert!(Instant::now() < until, "n{node} does not lead\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn wait_for_log(cluster: &Cluster, node: usize, words: &str) {
    let until = Instant::now() + WITHIN;
    while !cluster.log_of(node).contains(words) {
        assert!(Instant::now() < until, "n{node} does not say '{words}'\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn p22_a_build_that_does_not_know_a_command_is_never_handed_it() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    restart_as(&mut cluster, 0, NEW);
    restart_as(&mut cluster, 1, NEW);
    // Whoever leads: a new build, or the old one, which would take the command from a follower.
    for leader in [0, 2] {
        lead(&cluster, leader);
        cluster.raftmq_ok(&["produce", "t", "x"]);
        std::thread::sleep(SOME_TRIES);
        for node in 0..3 {
            assert!(cluster.is_running(node), "n{node}\n{}", cluster.logs());
            assert!(!cluster.log_of(node).contains(APPLIED), "{}", cluster.logs());
        }
    }
    assert!(cluster.log_of(0).contains("the new command is not taken"), "{}", cluster.logs());

    restart_as(&mut cluster, 2, NEW);
    for node in 0..3 {
        wait_for_log(&cluster, node, APPLIED);
        assert!(cluster.is_running(node), "n{node}\n{}", cluster.logs());
    }
    // Once it is in the log, an old build has no business here, and says so.
    cluster.signal(2, "TERM");
    assert_eq!(cluster.wait_for_end(2), Some(0));
    cluster.start_node(2);
    assert_eq!(cluster.wait_for_end(2), Some(2), "{}", cluster.logs());
    assert!(cluster.log_of(2).contains("this build knows"), "{}", cluster.logs());
    let consume = ["-o", "jsonl", "consume", "t", "--group", "g", "--max", "2", "--wait", "10s"];
    assert_eq!(cluster.raftmq_ok(&consume).lines().count(), 2);
}

/// The test above notices it.
#[test]
fn p22_a_command_that_comes_too_early_ends_the_builds_that_do_not_know_it() {
    let mut cluster = Cluster::start();
    restart_as(&mut cluster, 0, "new-command-too-early");
    let until = Instant::now() + WITHIN;
    while cluster.is_running(1) || cluster.is_running(2) {
        assert!(Instant::now() < until, "they know it\n{}", cluster.logs());
        // An old leader would refuse it.
        let _ = cluster.raftmq(&["cluster", "transfer-leader", "n0"]);
        std::thread::sleep(Duration::from_millis(50));
    }
}
