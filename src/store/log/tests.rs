//! The commit log under crashes, torn writes, damage and failing disks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::env::fault::sim::SimDisk;
use crate::env::rng::SeededRng;
use crate::model::{LogIndex, NodeId, Term};
use crate::store::Error;
use crate::store::log::record::{Record, RecordKind};
use crate::store::log::{CommitLog, FlushMode, LogOwner, Options, VoteRecord};

pub(super) const FOLDER: &str = "/log";
pub(super) const WAIT: Duration = Duration::from_secs(10);

pub(super) fn owner() -> LogOwner {
    LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(1) }
}

pub(super) fn open_with(disk: &SimDisk, segment_bytes: u64) -> Result<CommitLog, Error> {
    open_in_mode(disk, segment_bytes, FlushMode::Sync)
}

pub(super) fn open_in_mode(disk: &SimDisk, segment_bytes: u64, flush: FlushMode) -> Result<CommitLog, Error> {
    let options = Options { segment_bytes, tail_cache_bytes: 512, flush, open_files_max: 16, has_peers: false };
    CommitLog::open(Arc::new(disk.mount()), Path::new(FOLDER), &owner(), options, Box::new(|_| {}))
}

pub(super) fn open_with_peers(disk: &SimDisk, segment_bytes: u64) -> Result<CommitLog, Error> {
    let flush = FlushMode::Sync;
    let options = Options { segment_bytes, tail_cache_bytes: 512, flush, open_files_max: 16, has_peers: true };
    CommitLog::open(Arc::new(disk.mount()), Path::new(FOLDER), &owner(), options, Box::new(|_| {}))
}

pub(super) fn open(disk: &SimDisk) -> CommitLog {
    open_with(disk, 4096).unwrap()
}

/// A record whose body says which term and index it is of.
pub(super) fn record(term: u64, index: u64) -> Record {
    let body = format!("{term}/{index}/").repeat(1 + (index % 7) as usize);
    Record {
        term: Term(term),
        node: NodeId(1),
        index: LogIndex(index),
        kind: RecordKind::Batch,
        body: Bytes::from(body),
    }
}

pub(super) fn append(log: &CommitLog, records: Vec<Record>) -> Receiver<bool> {
    let (sender, done) = channel();
    // A refused append drops the callback, which closes the channel; a test that does not look is fine.
    let completed = move |result: std::io::Result<()>| {
        let _ = sender.send(result.is_ok());
    };
    let _ = log.append(records, Box::new(completed));
    done
}

pub(super) fn append_and_wait(log: &CommitLog, term: u64, range: std::ops::RangeInclusive<u64>) {
    let done = append(log, range.map(|index| record(term, index)).collect());
    assert!(done.recv_timeout(WAIT).unwrap());
}

pub(super) fn all(log: &CommitLog) -> Vec<Record> {
    log.reader().read(LogIndex(1), LogIndex(u64::MAX), usize::MAX).unwrap()
}

pub(super) fn last_index(log: &CommitLog) -> u64 {
    log.last().map_or(0, |last| last.index.0)
}

#[test]
fn a_log_of_another_format_is_refused_by_its_version() {
    let disk = SimDisk::default();
    append_and_wait(&open(&disk), 1, 1..=5);
    let path = PathBuf::from("/log/00000000000000000001.seg");
    let mut bytes = disk.bytes(&path).unwrap();
    // Magic, version, first index, checksum over them.
    bytes[8..12].copy_from_slice(&2u32.to_be_bytes());
    let sum = crc32c::crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&sum.to_be_bytes());
    disk.put_bytes(&path, bytes);
    let refused = open_with(&disk, 4096).err().unwrap().to_string();
    assert!(refused.contains("format version 2, this program reads 4 to 6"), "{refused}");
}

