//! A log that is shorter than what lives in it: old messages go on every node, delayed and half messages outlive the files
//! that they came in, and their handles go on working.

use std::time::{Duration, Instant};

use raftmq::proto::v2::Code;

use crate::fixture::calls::{commit, drain, recall, send};
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::messages::{delayed_until, half, message, now_millis};

/// Nodes look every second, and flush every ten.
const GOES_WITHIN: Duration = Duration::from_secs(60);
const SETTINGS: [&str; 4] =
    ["fileReservedTime=3s", "deleteWhen=always", "mappedFileSizeCommitLog=1MiB", "transactionTimeOut=600000"];

/// The first entry in the files of a node.
fn first_of(cluster: &Cluster, node: usize) -> u64 {
    let files = std::fs::read_dir(format!("{}/log", cluster.folder_of(node))).unwrap().map(Result::unwrap);
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).min().unwrap()
}

#[test]
fn p2_p11_p12_what_waits_outlives_the_files_it_came_in() {
    with_cluster(
        &SETTINGS,
        &[("plain", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION")],
        async |mut cluster| {
            let [a, b, c] = cluster.wires();
            let due = now_millis() + 32_000;
            let entry = send(&a, delayed_until("later", "waits", due)).await;
            let recalled = send(&b, delayed_until("later", "recalled", due)).await.recall_handle;
            let deal = send(&c, half("deals", "decided late")).await.transaction_id;
            send(&a, message("plain", "old", "b")).await;
            let last = cluster.json(&["cluster", "status"])["nodes"][0]["last_log"].as_u64().unwrap();
            // More than a segment, so that the first one is no more written to.
            cluster.raftmq_ok(&["produce", "plain", "--count", "400", "--size", "8192"]);
            let until = Instant::now() + GOES_WITHIN;
            while (0..3).any(|node| first_of(&cluster, node) <= last) {
                assert!(Instant::now() < until, "the first files are still there\n{}", cluster.logs());
                // Time passes for the log only if something happens in it.
                cluster.raftmq_ok(&["produce", "plain", "--count", "20", "--size", "8192"]);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            assert!(now_millis() < due, "too slow to show anything");
            for node in cluster.json(&["cluster", "status"])["nodes"].as_array().unwrap() {
                assert!(node["log_first"].as_u64().unwrap() > last, "{node}");
            }

            // On another leader, which has read none of it before.
            cluster.kill(cluster.wait_for_leader());
            let leader = cluster.wait_for_leader();
            let wire = cluster.wire(leader);
            assert_eq!(recall(&wire, "later", &recalled).await, (Code::Ok, "recalled".to_owned()));
            assert_eq!(commit(&wire, "deals", &deal).await, Code::Ok);
            let got = drain(std::slice::from_ref(&wire), "g", "deals", 1).await;
            assert_eq!(got[0].0, "decided late");
            let got = drain(std::slice::from_ref(&wire), "g", "later", 1).await;
            assert_eq!(got[0].0, "waits", "P3: as it was sent");
            assert!(got[0].1 >= due, "P11: early by {} ms", due - got[0].1);
            assert_eq!(recall(&wire, "later", &entry.recall_handle).await.0, Code::MessageNotFound, "it came");
        },
    );
}
