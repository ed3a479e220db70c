//! Disks of 90 MiB that another program fills and frees again under load: nobody ends, nothing is lost, and all but sends
//! goes on.
//!
//! The test does two rounds. Ten, and on ext4 instead of tmpfs:
//! `FULL_DISK_ROUNDS=10 FULL_DISK_FS=ext4 cargo test --test it p20_disks -- --nocapture`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq::proto::v2::{self, Code};

use super::runtime;
use crate::fixture::cluster::Cluster;
use crate::fixture::messages::{delivered, message, system};
use crate::fixture::small_disk::SmallDisk;
use crate::fixture::wire::Wire;

const MIB: u64 = 90;
/// Memory of the smallest that there are, and marks and reserve as they are by default; retention would take messages before their
/// time.
const SETTINGS: [&str; 6] = [
    "rocksdbMemoryBudget=16MiB",
    "tailCacheBytes=1MiB",
    // Not in per cent: a node whose disk is that of this machine would take a tenth of it.
    "diskReserve=9MiB",
    "diskSoftMark=9MiB",
    "diskHardMark=4608KiB",
    "cleanFileForciblyEnable=false",
];
const BODY_BYTES: usize = 4096;
const SEND_EVERY: Duration = Duration::from_millis(10);
/// Messages that wait when the load begins, so that there is something to ack however few are sent.
const BACKLOG: usize = 2000;
/// While a disk is full, and between two times.
const PHASE: Duration = Duration::from_millis(2500);
/// For what is under way when something changes.
const GRACE: Duration = Duration::from_millis(500);
/// The longest time from a change on a disk to what follows from it.
const SOON: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Seen {
    sent: Mutex<BTreeSet<String>>,
    /// Certainly not stored.
    refused: Mutex<BTreeSet<String>>,
    /// Anything else.
    unknown: AtomicU64,
    refusal: Mutex<String>,
    acked: AtomicU64,
    last_ack: Mutex<Option<Instant>>,
    longest_without_ack: Mutex<Duration>,
    ended: AtomicBool,
}

impl Seen {
    fn sent(&self) -> usize {
        self.sent.lock().len()
    }

    fn refusals(&self) -> usize {
        self.refused.lock().len()
    }

    fn note_ack(&self) {
        self.acked.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last_ack.lock();
        if let Some(before) = last.replace(Instant::now()) {
            let mut longest = self.longest_without_ack.lock();
            *longest = longest.max(before.elapsed());
        }
    }
}

async fn produce(wires: Vec<Wire>, seen: Arc<Seen>) {
    let body = "x".repeat(BODY_BYTES);
    let mut ticks = tokio::time::interval(SEND_EVERY);
    let mut sends = tokio::task::JoinSet::new();
    for number in 0u64.. {
        ticks.tick().await;
        if seen.ended.load(Ordering::Relaxed) {
            break;
        }
        let (wire, seen, body) = (wires[number as usize % wires.len()].clone(), seen.clone(), body.clone());
        sends.spawn(async move {
            let id = format!("m{number}");
            let status = wire.send(vec![message("t", &id, &body)]).await.ok().and_then(|answer| answer.status);
            match status.as_ref().map(v2::Status::code) {
                Some(Code::Ok) => drop(seen.sent.lock().insert(id)),
                Some(Code::TooManyRequests) => {
                    seen.refusal.lock().clone_from(&status.unwrap().message);
                    seen.refused.lock().insert(id);
                }
                _ => drop(seen.unknown.fetch_add(1, Ordering::Relaxed)),
            }
        });
    }
    sends.join_all().await;
}

