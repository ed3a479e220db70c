//! Damage to the files of real nodes: found, never delivered, and repaired with what the other nodes have.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use raftmq::proto::v2::Code;

use crate::fixture::calls::ack;
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::messages::delivered;
use crate::fixture::wire::{POLL, Wire};

/// Small segments, and a scrub that never rests; what the machine has free takes no message.
const SETTINGS: [&str; 4] =
    ["mappedFileSizeCommitLog=1MiB", "tailCacheBytes=1MiB", "scrubRate=1GiB", "cleanFileForciblyEnable=false"];
/// The same, but that nobody looks for damage: whoever reads finds it.
const NO_SCRUB: [&str; 4] =
    ["mappedFileSizeCommitLog=1MiB", "tailCacheBytes=1MiB", "scrubRate=0", "cleanFileForciblyEnable=false"];
const HEALS_WITHIN: Duration = Duration::from_secs(30);
const HEADER_BYTES: usize = 64;
/// Magic, marks and length before a record, and their checksum.
const PREAMBLE_BYTES: usize = 28;

fn segments(cluster: &Cluster, node: usize) -> Vec<PathBuf> {
    let files = std::fs::read_dir(format!("{}/log", cluster.folder_of(node))).unwrap();
    let mut segments: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    segments
}

/// The records of a segment, without what each node adds to them.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (mut at, mut records) = (HEADER_BYTES, Vec::new());
    while bytes.get(at..at + 4) == Some(b"RMQR") {
        let length = u32::from_be_bytes(bytes[at + 20..at + 24].try_into().unwrap()) as usize;
        records.push(bytes[at + PREAMBLE_BYTES..at + PREAMBLE_BYTES + length].to_vec());
        at += (PREAMBLE_BYTES + length).next_multiple_of(8);
    }
    records
}

fn flip(path: &Path, part: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() * part / 8;
    bytes[at] ^= 0x10;
    // In place: the node has the file open.
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::OpenOptions::new().write(true).open(path).unwrap(),
        &bytes[at..=at],
        at as u64,
    )
    .unwrap();
}

/// The files of the state that do not change any more.
fn tables(cluster: &Cluster, node: usize) -> Vec<PathBuf> {
    let files = std::fs::read_dir(format!("{}/state", cluster.folder_of(node))).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).collect()
}

fn row(cluster: &Cluster, node: usize) -> serde_json::Value {
    let rows = cluster.json(&["cluster", "status"]);
    let rows = rows.as_array().unwrap_or_else(|| rows["nodes"].as_array().unwrap()).clone();
    rows.into_iter().find(|row| row["node"] == format!("n{node}")).unwrap()
}

