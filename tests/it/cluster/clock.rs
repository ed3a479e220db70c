//! Clocks of nodes that jump, stand an hour or seventy years wrong, or drift: what is timed comes at its time (P8, P11, P21).
//!
//! The nodes' times of day are libfaketime's; this process's and all monotonic clocks are right.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::runtime;
use crate::fixture::calls::send;
use crate::fixture::cluster::Cluster;
use crate::fixture::messages::{delayed_until, delivered, message, now_millis};
use crate::fixture::wire::{CALL, POLL, Wire};

/// What the protocol's polls lease for at least.
const LEASE: Duration = Duration::from_secs(10);
const DELAY_MS: i64 = 8000;
/// The slew of the cluster's clock, which is 0.5 % at most.
const EARLY: Duration = Duration::from_millis(50);
/// The promise is half a second; a loaded machine, and an election in between, take longer.
const LATE: Duration = Duration::from_secs(3);
const SEVENTY_YEARS: &str = "+2208988800";

/// One message that is leased and one that is delayed, both on their way.
struct Timed {
    what: String,
    polled_at: Instant,
    leased_at: Instant,
    /// Arrivals of the second delivery.
    again: JoinHandle<Vec<Instant>>,
    due: i64,
    /// Arrivals of the delayed message.
    delayed: JoinHandle<Vec<i64>>,
}

/// Leases a message for ten seconds and delays one for eight.
async fn begin(cluster: &Cluster, what: &str) -> Timed {
    let wires: Vec<Wire> = cluster.wires_within(CALL).into();
    let due = now_millis() + DELAY_MS;
    send(&wires[1], delayed_until("later", what, due)).await;
    send(&wires[0], message("plain", what, what)).await;
    let polled_at = Instant::now();
    let (_, first) = wires[2].receive("g", "plain", 1, POLL).await.unwrap();
    assert_eq!((delivered(&first[0]).0.as_str(), delivered(&first[0]).2), (what, 1));
    let leased_at = Instant::now();
    let again = tokio::spawn(arrivals(wires.clone(), "plain", leased_at + LEASE + LATE + EARLY));
    let delayed = tokio::spawn(arrivals(wires, "later", leased_at + LEASE + LATE));
    let delayed = tokio::spawn(async move { delayed.await.unwrap().into_iter().map(to_millis).collect() });
    Timed { what: what.to_owned(), polled_at, leased_at, again, due, delayed }
}

/// When messages of a topic came, until a time or until one came and a moment passed; each is acknowledged.
async fn arrivals(wires: Vec<Wire>, topic: &'static str, until: Instant) -> Vec<Instant> {
    let mut came: Vec<Instant> = Vec::new();
    for wire in wires.iter().cycle() {
        let now = Instant::now();
        if now >= until || came.first().is_some_and(|first| now >= *first + Duration::from_secs(1)) {
            break;
        }
        let open = tokio::time::timeout(until - now, wire.receive("g", topic, 16, POLL));
        // A node that is down, or the end.
        let Ok(Ok((_, messages))) = open.await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        for message in messages {
            came.push(Instant::now());
            let (id, handle, _) = delivered(&message);
            // An ack that is lost shows as one arrival more.
            for wire in &wires {
                if wire.ack("g", topic, vec![(id.clone(), handle.clone())]).await.is_ok() {
                    break;
                }
            }
        }
    }
    came
}

fn to_millis(at: Instant) -> i64 {
    now_millis() - i64::try_from(at.elapsed().as_millis()).unwrap()
}

/// Neither was early, late, lost or delivered twice.
async fn end(cluster: &Cluster, timed: Timed) {
    let Timed { what, polled_at, leased_at, again, due, delayed } = timed;
    let again = again.await.unwrap();
    let delayed = delayed.await.unwrap();
    let logs = || cluster.logs();
    assert_eq!(again.len(), 1, "{what}: deliveries after the lease\n{}", logs());
    let early = (leased_at + LEASE).saturating_duration_since(again[0]);
    assert!(again[0] + EARLY >= polled_at + LEASE, "{what}: the lease ended {early:?} early\n{}", logs());
    let late = again[0].saturating_duration_since(leased_at + LEASE);
    assert!(late <= LATE, "{what}: the lease ended {late:?} late\n{}", logs());
    assert_eq!(delayed.len(), 1, "{what}: deliveries of the delayed message\n{}", logs());
    let late_ms = delayed[0] - due;
    assert!(late_ms >= 0, "{what}: the delayed message came {late_ms} ms late\n{}", logs());
    assert!(late_ms <= i64::try_from(LATE.as_millis()).unwrap(), "{what}: it came {late_ms} ms late\n{}", logs());
}

