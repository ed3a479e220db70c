//! Debian's real Prometheus scrapes three nodes: the board and the rules of `conf/` work, and alerts fire and clear.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;
use serde_json::Value;

use super::names;
use crate::fixture::calls::{ack, code, commit, end, forward, receive, send};
use crate::fixture::cluster::{Cluster, free_ports, with_cluster};
use crate::fixture::http::get;
use crate::fixture::messages::{delayed, delivered, half, message};
use crate::fixture::requests::poll;
use crate::fixture::telemetry::{consumer, producer};

const WAIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

/// A running Prometheus; it ends with its value.
struct Prometheus {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

fn conf(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(path)
}

/// A text with each of these replaced, and all of them found.
fn with(mut text: String, replaced: &[(String, String)]) -> String {
    for (from, to) in replaced {
        assert!(text.contains(from), "{from} is not in\n{text}");
        text = text.replace(from, to);
    }
    text
}

/// Rules that do not wait: every `for: 30s`, `2m` and so on becomes a second.
fn at_once(rules: &str) -> String {
    let line = |line: &str| {
        if line.trim_start().starts_with("for: ") { "        for: 1s".to_owned() } else { line.to_owned() }
    };
    rules.lines().map(line).map(|line| line + "\n").collect()
}

impl Prometheus {
    /// With the repository's configuration, but for the nodes' addresses and all times.
    fn start(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut replaced = vec![(": 15s".to_owned(), ": 500ms".to_owned())];
        for (node, port) in [5557, 5567, 5577].iter().enumerate() {
            replaced.push((format!("127.0.0.1:{port}"), cluster.http_address(node)));
        }
        let config = with(std::fs::read_to_string(conf("prometheus/prometheus.yml")).unwrap(), &replaced);
        // Its comment names no ports.
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let rules = at_once(&std::fs::read_to_string(conf("prometheus/rules.yml")).unwrap());
        std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
        let address = format!("127.0.0.1:{}", free_ports("127.0.0.1", 1)[0]);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is missing: run scripts/setup.sh --tests");
        Self { child, address, folder }
    }

