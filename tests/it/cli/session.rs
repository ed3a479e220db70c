//! Commands as a user types them: the README's sessions, every kind of message, exit codes.

use std::process::Command;

use crate::fixture::cluster::{BINARY, Cluster};

#[test]
fn the_readme_s_first_session() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "demo"]);
    cluster.raftmq_ok(&["produce", "demo", "--count", "1000"]);
    let described = cluster.json(&["topic", "describe", "demo"]);
    let max: Vec<_> =
        described["queues"].as_array().unwrap().iter().map(|queue| queue["max_offset"].as_u64().unwrap()).collect();
    assert_eq!((max.len(), max.iter().sum()), (8, 1000));
    assert!(!max.contains(&0), "queues take turns: {max:?}");
    let consume = |group: &str| {
        let out = cluster.raftmq_ok(&["-o", "jsonl", "consume", "demo", "--group", group, "--max", "1000"]);
        out.lines().count()
    };
    assert_eq!(consume("g"), 1000);
    assert_eq!(consume("g"), 0);
    assert_eq!(consume("another"), 1000);
}

#[test]
fn messages_of_every_kind_are_sent_and_consumed_by_command() {
    let cluster = Cluster::start();
    for (topic, kind) in [("plain", "NORMAL"), ("later", "DELAY"), ("lines", "FIFO"), ("urgent", "PRIORITY")] {
        cluster.raftmq_ok(&["topic", "create", topic, "--type", kind, "--queues", "4"]);
    }
    let bodies = |args: &[&str]| {
        let out = cluster.raftmq_ok(&[&["-o", "jsonl", "consume"], args, &["--max", "3"]].concat());
        let body = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["body"].as_str().unwrap().to_owned()
        };
        out.lines().map(body).collect::<Vec<_>>()
    };
    for (region, body) in [("eu", "one"), ("us", "two"), ("eu", "three")] {
        let (region, length) = (format!("region={region}"), format!("length={}", body.len()));
        cluster.raftmq_ok(&["produce", "plain", body, "--property", &region, "--property", &length]);
    }
    assert_eq!(bodies(&["plain", "--group", "sql", "--sql", "region = 'eu' AND length > 3"]), ["three"]);

    // What is stored with the group holds beside what its clients subscribe to.
    cluster.raftmq_ok(&["group", "create", "eu", "--filter", "region = 'eu'"]);
    assert_eq!(bodies(&["plain", "--group", "eu", "--sql", "length = 3"]), ["one"]);
    assert!(cluster.raftmq_ok(&["group", "describe", "eu"]).contains("filter region = 'eu'\n"));
    cluster.raftmq_ok(&["group", "update", "eu", "--filter", ""]);
    cluster.raftmq_ok(&["group", "reset-offset", "eu", "plain", "--to", "earliest"]);
    let mut all = bodies(&["plain", "--group", "eu"]);
    all.sort();
    assert_eq!(all, ["one", "three", "two"]);
    let bad = cluster.raftmq(&["group", "update", "eu", "--filter", "region ="]);
    assert!(!bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("'region ='"), "{bad:?}");

    // Many messages that nobody wants, over several windows of a plan, hide none.
    cluster.raftmq_ok(&["produce", "plain", "--count", "3000", "--tag", "red"]);
    cluster.raftmq_ok(&["produce", "plain", "needle", "--tag", "blue"]);
    cluster.raftmq_ok(&["produce", "plain", "--count", "3000", "--tag", "red"]);
    assert_eq!(bodies(&["plain", "--group", "tag", "--filter", "blue"]), ["needle"]);
    let described = cluster.json(&["group", "describe", "tag"]);
    assert_eq!(described["group"]["lag"].as_u64(), Some(0), "{described}");

    cluster.raftmq_ok(&["produce", "lines", "a", "b", "c", "--message-group", "g", "--batch", "1"]);
    assert_eq!(bodies(&["lines", "--group", "lines"]), ["a", "b", "c"]);
    for priority in ["0", "2", "1"] {
        cluster.raftmq_ok(&["produce", "urgent", priority, "--priority", priority]);
    }
    assert_eq!(bodies(&["urgent", "--group", "urgent"]), ["2", "1", "0"]);

    let sent = cluster.raftmq_ok(&["-o", "jsonl", "produce", "later", "x", "--delay", "1h"]);
    let sent: serde_json::Value = serde_json::from_str(sent.lines().next().unwrap()).unwrap();
    let handle = sent["recall_handle"].as_str().unwrap();
    assert_eq!((&sent["durability"], sent["term"].as_u64() >= Some(1)), (&"synced_on_majority".into(), true), "{sent}");
    cluster.raftmq_ok(&["message", "recall", "later", handle]);
    cluster.raftmq_ok(&["produce", "later", "soon", "--delay", "1s"]);
    assert_eq!(bodies(&["later", "--group", "later"]), ["soon"]);

    let exit = |args: &[&str]| cluster.raftmq(args).status.code();
    assert_eq!(exit(&["produce", "plain", "x", "--property", "no-value"]), Some(2));
    assert_eq!(exit(&["produce", "plain", "x", "--delay", "1s", "--priority", "1"]), Some(2));
    assert_ne!(exit(&["produce", "plain", "x", "--delay", "1s"]), Some(0), "a NORMAL topic takes no delayed messages");
    assert_ne!(exit(&["consume", "plain", "--group", "bad", "--sql", "region = ", "--max", "1"]), Some(0));
    the_status_shows_votes_followers_and_days(&cluster);
    statistics_agree_with_offsets_also_after_the_leader_is_killed(cluster);
}

