//! Parts of files that the disk cannot read: they are damage, and neither end the node nor keep it from starting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::env::fault::sim::SimDisk;
use crate::model::{LogIndex, NodeId, Term};
use crate::store::Error;
use crate::store::log::damage_tests::{catch_up, heal};
use crate::store::log::record::Record;
use crate::store::log::tests::{FOLDER, append_and_wait, last_index, open_with, open_with_peers, record};
use crate::store::log::{CommitLog, VoteRecord};

/// Four blocks.
const SEGMENT_BYTES: u64 = 16 * 1024;
const BLOCK: usize = 4096;
const ENTRIES: u64 = 700;
const VOTE: VoteRecord = VoteRecord { term: Term(1), node: NodeId(2), committed: false };

/// A log that was closed, or killed: then nothing says of its last entry that it is durable.
fn filled(is_closed: bool) -> SimDisk {
    let disk = SimDisk::default();
    let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap();
    log.save_vote(VOTE).unwrap();
    append_and_wait(&log, 1, 1..=ENTRIES - 1);
    append_and_wait(&log, 1, ENTRIES..=ENTRIES);
    assert!(log.segments().len() >= 4);
    if is_closed {
        drop(log)
    }
    disk.copy()
}

fn entries() -> BTreeMap<u64, Record> {
    (1..=ENTRIES).map(|index| (index, record(1, index))).collect()
}

fn paths(disk: &SimDisk) -> Vec<PathBuf> {
    let firsts = open_with_peers(&disk.copy(), SEGMENT_BYTES).unwrap().segments();
    firsts.iter().map(|segment| Path::new(FOLDER).join(format!("{:020}.seg", segment.first.0))).collect()
}

/// What is read is right or refused; gives how many are refused.
fn read_each(log: &CommitLog, context: &str) -> usize {
    let read = |index: u64| match log.reader().read(LogIndex(index), LogIndex(index + 1), 1) {
        Ok(read) => {
            assert_eq!(read, [record(1, index)], "{context}");
            0
        }
        Err(Error::Damaged { .. }) => 1,
        Err(error) => panic!("{context}: {error}"),
    };
    (1..=last_index(log)).map(read).sum()
}

fn heal_and_check(log: &CommitLog, context: &str) {
    heal(log, &entries()).unwrap_or_else(|error| panic!("{context}: {error}"));
    catch_up(log, &entries()).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!((read_each(log, context), last_index(log)), (0, ENTRIES), "{context}");
    assert_eq!((log.damage(), log.lost_from()), (Vec::new(), None), "{context}");
}

/// Each block of each segment, one after the other.
fn each_block(disk: &SimDisk, mut check: impl FnMut(SimDisk, &str)) {
    for path in paths(disk) {
        let bytes = disk.bytes(&path).unwrap().len();
        for at in (0..bytes).step_by(BLOCK) {
            let disk = disk.copy();
            disk.make_unreadable(&path, at..(at + BLOCK).min(bytes));
            check(disk, &format!("bytes from {at} of {}", path.display()));
        }
    }
}

#[test]
fn p19_a_block_that_cannot_be_read_keeps_no_node_from_starting_and_comes_from_peers() {
    for is_closed in [true, false] {
        each_block(&filled(is_closed), |disk, context| {
            let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(log.read_vote(), Some(VOTE));
            let (refused, last) = (read_each(&log, context), last_index(&log));
            assert!(last == ENTRIES || log.lost_from().is_some_and(|lost| lost.0 <= last + 1), "{context}: {last}");
            heal_and_check(&log, context);
            drop(log);
            let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap();
            assert_eq!((read_each(&log, context), log.lost_from()), (0, None), "{context}, {refused} refused before");
        });
    }
}

#[test]
fn p19_a_block_that_cannot_be_read_any_more_ends_no_node_that_runs() {
    each_block(&filled(true), |disk, context| {
        let log = open_with_peers(&disk.copy(), SEGMENT_BYTES).unwrap();
        drop(log);
        heal_and_check(&open_with_peers(&disk, SEGMENT_BYTES).unwrap(), context);
    });
    // Of a log that is open: also in the segment that is written to.
    let whole = filled(true);
    for path in paths(&whole) {
        for at in [0, BLOCK] {
            let disk = whole.copy();
            let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap();
            let bytes = disk.bytes(&path).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            // Not the block that the next append goes into.
            if used < at + BLOCK {
                continue;
            }
            disk.make_unreadable(&path, at..at + BLOCK);
            let context = format!("bytes from {at} of {}", path.display());
            assert!(read_each(&log, &context) > 0, "{context}");
            heal_and_check(&log, &context);
            append_and_wait(&log, 2, ENTRIES + 1..=ENTRIES + 50);
        }
    }
}

#[test]
fn p19_a_segment_of_which_a_block_cannot_be_read_can_be_cut() {
    each_block(&filled(true), |disk, context| {
        for keep in [1, 100, 200, 300, 400] {
            let disk = disk.copy();
            let mut log = open_with_peers(&disk, SEGMENT_BYTES).unwrap();
            // One that cannot be read is known to whoever cuts there.
            if log.truncate_to(record(1, keep.min(last_index(&log))).id()).is_err() {
                // Where its footer is gone too a new start finds out what is left.
                drop(log);
                log = open_with_peers(&disk, SEGMENT_BYTES).unwrap();
                log.lose_from(LogIndex(keep + 1)).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            let last = last_index(&log);
            assert!(last <= keep, "{context}");
            append_and_wait(&log, 2, last + 1..=last + 5);
            drop(log);
            let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(last_index(&log) == last + 5 || log.lost_from().is_some(), "{context}");
        }
    });
}

#[test]
fn p18_a_vote_is_read_from_the_copy_that_can_be_read() {
    let whole = filled(true);
    let meta = Path::new(FOLDER).join("meta");
    for at in [0, BLOCK] {
        let disk = whole.copy();
        disk.make_unreadable(&meta, at..at + BLOCK);
        for _ in 0..2 {
            let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap();
            assert_eq!((log.read_vote(), last_index(&log)), (Some(VOTE), ENTRIES));
        }
    }
    // How this node voted is not made up, whether it has entries or not.
    for has_segments in [true, false] {
        let disk = if has_segments { whole.copy() } else { SimDisk::default() };
        drop(open_with_peers(&disk, SEGMENT_BYTES).unwrap());
        disk.make_unreadable(&meta, 0..2 * BLOCK);
        assert!(matches!(open_with_peers(&disk, SEGMENT_BYTES), Err(Error::Damaged { .. })));
    }
}

#[test]
fn p19_alone_a_node_does_not_start_without_what_its_disk_cannot_read_at_the_end() {
    let whole = filled(true);
    let path = paths(&whole).pop().unwrap();
    let disk = whole.copy();
    disk.make_unreadable(&path, 0..BLOCK);
    assert!(matches!(open_with(&disk, SEGMENT_BYTES), Err(Error::Damaged { .. })));
    assert_eq!(disk.bytes(&path), whole.bytes(&path), "what may be read again is left as it is");
}
