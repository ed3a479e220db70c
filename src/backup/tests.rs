//! Backups on a simulated disk: what is written is read back and restored; any damage is found before anything can start
//! from it; a crash at any point leaves no backup, or a whole one, and nothing that starts, or the whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::backup::{Backup, BackupWriter, Error, Restored, Source, StateFile, Target, restore};
use crate::env::disk::Disk;
use crate::env::fault::sim::SimDisk;
use crate::model::{LogIndex, NodeId, Term, Timestamp};
use crate::raft::sole_member;
use crate::store::log::record::{Record, RecordId, RecordKind, encode_wire};
use crate::store::log::{CommitLog, FlushMode, LogOwner, Options};
use crate::store::restoring;

const FOLDER: &str = "/backup";
const STORE: &str = "/store";
/// The records of the backup.
const FIRST: u64 = 41;
const LAST: u64 = 90;
/// A new leader since then.
const TERM_3_FROM: u64 = 70;
const STATE: [(&str, &[u8]); 4] =
    [("CURRENT", b"MANIFEST-000005\n"), ("EMPTY", b""), ("000012.sst", &[7; 5000]), ("000013.sst", &[9; 700])];

fn record(index: u64) -> Record {
    let (term, node) = if index < TERM_3_FROM { (Term(2), NodeId(0)) } else { (Term(3), NodeId(2)) };
    let body = format!("{index}/").repeat(1 + (index % 5) as usize * 20);
    Record { term, node, index: LogIndex(index), kind: RecordKind::Batch, body: body.into() }
}

fn source() -> Source {
    let file = |(name, content): &(&str, &[u8])| StateFile {
        name: (*name).to_owned(),
        bytes: content.len() as u64,
        crc32c: crc32c::crc32c(content),
    };
    Source {
        cluster: "c".into(),
        group: "g".into(),
        node: "n1".into(),
        build: "0.1".into(),
        created_at: Timestamp(77),
        cluster_version: 3,
        applied: record(LAST).id(),
        first: LogIndex(FIRST),
        before: Some(record(FIRST - 1).id()),
        members: vec!["n0 a:1".into()],
        state: STATE.iter().map(file).collect(),
    }
}

fn state_bytes() -> Bytes {
    STATE.iter().flat_map(|(_, content)| content.iter().copied()).collect()
}

fn wire(records: std::ops::RangeInclusive<u64>) -> Bytes {
    let mut out = BytesMut::new();
    records.for_each(|index| encode_wire(&record(index), &mut out));
    out.freeze()
}

fn write(disk: &SimDisk) -> Result<(), Error> {
    let writer = BackupWriter::begin(Arc::new(disk.mount()), FOLDER.as_ref(), source())?;
    let mut writer = writer.with_record_files_of(1000);
    // Parts end anywhere in a file of the state.
    let mut state = state_bytes();
    while !state.is_empty() {
        writer.state(state.split_to(state.len().min(1999)))?;
    }
    for first in (FIRST..=LAST).step_by(7) {
        writer.records(wire(first..=(first + 6).min(LAST)))?;
    }
    writer.finish().map(|_| ())
}

fn backed_up() -> SimDisk {
    let disk = SimDisk::default();
    write(&disk).unwrap();
    disk
}

fn verify(disk: &SimDisk) -> Result<(), Error> {
    Backup::open(Arc::new(disk.mount()), FOLDER.as_ref())?.verify(|_| {})
}

fn target() -> Target {
    Target {
        store: STORE.into(),
        cluster: "new".into(),
        group: "h".into(),
        node: NodeId(7),
        lineage: 55,
        address: "b:1".into(),
        segment_bytes: 2048,
    }
}

fn restore_from(disk: &SimDisk) -> Result<Restored, Error> {
    let disk: Arc<dyn Disk> = Arc::new(disk.mount());
    restore(&disk, &Backup::open(disk.clone(), FOLDER.as_ref())?, &target(), |_| {})
}

fn open_log(disk: &SimDisk) -> CommitLog {
    let owner = LogOwner { cluster: "new".into(), group: "h".into(), node: NodeId(7) };
    let options = Options {
        segment_bytes: 2048,
        tail_cache_bytes: 512,
        flush: FlushMode::Sync,
        open_files_max: 8,
        has_peers: false,
    };
    CommitLog::open(Arc::new(disk.mount()), &Path::new(STORE).join("log"), &owner, options, Box::new(|_| {})).unwrap()
}

