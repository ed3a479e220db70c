//! Events on three real nodes: what operators did, from where, and who began to lead (D180, D181).

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::cluster::{BINARY, Cluster};

const WITHIN: Duration = Duration::from_secs(20);

/// The events as one node knows them.
fn events(cluster: &Cluster, node: usize) -> Vec<Value> {
    let mut asking = std::process::Command::new(BINARY);
    let answer = asking.args(["-n", &cluster.address(node), "-o", "json", "cluster", "events"]).output().unwrap();
    let document: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    document["events"].as_array().cloned().unwrap_or_default()
}

/// The newest event of that kind that a node knows, once it knows one that fits.
fn newest(cluster: &Cluster, node: usize, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + WITHIN;
    loop {
        let all = events(cluster, node);
        if let Some(found) = all.iter().rev().find(|event| event["what"] == what && fits(event)) {
            return found.clone();
        }
        assert!(Instant::now() < until, "n{node} knows no such {what}: {all:#?}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn d180_acts_are_known_on_every_node_with_who_did_them_and_a_killed_leader_with_its_gap() {
    let mut cluster = Cluster::start();
    // Acts before all nodes were met are not noted.
    newest(&cluster, 0, "leader", |_| true);
    cluster.raftmq_ok(&["topic", "create", "orders", "--queues", "2"]);
    cluster.raftmq_ok(&["produce", "orders", "--count", "10", "-q"]);
    cluster.raftmq_ok(&["consume", "orders", "--group", "billing", "--max", "10", "-q"]);
    cluster.raftmq_ok(&["group", "reset-offset", "billing", "orders", "--to", "earliest"]);
    for node in 0..3 {
        let reset = newest(&cluster, node, "offset-reset", |event| event["on"] == "billing");
        assert_eq!(reset["result"], "ok", "{reset}");
        let detail = reset["detail"].as_str().unwrap();
        assert_eq!(detail, "topic orders to earliest: 10 messages back, 0 forward");
        let by = &reset["by"];
        assert_eq!(by["address"], "127.0.0.1", "{reset}");
        assert_eq!(by["tool"], concat!("raftmq/", env!("CARGO_PKG_VERSION")));
        assert!(by["node"].as_str().is_some_and(|node| node.starts_with('n')), "{reset}");
    }
    // Refused by the machine, and noted as that.
    assert!(!cluster.raftmq(&["topic", "create", "orders"]).status.success());
    newest(&cluster, 1, "topic-create", |event| event["result"] == "refused: the topic exists");

    let first = cluster.wait_for_leader();
    let next = (first + 1) % 3;
    cluster.raftmq_ok(&["cluster", "transfer-leader", &format!("n{next}")]);
    let transferred = newest(&cluster, first, "leader-transfer", |event| event["on"] == format!("n{next}"));
    assert_eq!(transferred["result"], "ok");
    // On a busy machine it may have led before, after another one.
    let planned = newest(&cluster, first, "leader", |event| {
        event["on"] == format!("n{next}") && event["leader"]["before"] == format!("n{first}")
    });

    cluster.kill(next);
    let third = cluster.wait_for_leader();
    assert_ne!(third, next);
    for node in [first, 3 - first - next] {
        let failover = newest(&cluster, node, "leader", |event| event["leader"]["before"] == format!("n{next}"));
        let change = &failover["leader"];
        assert!(change["gap_ms"].as_u64().is_some(), "{failover}");
        assert!(change["term"].as_u64() > planned["leader"]["term"].as_u64(), "{failover}");
        assert!(failover["by"].is_null(), "{failover}");
    }

    // What comes of it on a terminal, and only what is asked for.
    let table = cluster.raftmq_ok(&["cluster", "events", "--limit", "3"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("TIME"), "{table}");
    let none = cluster.json(&["cluster", "events", "--since", "2100-01-01"]);
    assert_eq!(none["events"].as_array().map(Vec::len), Some(0));
    let numbers: Vec<u64> = events(&cluster, first).iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}
