//! Forgetting the oldest segments: what is kept, what a start finds, and who reads meanwhile.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::env::disk::Disk;
use crate::env::fault::sim::SimDisk;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::CommitLog;
use crate::store::log::record::Record;
use crate::store::log::tests::{FOLDER, append, append_and_wait, last_index, open_with, record};

const SEGMENT_BYTES: u64 = 2048;
const ENTRIES: u64 = 200;

fn open(disk: &SimDisk) -> CommitLog {
    open_with(disk, SEGMENT_BYTES).unwrap()
}

fn filled() -> SimDisk {
    let disk = SimDisk::default();
    append_and_wait(&open(&disk), 1, 1..=ENTRIES);
    disk
}

fn firsts(log: &CommitLog) -> Vec<u64> {
    log.segments().iter().map(|segment| segment.first.0).collect()
}

fn files(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list(Path::new(FOLDER)).unwrap();
    names.retain(|name| name.ends_with(".seg"));
    names
}

fn read(log: &CommitLog, from: u64) -> Vec<Record> {
    log.reader().read(LogIndex(from), LogIndex(u64::MAX), usize::MAX).unwrap()
}

#[test]
fn whole_segments_before_an_entry_go_and_their_bytes_are_counted() {
    let disk = filled();
    let log = open(&disk);
    let before = log.segments();
    let kept_from = before[4].first;
    // One entry less, and the segment before would have to stay.
    assert_eq!(log.forget_before(LogIndex(before[1].first.0 - 1)).unwrap(), 0);
    let bytes = log.bytes();
    let freed = log.forget_before(LogIndex(kept_from.0 + 1)).unwrap();
    assert_eq!(freed, before[..4].iter().map(|segment| segment.bytes).sum::<u64>());
    assert_eq!(log.bytes(), bytes - freed);
    assert_eq!(log.segments(), before[4..]);
    assert_eq!(files(&disk).len(), before.len() - 4);
    assert_eq!(log.first_index(), Some(kept_from));
    assert_eq!(log.purged(), Some(record(1, kept_from.0 - 1).id()));
    assert_eq!(read(&log, 1), [], "what was forgotten is not there");
    assert_eq!(log.reader().read_at_hand(LogIndex(1), LogIndex(9), 1).unwrap(), Some(Vec::new()));
    assert_eq!(read(&log, kept_from.0).len() as u64, ENTRIES + 1 - kept_from.0);
    assert_eq!(log.forget_before(kept_from).unwrap(), 0, "again");
    append_and_wait(&log, 1, ENTRIES + 1..=ENTRIES + 50);
    drop(log);
    let log = open(&disk);
    assert_eq!(log.first_index(), Some(kept_from));
    assert_eq!(log.purged(), Some(record(1, kept_from.0 - 1).id()));
    assert_eq!(last_index(&log), ENTRIES + 50);
}

#[test]
fn the_last_entry_is_never_forgotten() {
    let disk = filled();
    let log = open(&disk);
    let last_segment = *firsts(&log).last().unwrap();
    log.forget_before(LogIndex(u64::MAX)).unwrap();
    assert_eq!(firsts(&log), [last_segment]);
    // Not when the last segment is empty either.
    let disk = filled();
    let log = open(&disk);
    log.truncate_after(Some(LogIndex(last_segment - 1))).unwrap();
    assert_eq!(*firsts(&log).last().unwrap(), last_segment, "it is empty now");
    log.forget_before(LogIndex(u64::MAX)).unwrap();
    assert_eq!(firsts(&log).len(), 2);
    assert_eq!(last_index(&log), last_segment - 1);
    drop(log);
    let log = open(&disk);
    assert_eq!(last_index(&log), last_segment - 1);
    append_and_wait(&log, 2, last_segment..=last_segment + 20);
}