/// Receives a few and acks each, through each node in turn.
async fn consume(wires: Vec<Wire>, seen: Arc<Seen>) {
    for wire in wires.iter().cycle() {
        if seen.ended.load(Ordering::Relaxed) {
            break;
        }
        let Ok((_, messages)) = wire.receive("g", "backlog", 2, Duration::from_secs(5)).await else { continue };
        for message in messages {
            let (id, handle, _) = delivered(&message);
            let acked = wire.ack("g", "backlog", vec![(id, handle)]).await;
            if acked.is_ok_and(|answer| answer.status.is_some_and(|status| status.code() == Code::Ok)) {
                seen.note_ack();
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn eventually(what: &str, cluster: &Cluster, is_so: impl Fn() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "not in {SOON:?}: {what}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What is seen in one phase: sends that were taken, those refused, and acks. A machine that is busy has longer to show
/// some acks.
fn phase(seen: &Seen, cluster: &Cluster) -> (usize, usize, u64) {
    let (sent, refused, acked) = (seen.sent(), seen.refusals(), seen.acked.load(Ordering::Relaxed));
    let acks = || seen.acked.load(Ordering::Relaxed) - acked;
    std::thread::sleep(PHASE);
    eventually("acks are answered", cluster, || acks() >= 5);
    (seen.sent() - sent, seen.refusals() - refused, acks())
}

#[test]
fn p20_disks_that_are_filled_and_freed_end_nobody_and_lose_nothing() {
    let rounds = std::env::var("FULL_DISK_ROUNDS").map_or(2, |rounds| rounds.parse().unwrap());
    let mut cluster = Cluster::prepare(&SETTINGS);
    let mounted: Result<Vec<SmallDisk>, String> =
        (0..3).map(|node| SmallDisk::mount(Path::new(&cluster.folder_of(node)), MIB)).collect();
    let disks = match mounted {
        Ok(disks) => disks,
        Err(error) => return eprintln!("skipped, file systems cannot be mounted here: {error}"),
    };
    // Their log files are on the same disks, and hold up nothing either.
    let log_home = [0, 1, 2].map(|node| format!("logHome={}", cluster.folder_of(node)));
    (0..3).for_each(|node| cluster.start_node_with(node, &[&log_home[node]]));
    (0..3).for_each(|node| cluster.wait_until_serving(node));
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["topic", "create", "backlog"]);
    let backlog = (BACKLOG * rounds).to_string();
    cluster.raftmq_ok(&["produce", "backlog", "--count", &backlog]);
    let seen = Arc::new(Seen::default());
    let runtime = runtime();
    let wires = runtime.block_on(async { cluster.wires().to_vec() });
    let loads = [
        runtime.spawn(produce(wires.clone(), seen.clone())),
        runtime.spawn(consume(wires.clone(), seen.clone())),
        runtime.spawn(consume(wires, seen.clone())),
    ];
    eventually("acks", &cluster, || seen.acked.load(Ordering::Relaxed) > 0);
    for round in 0..rounds {
        let leader = cluster.wait_for_leader();
        // A full follower holds up nobody, and a full leader hands leadership on.
        let one = if round % 2 == 0 { leader } else { (leader + 1) % 3 };
        disks[one].fill();
        if one == leader {
            eventually("another one leads", &cluster, || cluster.leader().is_some_and(|leader| leader != one));
        }
        let (sent, _, acked) = phase(&seen, &cluster);
        eprintln!("round {round}: n{one} full: {sent} sent, {acked} acked");
        assert!(sent > 20, "n{one} is full: {sent} sent, {acked} acked\n{}", cluster.logs());
        let others = (0..3).filter(|node| *node != one);
        others.clone().for_each(|node| disks[node].fill());
        let before = seen.refusals();
        eventually("sends are refused", &cluster, || seen.refusals() > before);
        // What was under way is answered.
        std::thread::sleep(GRACE);
        let (sent, refused, acked) = phase(&seen, &cluster);
        eprintln!("round {round}: all full: {sent} sent, {refused} refused, {acked} acked");
        assert!(sent == 0 && refused > 20, "{sent} sent, {refused} refused, {acked} acked\n{}", cluster.logs());
        let text = seen.refusal.lock().clone();
        assert!(text.contains("diskHardMark") && text.contains("retention"), "{text}");
        let status = cluster.json(&["cluster", "status"]);
        for node in status["nodes"].as_array().unwrap() {
            assert_eq!(node["state"], "no room", "{status}");
        }
        // A node that is started on a full disk takes part.
        if round == 0 {
            let restarted = (cluster.wait_for_leader() + 1) % 3;
            cluster.kill(restarted);
            cluster.start_node_with(restarted, &[&log_home[restarted]]);
            cluster.wait_until_serving(restarted);
            eventually("the restarted node follows", &cluster, || {
                let status = cluster.json(&["cluster", "status"]);
                status["nodes"][restarted]["behind"].as_u64().is_some_and(|behind| behind < 100)
            });
        }
        disks.iter().for_each(SmallDisk::free);
        let before = seen.sent();
        eventually("sends are taken again", &cluster, || seen.sent() > before + 20);
        for node in 0..3 {
            assert!(cluster.is_running(node), "n{node} ended\n{}", cluster.logs());
        }
    }
    for node in 0..3 {
        let file = format!("{}/logs/rocketmqlogs/Test00_n{node}/broker.log", cluster.folder_of(node));
        let is_there = || std::fs::read_to_string(&file).unwrap_or_default().contains("the disk has room again");
        eventually("the log file goes on", &cluster, is_there);
    }
    seen.ended.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for load in loads {
            load.await.unwrap();
        }
    });
    let longest = *seen.longest_without_ack.lock();
    let unknown = seen.unknown.load(Ordering::Relaxed);
    eprintln!("{} sent, {} refused, {unknown} unknown, longest without ack {longest:?}", seen.sent(), seen.refusals());
    let (sent, refused) = (seen.sent.lock().clone(), seen.refused.lock().clone());
    let stored = runtime.block_on(async { read_all(&cluster.wire(0), sent.len()).await });
    let lost: Vec<_> = sent.difference(&stored).collect();
    assert!(lost.is_empty(), "P1: {lost:?} lost\n{}", cluster.logs());
    let stored_all_the_same: Vec<_> = refused.intersection(&stored).collect();
    assert!(stored_all_the_same.is_empty(), "D17: {stored_all_the_same:?} refused and stored");
}

/// The state of a node as `cluster status` shows it, and how far it is behind.
fn state_of(cluster: &Cluster, node: usize) -> (String, u64) {
    let status = cluster.json(&["cluster", "status"]);
    let node = &status["nodes"][node];
    (node["state"].as_str().unwrap().to_owned(), node["behind"].as_u64().unwrap_or(0))
}

#[test]
fn p20_a_follower_whose_reserve_is_used_up_pauses_votes_and_catches_up() {
    let mut cluster = Cluster::prepare(&SETTINGS);
    let leads = 0;
    let full = 1;
    let disk = match SmallDisk::mount(Path::new(&cluster.folder_of(full)), MIB) {
        Ok(disk) => disk,
        Err(error) => return eprintln!("skipped, file systems cannot be mounted here: {error}"),
    };
    // The one with the small disk starts last, so that it does not lead.
    for node in [leads, 2, full] {
        cluster.start_node(node);
        cluster.wait_until_serving(node);
    }
    if cluster.wait_for_leader() == full {
        // Its small disk may be the only one that is not short of room.
        cluster.raftmq_ok(&["cluster", "transfer-leader", &format!("n{leads}")]);
    }
    let leader = cluster.wait_for_leader();
    assert_ne!(leader, full, "{}", cluster.logs());
    cluster.raftmq_ok(&["topic", "create", "t"]);
    disk.fill();
    let mut sent = 0;
    while state_of(&cluster, full).0 != "disk full" {
        assert!(sent < 10_000, "{}", cluster.logs());
        cluster.raftmq_ok(&["produce", "t", "--count", "500", "--size", "4096"]);
        sent += 500;
    }
    // More than frames in flight and buffers hold, and longer than a leader waits for an answer.
    cluster.raftmq_ok(&["produce", "t", "--count", "600", "--size", "16384"]);
    std::thread::sleep(Duration::from_secs(3));
    cluster.raftmq_ok(&["produce", "t", "--count", "100"]);
    sent += 700;
    let (state, behind) = state_of(&cluster, full);
    assert!(state == "disk full" && behind > 0, "{state}, {behind} behind");
    let about = |text: &str| cluster.log_of(leader).matches(text).count();
    assert_eq!(about("takes no more entries"), 1, "{}", cluster.log_of(leader));
    // With its vote, although it cannot take an entry, another one leads.
    cluster.kill(leader);
    let other = 2 - leader;
    eventually("the other one leads", &cluster, || cluster.leader() == Some(other));
    cluster.start_node(leader);
    cluster.wait_until_serving(leader);
    cluster.raftmq_ok(&["produce", "t", "--count", "100"]);
    sent += 100;
    disk.free();
    eventually("it has caught up", &cluster, || {
        let (state, behind) = state_of(&cluster, full);
        (state == "ok" || state == "short of room") && behind == 0
    });
    assert!(cluster.is_running(full), "{}", cluster.logs());
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", &sent.to_string()]);
    assert_eq!(all.lines().count(), sent);
}

#[test]
fn p20_a_start_that_is_not_possible_for_lack_of_room_ends_with_a_code_of_its_own() {
    let mut cluster = Cluster::prepare(&SETTINGS);
    let disk = match SmallDisk::mount(Path::new(&cluster.folder_of(0)), MIB) {
        Ok(disk) => disk,
        Err(error) => return eprintln!("skipped, file systems cannot be mounted here: {error}"),
    };
    // A folder that is new has no reserve yet.
    disk.fill();
    cluster.start_node(0);
    assert_eq!(cluster.wait_for_end(0), Some(13), "{}", cluster.logs());
    let log = cluster.log_of(0);
    assert!(log.contains("No space left on device") && log.contains("Give the file system"), "{log}");
    disk.free();
    cluster.start_node(0);
    cluster.wait_until_serving(0);
}

/// The ids of all messages of the topic, until it seems to have no more; at least `count`.
async fn read_all(wire: &Wire, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let until = Instant::now() + Duration::from_secs(60);
    let mut misses = 0;
    while Instant::now() < until && (misses < 1 || ids.len() < count) {
        let Ok((_, messages)) = wire.receive("audit", "t", 32, Duration::from_secs(5)).await else { continue };
        misses = if messages.is_empty() { misses + 1 } else { 0 };
        ids.extend(messages.iter().map(|message| system(message).message_id.clone()));
    }
    ids
}
