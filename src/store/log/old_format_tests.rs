//! A folder of the release before (`tests/formats/log-4`): opened, upgraded whatever happens meanwhile, gone on with. And a
//! meta file from before cuts were noted (`meta-6`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::env::fault::sim::SimDisk;
use crate::model::{LogIndex, NodeId, Term};
use crate::store::Error;
use crate::store::log::damage_tests::heal;
use crate::store::log::meta::{Anew, Meta};
use crate::store::log::record::{Record, RecordId, RecordKind};
use crate::store::log::tests::{FOLDER, all, append_and_wait, last_index, open_with, open_with_peers, record};
use crate::store::log::{CommitLog, KnownPeer, LogOwner, VoteRecord};

const SEGMENT_BYTES: u64 = 2048;
const FIRSTS: [u64; 5] = [1, 23, 46, 68, 90];
const FILES: [(&str, &[u8]); 6] = [
    ("00000000000000000001.seg", include_bytes!("../../../tests/formats/log-4/00000000000000000001.seg")),
    ("00000000000000000023.seg", include_bytes!("../../../tests/formats/log-4/00000000000000000023.seg")),
    ("00000000000000000046.seg", include_bytes!("../../../tests/formats/log-4/00000000000000000046.seg")),
    ("00000000000000000068.seg", include_bytes!("../../../tests/formats/log-4/00000000000000000068.seg")),
    ("00000000000000000090.seg", include_bytes!("../../../tests/formats/log-4/00000000000000000090.seg")),
    ("meta", include_bytes!("../../../tests/formats/log-4/meta")),
];

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn old_folder() -> SimDisk {
    let disk = SimDisk::default();
    FILES.into_iter().for_each(|(name, bytes)| disk.put_bytes(&path(name), bytes.to_vec()));
    disk
}

/// As the program that made the folder made its entries.
fn expected() -> Vec<Record> {
    let made = |index| {
        let record = record(if index <= 40 { 1 } else { 3 }, index);
        match index {
            1 | 41 => Record { kind: RecordKind::Blank, body: Bytes::new(), ..record },
            _ if index % 10 == 0 => Record { kind: RecordKind::Membership, ..record },
            _ => record,
        }
    };
    (1..=90).map(made).collect()
}

fn open(disk: &SimDisk) -> CommitLog {
    open_with(disk, SEGMENT_BYTES).unwrap()
}

fn check(log: &CommitLog) {
    assert_eq!(all(log)[..90], expected());
    let vote = VoteRecord { term: Term(3), node: NodeId(2), committed: false };
    assert_eq!(log.read_vote(), Some(vote));
    assert_eq!(log.purged(), Some(record(1, 7).id()));
    let known = KnownPeer { disk: 77, start: None, acknowledged: LogIndex(12) };
    assert_eq!(log.known_peer(NodeId(2)), Some(known));
    assert_eq!(log.committed_hint(), LogIndex(75));
    assert_eq!(log.segments()[..5].iter().map(|segment| segment.first.0).collect::<Vec<_>>(), FIRSTS);
}

/// The format version and the last bytes of each segment.
fn sealed(disk: &SimDisk) -> Vec<bool> {
    let is_sealed = |(name, _): &(&str, &[u8])| {
        let bytes = disk.bytes(&path(name)).unwrap();
        assert_eq!(bytes[8..12], 6_u32.to_be_bytes(), "{name}");
        bytes.ends_with(&0x5241_4654_4D51_4654_u64.to_be_bytes())
    };
    FILES[..5].iter().map(is_sealed).collect()
}

#[test]
fn a_folder_of_the_release_before_is_upgraded_once() {
    let disk = old_folder();
    let log = open(&disk);
    check(&log);
    assert_eq!(sealed(&disk), [true, true, true, true, false]);
    append_and_wait(&log, 4, 91..=150);
    drop(log);
    let upgraded = disk.bytes(&path(FILES[0].0)).unwrap();
    let reads = disk.reads();
    let log = open(&disk);
    assert_eq!(disk.reads().1 - reads.1, 2, "the segments are not looked at again");
    check(&log);
    assert_eq!((last_index(&log), all(&log).pop()), (150, Some(record(4, 150))));
    assert_eq!(disk.bytes(&path(FILES[0].0)).unwrap(), upgraded);
    log.forget_before(LogIndex(68)).unwrap();
    log.truncate_after(Some(LogIndex(80))).unwrap();
    assert_eq!((log.first_index(), last_index(&log)), (Some(LogIndex(68)), 80));
}

