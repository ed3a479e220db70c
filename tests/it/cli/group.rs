//! Groups as an operator sees and changes them.

use std::process::Command;

use raftmq::proto::v2::retry_policy::Strategy;

use crate::fixture::calls::{drain, send};
use crate::fixture::cluster::{BINARY, with_cluster};
use crate::fixture::messages::{message, tagged};
use crate::fixture::telemetry::consumer;

#[test]
fn a_group_is_described_from_any_node_changed_and_deleted() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let [a, b, _] = cluster.wires();
        send(&a, message("t", "before", "body")).await;
        cluster.raftmq_ok(&["group", "create", "g", "--consume-from", "last", "--backoff", "2s,7s"]);
        let (settings, _one) = consumer(&a, "g", "t", "x || y").await;
        let policy = settings.backoff_policy.unwrap();
        let Some(Strategy::CustomizedBackoff(list)) = policy.strategy else { panic!("{policy:?}") };
        assert_eq!(list.next.iter().map(|step| step.seconds).collect::<Vec<_>>(), [2, 7]);
        let (_, _other) = consumer(&b, "g", "t", "z").await;

        // The third node has no client of its own.
        let third = cluster.address(2);
        let describe = || -> serde_json::Value {
            let mut asking = Command::new(BINARY);
            let answer = asking.args(["-n", &third, "-o", "json", "group", "describe", "g"]).output().unwrap();
            serde_json::from_slice(&answer.stdout).unwrap()
        };
        let members = |described: &serde_json::Value| -> Vec<_> {
            described["members"].as_array().unwrap().iter().map(|member| member["client_id"].clone()).collect()
        };
        // A node that takes more than half a second is left out.
        let mut described = describe();
        for _ in 0..20 {
            if members(&described).len() == 2 {
                break;
            }
            described = describe();
        }
        assert_eq!(members(&described), ["client-0", "client-1"]);
        let odd = described["inconsistencies"][0].as_str().unwrap();
        assert!(odd.contains("tags x || y (client-0) against tags z (client-1)"), "{odd}");
        let group = &described["group"];
        assert_eq!((&group["lag"], &group["oldest_unsettled_at_ms"]), (&0.into(), &serde_json::Value::Null));

        send(&b, tagged("t", "after", "x")).await;
        let group = cluster.json(&["group", "describe", "g"])["group"].clone();
        assert_eq!(group["lag"], 1);
        assert!(group["oldest_unsettled_at_ms"].as_u64().unwrap() > 0);
        assert_eq!(drain(std::slice::from_ref(&a), "g", "t", 1).await[0].0, "after", "it began at the end");

        cluster.raftmq_ok(&["group", "update", "g", "--retries", "1", "--backoff", "default"]);
        let (settings, _again) = consumer(&b, "g", "t", "z").await;
        let policy = settings.backoff_policy.unwrap();
        let Some(Strategy::CustomizedBackoff(list)) = policy.strategy else { panic!("{policy:?}") };
        assert_eq!((policy.max_attempts, list.next.len()), (2, 18));

        cluster.raftmq_ok(&["group", "delete", "g", "--yes"]);
        assert!(!cluster.raftmq(&["group", "describe", "g"]).status.success());
        // Under its name there is another one now, with nothing behind it.
        assert_eq!(drain(std::slice::from_ref(&b), "g", "t", 2).await.len(), 2);
    });
}