/// Raft as the nodes show it while nothing is wrong.
fn the_status_shows_votes_followers_and_days(cluster: &Cluster) {
    let leader = format!("n{}", cluster.wait_for_leader());
    let status = cluster.json(&["cluster", "status"]);
    assert_eq!((status["voters"].as_u64(), status["quorum"].as_u64()), (Some(3), Some(2)));
    for node in status["nodes"].as_array().unwrap() {
        let vote = &node["vote"];
        assert_eq!((&vote["term"], &vote["node"]), (&node["term"], &leader.as_str().into()), "{node}");
        assert!(vote["has_won"].as_bool() == Some(true) && node["uptime_ms"].as_u64() >= Some(1), "{node}");
        let (matching, age) = (node["match_index"].as_u64(), node["heartbeat_age_ms"].as_u64());
        if node["node"] == leader.as_str() {
            assert_eq!((matching, age), (None, None));
        } else {
            assert!(matching >= Some(1) && age.is_some_and(|age| age < 5000), "{node}");
        }
        assert!(node["in_today"].as_u64() >= Some(1) && node["counted_since_ms"].as_u64() >= Some(1), "{node}");
    }
    let wide = cluster.raftmq_ok(&["-o", "wide", "cluster", "status"]);
    assert!(wide.contains("voters 3  quorum 2\n") && wide.contains("\ntoday in "), "{wide}");
    let top = cluster.raftmq_ok(&["top", "--once"]);
    assert!(top.contains("\nTOPIC ") && top.contains("\nGROUP "), "{top}");
}

/// After a run of several kinds.
fn statistics_agree_with_offsets_also_after_the_leader_is_killed(mut cluster: Cluster) {
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("no number: {value}"));
    let asked = |cluster: &Cluster, node| {
        let args = ["-n", &cluster.address(node), "-o", "json", "topic", "stats"];
        let output = Command::new(BINARY).args(args).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let counted = |cluster: &Cluster, dead: Option<usize>| {
        let leader = format!("n{}", cluster.wait_for_leader());
        let mut all = (0..3).filter(|node| Some(*node) != dead).map(|node| {
            let mut counts = asked(cluster, node);
            // A node that has not heard of the new leader says that its own counts are not a leader's.
            for _ in 0..50 {
                if counts["counted"]["leads"].as_bool() == Some(true) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
                counts = asked(cluster, node);
            }
            assert_eq!(counts["counted"]["node"].as_str(), Some(&*leader), "{counts}");
            let keep = |list: &str, keys: &[&str]| {
                let row = |row: &serde_json::Value| keys.iter().map(|key| row[key].to_string()).collect::<Vec<_>>();
                counts[list].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
            };
            let topics = ["topic", "in_total", "in_bytes_total", "delayed", "delays_ended"];
            let groups =
                ["group", "topic", "lag", "out_total", "out_bytes_total", "redeliveries", "acked", "dead_letters"];
            (keep("topics", &topics), keep("groups", &groups), counts)
        });
        let first = all.next().unwrap();
        all.for_each(|other| assert_eq!((&other.0, &other.1), (&first.0, &first.1)));
        first
    };
    let (topics, groups, counts) = counted(&cluster, None);
    assert_eq!(topics.len(), 4, "{counts}");
    for topic in counts["topics"].as_array().unwrap() {
        let described = cluster.json(&["topic", "describe", topic["topic"].as_str().unwrap()]);
        let queued: u64 =
            described["queues"].as_array().unwrap().iter().map(|queue| number(&queue["max_offset"])).sum();
        let waiting = number(&topic["delayed"]) - number(&topic["delays_ended"]);
        // One that waited was recalled.
        assert_eq!((number(&topic["in_total"]), waiting), (queued + waiting, u64::from(topic["topic"] == "later")));
        assert_eq!(topic["in_total"], topic["in_last_day"]);
        assert_eq!(
            (&topic["in_bytes_total"], &topic["in_total"]),
            (&topic["in_bytes_last_day"], &topic["in_last_hour"])
        );
    }
    for group in counts["groups"].as_array().unwrap() {
        let name = group["group"].as_str().unwrap();
        let described = cluster.json(&["group", "describe", name]);
        assert_eq!(group["lag"], described["group"]["lag"], "{name}");
        assert_eq!(number(&group["acked"]) + number(&group["dead_letters"]), number(&group["out_total"]), "{group}");
    }
    assert!(counts["groups"].as_array().unwrap().len() >= 6, "{counts}");
    let all = cluster.raftmq_ok(&["statsAll", "--topic", "lines"]);
    assert!(all.lines().nth(2).is_some_and(|row| row.starts_with("lines  lines")), "{all}");
    assert!(cluster.raftmq_ok(&["group", "stats", "lines"]).starts_with("counted by n"));
    assert_eq!(cluster.raftmq(&["group", "stats", "nobody"]).status.code(), Some(6));
    let leader = cluster.wait_for_leader();
    cluster.kill(leader);
    let after = counted(&cluster, Some(leader));
    assert_eq!((after.0, after.1), (topics, groups), "a new leader has counted as much");
}

