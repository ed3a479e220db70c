//! The whole folder of a node of an earlier release: opened as it is, and gone on with (`tests/formats`).

use std::process::Command;
use std::time::Duration;

use crate::fixture::cluster::Cluster;

/// It holds 20 messages in `normal`, of which `readers` have acknowledged 5, and 3 delayed ones for `later`.
#[test]
fn p18_a_node_of_the_release_before_goes_on_with_all_it_had() {
    let mut cluster = Cluster::prepare(&[]);
    let folder = cluster.folder_of(0);
    std::fs::create_dir(&folder).unwrap();
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats/node-1.tar.gz");
    assert!(Command::new("tar").args(["-xzf", archive, "-C", &folder]).status().unwrap().success());
    let own = ["brokerClusterName=Old".to_owned(), "brokerName=old".to_owned(), "dLegerGroup=old".to_owned()];
    let own: Vec<_> = own.into_iter().chain([cluster.peers(&[0])]).collect();
    let own: Vec<_> = own.iter().map(String::as_str).collect();
    cluster.start_node_with(0, &own);
    assert_eq!(cluster.wait_for_leader(), 0);

    let consumed = cluster.raftmq_ok(&["consume", "normal", "-g", "readers", "--max", "20", "-o", "jsonl"]);
    let mut places: Vec<_> =
        consumed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
    places.retain(|message| message["body"].as_str().is_some_and(|body| body.starts_with("message ")));
    let mut places: Vec<_> =
        places.iter().map(|message| (message["queue"].as_u64(), message["offset"].as_u64())).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 15, "what was acknowledged does not come again, and nothing else is missing: {consumed}");

    // They were delayed by 12 hours, so this test sees them later in their queue.
    let waiting = cluster.json(&["message", "delayed", "later"]);
    let waiting = waiting["messages"].as_array().map_or(0, Vec::len) as u64;
    let entered = cluster.json(&["topic", "describe", "later"])["topic"]["messages"].as_u64().unwrap();
    assert_eq!(waiting + entered, 3);

    // What an old state does not count is counted by now: retention works.
    std::thread::sleep(Duration::from_millis(1100));
    let trimmed = cluster.json(&["cluster", "trim", "--topic", "normal", "--before", "1s", "--yes"]);
    assert_eq!(trimmed["messages"], 20, "{trimmed}");
}