/// The restored folder is whole.
fn check_restored(disk: &SimDisk, context: &str) {
    for (name, content) in STATE {
        let found = disk.bytes(&Path::new(STORE).join("state").join(name));
        assert_eq!(found.as_deref(), Some(content), "{context}: {name}");
    }
    let log = open_log(disk);
    let mut expected: Vec<_> = (FIRST..=LAST).map(record).collect();
    let first = sole_member(record(LAST).id(), NodeId(7), "b:1");
    expected.extend(first.clone());
    let found = log.reader().read(LogIndex(FIRST), LogIndex(u64::MAX), usize::MAX).unwrap();
    assert_eq!(found, expected, "{context}");
    assert_eq!(log.last(), Some(first[1].id()), "{context}");
    assert_eq!(log.purged(), Some(record(FIRST - 1).id()), "{context}");
    let vote = log.read_vote().unwrap();
    assert_eq!((vote.term, vote.node, vote.committed), (Term(4), NodeId(7), true), "{context}");
    assert_eq!((log.node(), log.lineage()), (NodeId(7), 55), "{context}");
    // The next entry of the old group would be (Term(3), NodeId(2)), or of another node of it.
    assert!(first.iter().all(|entry| (entry.term, entry.node) == (Term(4), NodeId(7))), "{context}");
}

#[test]
fn p2_what_is_written_is_read_back_and_restored() {
    let disk = backed_up();
    verify(&disk).unwrap();
    let backup = Backup::open(Arc::new(disk.mount()), FOLDER.as_ref()).unwrap();
    assert_eq!(backup.manifest().source, source());
    assert!(backup.manifest().records.len() > 3, "several files");
    let restored = restore_from(&disk).unwrap();
    assert_eq!(restored.applied, LogIndex(LAST));
    assert_eq!(restored.records, LAST - FIRST + 1);
    assert!(!restoring::is_unfinished(&disk, STORE.as_ref()).unwrap());
    check_restored(&disk, "restored");
    assert!(matches!(restore_from(&disk), Err(Error::NotEmpty(_))), "a node's folder is not overwritten");
    assert!(matches!(write(&disk), Err(Error::NotEmpty(_))), "nor is a backup");
}

#[test]
fn p18_two_restores_into_one_folder_do_not_meet() {
    let disk = backed_up();
    let held = disk.lock(&Path::new(STORE).join("restore.lock")).unwrap();
    assert!(held.is_some() && matches!(restore_from(&disk), Err(Error::Busy(_))));
    assert!(!restoring::is_unfinished(&disk, STORE.as_ref()).unwrap());
    drop(held);
    restore_from(&disk).unwrap();
    check_restored(&disk, "after the other one ended");
}

#[test]
fn p2_a_log_whose_beginning_nobody_knows_is_restored_too() {
    let disk = SimDisk::default();
    let source = Source { before: None, ..source() };
    let mut writer = BackupWriter::begin(Arc::new(disk.mount()), FOLDER.as_ref(), source).unwrap();
    writer.state(state_bytes()).unwrap();
    writer.records(wire(FIRST..=LAST)).unwrap();
    writer.finish().unwrap();
    restore_from(&disk).unwrap();
    let log = open_log(&disk);
    assert_eq!(log.purged(), Some(RecordId { term: Term(0), node: NodeId(0), index: LogIndex(FIRST - 1) }));
    assert_eq!(log.first_index(), Some(LogIndex(FIRST)));
}

#[test]
fn p19_what_a_node_did_not_announce_becomes_no_backup() {
    let begin = || {
        let disk = SimDisk::default();
        let writer = BackupWriter::begin(Arc::new(disk.mount()), FOLDER.as_ref(), source()).unwrap();
        (disk, writer)
    };
    let unusable = |what: &str, result: Result<(), Error>, disk: &SimDisk| {
        assert!(matches!(result, Err(Error::Unusable(_))), "{what}");
        assert!(matches!(verify(disk), Err(Error::NoBackup(_))), "{what}");
    };
    let (disk, mut writer) = begin();
    let mut changed = state_bytes().to_vec();
    changed[100] ^= 1;
    unusable("another byte of the state", writer.state(changed.into()), &disk);
    let (disk, mut writer) = begin();
    writer.state(state_bytes()).unwrap();
    unusable("more of the state", writer.state(Bytes::from_static(b"x")), &disk);
    for (what, records) in [
        ("a gap before", wire(FIRST + 1..=LAST)),
        ("too much", wire(FIRST..=LAST + 1)),
        ("half a record", wire(FIRST..=LAST).slice(..1000)),
        ("a gap", [wire(FIRST..=50), wire(52..=LAST)].concat().into()),
    ] {
        let (disk, mut writer) = begin();
        writer.state(state_bytes()).unwrap();
        unusable(what, writer.records(records), &disk);
    }
    let (disk, mut writer) = begin();
    writer.records(wire(FIRST..=LAST)).unwrap();
    unusable("no state", writer.finish().map(|_| ()), &disk);
    let (disk, mut writer) = begin();
    writer.state(state_bytes()).unwrap();
    writer.records(wire(FIRST..=LAST - 1)).unwrap();
    unusable("no last record", writer.finish().map(|_| ()), &disk);
}