#[test]
fn records_are_read_back_over_segments_and_restarts() {
    let disk = SimDisk::default();
    let expected: Vec<_> = (1..=300).map(|index| record(1, index)).collect();
    {
        let log = open(&disk);
        for index in 1..=300 {
            append_and_wait(&log, 1, index..=index);
        }
        assert_eq!(all(&log), expected);
        assert_eq!(log.reader().read(LogIndex(7), LogIndex(9), usize::MAX).unwrap(), expected[6..8]);
        assert_eq!(log.reader().read(LogIndex(7), LogIndex(9), 1).unwrap(), expected[6..7]);
        assert_eq!(log.reader().read(LogIndex(301), LogIndex(400), 1).unwrap(), []);
    }
    let log = open(&disk);
    assert_eq!(all(&log), expected);
    assert_eq!(log.first_index(), Some(LogIndex(1)));
    // From the files now, over their borders: one record always, else no more than was asked for.
    for bytes_max in [0, 1, 200, 1000, 5000, 50_000] {
        for from in [1, 2, 50, 299, 300, 301] {
            let found = log.reader().read(LogIndex(from), LogIndex(290), bytes_max).unwrap();
            assert_eq!(found, expected[from as usize - 1..][..found.len()]);
            assert_eq!(found.is_empty(), from >= 290);
            let bytes: usize = found.iter().map(Record::wire_bytes).sum();
            assert!(bytes <= bytes_max || found.len() == 1, "{bytes} bytes of {bytes_max}");
            assert_eq!(log.reader().read_at_hand(LogIndex(from), LogIndex(290), bytes_max).unwrap(), Some(found));
        }
    }
    disk.cool();
    assert_eq!(log.reader().read_at_hand(LogIndex(7), LogIndex(9), 1).unwrap(), None);
    assert_eq!(log.reader().read_at_hand(LogIndex(301), LogIndex(400), 1).unwrap(), Some(Vec::new()));
    append_and_wait(&log, 2, 301..=302);
    assert!(log.reader().read_at_hand(LogIndex(301), LogIndex(302), 1).unwrap().is_some(), "the tail cache has it");
    assert_eq!(last_index(&log), 302);
}

#[test]
fn p1_p18_what_was_answered_survives_any_crash_and_what_was_cut_stays_away() {
    for seed in 0..300 {
        let disk = SimDisk::default();
        let mut rng = SeededRng::new(seed);
        let mut answered: Vec<Record> = Vec::new();
        let mut voted: Option<VoteRecord> = None;
        let mut term = 1;
        for round in 0..4 {
            let log = open_with(&disk, 2048).unwrap_or_else(|error| panic!("seed {seed} round {round}: {error}"));
            let found = all(&log);
            assert!(found.len() >= answered.len(), "seed {seed}: {} of {} left", found.len(), answered.len());
            assert_eq!(found[..answered.len()], answered, "seed {seed}");
            assert_eq!(log.read_vote(), voted, "seed {seed}");
            // What was not answered may be there or not; from now on it counts as this term's start.
            answered = found;
            let mut pending = Vec::new();
            for _ in 0..rng.below(12) {
                match rng.below(8) {
                    0 => {
                        term += 1;
                        let vote = VoteRecord { term: Term(term), node: NodeId(rng.below(3)), committed: false };
                        log.save_vote(vote).unwrap();
                        voted = Some(vote);
                    }
                    1 if last_index(&log) > 0 => {
                        let keep = last_index(&log) - rng.below(last_index(&log).min(5));
                        // A cut is only ever of what was never committed; here that is everything.
                        let keep = keep.max(1);
                        log.truncate_after(Some(LogIndex(keep))).unwrap();
                        answered.truncate(keep as usize);
                        pending.clear();
                        answered = all(&log);
                        term += 1;
                    }
                    _ => {
                        let next = last_index(&log) + 1;
                        let records: Vec<_> = (next..=next + rng.below(4)).map(|index| record(term, index)).collect();
                        pending.push((append(&log, records.clone()), records));
                    }
                }
            }
            for (done, records) in pending {
                if rng.below(2) == 0 {
                    if done.recv_timeout(WAIT).unwrap() {
                        for record in records {
                            if record.index.0 == answered.len() as u64 + 1 {
                                answered.push(record);
                            }
                        }
                    }
                } else {
                    break;
                }
            }
            disk.crash(seed * 31 + round);
            drop(log);
        }
    }
}

