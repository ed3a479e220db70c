//! Older versions of segments: what is in a file is put back as it was before a cut, all of it or some blocks. It is found by
//! the next segment, by what follows it in its own, or by what `meta` knows (D165), and comes from the peers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::env::disk::Disk;
use crate::env::fault::sim::SimDisk;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::CommitLog;
use crate::store::log::damage_tests::{catch_up, heal};
use crate::store::log::record::Record;
use crate::store::log::tests::{FOLDER, append_and_wait, last_index, open_with_peers, record};

const SEGMENT_BYTES: u64 = 2048;
const SECTOR: usize = 512;
const ENTRIES: u64 = 100;
/// Of a log of one segment.
const FEW: u64 = 18;

fn open(disk: &SimDisk) -> CommitLog {
    open_with_peers(disk, SEGMENT_BYTES).unwrap()
}

/// Two versions of a log: as it was before the entries after `keep` were cut, and after others, of the same lengths, came.
/// The second was killed, so nothing but the cut and what follows it tells how far it went.
fn versions(keep: u64, last: u64) -> (SimDisk, SimDisk, BTreeMap<u64, Record>) {
    versions_with(keep, last, false)
}

/// As [`versions`]; the node may have started anew right after the cut.
fn versions_with(keep: u64, last: u64, starts_again: bool) -> (SimDisk, SimDisk, BTreeMap<u64, Record>) {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    append_and_wait(&log, 1, 1..=last);
    let older = disk.copy();
    log.truncate_after(Some(LogIndex(keep))).unwrap();
    if starts_again {
        drop(log);
        log = open(&disk);
    }
    for from in (keep + 1..=last).step_by(4) {
        append_and_wait(&log, 2, from..=(from + 3).min(last));
    }
    let entries = (1..=last).map(|index| (index, record(if index <= keep { 1 } else { 2 }, index)));
    (older, disk.copy(), entries.collect())
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let names = disk.list(Path::new(FOLDER)).unwrap();
    names.iter().filter(|name| name.ends_with(".seg")).map(|name| Path::new(FOLDER).join(name)).collect()
}

/// Reads entry by entry; gives whether one was refused.
fn read_each(log: &CommitLog, entries: &BTreeMap<u64, Record>, context: &str) -> bool {
    let read = |index: u64| match log.reader().read(LogIndex(index), LogIndex(index + 1), 1) {
        Ok(read) => {
            assert_eq!(read.first(), entries.get(&index), "{context}");
            false
        }
        Err(Error::Damaged { .. }) => true,
        Err(error) => panic!("{context}: {error}"),
    };
    (1..=last_index(log)).filter(|index| read(*index)).count() > 0
}

fn check_healed(disk: &SimDisk, entries: &BTreeMap<u64, Record>, context: &str) {
    let log = open(disk);
    heal(&log, entries).unwrap_or_else(|error| panic!("{context}: {error}"));
    catch_up(&log, entries).unwrap_or_else(|error| panic!("{context}: {error}"));
    heal(&log, entries).unwrap_or_else(|error| panic!("{context}: {error}"));
    drop(log);
    let log = open(disk);
    assert!(!read_each(&log, entries, context), "{context}: something is refused");
    assert_eq!((last_index(&log), log.damage()), (entries.len() as u64, Vec::new()), "{context}");
}

#[test]
fn p19_a_segment_as_it_was_before_a_cut_is_found_whatever_part_of_it_is_put_back() {
    let mut found = 0;
    for (keep, last) in [(20, ENTRIES), (30, ENTRIES), (45, ENTRIES), (46, ENTRIES), (88, ENTRIES), (3, FEW), (10, FEW)]
    {
        let (older, newer, entries) = versions(keep, last);
        for path in segments(&newer) {
            let (old, new) = (older.bytes(&path).unwrap_or_default(), newer.bytes(&path).unwrap());
            let blocks = new.len().div_ceil(SECTOR);
            for (from, to) in (0..blocks).flat_map(|from| (from + 1..=blocks).map(move |to| (from, to))) {
                let context = format!("cut after {keep}, blocks {from} to {to} of {}", path.display());
                let mut bytes = new.clone();
                let part = from * SECTOR..(to * SECTOR).min(new.len());
                part.for_each(|at| bytes[at] = old.get(at).copied().unwrap_or(0));
                let disk = newer.copy();
                disk.put_bytes(&path, bytes.clone());
                let log = open(&disk);
                let is_refused = read_each(&log, &entries, &context);
                let is_found = is_refused || log.lost_from().is_some() || last_index(&log) < last;
                assert!(is_found || bytes == new || !log.damage().is_empty(), "{context}");
                found += u64::from(is_found);
                drop(log);
                check_healed(&disk, &entries, &context);
            }
        }
    }
    assert!(found > 50, "{found}");
}

#[test]
fn p19_a_whole_older_segment_is_found_by_the_one_after_it() {
    // The cut was between the first and the second one: both versions have the same segments.
    let (older, newer, entries) = versions(20, ENTRIES);
    let paths = segments(&newer);
    assert_eq!((&paths, paths.len()), (&segments(&older), 6));
    for path in &paths[1..5] {
        let context = path.display().to_string();
        let disk = newer.copy();
        disk.put_bytes(path, older.bytes(path).unwrap());
        let log = open(&disk);
        let is_refused = read_each(&log, &entries, &context);
        // Of the last two nothing may be known for sure: then both are given up.
        let is_lost = log.lost_from().is_some() && path == &paths[4];
        assert!(is_refused || is_lost, "{context}: nothing is refused");
        drop(log);
        check_healed(&disk, &entries, &context);
    }
}

#[test]
fn p19_the_last_segment_as_it_was_before_a_cut_is_lost_and_said_to_be() {
    let cuts = [(20, ENTRIES), (82, ENTRIES), (90, ENTRIES), (1, FEW), (8, FEW), (16, FEW)];
    for ((keep, last), starts_again) in cuts.into_iter().flat_map(|cut| [(cut, false), (cut, true)]) {
        let (older, newer, entries) = versions_with(keep, last, starts_again);
        let path = segments(&newer).pop().unwrap();
        newer.put_bytes(&path, older.bytes(&path).unwrap_or_else(|| panic!("cut after {keep}: it is a new one")));
        let log = open(&newer);
        assert!(log.lost_from().is_some(), "cut after {keep}");
        assert!(!read_each(&log, &entries, "the last segment"), "cut after {keep}");
        drop(log);
        check_healed(&newer, &entries, "the last segment");
    }
}

#[test]
fn p19_a_missing_segment_is_made_anew_as_one_of_its_own() {
    let (_, newer, entries) = versions(20, ENTRIES);
    let paths = segments(&newer);
    for path in &paths[1..5] {
        let disk = newer.copy();
        disk.remove(path).unwrap();
        check_healed(&disk, &entries, &path.display().to_string());
        assert!(path == &paths[4] || segments(&disk) == paths, "{}: {:?}", path.display(), segments(&disk));
    }
}
