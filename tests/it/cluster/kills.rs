//! Ten kills of the leader under plain messages: what was acknowledged stays, what was acked never comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq::proto::v2::Code;

use super::runtime;
use crate::fixture::cluster::Cluster;
use crate::fixture::messages::{delivered, message, system};
use crate::fixture::wire::Wire;

const TOPIC: &str = "kills";

const GROUP: &str = "kills-group";

const KILLS: usize = 10;

/// One send every this often: an open loop, whatever the cluster does.
const SEND_EVERY: Duration = Duration::from_millis(4);

#[derive(Default)]
struct History {
    /// When each send was answered OK.
    sent: Mutex<BTreeMap<String, Instant>>,
    /// Sends whose fate is unknown to the client.
    unknown: AtomicU64,
    /// Where each message was seen.
    seen: Mutex<BTreeMap<(i32, i64), String>>,
    delivered: Mutex<BTreeSet<String>>,
    /// When each ack was answered OK.
    acked: Mutex<BTreeMap<String, Instant>>,
    faults: Mutex<Vec<String>>,
}

async fn produce(wires: Vec<Wire>, history: Arc<History>, stop: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(SEND_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0u64.. {
        ticks.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (wire, history) = (wires[number as usize % wires.len()].clone(), history.clone());
        tasks.spawn(async move {
            let id = format!("m{number}");
            let sent = wire.send(vec![message(TOPIC, &id, &id)]).await;
            match sent.map(|response| response.status.unwrap().code()) {
                Ok(Code::Ok) => drop(history.sent.lock().insert(id, Instant::now())),
                _ => drop(history.unknown.fetch_add(1, Ordering::Relaxed)),
            }
        });
    }
    tasks.join_all().await;
}

/// Receives and acks until told to stop and nothing came for a whole poll.
async fn consume(wire: Wire, history: Arc<History>, stop: Arc<AtomicBool>) {
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        let asked = Instant::now();
        let Ok((_, messages)) = wire.receive(GROUP, TOPIC, 32, Duration::from_secs(5)).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if messages.is_empty() && stopping {
            return;
        }
        let mut handles = Vec::new();
        for message in &messages {
            let (id, handle, _) = delivered(message);
            if let Some(acked) = history.acked.lock().get(&id).filter(|acked| **acked < asked) {
                let ago = asked.duration_since(*acked);
                history.faults.lock().push(format!("P7: {id} came again, asked for {ago:?} after its ack was OK"));
            }
            if *message.body != *id.as_bytes() {
                history.faults.lock().push(format!("P3: {id} came with another body"));
            }
            let system = system(message);
            let place = (system.queue_id, system.queue_offset.unwrap());
            if let Some(other) = history.seen.lock().insert(place, id.clone()).filter(|other| *other != id) {
                history.faults.lock().push(format!("P5: {place:?} is {other} and {id}"));
            }
            history.delivered.lock().insert(id.clone());
            handles.push((id, handle));
        }
        if handles.is_empty() {
            continue;
        }
        let Ok(response) = wire.ack(GROUP, TOPIC, handles).await else { continue };
        for entry in response.entries.iter().filter(|entry| entry.status.as_ref().unwrap().code() == Code::Ok) {
            history.acked.lock().insert(entry.message_id.clone(), Instant::now());
        }
    }
}

/// A figure for whoever runs the tests; the test runner does not capture it.
fn tell(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The longest time without an acknowledged send in `[from, to]`.
fn longest_gap(history: &History, from: Instant, to: Instant) -> Duration {
    let mut times: Vec<_> = history.sent.lock().values().copied().filter(|at| *at >= from && *at <= to).collect();
    times.extend([from, to]);
    times.sort();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[test]
fn p1_p5_p7_ten_leader_kills_lose_nothing_and_bring_nothing_back() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", TOPIC]);
    let runtime = runtime();
    let _entered = runtime.enter();
    let history = Arc::new(History::default());
    let (stop_sending, stop_receiving) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let wires = |name: &str| {
        (0..3).map(|node| Wire::connect(&cluster.address(node), &format!("{name}{node}"))).collect::<Vec<_>>()
    };
    let producing = runtime.spawn(produce(wires("producer"), history.clone(), stop_sending.clone()));
    let consuming: Vec<_> = wires("consumer")
        .into_iter()
        .map(|wire| runtime.spawn(consume(wire, history.clone(), stop_receiving.clone())))
        .collect();
    std::thread::sleep(Duration::from_secs(1));

    let mut gaps = Vec::new();
    for round in 0..KILLS {
        let leader = cluster.wait_for_leader();
        let killed = Instant::now();
        cluster.kill(leader);
        std::thread::sleep(Duration::from_millis(1500));
        cluster.start_node(leader);
        std::thread::sleep(Duration::from_millis(1500));
        let gap = longest_gap(&history, killed, Instant::now());
        tell(&format!("round {round}: killed n{leader}, longest gap between acknowledged sends {gap:?}"));
        gaps.push(gap);
    }
    stop_sending.store(true, Ordering::Relaxed);
    runtime.block_on(producing).unwrap();
    // What a dead consumer's poll held comes back after its lease; only then is nothing left.
    std::thread::sleep(Duration::from_secs(11));
    stop_receiving.store(true, Ordering::Relaxed);
    for consumer in consuming {
        runtime.block_on(consumer).unwrap();
    }

    gaps.sort();
    let sent: BTreeSet<String> = history.sent.lock().keys().cloned().collect();
    let lost: Vec<_> = sent.difference(&history.delivered.lock()).cloned().collect();
    let unknown = history.unknown.load(Ordering::Relaxed);
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    tell(&format!(
        "{} sends acknowledged, {unknown} with unknown fate, gap p50 {median:?} max {longest:?}",
        sent.len()
    ));
    assert!(sent.len() > 1000, "too little was sent to prove anything: {}", sent.len());
    assert_eq!(lost, [""; 0], "P1: acknowledged and never delivered");
    assert_eq!(*history.faults.lock(), [""; 0]);
    let described = cluster.json(&["topic", "describe", TOPIC]);
    let queues = described["queues"].as_array().unwrap();
    assert_eq!(queues.len(), 8);
    let seen: BTreeSet<(i64, i64)> =
        history.seen.lock().keys().map(|(queue, offset)| (i64::from(*queue), *offset)).collect();
    let expected = queues.iter().flat_map(|queue| {
        let number = queue["queue"].as_i64().unwrap();
        (0..queue["max_offset"].as_i64().unwrap()).map(move |offset| (number, offset))
    });
    assert_eq!(seen, expected.collect(), "P5: offsets must be dense, each with one message");
}