fn wait_until(what: &str, cluster: &Cluster, is_so: impl Fn() -> bool) {
    let until = Instant::now() + HEALS_WITHIN;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not in {HEALS_WITHIN:?}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_whole(cluster: &Cluster, node: usize, repaired_min: u64) -> bool {
    let row = row(cluster, node);
    row["state"] == "ok" && row["damaged_segments"] == 0 && row["repaired_entries"].as_u64() >= Some(repaired_min)
}

#[test]
fn p19_what_rots_on_running_and_on_stopped_nodes_heals_from_the_others() {
    let mut cluster = Cluster::start_with(&SETTINGS);
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "500", "--size", "12288", "--batch", "1"]);
    let leader = cluster.wait_for_leader();
    let follower = (leader + 1) % 3;
    for node in [leader, follower] {
        let sealed = segments(&cluster, node)[1].clone();
        let before = records(&sealed);
        flip(&sealed, 4);
        wait_until("a byte in a sealed segment", &cluster, || is_whole(&cluster, node, 1));
        assert_eq!(records(&sealed), before, "n{node}");
    }

    // An idle node knows that all of its log is durable. Stopped in good order it has flushed its state: entries that the
    // state does not have would come from the leader like any new one, and be repaired by nobody.
    std::thread::sleep(Duration::from_millis(1500));
    cluster.signal(follower, "TERM");
    assert_eq!(cluster.wait_for_end(follower), Some(0));
    let files = segments(&cluster, follower);
    let before: Vec<_> = files.iter().map(|path| records(path)).collect();
    let (last, sealed) = files.split_last().unwrap();
    flip(&sealed[0], 3);
    std::fs::remove_file(&sealed[1]).unwrap();
    let used = std::fs::read(last).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::OpenOptions::new().write(true).open(last).unwrap().set_len(used as u64 / 2).unwrap();
    cluster.start_node(follower);
    wait_until("damage that a start finds", &cluster, || is_whole(&cluster, follower, 2));
    let after = segments(&cluster, follower);
    assert_eq!(after[..sealed.len()], *sealed);
    for (path, before) in sealed.iter().zip(&before) {
        assert_eq!(records(path), *before, "{}", path.display());
    }
    let tail: Vec<_> = after[sealed.len()..].iter().flat_map(|path| records(path)).collect();
    assert_eq!(tail[..before[sealed.len()].len()], before[sealed.len()], "the end comes from the leader");
    let log = cluster.log_of(follower);
    assert!(log.contains("neither votes nor stands for election") && log.contains("it votes again"), "{log}");

    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "1000"]);
    assert_eq!(all.lines().count(), 500, "{}", cluster.logs());
}

/// When it starts, Raft looks by halves for where the entries of each leader end: elsewhere once the end of the log is back.
#[test]
fn p19_a_segment_is_there_again_before_raft_looks_into_it_after_the_end_of_the_log_came_back() {
    let mut cluster = Cluster::start_with(&SETTINGS);
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "300", "--size", "49152", "--batch", "1"]);
    let follower = (cluster.wait_for_leader() + 1) % 3;
    // As above: it knows that all of its log is durable, and its state has all of it.
    std::thread::sleep(Duration::from_millis(1500));
    cluster.signal(follower, "TERM");
    assert_eq!(cluster.wait_for_end(follower), Some(0));
    let files = segments(&cluster, follower);
    let before: Vec<_> = files.iter().map(|path| records(path)).collect();
    let half = before.concat().len() / 2;
    let mut entries = 0;
    let middle = before.iter().position(|records| {
        entries += records.len();
        entries > half
    });
    // So many at the end that half of what is left is in another segment.
    let lost = &files[files.len() - 3..];
    lost.iter().chain([&files[middle.unwrap()]]).for_each(|path| std::fs::remove_file(path).unwrap());
    cluster.start_node(follower);
    wait_until("it has all again", &cluster, || {
        let row = row(&cluster, follower);
        row["state"] == "ok" && row["behind"] == 0 && row["damaged_segments"] == 0
    });
    let after: Vec<_> = segments(&cluster, follower).iter().flat_map(|path| records(path)).collect();
    assert_eq!(after[..before.concat().len()], before.concat());
}

#[test]
fn p18_a_node_whose_state_rots_while_it_runs_makes_it_anew_by_itself() {
    let mut cluster = Cluster::start_with(&SETTINGS);
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "100"]);
    let follower = (cluster.wait_for_leader() + 1) % 3;
    wait_until("the state is flushed", &cluster, || !tables(&cluster, follower).is_empty());
    tables(&cluster, follower).iter().for_each(|table| flip(table, 1));
    let why = "this node starts again: its state is damaged, and is made anew";
    wait_until("the damage is found", &cluster, || cluster.log_of(follower).contains(why));
    wait_until("it has a state again", &cluster, || {
        let row = row(&cluster, follower);
        row["state"] == "ok" && row["behind"] == 0 && row["applied"].as_u64() > Some(0)
    });
    // Nobody had to start it: it is the process that the test started.
    assert!(cluster.is_running(follower), "{}", cluster.logs());
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "100"]);
    assert_eq!(all.lines().count(), 100, "{}", cluster.logs());
}

