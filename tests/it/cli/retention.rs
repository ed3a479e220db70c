//! How long messages are kept, as an operator sets and sees it.

use crate::fixture::cluster::Cluster;

#[test]
fn p2_a_topic_s_retention_is_set_shown_and_taken_back() {
    let cluster = Cluster::start();
    let kept = |topic: &str| cluster.json(&["topic", "describe", topic])["topic"]["retention_ms"].clone();
    let created = cluster.raftmq_ok(&["topic", "create", "long", "--retention", "7d"]);
    assert_eq!(created, "created topic long  type NORMAL  queues 8  perm RW  retention 7d\n");
    cluster.raftmq_ok(&["topic", "create", "plain"]);
    assert_eq!((kept("long"), kept("plain")), (604_800_000.into(), serde_json::Value::Null));

    // A change of something else leaves it, and a change of it leaves everything else.
    cluster.raftmq_ok(&["topic", "update", "long", "--queues", "9"]);
    assert_eq!(kept("long"), 604_800_000);
    let changed = cluster.raftmq_ok(&["topic", "update", "long", "--retention", "90s"]);
    assert_eq!(changed, "changed topic long  type NORMAL  queues 9  perm RW  retention 90s\n");
    assert_eq!(kept("long"), 90_000);
    let listed = cluster.json(&["topic", "list"]);
    let rows = listed["topics"].as_array().unwrap();
    let of = |row: &serde_json::Value| (row["topic"].as_str().unwrap().to_owned(), row["retention_ms"].as_u64());
    assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), [("long".into(), Some(90_000)), ("plain".into(), None)]);
    let table = cluster.raftmq_ok(&["topic", "list"]);
    let last_column: Vec<_> = table.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
    assert_eq!(last_column, ["RETENTION", "90s", "default"]);
    assert!(cluster.raftmq_ok(&["topic", "describe", "long"]).contains("  retention 90s  created "));
    let back = cluster.raftmq_ok(&["topic", "update", "long", "--retention", "default"]);
    assert_eq!(back, "changed topic long  type NORMAL  queues 9  perm RW\n");
    assert_eq!(kept("long"), serde_json::Value::Null);

    // Dead letters can be kept longer before there are any.
    cluster.raftmq_ok(&["group", "create", "g"]);
    cluster.raftmq_ok(&["topic", "update", "%DLQ%g", "--retention", "30d"]);
    assert_eq!(kept("%DLQ%g"), 2_592_000_000_u64);

    for (wrong, why) in
        [("0s", "not between 1s and"), ("7", "not a time such as"), ("2147483648h", "not between 1s and")]
    {
        let output = cluster.raftmq(&["topic", "update", "plain", "--retention", wrong]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("'{wrong}' is {why}")), "{text}");
    }
    let missing = cluster.raftmq(&["topic", "update", "nope", "--retention", "1h"]);
    assert_eq!(missing.status.code(), Some(6));
}