#[test]
fn p19_a_flipped_byte_is_cut_as_torn_or_refused_but_never_served() {
    let written = SimDisk::default();
    {
        let log = open(&written);
        append_and_wait(&log, 1, 1..=2);
        append_and_wait(&log, 1, 3..=4);
    }
    let path = PathBuf::from(FOLDER).join(format!("{:020}.seg", 1));
    let bytes = written.bytes(&path).unwrap();
    let marked = written.bytes(Path::new("/log/meta")).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let expected: Vec<_> = (1..=4).map(|index| record(1, index)).collect();
    for at in 0..used {
        let disk = SimDisk::default();
        drop(open(&disk));
        let unmarked = disk.bytes(Path::new("/log/meta")).unwrap();
        let mut broken = bytes.clone();
        broken[at] ^= 0x10;
        disk.put_bytes(&path, broken.clone());
        // The mark of a log that was closed, or idle, says that all of it was durable: nothing is torn.
        disk.put_bytes(Path::new("/log/meta"), marked.clone());
        match open_with(&disk, 4096) {
            Ok(log) => assert_eq!(all(&log), expected, "byte {at}"),
            Err(Error::Damaged { .. }) => {}
            Err(error) => panic!("byte {at}: {error}"),
        }
        disk.put_bytes(&path, broken);
        disk.put_bytes(Path::new("/log/meta"), unmarked);
        match open_with(&disk, 4096) {
            Ok(log) => {
                let found = all(&log);
                assert_eq!(found[..], expected[..found.len()], "byte {at}");
                // Entries 1 and 2 were known to be durable when 3 was written: they are never cut.
                assert!(found.is_empty() || found.len() >= 2, "byte {at}: {} records", found.len());
                assert!(at < 64 || !found.is_empty(), "byte {at}");
            }
            Err(Error::Damaged { .. }) => {}
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn p18_a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on() {
    let disk = SimDisk::default();
    let meta;
    {
        let log = open(&disk);
        append_and_wait(&log, 1, 1..=3);
        append_and_wait(&log, 1, 4..=5);
        // As a crash leaves it; a close would note that everything is durable.
        meta = disk.bytes(Path::new("/log/meta")).unwrap();
    }
    let path = PathBuf::from(FOLDER).join(format!("{:020}.seg", 1));
    let bytes = disk.bytes(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for end in 64..used {
        let mut torn = bytes.clone();
        torn[end..].fill(0);
        disk.put_bytes(&path, torn);
        disk.put_bytes(Path::new("/log/meta"), meta.clone());
        let log = open(&disk);
        let left = last_index(&log);
        assert!(left <= 5, "cut at {end}");
        append_and_wait(&log, 2, left + 1..=left + 1);
        drop(log);
        assert_eq!(last_index(&open(&disk)), left + 1, "cut at {end}");
    }
}

#[test]
fn p1_nothing_is_completed_after_a_failed_sync_and_the_log_stays_closed() {
    for inject in [SimDisk::fail_sync, SimDisk::fail_write] {
        let disk = SimDisk::default();
        let fatal = Arc::new(Mutex::new(0));
        let count = fatal.clone();
        let options = Options {
            segment_bytes: 4096,
            tail_cache_bytes: 512,
            flush: FlushMode::Sync,
            open_files_max: 16,
            has_peers: false,
        };
        let on_fatal = Box::new(move |_: &Error| *count.lock() += 1);
        let log = CommitLog::open(Arc::new(disk.mount()), Path::new(FOLDER), &owner(), options, on_fatal).unwrap();
        append_and_wait(&log, 1, 1..=1);
        inject(&disk, 0);
        assert!(!append(&log, vec![record(1, 2)]).recv_timeout(WAIT).unwrap());
        let vote = VoteRecord { term: Term(9), node: NodeId(1), committed: false };
        assert!(matches!(log.save_vote(vote), Err(Error::Poisoned)));
        assert!(log.append(vec![record(1, 3)], Box::new(|_| {})).is_err());
        assert_eq!(log.durable(), LogIndex(1));
        drop(log);
        assert_eq!(*fatal.lock(), 1);
    }
}

#[test]
fn p19_a_vote_survives_damage_to_either_of_its_copies() {
    let disk = SimDisk::default();
    let vote = VoteRecord { term: Term(7), node: NodeId(2), committed: false };
    {
        let log = open(&disk);
        log.save_vote(VoteRecord { term: Term(6), ..vote }).unwrap();
        log.save_vote(vote).unwrap();
    }
    let meta = disk.bytes(Path::new("/log/meta")).unwrap();
    for at in 0..meta.len() {
        let mut broken = meta.clone();
        broken[at] ^= 0x10;
        disk.put_bytes(Path::new("/log/meta"), broken);
        assert_eq!(open(&disk).read_vote(), Some(vote), "byte {at}");
    }
}

#[test]
fn async_appends_are_synced_within_their_time_also_under_a_steady_load() {
    let disk = SimDisk::default();
    let options = Options {
        segment_bytes: 1 << 20,
        tail_cache_bytes: 512,
        flush: FlushMode::Async,
        open_files_max: 16,
        has_peers: false,
    };
    let log = CommitLog::open(Arc::new(disk.mount()), Path::new(FOLDER), &owner(), options, Box::new(|_| {})).unwrap();
    append_and_wait(&log, 1, 1..=1);
    let before = disk.syncs();
    for index in 2..=30 {
        append_and_wait(&log, 1, index..=index);
        std::thread::sleep(Duration::from_millis(25));
    }
    assert!(disk.syncs() > before, "appends less than half a second apart put the sync off for ever");
}

#[test]
fn async_appends_are_synced_when_that_is_asked_for() {
    let disk = SimDisk::default();
    let log = open_in_mode(&disk, 1 << 20, FlushMode::Async).unwrap();
    append_and_wait(&log, 1, 1..=1);
    let before = disk.syncs();
    log.sync().unwrap();
    assert_eq!(disk.syncs(), before + 1);
    log.sync().unwrap();
    assert_eq!(disk.syncs(), before + 1, "nothing was appended");
}

#[test]
fn many_appends_share_one_sync_and_complete_newest_first() {
    let disk = SimDisk::default();
    let log = open(&disk);
    append_and_wait(&log, 1, 1..=1);
    disk.slow_sync(Duration::from_millis(100));
    let syncs = disk.syncs();
    let order = Arc::new(Mutex::new(Vec::new()));
    let (sender, done) = channel();
    for index in 2..=31 {
        let (order, sender) = (order.clone(), sender.clone());
        let completed = move |result: std::io::Result<()>| {
            assert!(result.is_ok());
            order.lock().push(index);
            sender.send(()).unwrap();
        };
        log.append(vec![record(1, index)], Box::new(completed)).unwrap();
    }
    for _ in 2..=31 {
        done.recv_timeout(WAIT).unwrap();
    }
    assert!(disk.syncs() - syncs <= 4, "{} syncs for 30 appends", disk.syncs() - syncs);
    let order = order.lock();
    let groups = order.windows(2).filter(|pair| pair[1] > pair[0]).count() + 1;
    assert!(groups <= 4, "completed in {groups} ascending steps: {order:?}");
}

#[test]
fn a_vote_makes_the_appends_before_it_durable() {
    let disk = SimDisk::default();
    let log = open(&disk);
    disk.slow_sync(Duration::from_millis(20));
    let done = append(&log, vec![record(1, 1)]);
    log.save_vote(VoteRecord { term: Term(2), node: NodeId(1), committed: false }).unwrap();
    assert!(done.try_recv().unwrap());
    assert_eq!(log.durable(), LogIndex(1));
}

#[test]
fn a_folder_in_use_or_of_another_node_is_refused() {
    let disk = SimDisk::default();
    let log = open(&disk);
    assert!(matches!(open_with(&disk, 4096), Err(Error::Locked(_))));
    drop(log);
    let options = Options {
        segment_bytes: 4096,
        tail_cache_bytes: 512,
        flush: FlushMode::Sync,
        open_files_max: 16,
        has_peers: false,
    };
    let other = LogOwner { node: NodeId(2), ..owner() };
    let opened = CommitLog::open(Arc::new(disk.mount()), Path::new(FOLDER), &other, options, Box::new(|_| {}));
    match opened.map(|_| ()) {
        Err(Error::Foreign { found, expected, .. }) => {
            assert!(found.contains("n1"), "{found}");
            assert!(expected.contains("n2"), "{expected}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_mark_falls_at_a_truncation_so_that_new_records_wait_for_their_own_sync() {
    let disk = SimDisk::default();
    let log = open(&disk);
    let marks = Arc::new(Mutex::new(Vec::new()));
    let seen = marks.clone();
    log.on_durable(Box::new(move |index| seen.lock().push(index.0)));
    append_and_wait(&log, 1, 1..=5);
    log.truncate_after(Some(LogIndex(2))).unwrap();
    assert_eq!(log.durable(), LogIndex(2));
    append_and_wait(&log, 2, 3..=4);
    assert_eq!(*marks.lock(), [0, 5, 2, 4]);
    let terms: Vec<_> = all(&log).iter().map(|record| record.term.0).collect();
    assert_eq!(terms, [1, 1, 2, 2]);
}
