//! The commit log on a disk that is full for a while.

use std::time::Duration;

use super::tests::{WAIT, all, append, append_and_wait, last_index, open, open_with, record};
use crate::env::fault::sim::SimDisk;
use crate::model::{LogIndex, NodeId, Term};
use crate::store::log::VoteRecord;

/// Long enough for a writer that does not wait to have failed.
const MOMENT: Duration = Duration::from_millis(300);

/// A log with some records on a disk that is full from now on.
fn filled() -> (SimDisk, crate::store::log::CommitLog) {
    let disk = SimDisk::default();
    let log = open(&disk);
    append_and_wait(&log, 1, 1..=5);
    disk.resize(Some(disk.used()));
    (disk, log)
}

#[test]
fn p20_a_write_that_finds_the_disk_full_waits_and_nothing_is_lost() {
    let (disk, log) = filled();
    let done = append(&log, (6..=300).map(|index| record(1, index)).collect());
    assert!(done.recv_timeout(MOMENT).is_err(), "it neither fails nor is done");
    // A part of what is needed: some segments, and a torn write.
    disk.resize(Some(disk.used() + 4096 + 1000));
    assert!(done.recv_timeout(MOMENT).is_err());
    disk.resize(None);
    assert!(done.recv_timeout(WAIT).unwrap());
    append_and_wait(&log, 1, 301..=310);
    drop(log);
    disk.crash(7);
    let expected: Vec<_> = (1..=310).map(|index| record(1, index)).collect();
    assert_eq!(all(&open(&disk)), expected);
}

#[test]
fn p20_the_reserve_is_asked_for_before_a_write_waits() {
    let (disk, log) = filled();
    let giving = disk.clone();
    log.on_full(Box::new(move || {
        giving.resize(None);
        true
    }));
    append_and_wait(&log, 1, 6..=300);
}

#[test]
fn p20_a_vote_needs_no_room() {
    let (_disk, log) = filled();
    for term in 2..20 {
        log.save_vote(VoteRecord { term: Term(term), node: NodeId(2), committed: false }).unwrap();
    }
}

#[test]
fn p20_a_log_with_writes_that_wait_can_be_closed_and_opened() {
    let (disk, log) = filled();
    let done = append(&log, (6..=300).map(|index| record(1, index)).collect());
    assert!(done.recv_timeout(MOMENT).is_err());
    drop(log);
    assert!(!done.recv_timeout(WAIT).unwrap(), "its fate is that of a crash: not acknowledged");
    let log = open_with(&disk, 4096).unwrap();
    assert!(last_index(&log) >= 5, "the disk may be full still");
    assert_eq!(all(&log)[..5], (1..=5).map(|index| record(1, index)).collect::<Vec<_>>());
    disk.resize(None);
    let next = last_index(&log) + 1;
    append_and_wait(&log, 1, next..=next + 200);
    assert_eq!(log.durable(), LogIndex(next + 200));
}

#[test]
fn p20_a_vote_behind_a_write_that_waits_does_not_keep_a_process_from_its_end() {
    let (_disk, log) = filled();
    let done = append(&log, (6..=300).map(|index| record(1, index)).collect());
    assert!(done.recv_timeout(MOMENT).is_err());
    let voting = std::thread::spawn({
        let log = log.clone();
        move || log.save_vote(VoteRecord { term: Term(2), node: NodeId(2), committed: false })
    });
    std::thread::sleep(MOMENT);
    assert!(!voting.is_finished(), "a vote makes the appends before it durable");
    log.stop_waiting_for_room();
    voting.join().unwrap().unwrap_err();
    assert!(!done.recv_timeout(WAIT).unwrap());
}

#[test]
fn p20_forgetting_frees_room_while_writes_wait_for_it() {
    let disk = SimDisk::default();
    let log = open(&disk);
    append_and_wait(&log, 1, 1..=300);
    disk.resize(Some(disk.used()));
    let done = append(&log, (301..=400).map(|index| record(1, index)).collect());
    assert!(done.recv_timeout(MOMENT).is_err());
    assert!(log.forget_before(LogIndex(300)).unwrap() > 3 * 4096);
    assert!(done.recv_timeout(WAIT).unwrap());
    assert_eq!(last_index(&log), 400);
}

#[test]
fn d18_a_sync_that_fails_on_a_full_disk_closes_the_log() {
    let (disk, log) = filled();
    disk.resize(None);
    disk.fail_sync_for_lack_of_room();
    let done = append(&log, vec![record(1, 6)]);
    assert!(!done.recv_timeout(WAIT).unwrap());
    let refused = append(&log, vec![record(1, 7)]);
    assert_ne!(refused.recv_timeout(WAIT), Ok(true), "closed for good");
}
