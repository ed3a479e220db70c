//! Sealed segments: a start and memory that do not grow with the log, damage found when it is read, cuts into them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::env::disk::Disk;
use crate::env::fault::sim::SimDisk;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::footer::Footer;
use crate::store::log::record::Record;
use crate::store::log::tests::{FOLDER, all, append_and_wait, last_index, open, open_in_mode, open_with, record};
use crate::store::log::{CommitLog, FlushMode, SegmentExtent};

const SEGMENT_BYTES: u64 = 2048;
/// Of a log of five segments.
const ENTRIES: u64 = 100;

fn open_small(disk: &SimDisk) -> CommitLog {
    open_with(disk, SEGMENT_BYTES).unwrap()
}

/// A log of so many entries of term 1, closed.
fn filled(entries: u64) -> SimDisk {
    let disk = SimDisk::default();
    append_and_wait(&open_small(&disk), 1, 1..=entries);
    disk
}

fn path(segment: SegmentExtent) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("{:020}.seg", segment.first.0))
}

fn expected(entries: u64) -> Vec<Record> {
    (1..=entries).map(|index| record(1, index)).collect()
}

/// Reads everything, entry by entry.
fn read_each(log: &CommitLog) -> Vec<Result<Record, Error>> {
    let read = |index| {
        let read = log.reader().read(LogIndex(index), LogIndex(index + 1), usize::MAX);
        read.map(|records| records.into_iter().next().expect("it is in the log"))
    };
    (1..=last_index(log)).map(read).collect()
}

#[test]
fn a_start_reads_as_much_of_a_large_log_as_of_a_small_one() {
    let cost = |entries| {
        let disk = filled(entries);
        let before = disk.reads();
        let log = open_small(&disk);
        let after = disk.reads();
        assert_eq!(last_index(&log), entries);
        (log.segments().len(), after.0 - before.0, after.1 - before.1)
    };
    let (small, large) = (cost(100), cost(5000));
    assert!(large.0 > 40 * small.0, "segments: {} and {}", small.0, large.0);
    assert!(large.1 <= small.1 + SEGMENT_BYTES, "bytes read: {} and {}", small.1, large.1);
    assert_eq!((small.2, large.2), (2, 2), "the last segment and the one before");
}

#[test]
fn memory_and_open_files_do_not_grow_with_the_log() {
    let disk = SimDisk::default();
    let check = |log: &CommitLog| {
        assert_eq!(all(log), expected(6000));
        let (memory, count) = (log.memory(), log.segments().len());
        assert!(count > 200, "{count} segments");
        // Segments of 1 MiB or more: 1024 in a GiB at most.
        let per_gib = memory.list_bytes * 1024 / count;
        assert!(per_gib <= 64 * 1024, "{per_gib} bytes per GiB of log");
        assert!(memory.open_files <= 16, "{} files", memory.open_files);
        assert!(memory.places_bytes <= 8 * 1024 * 1024, "{} bytes of places", memory.places_bytes);
    };
    let written = open_small(&disk);
    append_and_wait(&written, 1, 1..=6000);
    check(&written);
    drop(written);
    let log = open_small(&disk);
    check(&log);
    assert_eq!(log.bytes(), log.segments().iter().map(|segment| segment.bytes).sum::<u64>());
    let on_disk = |segment| disk.bytes(&path(segment)).unwrap().len() as u64;
    assert!(log.segments().into_iter().all(|segment| on_disk(segment) == segment.bytes));
}

#[test]
fn a_sealed_segment_ends_with_its_footer_in_both_flush_modes() {
    for flush in [FlushMode::Sync, FlushMode::Async] {
        let disk = SimDisk::default();
        let log = open_in_mode(&disk, SEGMENT_BYTES, flush).unwrap();
        append_and_wait(&log, 1, 1..=150);
        let segments = log.segments();
        assert!(segments.len() > 5);
        let (_, sealed) = segments.split_last().unwrap();
        for segment in sealed {
            let bytes = disk.bytes(&path(*segment)).unwrap();
            assert_eq!(bytes[bytes.len() - 8..], 0x5241_4654_4D51_4654_u64.to_be_bytes());
            assert!(bytes.len() <= SEGMENT_BYTES as usize, "with its footer it is no longer than a segment");
        }
        disk.crash(1);
        let left = open_small(&disk);
        assert!(last_index(&left) + 1 >= segments.last().unwrap().first.0, "what is sealed is durable");
    }
}

