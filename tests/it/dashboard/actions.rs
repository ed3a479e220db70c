//! What the dashboard does: it asks first, needs its token, and the command that it shows does the same.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::reads::read;
use crate::fixture::cluster::{BINARY, Cluster};
use crate::fixture::http::{Answer, ask};

/// One request for an action.
fn post(cluster: &Cluster, node: usize, action: &str, lines: &[String], body: &str) -> Answer {
    let address = cluster.http_address(node);
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    ask(
        &address,
        &format!(
            "POST /ui/api/do/{action} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{lines}Connection: close\r\n\r\n{body}"
        ),
    )
}

/// The lines that a page of the dashboard sends along.
fn lines(cluster: &Cluster, node: usize) -> Vec<String> {
    let token = read(cluster, node, "session")["token"].as_str().unwrap().to_owned();
    vec![
        "Content-Type: application/json".to_owned(),
        format!("X-Raftmq-Token: {token}"),
        format!("Origin: http://{}", cluster.http_address(node)),
    ]
}

/// An action of a page, which must succeed.
fn act(cluster: &Cluster, node: usize, action: &str, body: &Value) -> Value {
    let answer = post(cluster, node, action, &lines(cluster, node), &body.to_string());
    assert_eq!(answer.code, 200, "{action} {body}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The same as a trial; what it says.
fn try_out(cluster: &Cluster, node: usize, action: &str, body: &Value) -> Value {
    let mut body = body.clone();
    body["dry_run"] = json!(true);
    act(cluster, node, action, &body)
}

/// A command as a shell runs it that finds this build first.
fn shell(command: &Value) -> String {
    let folder = Path::new(BINARY).parent().unwrap().display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let output = Command::new("sh").args(["-c", command.as_str().unwrap()]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fact<'a>(tried: &'a Value, name: &str) -> &'a Value {
    &tried["facts"].as_array().unwrap().iter().find(|fact| fact[0] == name).unwrap()[1]
}

#[test]
fn an_action_without_the_token_or_from_elsewhere_is_refused_and_does_nothing() {
    let cluster = Cluster::start();
    let body = json!({ "topic": "t" }).to_string();
    let good = lines(&cluster, 0);
    let without = |at: usize| {
        good.iter().enumerate().filter(|(line, _)| *line != at).map(|(_, line)| line.clone()).collect::<Vec<_>>()
    };
    let and = |mut lines: Vec<String>, line: &str| {
        lines.push(line.to_owned());
        lines
    };
    for (lines, code) in [
        (without(0), 415),
        (without(1), 403),
        (and(without(1), "X-Raftmq-Token: 00000000000000000000000000000000"), 403),
        (and(without(2), "Origin: http://evil.example"), 403),
        (and(without(2), "Origin: null"), 403),
        (and(good.clone(), "Sec-Fetch-Site: cross-site"), 403),
        (lines_of_another_node(&cluster), 403),
    ] {
        let answer = post(&cluster, 0, "topic.create", &lines, &body);
        assert_eq!(answer.code, code, "{lines:?}: {}", answer.body);
    }
    for (bad, words) in [("[]", "no JSON object"), ("{}", "'topic' is missing"), (r#"{"topic":7}"#, "is 7 and no text")]
    {
        let answer = post(&cluster, 0, "topic.create", &good, bad);
        assert_eq!((answer.code, answer.body.contains(words)), (400, true), "{bad}: {}", answer.body);
    }
    assert_eq!(post(&cluster, 0, "topic.explode", &good, &body).code, 404);
    assert_eq!(cluster.json(&["topic", "list"])["topics"], json!([]));
}

/// Its token is another one.
fn lines_of_another_node(cluster: &Cluster) -> Vec<String> {
    let mut lines = lines(cluster, 1);
    lines.pop();
    lines
}

#[test]
fn topics_and_groups_are_made_changed_and_deleted_after_a_trial_that_does_nothing() {
    let cluster = Cluster::start();
    // Acts are noted once all nodes have said that they know events; the new leader is what is noted first.
    let until = Instant::now() + Duration::from_secs(60);
    while cluster.json(&["cluster", "events"])["events"] == json!([]) {
        assert!(Instant::now() < until, "nothing is noted\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    let topic = json!({ "topic": "orders", "type": "NORMAL", "queues": 2, "retention_ms": 129_600_000 });
    let tried = try_out(&cluster, 0, "topic.create", &topic);
    assert_eq!(cluster.json(&["topic", "list"])["topics"], json!([]), "a trial does nothing");
    assert!(
        tried["command"].as_str().unwrap().ends_with("topic create orders --type NORMAL --queues 2 --retention 36h")
    );
    shell(&tried["command"]);
    assert_eq!(cluster.json(&["topic", "list"])["topics"][0]["retention_ms"], 129_600_000);
    let again = post(&cluster, 0, "topic.create", &lines(&cluster, 0), &topic.to_string());
    assert_eq!(again.code, 409, "{}", again.body);

    // By way of another node than the leader, whichever leads.
    let change = json!({ "topic": "orders", "queues": 4, "permission": 4, "retention_ms": 0 });
    let tried = try_out(&cluster, 1, "topic.update", &change);
    assert_eq!((fact(&tried, "queues"), fact(&tried, "permission")), (&json!("2 → 4"), &json!("RW → R")));
    let done = act(&cluster, 2, "topic.update", &change);
    let now = cluster.json(&["topic", "describe", "orders"]);
    assert_eq!((&done["document"]["topic"], now["topic"]["queues"].as_u64()), (&now["topic"], Some(4)));
    assert_eq!((&now["topic"]["permission"], &now["topic"]["retention_ms"]), (&json!("R"), &json!(null)));
    shell(&try_out(&cluster, 0, "topic.update", &json!({ "topic": "orders", "permission": 6 }))["command"]);

    let group = json!({ "group": "billing", "retries": 3, "filter": "region = 'eu'", "backoff": "1s,5s" });
    shell(&try_out(&cluster, 0, "group.create", &group)["command"]);
    let described = cluster.json(&["group", "describe", "billing"]);
    assert_eq!(
        (&described["group"]["filter"], &described["group"]["retries_max"]),
        (&json!("region = 'eu'"), &json!(3))
    );
    act(&cluster, 1, "group.update", &json!({ "group": "billing", "sets_filter": true, "filter": "", "retries": 5 }));
    let described = cluster.json(&["group", "describe", "billing"]);
    assert_eq!((&described["group"]["filter"], &described["group"]["retries_max"]), (&json!(""), &json!(5)));

    cluster.raftmq_ok(&["produce", "orders", "--count", "20"]);
    cluster.raftmq_ok(&["consume", "orders", "--group", "billing", "--max", "20"]);
    let to = json!({ "group": "billing", "topic": "orders", "to": "earliest" });
    let tried = try_out(&cluster, 0, "offset.reset", &to);
    assert_eq!((fact(&tried, "delivered_again"), fact(&tried, "passed_over")), (&json!(20), &json!(0)));
    let by_command = cluster.json(&["group", "reset-offset", "billing", "orders", "--to", "earliest", "--dry-run"]);
    assert_eq!(tried["document"], by_command);
    act(&cluster, 0, "offset.reset", &to);
    assert_eq!(cluster.json(&["group", "describe", "billing"])["group"]["lag"], 20);
    let at = json!({ "group": "billing", "topic": "orders", "to": "time", "value": 4_102_444_800_000_u64 });
    shell(&try_out(&cluster, 0, "offset.reset", &at)["command"]);
    assert_eq!(cluster.json(&["group", "describe", "billing"])["group"]["lag"], 0);

    let tried = try_out(&cluster, 0, "topic.delete", &json!({ "topic": "orders" }));
    assert_eq!((fact(&tried, "messages"), fact(&tried, "groups")), (&json!(20), &json!(["billing"])));
    act(&cluster, 0, "topic.delete", &json!({ "topic": "orders" }));
    shell(&try_out(&cluster, 0, "group.delete", &json!({ "group": "billing" }))["command"]);
    assert_eq!(cluster.json(&["group", "list"])["groups"], json!([]));
    assert_eq!(cluster.json(&["topic", "list"])["topics"], json!([]));
    assert!(cluster.log_of(0).contains("done from the dashboard"));

    // Whoever did it, by page or by command, it is noted once, and every node shows the same.
    let noted = cluster.json(&["cluster", "events"]);
    let newest_last = noted["events"].as_array().unwrap();
    let mut newest_first = newest_last.clone();
    newest_first.reverse();
    for node in 0..3 {
        assert_eq!(read(&cluster, node, "events?limit=200")["events"], Value::from(newest_first.clone()), "n{node}");
    }
    let by = |event: &Value| (event["what"].clone(), event["by"]["tool"].as_str().unwrap_or_default().to_owned());
    let acts: Vec<(Value, String)> = newest_last.iter().map(by).filter(|(what, _)| what != "leader").collect();
    let version = env!("CARGO_PKG_VERSION");
    let (page, command) = (format!("dashboard/{version}"), format!("raftmq/{version}"));
    let wanted = [
        ("topic-create", &command),
        ("topic-create", &page),
        ("topic-update", &page),
        ("topic-update", &command),
        ("group-create", &command),
        ("group-update", &page),
        ("offset-reset", &page),
        ("offset-reset", &command),
        ("topic-delete", &page),
        ("group-delete", &command),
    ];
    assert_eq!(acts, wanted.map(|(what, tool)| (json!(what), tool.clone())), "{noted}");
}

#[test]
fn what_waits_is_moved_and_recalled_and_leadership_is_transferred() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "later", "--type", "DELAY"]);
    cluster.raftmq_ok(&["produce", "later", "one", "--delay", "1h"]);
    let handle = || cluster.json(&["message", "delayed", "later"])["messages"][0]["recall_handle"].clone();
    let to_ms = 4_102_444_800_000_u64;
    let request = json!({ "topic": "later", "handle": handle(), "to_ms": to_ms });
    let tried = try_out(&cluster, 0, "delayed.move", &request);
    assert_eq!(fact(&tried, "to_ms"), &json!(to_ms));
    let soon =
        cluster.json(&["message", "delayed", "later"])["messages"][0]["delivery_at_ms"].as_u64().unwrap() + 60_000;
    act(&cluster, 1, "delayed.move", &json!({ "topic": "later", "handle": handle(), "to_ms": soon }));
    assert_eq!(cluster.json(&["message", "delayed", "later"])["messages"][0]["delivery_at_ms"], soon);
    let wrong = post(
        &cluster,
        0,
        "delayed.recall",
        &lines(&cluster, 0),
        &json!({ "topic": "later", "handle": "x" }).to_string(),
    );
    assert_eq!(wrong.code, 400, "{}", wrong.body);
    shell(&try_out(&cluster, 2, "delayed.recall", &json!({ "topic": "later", "handle": handle() }))["command"]);
    assert_eq!(cluster.json(&["message", "delayed", "later"])["messages"], json!([]));

    let leader = cluster.leader().unwrap();
    let next = format!("n{}", (leader + 1) % 3);
    let tried = try_out(&cluster, leader, "leader.transfer", &json!({ "node": next }));
    assert_eq!((fact(&tried, "from"), fact(&tried, "to")), (&json!(format!("n{leader}")), &json!(next)));
    assert_eq!(cluster.leader(), Some(leader));
    act(&cluster, leader, "leader.transfer", &json!({ "node": next }));
    assert_eq!(cluster.wait_for_leader(), (leader + 1) % 3);
    let none = post(&cluster, 0, "leader.transfer", &lines(&cluster, 0), &json!({ "node": "n9" }).to_string());
    assert_eq!((none.code, none.body.contains("'n9' is no node")), (400, true), "{}", none.body);
}
