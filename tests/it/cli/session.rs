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
    cluster.raftmq_ok(&["message", "recall", "later", handle]);
    cluster.raftmq_ok(&["produce", "later", "soon", "--delay", "1s"]);
    assert_eq!(bodies(&["later", "--group", "later"]), ["soon"]);

    let exit = |args: &[&str]| cluster.raftmq(args).status.code();
    assert_eq!(exit(&["produce", "plain", "x", "--property", "no-value"]), Some(2));
    assert_eq!(exit(&["produce", "plain", "x", "--delay", "1s", "--priority", "1"]), Some(2));
    assert_ne!(exit(&["produce", "plain", "x", "--delay", "1s"]), Some(0), "a NORMAL topic takes no delayed messages");
    assert_ne!(exit(&["consume", "plain", "--group", "bad", "--sql", "region = ", "--max", "1"]), Some(0));
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
        $s start; $s start; $s status
        {BINARY} -n 127.0.0.1:8082 drill kill-leader --start 'scripts/fast-try.sh start {{}}' --lateness 10s --gap 4s --folder {drilled}
        $s status; {BINARY} topic list | grep drill && exit 9
        {BINARY} -n '127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083' topic create demo
        {BINARY} -n 127.0.0.1:30921 produce demo --count 100 -q
        $s kill leader; $s kill leader && exit 9; $s start; $s restart n1; $s kill n0; $s start n0; $s stop n2; $s start n2
        {BINARY} -n 127.0.0.1:8083 consume demo --group g --max 100 -q >/dev/null
        $s stop; $s stop; $s status && exit 9; $s clean; ls -A $RAFTMQ_DATA 2>/dev/null && exit 9; echo all done"
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