#[test]
fn p18_a_cut_down_to_the_start_of_the_log_keeps_its_end_known() {
    let disk = filled();
    let log = open(&disk);
    let start = firsts(&log)[3];
    log.forget_before(LogIndex(start)).unwrap();
    log.truncate_after(Some(LogIndex(start - 1))).unwrap();
    let before = Some(record(1, start - 1).id());
    assert_eq!((log.last(), log.first_index(), log.durable()), (before, None, LogIndex(start - 1)));
    drop(log);
    let log = open(&disk);
    assert_eq!((log.last(), log.first_index(), log.durable()), (before, None, LogIndex(start - 1)));
    append_and_wait(&log, 2, start..=start + 60);
    assert_eq!((log.first_index(), last_index(&log)), (Some(LogIndex(start)), start + 60));
}

#[test]
fn what_a_crash_left_of_forgotten_segments_is_removed_and_a_missing_one_is_an_error() {
    let disk = filled();
    let whole = disk.copy();
    let log = open(&disk);
    let segments = log.segments();
    log.forget_before(segments[4].first).unwrap();
    drop(log);
    let path = |position: usize| PathBuf::from(FOLDER).join(format!("{:020}.seg", segments[position].first.0));
    for position in [1, 3] {
        disk.put_bytes(&path(position), whole.bytes(&path(position)).unwrap());
    }
    let log = open(&disk);
    assert_eq!(log.first_index(), Some(segments[4].first));
    let wait = std::time::Duration::from_millis(1);
    (0..5000).take_while(|_| files(&disk).len() > segments.len() - 4).for_each(|_| std::thread::sleep(wait));
    assert_eq!(files(&disk).len(), segments.len() - 4);
    assert_eq!(log.bytes(), segments[4..].iter().map(|segment| segment.bytes).sum::<u64>());
    drop(log);
    disk.remove(&path(4)).unwrap();
    match open_with(&disk, SEGMENT_BYTES).map(|_| ()) {
        Err(Error::Damaged { reason, .. }) => assert!(reason.contains("must begin with entry"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn appends_and_votes_pass_between_the_steps_of_forgetting() {
    let disk = SimDisk::default();
    let log = open(&disk);
    append_and_wait(&log, 1, 1..=3000);
    let operations = disk.operations();
    std::thread::scope(|scope| {
        let forgetting = scope.spawn(|| log.forget_before(LogIndex(2990)).unwrap());
        for index in 3001..=3040 {
            assert!(append(&log, vec![record(1, index)]).recv().unwrap());
        }
        assert!(forgetting.join().unwrap() > 0);
    });
    assert!(disk.operations() - operations > 140, "one by one");
    assert_eq!(read(&log, log.first_index().unwrap().0).last(), Some(&record(1, 3040)));
}

#[test]
fn a_read_that_forgetting_overtakes_is_shorter_and_never_fails() {
    let disk = SimDisk::default();
    let log = open(&disk);
    append_and_wait(&log, 1, 1..=3000);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for step in [7, 11] {
            let (log, is_done) = (&log, &is_done);
            scope.spawn(move || {
                let mut from = 1;
                while !is_done.load(Ordering::Relaxed) {
                    from = from * step % 2999 + 1;
                    let found = log.reader().read(LogIndex(from), LogIndex(from + 100), usize::MAX).unwrap();
                    for (found, index) in found.iter().zip(from..) {
                        assert_eq!(*found, record(1, index));
                    }
                    let first = log.first_index().unwrap().0;
                    assert!(!found.is_empty() || from < first, "entry {from} of a log from {first}");
                }
            });
        }
        for before in (0..2900).step_by(40) {
            log.forget_before(LogIndex(before)).unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert!(log.first_index().unwrap() > LogIndex(2800));
}

#[test]
fn p19_a_segment_that_cannot_be_read_is_forgotten_like_any_other() {
    let disk = filled();
    let segments = open(&disk).segments();
    let path = PathBuf::from(FOLDER).join(format!("{:020}.seg", segments[1].first.0));
    disk.put_bytes(&path, vec![0; 100]);
    let log = open(&disk);
    assert!(log.reader().read(segments[1].first, segments[2].first, 1).is_err());
    assert_eq!(log.damage().len(), 1);
    assert!(log.forget_before(segments[2].first).unwrap() > 0);
    assert_eq!((log.first_index(), log.damage()), (Some(segments[2].first), Vec::new()));
    append_and_wait(&log, 1, ENTRIES + 1..=ENTRIES + 1);
}
