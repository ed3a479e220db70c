//! Members that come, go and are replaced while the cluster is used (P2, P18): nothing is lost, and what would lose the
//! majority is refused.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raftmq::proto::v2::Code;

use crate::fixture::cluster::{BINARY, Cluster};
use crate::fixture::messages::message;
use crate::fixture::wire::Wire;

const WITHIN: Duration = Duration::from_secs(30);

/// Sends one message after the other, to whoever takes them.
struct Load {
    thread: Option<JoinHandle<()>>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    is_over: Arc<AtomicBool>,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        let (acknowledged, is_over) = (Arc::<Mutex<BTreeSet<String>>>::default(), Arc::<AtomicBool>::default());
        let (noted, over, addresses) =
            (acknowledged.clone(), is_over.clone(), [0, 1, 2].map(|node| cluster.address(node)));
        let thread = std::thread::spawn(move || {
            super::runtime().block_on(async {
                let wires = addresses.map(|address| Wire::connect(&address, "load"));
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("m{number}");
                    let sent = wires[number % 3].send(vec![message("t", &id, &id)]).await;
                    // What failed may have arrived all the same.
                    if sent.is_ok_and(|answer| answer.status.is_some_and(|status| status.code() == Code::Ok)) {
                        noted.lock().unwrap().insert(id);
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Self { thread: Some(thread), acknowledged, is_over }
    }

    fn stop(mut self) -> BTreeSet<String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.acknowledged.lock().unwrap().clone()
    }

    /// Waits until more are acknowledged.
    fn goes_on(&self, cluster: &Cluster) {
        let count = || self.acknowledged.lock().unwrap().len();
        let before = count();
        wait("messages are acknowledged", cluster, || count() >= before + 10);
    }
}

fn wait(what: &str, cluster: &Cluster, is_so: impl Fn() -> bool) {
    let until = Instant::now() + WITHIN;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not in {WITHIN:?}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn failure(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.raftmq(args);
    assert!(!output.status.success(), "{args:?} is done");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Names, replicas and roles, `n2 n2.5 voter`; a leader is a voter.
fn members(cluster: &Cluster) -> Vec<String> {
    let members = cluster.json(&["cluster", "members"]);
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    let row = |row: &serde_json::Value| {
        let role = text(row, "role");
        format!("{} {} {}", text(row, "name"), text(row, "id"), if role == "leader" { "voter" } else { &role })
    };
    members["members"].as_array().unwrap().iter().map(row).collect()
}

fn wait_until_settled(cluster: &Cluster, expected: &[&str]) {
    wait(&format!("the members are {expected:?}"), cluster, || {
        let output = cluster.raftmq(&["-o", "json", "cluster", "members"]);
        output.status.success() && {
            let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            listed["pending"].is_null() && members(cluster) == expected
        }
    });
}

#[test]
fn p2_p18_a_group_grows_from_one_node_and_members_are_replaced_and_removed_under_load() {
    let mut cluster = Cluster::prepare(&[]);
    let only = cluster.peers(&[0]);
    cluster.start_node_with(0, &[&only]);
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let load = Load::start(&cluster);
    let [first, second, third] = [0, 1, 2].map(|node| cluster.peer_address(node));

    // A node that nobody asked for waits and says so.
    let two = cluster.peers(&[0, 1]);
    cluster.start_node_with(1, &[&two]);
    let hint = format!("raftmq cluster add n1 --peer {second}");
    wait("it says what to do", &cluster, || cluster.log_of(1).contains(&hint));
    assert_eq!(members(&cluster), ["n0 n0 voter"]);
    let taken = failure(&cluster, &["cluster", "add", "n1", "--peer", &first]);
    assert!(taken.contains("is the address of n0"), "{taken}");
    cluster.raftmq_ok(&["cluster", "add", "n1", "--peer", &second]);
    assert_eq!(members(&cluster), ["n0 n0 voter", "n1 n1.1 voter"]);
    cluster.raftmq_ok(&["cluster", "add", "n1", "--peer", &second]);

    // The other way round: first the command, then the node. Meanwhile nothing else is begun.
    cluster.raftmq_ok(&["cluster", "add", "n2", "--peer", &third, "--no-wait"]);
    let busy = failure(&cluster, &["cluster", "remove", "n1", "--yes"]);
    assert!(busy.contains("another change of members is under way: add n2"), "{busy}");
    cluster.start_node(2);
    wait_until_settled(&cluster, &["n0 n0 voter", "n1 n1.1 voter", "n2 n2.2 voter"]);
    load.goes_on(&cluster);

    // A disk that is lost: the node is kept out until an operator has it replaced.
    cluster.kill(2);
    cluster.wipe(2);
    cluster.start_node(2);
    assert_eq!(cluster.wait_for_end(2), Some(11), "{}", cluster.logs());
    assert!(cluster.log_of(2).contains("raftmq cluster replace n2"), "{}", cluster.log_of(2));
    let refused = failure(&cluster, &["cluster", "remove", "n1", "--yes"]);
    assert!(refused.contains("start n2 again, or remove or replace n2 first"), "{refused}");
    let unasked = failure(&cluster, &["cluster", "replace", "n2"]);
    assert!(unasked.contains("nothing done without --yes"), "{unasked}");
    cluster.raftmq_ok(&["cluster", "replace", "n2", "--yes", "--no-wait"]);
    cluster.start_node(2);
    wait_until_settled(&cluster, &["n0 n0 voter", "n1 n1.1 voter", "n2 n2.3 voter"]);

    // One that works gives its folder up by itself, the leader too.
    let leader = cluster.wait_for_leader();
    cluster.raftmq_ok(&["cluster", "replace", &format!("n{leader}"), "--yes"]);
    assert!(cluster.log_of(leader).contains("what is in its folder is dropped"), "{}", cluster.log_of(leader));
    load.goes_on(&cluster);
    cluster.raftmq_ok(&["cluster", "remove", "n0", "--yes"]);
    wait("n0 says that it was removed", &cluster, || cluster.log_of(0).contains("n0 was removed from the group"));
    assert!(cluster.is_running(0), "it waits, should it be wanted again");
    load.goes_on(&cluster);
    let acknowledged = load.stop();
    let rows = members(&cluster);
    assert_eq!(rows.len(), 2, "{rows:?}");

    // What was acknowledged is on each that is left, and on the first one once it is taken back.
    cluster.raftmq_ok(&["cluster", "add", "n0", "--peer", &first]);
    let stored = cluster.json(&["topic", "describe", "t"])["topic"]["messages"].to_string();
    for node in 0..3 {
        let (at, group) = (cluster.address(node), format!("g{node}"));
        let arguments = ["-n", &at, "-o", "jsonl", "consume", "t", "--group", &group, "--max", &stored];
        let all = Command::new(BINARY).args(arguments).output().unwrap();
        let id =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        let received: BTreeSet<String> = String::from_utf8(all.stdout).unwrap().lines().map(id).collect();
        let lost: Vec<_> = acknowledged.difference(&received).collect();
        assert!(lost.is_empty() && !acknowledged.is_empty(), "n{node} lacks {lost:?}\n{}", cluster.logs());
    }

    // A folder without anything, and a configuration as old as the group: no second group comes of that.
    cluster.kill(0);
    cluster.wipe(0);
    cluster.start_node_with(0, &[&only]);
    wait("n0 says why it founds nothing", &cluster, || cluster.log_of(0).contains("no other one is founded"));
}
