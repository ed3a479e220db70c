//! Cuts of a log with peers where it is damaged: what is given up is noted, and the log goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::env::disk::Disk;
use crate::env::fault::sim::SimDisk;
use crate::model::LogIndex;
use crate::store::log::CommitLog;
use crate::store::log::damage_tests::{catch_up, heal};
use crate::store::log::record::Record;
use crate::store::log::tests::{FOLDER, append_and_wait, last_index, open_with_peers, record};

const SEGMENT_BYTES: u64 = 2048;
/// Of a log of more than three segments.
const ENTRIES: u64 = 90;

fn open(disk: &SimDisk) -> CommitLog {
    open_with_peers(disk, SEGMENT_BYTES).unwrap()
}

fn entries() -> BTreeMap<u64, Record> {
    (1..=ENTRIES).map(|index| (index, record(1, index))).collect()
}

fn path(first: LogIndex) -> PathBuf {
    Path::new(FOLDER).join(format!("{:020}.seg", first.0))
}

/// A log that was killed, and where its segments begin.
fn filled() -> (SimDisk, Vec<LogIndex>) {
    let disk = SimDisk::default();
    let log = open(&disk);
    append_and_wait(&log, 1, 1..=ENTRIES);
    let firsts = log.segments().iter().map(|segment| segment.first).collect();
    (disk.copy(), firsts)
}

fn flip(disk: &SimDisk, path: &Path, at: usize) {
    let mut bytes = disk.bytes(path).unwrap();
    bytes[at] ^= 1;
    disk.put_bytes(path, bytes);
}

fn damage(disk: &SimDisk, path: &Path, how: &str) {
    let bytes = disk.bytes(path).unwrap();
    match how {
        "header" => flip(disk, path, 3),
        "header and footer" => {
            flip(disk, path, 3);
            flip(disk, path, bytes.len() - 1);
        }
        "cut" => disk.put_bytes(path, bytes[..700].to_vec()),
        "empty" => disk.put_bytes(path, Vec::new()),
        _ => disk.remove(path).unwrap(),
    }
}

#[test]
fn p19_what_is_given_up_can_begin_in_a_segment_that_cannot_be_opened() {
    let (whole, firsts) = filled();
    assert!(firsts.len() > 3);
    for how in ["header", "header and footer", "cut", "empty", "gone"] {
        for (segment, next) in [(firsts[0], firsts[1]), (firsts[1], firsts[2])] {
            for from in [segment.0, segment.0 + 3, next.0 - 1, next.0, next.0 + 2] {
                let context = format!("{how} of the segment from {segment}, lost from {from}");
                let disk = whole.copy();
                damage(&disk, &path(segment), how);
                let log = open(&disk);
                log.lose_from(LogIndex(from)).unwrap_or_else(|error| panic!("{context}: {error}"));
                let last = last_index(&log);
                assert!(last < from, "{context}: {last}");
                assert!(how != "header" || last + 1 == from, "{context}: all before can be found: {last}");
                assert!(log.lost_from().is_some_and(|lost| lost.0 == last + 1), "{context}");
                assert_eq!(log.last().map(|last| last.term.0).unwrap_or(1), 1, "{context}");
                drop(log);
                let log = open(&disk);
                assert_eq!((last_index(&log), log.lost_from()), (last, Some(LogIndex(last + 1))), "{context}");
                catch_up(&log, &entries()).unwrap_or_else(|error| panic!("{context}: {error}"));
                heal(&log, &entries()).unwrap_or_else(|error| panic!("{context}: {error}"));
                drop(log);
                let log = open(&disk);
                for index in 1..=ENTRIES {
                    let read = log.reader().read(LogIndex(index), LogIndex(index + 1), 1).unwrap();
                    assert_eq!(read, [record(1, index)], "{context}");
                }
            }
        }
    }
}

#[test]
fn p19_raft_cuts_where_the_header_of_a_segment_is_damaged_and_the_log_goes_on() {
    let (whole, firsts) = filled();
    for keep in firsts[1].0 - 1..firsts[2].0 + 2 {
        let disk = whole.copy();
        let log = open(&disk);
        damage(&disk, &path(firsts[1]), "header");
        log.truncate_to(record(1, keep).id()).unwrap_or_else(|error| panic!("{keep}: {error}"));
        append_and_wait(&log, 2, keep + 1..=keep + 5);
        drop(log);
        let log = open(&disk);
        assert_eq!((last_index(&log), log.lost_from()), (keep + 5, None), "{keep}");
    }
}

#[test]
fn p19_what_follows_a_damaged_entry_after_a_cut_is_not_taken_for_older() {
    let (whole, firsts) = filled();
    let log = open(&whole);
    // The head of the fourth record of a sealed segment.
    let second = path(firsts[1]);
    let bytes = whole.bytes(&second).unwrap();
    let starts: Vec<_> = (0..bytes.len() - 4).filter(|at| &bytes[*at..*at + 4] == b"RMQR").collect();
    flip(&whole, &second, starts[3] + 30);
    let (bad, keep) = (firsts[1].0 + 3, firsts[1].0 + 6);
    log.truncate_after(Some(LogIndex(keep))).unwrap();
    append_and_wait(&log, 2, keep + 1..=keep + 3);
    assert!(log.reader().read(LogIndex(bad), LogIndex(bad + 1), 1).is_err());
    log.repair_in_place(vec![record(1, bad)]).unwrap();
    let killed = whole.copy();
    let log = open(&killed);
    assert_eq!((last_index(&log), log.lost_from()), (keep + 3, None));
}

#[test]
fn p19_a_log_that_loses_what_peers_have_keeps_what_is_before_it() {
    let (whole, firsts) = filled();
    damage(&whole, &path(firsts[2]), "gone");
    let log = open(&whole);
    // All of the third segment is applied, and what comes after it is lost: the state ends where nothing can be read.
    log.lose_from(firsts[3]).unwrap();
    assert_eq!(log.last(), Some(record(1, firsts[2].0 - 1).id()));
    let read = log.reader().read(LogIndex(1), LogIndex(ENTRIES), usize::MAX);
    assert_eq!(read.unwrap().len() as u64, firsts[2].0 - 1);
}