    /// What an expression gives.
    fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(&self.address, &format!("/api/v1/query?query={encoded}"));
        let json: Value = serde_json::from_str(&body(&answer.body)).unwrap_or_default();
        assert_eq!(json["status"], "success", "{expression}: {} {}", answer.code, answer.body);
        json["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// The names of the alerts that fire.
    fn firing(&self) -> Vec<String> {
        let json: Value = serde_json::from_str(&body(&get(&self.address, "/api/v1/alerts").body)).unwrap_or_default();
        let alerts = json["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let fires = alerts.iter().filter(|alert| alert["state"] == "firing");
        fires.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect()
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + WAIT;
        while !is_so(self) {
            if Instant::now() >= until {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
                panic!("not in {WAIT:?}: {what}; firing: {:?}\n{log}", self.firing());
            }
            std::thread::sleep(STEP);
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The JSON in an answer that may be sent in chunks.
fn body(text: &str) -> String {
    match (text.find('{'), text.rfind('}')) {
        (Some(first), Some(last)) => {
            let json = &text[first..=last];
            // Lengths of chunks stand on lines of their own; JSON of Prometheus has none.
            json.split("\r\n").step_by(2).collect()
        }
        _ => String::new(),
    }
}

/// Checks with Prometheus' own tool. That RocketMQ counts in milliseconds is nothing we can change.
fn promtool(args: &[&str], input: &str) {
    let piped = Stdio::piped;
    let mut child = Command::new("promtool").args(args).stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let is_known = |line: &str| line.starts_with("rocketmq_") && line.ends_with("instead of \"milliseconds\"");
    let are_known = !said.is_empty() && said.lines().all(is_known);
    assert!(output.status.success() || are_known, "promtool {args:?}: {said}");
}

/// The expressions of the board, as Grafana asks for them.
fn expressions_of_the_board() -> Vec<String> {
    let board: Value = serde_json::from_str(&std::fs::read_to_string(conf("grafana/raftmq.json")).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    expressions.map(|text| text.replace("$__rate_interval", "20s").replace("$cluster", "TestCluster")).collect()
}

/// The expressions of the rules.
fn expressions_of_the_rules() -> Vec<String> {
    let rules = std::fs::read_to_string(conf("prometheus/rules.yml")).unwrap();
    rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ").map(str::to_owned)).collect()
}

/// The metrics that an expression names.
fn metrics_in(expression: &str) -> Vec<String> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let is_metric = |word: &&str| ["raftmq_", "rocketmq_", "process_"].iter().any(|start| word.starts_with(start));
    words.filter(is_metric).map(str::to_owned).collect()
}

/// One of everything: what the file of names has.
async fn traffic_of_all_kinds(cluster: &Cluster) {
    let wires = cluster.wires();
    let wire = &wires[0];
    for number in 0..5 {
        assert_eq!(code(wire, message("plain", &format!("m{number}"), "body")).await, Code::Ok);
    }
    let got = receive(wire, poll("billing", "plain")).await;
    assert!(got.len() > 1, "{got:?}");
    ack(wire, "billing", "plain", &got[..1]).await;
    assert_eq!(forward(wire, "billing", "plain", &delivered(&got[1]).1).await, Code::Ok);
    assert_eq!(code(wire, delayed("later", "d0", 100)).await, Code::Ok);
    assert_eq!(code(wire, delayed("later", "d1", 600_000)).await, Code::Ok);
    let ids: Vec<_> = [0, 1, 2].map(|number| half("deals", &format!("h{number}"))).into();
    let mut transactions = Vec::new();
    for message in ids {
        transactions.push(send(wire, message).await.transaction_id);
    }
    assert_eq!(commit(wire, "deals", &transactions[0]).await, Code::Ok);
    assert_eq!(end(wire, "deals", &transactions[1], v2::TransactionResolution::Rollback).await, Code::Ok);
    assert_ne!(code(wire, message("no-topic", "x", "body")).await, Code::Ok);
}

/// What the leader's metrics and the commands say of one thing: its name, and both figures.
fn said_twice(cluster: &Cluster, leader: usize) -> Vec<(String, f64, f64)> {
    let metrics = names::scrape(&cluster.http_address(leader));
    let counts = cluster.json(&["topic", "stats"]);
    let groups = cluster.json(&["group", "stats"]);
    let mut pairs = Vec::new();
    let mut pair = |metric: &str, labels: &[(&str, &str)], command: &Value| {
        // A counter that nobody counted in is not shown.
        let shown = names::sum(&metrics, metric, labels).unwrap_or(0.0);
        pairs.push((format!("{metric} {labels:?}"), shown, command.as_f64().unwrap_or(-1.0)));
    };
    for row in counts["topics"].as_array().unwrap() {
        let topic = [("topic", row["topic"].as_str().unwrap())];
        for (metric, key) in [
            ("rocketmq_messages_in_total", "in_total"),
            ("rocketmq_throughput_in_total", "in_bytes_total"),
            ("rocketmq_timer_enqueue_total", "delayed"),
            ("rocketmq_timer_dequeue_total", "delays_ended"),
            ("rocketmq_commit_messages_total", "commits"),
            ("rocketmq_rollback_messages_total", "rollbacks"),
        ] {
            pair(metric, &topic, &row[key]);
        }
    }
    for row in groups["groups"].as_array().unwrap() {
        let labels = [("consumer_group", row["group"].as_str().unwrap()), ("topic", row["topic"].as_str().unwrap())];
        for (metric, key) in [
            ("rocketmq_messages_out_total", "out_total"),
            ("rocketmq_throughput_out_total", "out_bytes_total"),
            ("raftmq_messages_acked_total", "acked"),
            ("rocketmq_send_to_dlq_messages_total", "dead_letters"),
            ("rocketmq_consumer_lag_messages", "lag"),
        ] {
            pair(metric, &labels, &row[key]);
        }
    }
    let described = cluster.json(&["group", "describe", "billing"]);
    pair("rocketmq_consumer_lag_messages", &[("consumer_group", "billing")], &described["group"]["lag"]);
    let listed = |args: &[&str]| Value::from(cluster.json(args)["messages"].as_array().unwrap().len());
    pair("raftmq_dead_letters", &[("consumer_group", "billing")], &listed(&["group", "dlq", "list", "billing"]));
    pair("rocketmq_timing_messages", &[("topic", "later")], &listed(&["message", "delayed", "later"]));
    let queues = cluster.json(&["topic", "describe", "plain"]);
    let stored: u64 =
        queues["queues"].as_array().unwrap().iter().map(|queue| queue["max_offset"].as_u64().unwrap()).sum();
    pair("rocketmq_messages_in_total", &[("topic", "plain")], &Value::from(stored));
    pairs
}

fn assert_said_alike(cluster: &Cluster, leader: usize) {
    let until = Instant::now() + WAIT;
    loop {
        let pairs = said_twice(cluster, leader);
        assert!(pairs.len() > 25, "{pairs:?}");
        let differ: Vec<_> = pairs.iter().filter(|(_, metric, command)| metric != command).collect();
        if differ.is_empty() {
            return;
        }
        // What waits is looked up once in a while, not at each scrape.
        assert!(Instant::now() < until, "metric, then command: {differ:?}");
        std::thread::sleep(STEP);
    }
}

#[test]
fn p16_the_board_and_the_alerts_work_with_the_real_prometheus() {
    let topics = [("plain", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION")];
    with_cluster(&[], &topics, async |mut cluster| {
        let prometheus = Prometheus::start(&cluster);
        traffic_of_all_kinds(&cluster).await;
        let _streams =
            (producer(&cluster.wire(1), "plain").await, consumer(&cluster.wire(2), "billing", "plain", "*").await);
        let leader = cluster.leader().unwrap();
        // It has been told of all that was done above.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let scrapes = [0, 1, 2].map(|node| names::scrape(&cluster.http_address(node)));
        names::are_those_of_the_file(&scrapes);
        promtool(&["check", "metrics"], &get(&cluster.http_address(leader), "/metrics").body);
        promtool(&["check", "config", conf("prometheus/prometheus.yml").to_str().unwrap()], "");

        // The leader alone counts, and what the commands say.
        for follower in (0..3).filter(|node| *node != leader) {
            assert_eq!(names::sum(&scrapes[follower], "rocketmq_messages_in_total", &[]), None);
            assert_eq!(names::sum(&scrapes[follower], "rocketmq_consumer_lag_messages", &[]), None);
        }
        let of = |name: &str, labels: &[(&str, &str)]| names::sum(&scrapes[leader], name, labels).unwrap_or(-1.0);
        assert_eq!(of("rocketmq_messages_in_total", &[("topic", "plain"), ("message_type", "normal")]), 5.0);
        assert_eq!(of("rocketmq_messages_in_total", &[("topic", "deals")]), 3.0);
        assert_eq!(of("rocketmq_send_to_dlq_messages_total", &[("consumer_group", "billing")]), 1.0);
        assert_eq!(of("raftmq_dead_letters", &[("consumer_group", "billing")]), 1.0);
        assert_eq!(of("rocketmq_half_messages", &[("topic", "deals")]), 1.0);
        assert_eq!(of("rocketmq_timing_messages", &[("topic", "later")]), 1.0);
        assert_eq!(of("rocketmq_commit_messages_total", &[]), 1.0);
        assert_eq!(of("rocketmq_topic_number", &[]), 4.0, "with that of the dead letters");
        let group = cluster.json(&["group", "describe", "billing"]);
        let lag = group["lag"].as_f64().or_else(|| group["group"]["lag"].as_f64());
        assert_eq!(Some(of("rocketmq_consumer_lag_messages", &[("topic", "plain")])), lag, "{group}");
        let (lag, in_flight) =
            (of("rocketmq_consumer_lag_messages", &[]), of("rocketmq_consumer_inflight_messages", &[]));
        assert_eq!(of("rocketmq_consumer_ready_messages", &[]), lag - in_flight);
        assert_said_alike(&cluster, leader);
        let sends = [("request_code", "send_message"), ("response_code", "ok")];
        let sent: f64 =
            scrapes.iter().filter_map(|text| names::sum(text, "rocketmq_rpc_latency_milliseconds_count", &sends)).sum();
        assert_eq!(sent, 10.0);

        prometheus.wait_for("three nodes are scraped", |prometheus| prometheus.query("up == 1").len() == 3);
        // Rates need two scrapes.
        let is_known = "rate(rocketmq_rpc_latency_milliseconds_count{request_code=\"heartbeat\"}[20s]) or \
                        rate(raftmq_raft_fsync_seconds_count[20s])";
        prometheus.wait_for("there are rates", |prometheus| prometheus.query(is_known).len() >= 3);
        let expressions = expressions_of_the_board();
        assert!(expressions.len() > 40, "the board was not read");
        for expression in &expressions {
            assert!(!prometheus.query(expression).is_empty(), "the board shows nothing for {expression}");
        }
        let rules = expressions_of_the_rules();
        assert!(rules.len() > 10, "the rules were not read");
        for expression in &rules {
            prometheus.query(expression);
            for metric in metrics_in(expression) {
                assert!(!prometheus.query(&metric).is_empty(), "a rule looks at {metric}, which nobody shows");
            }
        }
        let is_quiet = |prometheus: &Prometheus| {
            let firing = prometheus.firing();
            !["RaftmqNodeDown", "RaftmqNoLeader", "RaftmqNodeNotReady"]
                .iter()
                .any(|name| firing.iter().any(|one| one == name))
        };
        prometheus.wait_for("all is well", is_quiet);

        let fires =
            |name: &'static str| move |prometheus: &Prometheus| prometheus.firing().iter().any(|one| one == name);
        cluster.kill(leader);
        prometheus.wait_for("a node is down", fires("RaftmqNodeDown"));
        // Every node counts what it applies, so the next leader has it all.
        let next = cluster.wait_for_leader();
        assert_ne!(next, leader);
        assert_said_alike(&cluster, next);
        let other = (leader + 1) % 3;
        cluster.kill(other);
        prometheus.wait_for("nobody leads", fires("RaftmqNoLeader"));
        prometheus.wait_for("who is left is not ready", fires("RaftmqNodeNotReady"));
        cluster.start_node(leader);
        cluster.start_node(other);
        prometheus.wait_for("all is well again", is_quiet);
    });
}

#[test]
fn the_guide_says_of_each_alert_what_to_do_and_of_no_other() {
    let rules = std::fs::read_to_string(conf("prometheus/rules.yml")).unwrap();
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate.md")).unwrap();
    let rows: Vec<_> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `Raftmq"))
        .filter_map(|row| row.split_once('`').map(|(name, _)| format!("Raftmq{name}")))
        .collect();
    assert_eq!(rows, alerts);
}