/// The files of the backup.
fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let inside = |folder: &str| {
        let folder = PathBuf::from(folder);
        let names = disk.list(&folder).unwrap().into_iter();
        names.map(move |name| folder.join(name)).filter(|path| disk.bytes(path).is_some()).collect::<Vec<_>>()
    };
    [FOLDER, "/backup/state", "/backup/records"].into_iter().flat_map(inside).collect()
}

#[test]
fn p19_any_damage_is_found_and_nothing_starts_from_it() {
    let whole = backed_up();
    let paths = files(&whole);
    assert!(paths.len() > 8, "{paths:?}");
    let check = |what: String, damage: &dyn Fn(&SimDisk)| {
        let disk = whole.copy();
        damage(&disk);
        assert!(verify(&disk).is_err(), "{what}: verified");
        assert!(restore_from(&disk).is_err(), "{what}: restored");
        // Nothing of it is there, or the mark that no node starts beside.
        let is_left = !disk.list(Path::new(STORE)).unwrap().is_empty();
        assert_eq!(restoring::is_unfinished(&disk, STORE.as_ref()).unwrap(), is_left, "{what}");
        // The folder is not lost: a whole backup can be restored into it.
        for path in &paths {
            disk.put_bytes(path, whole.bytes(path).unwrap());
        }
        restore_from(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        check_restored(&disk, &what);
    };
    for (number, path) in paths.iter().enumerate() {
        let bytes = whole.bytes(path).unwrap();
        let name = path.display();
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 8) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            check(format!("{name}, byte {at}"), &|disk| disk.put_bytes(path, flipped.clone()));
        }
        if !bytes.is_empty() {
            check(format!("{name}, cut"), &|disk| disk.put_bytes(path, bytes[..bytes.len() - 1].to_vec()));
        }
        check(format!("{name}, longer"), &|disk| disk.put_bytes(path, [&bytes[..], &[0]].concat()));
        check(format!("{name}, missing"), &|disk| disk.remove(path).unwrap());
        let other = &paths[(number + 1) % paths.len()];
        let others = whole.bytes(other).unwrap();
        check(format!("{name}, swapped with {}", other.display()), &|disk| {
            disk.put_bytes(path, others.clone());
            disk.put_bytes(other, bytes.clone());
        });
    }
}

#[test]
fn p18_a_crash_after_any_operation_of_a_backup_leaves_none_or_a_whole_one() {
    for stop_after in 0.. {
        let disk = SimDisk::default();
        disk.stop_after(stop_after);
        let is_done = write(&disk).is_ok();
        for seed in 0..4 {
            let crashed = disk.copy();
            crashed.crash(stop_after * 10 + seed);
            match verify(&crashed) {
                Ok(()) => {}
                Err(Error::NoBackup(_)) => assert!(!is_done, "operation {stop_after}: a backup that was done is gone"),
                Err(error) => panic!("operation {stop_after}: {error}"),
            }
        }
        if is_done {
            assert!(stop_after > 30, "{stop_after} operations");
            return;
        }
    }
}

#[test]
fn p18_a_crash_after_any_operation_of_a_restore_leaves_nothing_that_starts_or_the_whole() {
    let whole = backed_up();
    for stop_after in 0.. {
        let disk = whole.copy();
        disk.stop_after(stop_after);
        let is_done = restore_from(&disk).is_ok();
        for seed in 0..2 {
            let crashed = disk.copy();
            crashed.crash(stop_after * 10 + seed);
            let context = format!("operation {stop_after}, seed {seed}");
            let is_unfinished = restoring::is_unfinished(&crashed, STORE.as_ref()).unwrap();
            let is_empty = crashed.list(Path::new(STORE)).unwrap().is_empty()
                && crashed.list(Path::new("/store/log")).unwrap().is_empty()
                && crashed.list(Path::new("/store/state")).unwrap().is_empty();
            if is_done {
                assert!(!is_unfinished, "{context}: what was done is not");
            }
            if is_unfinished || is_empty {
                // Done again, also after one more crash on the way.
                crashed.stop_after(stop_after / 2);
                let again = restore_from(&crashed).is_ok();
                crashed.crash(seed);
                if !again {
                    restore_from(&crashed).unwrap_or_else(|error| panic!("{context}, done again: {error}"));
                }
            }
            check_restored(&crashed, &context);
        }
        if is_done {
            assert!(stop_after > 30, "{stop_after} operations");
            return;
        }
    }
}

#[test]
fn p20_a_restore_that_has_no_room_begins_nothing() {
    let disk = backed_up();
    disk.resize(Some(disk.used() + 1024 * 1024));
    assert!(matches!(restore_from(&disk), Err(Error::NoRoom { .. })));
    assert!(!restoring::is_unfinished(&disk, STORE.as_ref()).unwrap());
}