/// Lets entries be made for so long; whoever leads stamps them.
async fn keep_writing(cluster: &Cluster, length: Duration) {
    let until = Instant::now() + length;
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let [wire, ..] = cluster.wires_within(CALL);
        // While leadership moves a send may fail.
        let _ = wire.send(vec![message("load", &format!("{number}-{until:?}"), "x")]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn state_of(cluster: &Cluster, node: usize) -> String {
    let status = cluster.json(&["cluster", "status"]);
    status["nodes"][node]["state"].as_str().unwrap().to_owned()
}

/// Waits for what the status says of a node.
fn wait_for_state(cluster: &Cluster, node: usize, state: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while state_of(cluster, node) != state {
        assert!(Instant::now() < until, "n{node} is {} and not {state}\n{}", state_of(cluster, node), cluster.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn p8_p11_p21_what_is_timed_comes_at_its_time_whatever_clock_is_wrong() {
    let mut cluster = Cluster::start_with_clocks();
    for (topic, kind) in [("plain", "NORMAL"), ("later", "DELAY"), ("load", "NORMAL")] {
        cluster.raftmq_ok(&["topic", "create", topic, "--type", kind]);
    }
    let runtime = runtime();
    let moment = Duration::from_millis(400);

    // The leader's clock jumps for a few entries, and back.
    let wrong = cluster.wait_for_leader();
    runtime.block_on(async {
        let timed = begin(&cluster, "leader jumps, then is an hour ahead and drifts").await;
        for ahead in ["+3600", "-3600", SEVENTY_YEARS] {
            cluster.set_clock(wrong, ahead);
            keep_writing(&cluster, moment).await;
            cluster.set_clock(wrong, "+0");
            keep_writing(&cluster, moment).await;
        }
        // Then it stays wrong, and drifts: it is named, and leads no more. The others go on.
        cluster.set_clock(wrong, "+3600 x1.1");
        keep_writing(&cluster, Duration::from_secs(5)).await;
        end(&cluster, timed).await;
    });
    wait_for_state(&cluster, wrong, "wrong clock");
    assert!(cluster.log_of(wrong).contains("the clock of this node differs from cluster time"), "{}", cluster.logs());
    let right = cluster.wait_for_leader();
    assert_ne!(right, wrong, "a leader whose clock is wrong gives leadership away\n{}", cluster.logs());

    // A follower is two minutes slow, and comes to lead or to decide: the leader dies.
    cluster.set_clock(wrong, "-120 x1.0");
    runtime.block_on(async {
        let timed = begin(&cluster, "follower slow, leader dies").await;
        keep_writing(&cluster, Duration::from_secs(1)).await;
        cluster.kill(right);
        keep_writing(&cluster, Duration::from_secs(1)).await;
        cluster.start_node(right);
        end(&cluster, timed).await;
    });
    wait_for_state(&cluster, wrong, "wrong clock");
    cluster.set_clock(wrong, "+0");
    wait_for_state(&cluster, wrong, "ok");

    // All were wrong, as the one clock of an older build: the log is seventy years ahead. It recovers at the start.
    for node in 0..3 {
        cluster.kill(node);
        cluster.set_clock(node, SEVENTY_YEARS);
        cluster.start_node(node);
    }
    cluster.wait_for_leader();
    runtime.block_on(keep_writing(&cluster, moment));
    for node in 0..3 {
        cluster.kill(node);
        cluster.set_clock(node, "+0");
        cluster.start_node(node);
    }
    cluster.wait_for_leader();
    runtime.block_on(async {
        let timed = begin(&cluster, "seventy years ahead before").await;
        end(&cluster, timed).await;
    });
    let topic = cluster.json(&["topic", "describe", "plain"]);
    let stored = topic["queues"].as_array().unwrap().iter().filter_map(|queue| queue["last_stored_at_ms"].as_i64());
    let newest = stored.max().unwrap_or_else(|| panic!("{topic}"));
    assert!((now_millis() - newest).abs() < 60_000, "users see the time of day: {newest}");
}