/// Everything that a group gets through one node, each message with its attempt, until nothing comes any more.
async fn drain(wire: &Wire, group: &str) -> Vec<(String, i32)> {
    let mut got = Vec::new();
    loop {
        let (status, messages) = wire.receive(group, "t", 32, POLL).await.unwrap();
        if messages.is_empty() {
            assert_eq!(status.code(), Code::MessageNotFound, "{status:?}");
            return got;
        }
        got.extend(messages.iter().map(delivered).map(|(id, _, attempt)| (id, attempt)));
        ack(wire, group, "t", &messages).await;
    }
}

const COUNT: usize = 300;

fn produce(cluster: &Cluster) {
    let count = COUNT.to_string();
    cluster.raftmq_ok(&["produce", "t", "--count", &count, "--size", "12288", "--batch", "1"]);
}

fn assert_each_once(got: &[(String, i32)], count: usize) {
    let again: Vec<_> = got.iter().filter(|(_, attempt)| *attempt != 1).collect();
    assert!(again.is_empty(), "P19: damage costs no attempt: {again:?}");
    let ids: std::collections::BTreeSet<_> = got.iter().map(|(id, _)| id).collect();
    assert_eq!((ids.len(), got.len()), (count, count));
}

#[test]
fn p19_what_one_node_reads_damaged_is_delivered_by_it_once_repaired_and_costs_no_attempt() {
    with_cluster(&NO_SCRUB, &[("t", "NORMAL")], async |mut cluster| {
        produce(&cluster);
        let leader = cluster.wait_for_leader();
        let follower = (leader + 1) % 3;
        for node in [leader, follower] {
            segments(&cluster, node)[..2].iter().for_each(|sealed| flip(sealed, 4));
            let got = drain(&cluster.wire(node), &format!("g{node}")).await;
            assert_each_once(&got, COUNT);
            wait_until("what was read damaged", &cluster, || is_whole(&cluster, node, 2));
        }

        // A leader sends what is damaged on its disk once it has it again, and does not end for it.
        let late = 3 - leader - follower;
        cluster.kill(late);
        let before = segments(&cluster, leader).len();
        produce(&cluster);
        flip(&segments(&cluster, leader)[before], 4);
        cluster.start_node(late);
        wait_until("what the node lacked", &cluster, || {
            let late = row(&cluster, late);
            late["state"] == "ok" && late["behind"] == 0
        });
        assert_each_once(&drain(&cluster.wire(late), "late").await, 2 * COUNT);
        for node in 0..3 {
            assert!(cluster.is_running(node), "n{node} ended\n{}", cluster.logs());
        }
    });
}

#[test]
fn p19_a_message_that_no_node_has_whole_holds_up_nothing_but_itself() {
    let mut cluster = Cluster::prepare(&NO_SCRUB);
    let alone = cluster.peers(&[0]);
    cluster.start_node_with(0, &[&alone]);
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
    produce(&cluster);
    flip(&segments(&cluster, 0)[1], 4);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let wire = cluster.wire(0);
        let got = drain(&wire, "g").await;
        // An entry has as many messages as came together.
        assert!((COUNT - 64..COUNT).contains(&got.len()), "{} of {COUNT}", got.len());
        assert_each_once(&got, got.len());
        // The next group knows of it before it leases anything.
        assert_each_once(&drain(&wire, "other").await, got.len());
        for group in ["g", "other"] {
            let (status, dead) = wire.receive("readers", &format!("%DLQ%{group}"), 1, POLL).await.unwrap();
            assert_eq!((status.code(), dead.len()), (Code::MessageNotFound, 0), "nothing died of it");
        }
    });
    let row = &row(&cluster, 0);
    assert_eq!(row["damaged_segments"], 1, "{row}");
    assert!(cluster.is_running(0), "{}", cluster.logs());
}