#[test]
fn failures_have_named_exit_codes() {
    let cluster = Cluster::start();
    let exit = |args: &[&str]| cluster.raftmq(args).status.code();
    assert_eq!(exit(&["topic", "describe", "nope"]), Some(6));
    assert_eq!(exit(&["produce", "nope", "x"]), Some(6));
    assert_eq!(exit(&["topic", "create", "t"]), Some(0));
    assert_eq!(exit(&["topic", "create", "t"]), Some(6));
    assert_eq!(exit(&["topic", "create", "a b"]), Some(2));
    assert_eq!(exit(&["topic", "nonsense"]), Some(2));
    assert_eq!(exit(&["topic", "delete", "t", "--yes"]), Some(0));
    assert_eq!(exit(&["topic", "describe", "t"]), Some(6));
    let nobody = Command::new(BINARY).args(["-n", "127.0.0.1:1", "topic", "list"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(4));
}

/// The script the README begins with, in a network of its own so that nobody's ports are in the way.
#[test]
fn the_readme_s_script_starts_kills_restarts_and_leaves_nothing() {
    let is_root = Command::new("unshare").args(["-n", "true"]).output().is_ok_and(|output| output.status.success());
    if !is_root {
        return eprintln!("SKIPPED: scripts/fast-try.sh: no network namespace can be made without root");
    }
    let folder = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let drilled = folder.path().join("drill").display().to_string();
    let steps = format!(
        "set -e; ip link set lo up; cd {root}; s=scripts/fast-try.sh; trap '$s stop >/dev/null 2>&1' EXIT
        # A quorum comes and goes with a disk that is as busy as this one.
        seen() {{ for _ in {{1..30}}; do $s status && return; sleep 1; done; return 5; }}
        $s start; $s start; seen
        {BINARY} -n 127.0.0.1:8082 drill kill-leader --start 'scripts/fast-try.sh start {{}}' --lateness 10s --gap 4s --folder {drilled}
        seen; {BINARY} topic list | grep drill && exit 9
        {BINARY} -n '127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083' topic create demo
        {BINARY} -n 127.0.0.1:30921 produce demo --count 100 -q
        $s kill leader; $s start; $s restart n1; $s kill n0; $s start n0; $s stop n2; $s start n2
        {BINARY} -n 127.0.0.1:8083 consume demo --group g --max 100 -q >/dev/null
        $s add n3; {BINARY} cluster add n5 --peer 127.0.0.1:49999 --no-wait
        $s add n4 && exit 9; [ ! -e $RAFTMQ_DATA/n4 ] || exit 9; $s replace n1 && exit 9
        {BINARY} cluster cancel; $s replace n1; $s remove n3; [ ! -e $RAFTMQ_DATA/n3 ] || exit 9; $s restart
        $s stop; $s stop; $s status && exit 9; $s kill leader && exit 9; $s clean; ls -A $RAFTMQ_DATA 2>/dev/null && exit 9; echo all done"
    );
    let output = Command::new("unshare")
        .args(["-n", "bash", "-c", &steps])
        .env("RAFTMQ_DATA", folder.path().join("data"))
        .env("RAFTMQ_BIN", BINARY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("all done\n"), "{said}\n{errors}");
    for line in [
        "leader n",
        "clients: 127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083",
        "(leader)",
        "n0 runs already",
        "verdict true",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}\n{errors}");
    }
}
