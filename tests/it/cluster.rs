//! Three real nodes under kills: what was acknowledged stays, what was acked never comes back, and
//! service goes on while a majority lives.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq::proto::v2::Code;

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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
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
    let described: serde_json::Value =
        serde_json::from_str(&cluster.raftmq_ok(&["-o", "json", "topic", "describe", TOPIC])).unwrap();
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

#[test]
fn service_goes_on_with_one_node_down_and_waits_with_two() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let runtime = runtime();
    let _entered = runtime.enter();
    let leader = cluster.wait_for_leader();
    let [first, second] = [(leader + 1) % 3, (leader + 2) % 3];
    cluster.kill(first);
    let send = |id: &str, timeout| {
        let wire = Wire::connect(&cluster.address(leader), "producer");
        let sent = runtime.block_on(wire.within(timeout).send(vec![message("t", id, id)]));
        sent.unwrap().status.unwrap().code()
    };
    assert_eq!(send("one down", Duration::from_secs(3)), Code::Ok);
    cluster.kill(second);
    let started = Instant::now();
    let wire = Wire::connect(&cluster.address(leader), "producer");
    let refused = runtime.block_on(wire.send(vec![message("t", "two down", "x")])).unwrap();
    let code = refused.status.unwrap().code();
    assert!(matches!(code, Code::HaNotAvailable | Code::ProxyTimeout), "P16: {code:?} must tell to try again");
    assert!(started.elapsed() < Duration::from_secs(3), "the answer comes before the deadline");
    cluster.start_node(second);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let wire = Wire::connect(&cluster.address(leader), "producer");
        let sent = runtime.block_on(wire.send(vec![message("t", "back", "x")])).unwrap();
        if sent.status.unwrap().code() == Code::Ok {
            break;
        }
        assert!(Instant::now() < until, "no send succeeds after a majority is back\n{}", cluster.logs());
    }
}

#[test]
fn p1_a_leader_cut_off_from_its_followers_acknowledges_nothing() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let runtime = runtime();
    let _entered = runtime.enter();
    let leader = cluster.wait_for_leader();
    for follower in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.signal(follower, "STOP");
    }
    let wire = Wire::connect(&cluster.address(leader), "producer");
    let codes: Vec<_> = (0..5)
        .map(|number| {
            let sent = runtime.block_on(wire.within(Duration::from_secs(1)).send(vec![message(
                "t",
                &format!("cut {number}"),
                "x",
            )]));
            sent.map(|response| response.status.unwrap().code())
        })
        .collect();
    for follower in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.signal(follower, "CONT");
    }
    assert!(codes.iter().all(|code| !matches!(code, Ok(Code::Ok))), "{codes:?}");
    cluster.wait_for_leader();
    let sent = runtime.block_on(wire.send(vec![message("t", "healed", "x")])).unwrap();
    assert_eq!(sent.status.unwrap().code(), Code::Ok);
}

#[test]
fn p18_everything_is_there_after_all_nodes_were_killed_at_once() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "200"]);
    cluster.raftmq_ok(&["consume", "t", "--group", "g", "--max", "80"]);
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.start_node(node);
    }
    cluster.wait_for_leader();
    let rest = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "200"]);
    assert_eq!(rest.lines().count(), 120, "P7: acks are kept");
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "other", "--max", "200"]);
    assert_eq!(all.lines().count(), 200);
}

#[test]
fn d18_a_node_whose_disk_was_wiped_takes_no_part_under_its_old_id() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    let [lagging, wiped] = [(leader + 1) % 3, (leader + 2) % 3];
    // What follows is acknowledged by the leader and the node that is wiped afterwards.
    cluster.kill(lagging);
    cluster.raftmq_ok(&["produce", "t", "--count", "50"]);
    cluster.kill(leader);
    cluster.kill(wiped);
    cluster.wipe(wiped);
    // Nobody is there to tell the wiped node at its start; it hears it when a peer is back.
    cluster.start_node(wiped);
    std::thread::sleep(Duration::from_secs(1));
    cluster.start_node(lagging);
    assert_eq!(cluster.wait_for_end(wiped), Some(11), "{}", cluster.logs());
    assert!(cluster.log_of(wiped).contains("knows n"), "{}", cluster.log_of(wiped));
    // With a peer up it is told so at once. Neither way do the two make a majority.
    cluster.start_node(wiped);
    assert_eq!(cluster.wait_for_end(wiped), Some(11), "{}", cluster.logs());
    assert_eq!(cluster.leader(), None, "P1: a majority without the acknowledged messages\n{}", cluster.logs());
    cluster.start_node(leader);
    cluster.wait_for_leader();
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "100"]);
    assert_eq!(all.lines().count(), 50);
}

#[test]
fn p14_a_node_that_cannot_know_says_so_and_never_that_a_topic_is_missing() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    let [alone, other] = [(leader + 1) % 3, (leader + 2) % 3];
    // Down while a topic is made, and then without the others.
    cluster.kill(alone);
    cluster.raftmq_ok(&["topic", "create", "unseen"]);
    cluster.kill(leader);
    cluster.kill(other);
    cluster.start_node(alone);
    let runtime = runtime();
    let _entered = runtime.enter();
    let until = Instant::now() + Duration::from_secs(10);
    let wire = Wire::connect(&cluster.address(alone), "producer");
    let code = loop {
        match runtime.block_on(wire.within(Duration::from_secs(4)).send(vec![message("unseen", "id", "x")])) {
            Ok(response) => break response.status.unwrap().code(),
            Err(status) => assert!(Instant::now() < until, "{status}\n{}", cluster.logs()),
        }
    };
    assert_eq!(code, Code::HaNotAvailable);
    // Whoever leads next has the topic in its log, applied or not: it is never missed.
    cluster.start_node(other);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let sent = runtime.block_on(wire.within(Duration::from_secs(4)).send(vec![message("unseen", "id", "x")]));
        match sent.map(|response| response.status.unwrap().code()) {
            Ok(Code::Ok) => break,
            Ok(code) => assert_eq!(code, Code::HaNotAvailable),
            Err(status) => eprintln!("not yet: {status}"),
        }
        assert!(Instant::now() < until, "no send succeeds\n{}", cluster.logs());
    }
}

#[test]
fn a_node_told_to_stop_ends_cleanly_and_service_goes_on() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    // A poll that waits and the session beside it must not hold the node up.
    let runtime = runtime();
    let _entered = runtime.enter();
    let wire = Wire::connect(&cluster.address(leader), "consumer");
    let polling = runtime.spawn(async move { wire.receive("g", "t", 1, Duration::from_secs(20)).await });
    std::thread::sleep(Duration::from_millis(300));
    cluster.signal(leader, "TERM");
    let (status, messages) = runtime.block_on(polling).unwrap().unwrap();
    assert_eq!((status.code(), messages.len()), (Code::MessageNotFound, 0), "the poll ends with an answer");
    assert_eq!(cluster.wait_for_end(leader), Some(0), "{}", cluster.logs());
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["produce", "t", "--count", "10"]);
}

#[test]
fn async_flush_serves_and_says_so() {
    let mut cluster = Cluster::start_with(&["flushDiskType=ASYNC_FLUSH"]);
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "100"]);
    let leader = cluster.wait_for_leader();
    cluster.kill(leader);
    cluster.wait_for_leader();
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "100"]);
    assert_eq!(all.lines().count(), 100);
    cluster.start_node(leader);
    cluster.wait_for_leader();
    assert!(cluster.log_of(leader).contains("flushDiskType=ASYNC_FLUSH: an OK means"), "it is announced");
}