#[test]
fn p18_an_upgrade_survives_a_crash_after_any_operation() {
    let operations = {
        let disk = old_folder();
        open(&disk);
        disk.operations()
    };
    assert!(operations > 25, "{operations}");
    for stop_after in 0..operations {
        for seed in 0..8 {
            let disk = old_folder();
            disk.stop_after(stop_after);
            drop(open_with(&disk, SEGMENT_BYTES));
            disk.crash(seed);
            let log = open_with(&disk, SEGMENT_BYTES);
            let log = log.unwrap_or_else(|error| panic!("stopped after {stop_after}, seed {seed}: {error}"));
            check(&log);
            assert_eq!(sealed(&disk), [true, true, true, true, false]);
            append_and_wait(&log, 4, 91..=92);
        }
    }
}

#[test]
fn p19_damage_in_a_folder_of_the_release_before_is_refused_or_found_when_it_is_read() {
    let bytes = FILES[1].1;
    for at in (0..bytes.len()).step_by(5) {
        let disk = old_folder();
        let mut broken = bytes.to_vec();
        broken[at] ^= 0x10;
        disk.put_bytes(&path(FILES[1].0), broken);
        let log = match open_with(&disk, SEGMENT_BYTES) {
            Ok(log) => log,
            Err(Error::Damaged { .. }) => continue,
            Err(error) => panic!("byte {at}: {error}"),
        };
        for expected in expected() {
            match log.reader().read(expected.index, expected.index.next(), 1) {
                Ok(found) => assert_eq!(found, [expected], "byte {at}"),
                Err(Error::Damaged { .. }) => assert!((23..46).contains(&expected.index.0), "byte {at}"),
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
    }
}

#[test]
fn p19_damage_in_a_folder_of_the_release_before_is_repaired_where_there_are_peers() {
    let bytes = FILES[1].1;
    let peers: BTreeMap<u64, Record> = expected().into_iter().map(|record| (record.index.0, record)).collect();
    for at in (0..bytes.len()).step_by(23) {
        let disk = old_folder();
        let mut broken = bytes.to_vec();
        broken[at] ^= 0x10;
        disk.put_bytes(&path(FILES[1].0), broken);
        let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap_or_else(|error| panic!("byte {at}: {error}"));
        heal(&log, &peers).unwrap_or_else(|error| panic!("byte {at}: {error}"));
        check(&log);
    }
}

#[test]
fn a_meta_file_from_before_cuts_were_noted_opens_and_takes_one() {
    let disk = SimDisk::default();
    disk.put_bytes(&path("meta"), include_bytes!("../../../tests/formats/meta-6").to_vec());
    let owner = LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(0) };
    let open = || Meta::open(&disk, Path::new(FOLDER), &owner).unwrap();
    let id = |index| RecordId { term: Term(1), node: NodeId(0), index: LogIndex(index) };
    let mut meta = open();
    assert_eq!((meta.anew_from(), meta.durable(), meta.durable_id()), (None, LogIndex(5), Some(id(5))));
    assert_eq!(meta.vote(), Some(VoteRecord { term: Term(1), node: NodeId(0), committed: true }));
    assert!(meta.is_upgraded());
    let cut = |meta: &mut Meta, keep, first| {
        let anew = Anew { first: LogIndex(first), from: LogIndex(keep + 1) };
        meta.note_cut(LogIndex(keep), Some(id(keep)), anew).unwrap();
    };
    cut(&mut meta, 3, 1);
    // Of another segment, and of the same one again.
    cut(&mut meta, 8, 7);
    cut(&mut meta, 10, 7);
    drop(meta);
    let meta = open();
    assert_eq!((meta.anew_from(), meta.durable(), meta.durable_id()), (Some(LogIndex(9)), LogIndex(10), Some(id(10))));
    assert_eq!(meta.starts().len(), 3, "each opening is remembered");
}
