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

#[test]
fn p2_a_trim_deletes_what_a_dry_run_says_and_asks_before() {
    let cluster = Cluster::start();
    for (topic, retention) in [("a", "default"), ("b", "default"), ("long", "7d")] {
        cluster.raftmq_ok(&["topic", "create", topic, "--retention", retention]);
        cluster.raftmq_ok(&["produce", topic, "--count", "600", "--size", "1000", "-q"]);
    }
    let queues = |topic: &str| cluster.json(&["topic", "describe", topic])["queues"].as_array().unwrap().clone();
    let sum = |topic: &str, of: &str| queues(topic).iter().map(|queue| queue[of].as_u64().unwrap()).sum::<u64>();
    let minima = || ["a", "b", "long"].map(|topic| sum(topic, "min_offset"));
    let gone = |report: &serde_json::Value| {
        let row = |row: &serde_json::Value| {
            let size = row["bytes_about"].as_u64().unwrap() / row["messages"].as_u64().unwrap();
            assert!((1000..1200).contains(&size), "{row}");
            (row["topic"].as_str().unwrap().to_owned(), row["messages"].as_u64().unwrap(), row["left_out"] == true)
        };
        report["topics"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let found = |of: [(&str, u64, bool); 3]| of.map(|(topic, count, stays)| (topic.to_owned(), count, stays)).to_vec();

    // Nothing is as old as that, and a time to come would take everything.
    let none = cluster.json(&["cluster", "trim", "--before", "1h", "--yes"]);
    assert_eq!((&none["messages"], gone(&none).len()), (&0.into(), 0));
    let ahead = cluster.raftmq(&["cluster", "trim", "--before", "99999999999999", "--yes"]);
    let text = String::from_utf8_lossy(&ahead.stderr).into_owned();
    assert!(ahead.status.code() == Some(2) && text.contains("99999999999999 is a time to come"), "{text}");

    let dry = cluster.json(&["cluster", "trim", "--before", "0s", "--dry-run"]);
    assert_eq!(gone(&dry), found([("a", 600, false), ("b", 600, false), ("long", 600, true)]));
    assert_eq!((&dry["messages"], &dry["dry_run"]), (&1200.into(), &true.into()));
    let table = cluster.raftmq_ok(&["cluster", "trim", "--before", "0s", "--dry-run"]);
    assert!(table.contains("stays: it is kept for 7d; name it with --topic"), "{table}");
    assert!(table.contains("would delete 1,200 messages, about 1."), "{table}");
    let unasked = cluster.raftmq(&["cluster", "trim", "--before", "0s"]);
    let text = String::from_utf8_lossy(&unasked.stderr).into_owned();
    assert!(unasked.status.code() == Some(2) && text.contains("nothing done without --yes"), "{text}");
    assert_eq!(minima(), [0, 0, 0], "so far nothing was deleted");

    // The remedy names the time that was counted with, so what came since stays.
    let command = text.split("raftmq cluster trim --before ").nth(1).unwrap();
    let at = command.split_whitespace().next().unwrap().to_owned();
    cluster.raftmq_ok(&["produce", "a", "--count", "80", "-q"]);
    let done = cluster.json(&["cluster", "trim", "--before", &at, "--yes"]);
    assert_eq!(gone(&done), found([("a", 600, false), ("b", 600, false), ("long", 600, true)]));
    assert_eq!((&done["messages"], &done["dry_run"]), (&1200.into(), &false.into()));
    assert_eq!(minima(), [600, 600, 0]);
    assert_eq!(sum("a", "max_offset"), 680);
    let oldest = |topic: &str| queues(topic).iter().filter_map(|queue| queue["oldest_stored_at_ms"].as_u64()).min();
    let (long_ago, at) = (oldest("long").unwrap(), at.parse().unwrap());
    assert!(long_ago < at && oldest("a").is_some_and(|new| at <= new), "{:?}", queues("a"));
    assert_eq!(oldest("b"), None, "nothing is left");
    assert!(cluster.raftmq_ok(&["topic", "describe", "long"]).lines().nth(1).unwrap().contains("  OLDEST  "));
    cluster.raftmq_ok(&["group", "create", "g", "--consume-from", "first"]);
    let bodies = cluster.raftmq_ok(&["-o", "jsonl", "consume", "a", "--group", "g", "--max", "80", "-q"]);
    assert_eq!(bodies.lines().count(), 80);

    let named = cluster.raftmq_ok(&["cluster", "trim", "--before", "0s", "--topic", "long", "--yes"]);
    assert!(named.contains("deleted 600 messages"), "{named}");
    assert_eq!(minima(), [600, 600, 600]);
    assert_eq!(
        cluster.raftmq(&["cluster", "trim", "--before", "0s", "--topic", "nope", "--yes"]).status.code(),
        Some(6)
    );

    // Every node shows what its log takes and where it begins.
    let status = cluster.json(&["cluster", "status"]);
    for node in status["nodes"].as_array().unwrap() {
        assert_eq!(node["log_first"], 1, "{node}");
        assert!(node["log_bytes"].as_u64().unwrap() > 1_800_000 && node["log_from_ms"].as_u64().unwrap() <= long_ago);
    }
    let table = cluster.raftmq_ok(&["cluster", "status"]);
    assert!(table.starts_with("cluster TestCluster  broker Test00  leader n"), "{table}");
    assert!(table.lines().all(|line| line.len() <= 120) && table.contains(" MiB "), "{table}");
}