#[test]
fn p19_a_flipped_byte_in_a_sealed_segment_is_refused_or_harmless_when_it_is_read() {
    let written = filled(ENTRIES);
    let segments = open_small(&written).segments();
    assert!(segments.len() > 3);
    let path = path(segments[1]);
    let bytes = written.bytes(&path).unwrap();
    let expected = expected(ENTRIES);
    let inside = segments[1].first.0..segments[2].first.0;
    for at in (0..bytes.len()).step_by(3) {
        let disk = written.copy();
        let mut broken = bytes.clone();
        broken[at] ^= 0x10;
        disk.put_bytes(&path, broken);
        let log = open_small(&disk);
        for (found, expected) in read_each(&log).into_iter().zip(&expected) {
            match found {
                Ok(found) => assert_eq!(found, *expected, "byte {at}"),
                Err(Error::Damaged { .. }) => assert!(inside.contains(&expected.index.0), "byte {at}"),
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
        append_and_wait(&log, 1, ENTRIES + 1..=ENTRIES + 1);
    }
}

#[test]
fn p19_a_flipped_byte_in_the_segment_before_the_last_is_refused_or_harmless() {
    let written = filled(ENTRIES);
    let segments = open_small(&written).segments();
    let path = path(segments[segments.len() - 2]);
    let bytes = written.bytes(&path).unwrap();
    let expected = expected(ENTRIES);
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(3) {
        let disk = written.copy();
        let mut broken = bytes.clone();
        broken[at] ^= 0x10;
        disk.put_bytes(&path, broken);
        match open_with(&disk, SEGMENT_BYTES) {
            Ok(log) => {
                let read = read_each(&log).into_iter().zip(&expected);
                read.for_each(|(found, expected)| assert!(found.is_err() || found.unwrap() == *expected, "byte {at}"));
            }
            Err(Error::Damaged { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(refused < 64, "only a damaged header keeps it from starting: {refused}");
}

#[test]
fn a_segment_without_its_footer_is_read_through_and_must_reach_the_next_one() {
    let written = filled(ENTRIES);
    let segments = open_small(&written).segments();
    let second = path(segments[1]);
    let bytes = written.bytes(&second).unwrap();
    let expected = expected(ENTRIES);
    let records_end = bytes.windows(4).rposition(|bytes| bytes == b"RMQR").unwrap();
    for (kept, is_whole) in [(bytes.len() - 1, true), (records_end, false), (64, false)] {
        let disk = written.copy();
        disk.put_bytes(&second, bytes[..kept].to_vec());
        let log = open_small(&disk);
        let inside = log.reader().read(segments[1].first, segments[2].first, usize::MAX);
        match inside {
            Ok(records) if is_whole => {
                assert_eq!(records[..], expected[segments[1].first.0 as usize - 1..][..records.len()])
            }
            Err(Error::Damaged { reason, .. }) if !is_whole => {
                assert!(reason.contains("cannot be read") || reason.contains("next segment begins"), "{reason}");
            }
            other => panic!("{kept} bytes: {other:?}"),
        }
        let after = log.reader().read(segments[2].first, LogIndex(ENTRIES + 1), usize::MAX).unwrap();
        assert_eq!(after, expected[segments[2].first.0 as usize - 1..]);
    }
    // A whole segment that is missing is found when it is read.
    let disk = written.copy();
    disk.remove(&second).unwrap();
    let log = open_small(&disk);
    assert!(matches!(log.reader().read(segments[1].first, LogIndex(ENTRIES + 1), 1), Err(Error::Damaged { .. })));
    // The first one, or the last one, at the start.
    for missing in [segments[0], segments[segments.len() - 1]] {
        let disk = written.copy();
        disk.remove(&path(missing)).unwrap();
        assert!(matches!(open_with(&disk, SEGMENT_BYTES), Err(Error::Damaged { .. })), "{missing:?}");
    }
}

#[test]
fn the_checksum_in_a_footer_depends_on_the_entries_only() {
    let checksums = |disk: &SimDisk, segments: &[SegmentExtent]| {
        let footer = |segment: &SegmentExtent| {
            let file = disk.open(&path(*segment)).unwrap();
            Footer::read(&*file, segment.first).unwrap().expect("it is sealed")
        };
        segments[..segments.len() - 1].iter().map(|segment| footer(segment).checksum).collect::<Vec<_>>()
    };
    let written = filled(ENTRIES);
    let segments = open_small(&written).segments();
    let expected = checksums(&written, &segments);
    // Cut into a sealed one, gone on one by one over a reopening, with other marks in front of each record.
    let disk = filled(ENTRIES);
    let log = open_small(&disk);
    log.set_committed(LogIndex(3));
    log.truncate_after(Some(LogIndex(segments[1].first.0 + 2))).unwrap();
    let middle = segments[2].first.0 + 3;
    (segments[1].first.0 + 3..=middle).for_each(|index| append_and_wait(&log, 1, index..=index));
    drop(log);
    let log = open_in_mode(&disk, SEGMENT_BYTES, FlushMode::Async).unwrap();
    (middle + 1..=ENTRIES).for_each(|index| append_and_wait(&log, 1, index..=index));
    let firsts = |segments: &[SegmentExtent]| segments.iter().map(|segment| segment.first).collect::<Vec<_>>();
    assert_eq!(firsts(&log.segments()), firsts(&segments));
    assert_eq!(checksums(&disk, &log.segments()), expected);
    // And it depends on each of them.
    let other = SimDisk::default();
    let log = open_small(&other);
    append_and_wait(&log, 1, 1..=5);
    append_and_wait(&log, 2, 6..=ENTRIES);
    let (other, expected) = (checksums(&other, &log.segments()), expected.iter());
    assert!(other.iter().zip(expected).all(|(other, expected)| other != expected));
}

#[test]
fn what_is_at_hand_never_loads_a_footer() {
    let disk = filled(100);
    let log = open_small(&disk);
    let read = || log.reader().read_at_hand(LogIndex(20), LogIndex(21), 1).unwrap();
    let before = disk.reads();
    assert_eq!(read(), None);
    assert_eq!(disk.reads(), before, "nothing was read from the disk to say so");
    log.reader().read(LogIndex(20), LogIndex(21), 1).unwrap();
    assert_eq!(read(), Some(vec![record(1, 20)]));
}

#[test]
fn p18_a_cut_into_a_sealed_segment_makes_it_the_last_one_again() {
    let segments = open_small(&filled(ENTRIES)).segments();
    for keep in 1..=ENTRIES {
        let disk = filled(ENTRIES);
        let log = open_small(&disk);
        all(&log);
        log.truncate_after(Some(LogIndex(keep))).unwrap();
        assert_eq!(last_index(&log), keep);
        assert_eq!(all(&log), expected(keep));
        let left = segments.iter().filter(|segment| segment.first.0 <= keep + 1).count();
        assert_eq!(log.segments().len(), left, "keep {keep}");
        let keeps_log_open = keep % 2 == 0;
        let log = if keeps_log_open {
            log
        } else {
            drop(log);
            open_small(&disk)
        };
        append_and_wait(&log, 2, keep + 1..=keep + 40);
        let mut expected = expected(keep);
        expected.extend((keep + 1..=keep + 40).map(|index| record(2, index)));
        assert_eq!(all(&log), expected);
        drop(log);
        disk.crash(keep);
        assert_eq!(all(&open_small(&disk)), expected, "keep {keep}");
    }
}

#[test]
fn p18_a_crash_after_sealing_and_before_the_next_segment_loses_nothing() {
    let disk = filled(ENTRIES);
    let segments = open_small(&disk).segments();
    // As if the last one had never been made: the mark of the idle log is from before, too.
    let disk = {
        let copy = disk.copy();
        let short = filled(segments.last().unwrap().first.0 - 1);
        let meta = PathBuf::from(FOLDER).join("meta");
        copy.put_bytes(&meta, short.bytes(&meta).unwrap());
        copy.remove(&path(segments[segments.len() - 1])).unwrap();
        copy
    };
    let last = segments.last().unwrap().first.0 - 1;
    let sealed = path(segments[segments.len() - 2]);
    let bytes = disk.bytes(&sealed).unwrap();
    // Its footer may be torn anywhere, too.
    for kept in bytes.len() - 40..=bytes.len() {
        let disk = disk.copy();
        disk.put_bytes(&sealed, bytes[..kept].to_vec());
        let log = open_small(&disk);
        assert_eq!(all(&log), expected(last));
        append_and_wait(&log, 1, last + 1..=last + 30);
        drop(log);
        assert_eq!(all(&open_small(&disk)), expected(last + 30));
    }
    // But with a whole footer no record may be missing before it.
    let disk = disk.copy();
    let mut broken = bytes.clone();
    let last_record = bytes.windows(4).rposition(|bytes| bytes == b"RMQR").unwrap();
    broken[last_record] ^= 1;
    disk.put_bytes(&sealed, broken);
    assert!(matches!(open_with(&disk, SEGMENT_BYTES), Err(Error::Damaged { .. })));
}

#[test]
fn a_read_that_a_cut_overtakes_is_shorter_and_never_wrong() {
    let disk = filled(100);
    let log = open_small(&disk);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for from in [1, 40, 90] {
            let (log, is_done) = (&log, &is_done);
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    let found = log.reader().read(LogIndex(from), LogIndex(200), usize::MAX).unwrap();
                    for (record, index) in found.iter().zip(from..) {
                        assert_eq!(*record, super::tests::record(record.term.0, index));
                    }
                }
            });
        }
        let mut kept = SEGMENT_BYTES;
        for term in 2..80 {
            kept = kept * 31 % 97;
            log.truncate_after(Some(LogIndex(kept.max(1)))).unwrap();
            append_and_wait(&log, term, kept.max(1) + 1..=100);
        }
        is_done.store(true, Ordering::Relaxed);
    });
    let log_again = {
        drop(log);
        open(&disk)
    };
    assert_eq!(last_index(&log_again), 100);
}
