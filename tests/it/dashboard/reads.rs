//! What the pages read is what the commands print.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::cluster::Cluster;
use crate::fixture::http::get;

/// A document that pages read.
pub fn read(cluster: &Cluster, node: usize, path: &str) -> Value {
    let answer = get(&cluster.http_address(node), &format!("/ui/api/{path}"));
    assert_eq!(answer.code, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The same without members that only pages have.
fn without(mut document: Value, names: &[&str]) -> Value {
    for name in names {
        document.as_object_mut().unwrap().remove(*name).unwrap();
    }
    document
}

/// The same without what is another number a moment later.
fn without_rates(mut counts: Value) -> Value {
    for (rows, rate) in [("topics", "in_per_second"), ("groups", "out_per_second")] {
        let rows = counts[rows].as_array_mut().unwrap();
        rows.iter_mut().for_each(|row| drop(row.as_object_mut().unwrap().remove(rate).unwrap()));
    }
    counts
}

#[test]
fn every_node_shows_what_the_commands_print() {
    let cluster = Cluster::start();
    for (topic, kind) in [("plain", "NORMAL"), ("later", "DELAY")] {
        cluster.raftmq_ok(&["topic", "create", topic, "--type", kind, "--queues", "2"]);
    }
    cluster.raftmq_ok(&["group", "create", "g", "--retries", "1"]);
    cluster.raftmq_ok(&["produce", "plain", "--count", "40", "--key", "k-{n}"]);
    cluster.raftmq_ok(&["produce", "plain", "<img src=x onerror=alert(1)>", "--key", "odd&one", "--tag", "中"]);
    cluster.raftmq_ok(&["produce", "later", "not yet", "--delay", "1h"]);
    cluster.raftmq_ok(&["consume", "plain", "--group", "g", "--max", "10"]);
    let found = cluster.json(&["message", "find", "plain", "--key", "odd&one"]);
    let place = &found["messages"][0];
    let (queue, offset) = (place["queue"].to_string(), place["offset"].to_string());
    for node in 0..3 {
        let read = |path: &str| read(&cluster, node, path);
        let same = |path: &str, args: &[&str]| assert_eq!(read(path), cluster.json(args), "{path} of n{node}");
        same("topic?name=plain", &["topic", "describe", "plain"]);
        same("group?name=g", &["group", "describe", "g"]);
        same("members", &["cluster", "members"]);
        let counts = read("counts?topic=plain");
        assert_eq!(without_rates(counts), without_rates(cluster.json(&["topic", "stats", "plain"])), "n{node}");
        same(
            &format!("message?topic=plain&queue={queue}&offset={offset}"),
            &["message", "get", "plain", &queue, &offset],
        );
        same("delayed?topic=later", &["message", "delayed", "later"]);
        let topics = read("topics");
        assert_eq!(topics["total"], 2);
        assert_eq!(without(topics, &["total"]), cluster.json(&["topic", "list"]));
        assert_eq!(without(read("groups"), &["total"]), cluster.json(&["group", "list"]));
        let by_key = read("messages?topic=plain&key=odd%26one");
        assert_eq!((&by_key["cursor"], by_key["searched"].as_u64()), (&Value::from(""), Some(41)));
        assert_eq!(without(by_key, &["cursor", "searched"]), found);
        let trace = read(&format!("trace?topic=plain&queue={queue}&offset={offset}"));
        assert_eq!(trace["stored"], *place);
        let trace = without(trace, &["stored", "searched_to", "log_end"]);
        assert_eq!(trace, cluster.json(&["message", "trace", "plain", &queue, &offset]));
    }
}

#[test]
fn a_list_is_read_page_by_page_and_a_search_goes_on_from_where_it_stopped() {
    let cluster = Cluster::start();
    for number in 0..7 {
        cluster.raftmq_ok(&["topic", "create", &format!("t-{number}"), "--queues", "1"]);
        cluster.raftmq_ok(&["group", "create", &format!("g-{number}")]);
    }
    cluster.raftmq_ok(&["topic", "create", "other"]);
    let names = |path: &str, list: &str, key: &str| {
        let page = read(&cluster, 1, path);
        let rows = page[list].as_array().unwrap().iter();
        (rows.map(|row| row[key].as_str().unwrap().to_owned()).collect::<Vec<_>>(), page["total"].as_u64().unwrap())
    };
    let of = |wanted: &[&str], total| (wanted.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), total);
    assert_eq!(names("topics?contains=t-&skip=2&limit=3", "topics", "topic"), of(&["t-2", "t-3", "t-4"], 7));
    assert_eq!(names("topics?contains=the&limit=3", "topics", "topic"), of(&["other"], 1));
    assert_eq!(names("groups?skip=6", "groups", "group"), of(&["g-6"], 7));
    assert_eq!(names("topics?skip=100", "topics", "topic"), of(&[], 8));

    cluster.raftmq_ok(&["produce", "t-0", "--count", "25"]);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = read(&cluster, 2, &format!("messages?topic=t-0&limit=10&cursor={cursor}"));
        seen.extend(page["messages"].as_array().unwrap().iter().map(|row| row["offset"].as_u64().unwrap()));
        cursor = page["cursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..25).collect::<Vec<_>>());
    for (path, words) in [
        ("messages?topic=t-0&cursor=AAAA", "cursor"),
        ("messages?topic=t-0&cursor=%2F", "cursor"),
        ("messages?topic=t-0&from_ms=soon", "from_ms=soon"),
        ("message?topic=t-0&queue=9999999999", "queue=9999999999"),
        ("topic?name=none", "none"),
        ("counts", "one topic"),
    ] {
        let answer = get(&cluster.http_address(0), &format!("/ui/api/{path}"));
        assert!(
            (400..500).contains(&answer.code) && answer.body.contains(words),
            "{path}: {} {}",
            answer.code,
            answer.body
        );
    }
}

#[test]
fn the_overview_has_the_lag_and_the_minutes_and_clients_are_those_of_all_nodes() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "30"]);
    cluster.raftmq_ok(&["consume", "t", "--group", "g", "--max", "10"]);
    let until = Instant::now() + Duration::from_secs(20);
    for node in 0..3 {
        loop {
            let overview = read(&cluster, node, "overview");
            let lags = &overview["waiting"]["lags"];
            let minutes: u64 =
                overview["minutes"]["in"].as_array().unwrap().iter().map(|point| point[1].as_u64().unwrap()).sum();
            if lags[0]["lag"] == 20 && lags[0]["group"] == "g" && minutes == 30 && overview["topics"][0]["topic"] == "t"
            {
                break;
            }
            // What waits is found on a thread of its own.
            assert!(Instant::now() < until, "{overview}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for node in 0..3 {
            let wire = cluster.wire(node);
            wire.send(Vec::new()).await.ok();
        }
    });
    let clients = read(&cluster, 0, "clients");
    let seen = |id: &str, node: &str| {
        clients["clients"].as_array().unwrap().iter().any(|row| row["client_id"] == id && row["node"] == node)
    };
    assert!(seen("client-0", "n0") && seen("client-1", "n1") && seen("client-2", "n2"), "{clients}");
    assert_eq!(clients["unknown"], serde_json::json!([]));
}
