//! Snapshots as a node gives them: what is in one, how long it stays, what it holds back.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::env::disk::Disk;
use crate::model::LogIndex;
use crate::raft::marks::read_marks;
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::sources::{NotServed, PART_BYTES_MAX, SnapshotSources};
use crate::raft::snapshot::test_replica::{TestReplica, record};
use crate::raft::types;
use crate::store::kv::Kv;
use crate::store::log::record::Record;

async fn read_file(sources: &SnapshotSources, manifest: &Manifest, file: usize) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    loop {
        let part = sources.file_part(manifest.source, file, bytes.len() as u64).await.unwrap();
        if part.is_empty() {
            return bytes.to_vec();
        }
        bytes.put_slice(&part);
    }
}

async fn read_log(sources: &SnapshotSources, manifest: &Manifest) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    while records.last().is_none_or(|last| last.index < manifest.applied.index) {
        let next = records.last().map_or(manifest.first, |last| last.index.next());
        records.extend(sources.records(Some(manifest.source), next, manifest.applied.index).await.unwrap());
    }
    records
}

fn on_disk(replica: &TestReplica) -> usize {
    replica.disk.list(Path::new("/store/snap")).unwrap().len()
}

#[tokio::test]
async fn a_snapshot_has_the_state_and_all_records_that_it_refers_to() {
    let replica = TestReplica::new(1);
    replica.write_upto(200);
    replica.refer_to(130);
    let sources = replica.sources();
    let manifest = sources.open("n2", LogIndex(0)).await.unwrap();
    assert_eq!(manifest.applied, record(200).id());
    assert_eq!((manifest.first, manifest.before), (LogIndex(128), Some(record(127).id())));
    assert_eq!((&*manifest.cluster, &*manifest.group), ("c", "g"));
    // What comes later is not in it.
    replica.write_upto(230);
    let expected: Vec<Record> = (128..=200).map(record).collect();
    assert_eq!(read_log(&sources, &manifest).await, expected);
    assert!(manifest.log_bytes >= expected.iter().map(|record| record.wire_bytes() as u64).sum());
    assert!(manifest.files.len() > 2);
    let pulled = Path::new("/pulled");
    for (number, file) in manifest.files.iter().enumerate() {
        let bytes = read_file(&sources, &manifest, number).await;
        assert_eq!((bytes.len() as u64, crc32c::crc32c(&bytes)), (file.bytes, file.crc32c));
        replica.disk.put_bytes(&pulled.join(&file.name), bytes);
    }
    let copy = replica.kv.open_copy(pulled).unwrap();
    assert_eq!(read_marks(&*copy).unwrap().0.map(|id| types::record_id(&id)), Some(record(200).id()));
}

#[tokio::test]
async fn the_entry_before_the_first_one_is_known_also_where_the_log_begins_with_that() {
    let replica = TestReplica::new(1);
    replica.write_upto(200);
    replica.log.purge(record(150).id()).unwrap();
    replica.log.forget_before(LogIndex(150)).unwrap();
    let begins = replica.log.segments()[0].first;
    assert!(begins > LogIndex(128) && begins <= LogIndex(150), "{begins}");
    replica.refer_to(130);
    let manifest = replica.sources().open("n2", LogIndex(0)).await.unwrap();
    assert_eq!((manifest.first, manifest.before), (begins, Some(record(begins.0 - 1).id())));
}

#[tokio::test]
async fn a_state_that_refers_to_nothing_brings_the_last_applied_record_along() {
    let replica = TestReplica::new(1);
    assert_eq!(replica.sources().open("n2", LogIndex(0)).await, Err(NotServed::Behind(LogIndex(0))));
    replica.write_upto(100);
    let sources = replica.sources();
    let manifest = sources.open("n2", LogIndex(0)).await.unwrap();
    assert_eq!((manifest.first, manifest.applied), (LogIndex(100), record(100).id()));
    assert_eq!(read_log(&sources, &manifest).await, [record(100)]);
}

#[tokio::test]
async fn what_a_source_refers_to_is_pinned_until_it_is_closed_or_nobody_asks_for_it() {
    let replica = TestReplica::new(1);
    replica.write_upto(200);
    replica.refer_to(100);
    let sources = replica.sources_for(Duration::from_millis(400));
    assert_eq!(sources.pinned_from().await, None);
    let one = sources.open("n2", LogIndex(0)).await.unwrap();
    replica.refer_to(150);
    let other = sources.open("backup", LogIndex(0)).await.unwrap();
    assert_eq!((one.first, other.first), (LogIndex(64), LogIndex(128)));
    assert_eq!((sources.pinned_from().await, on_disk(&replica)), (Some(LogIndex(64)), 2));
    sources.close(one.source).await;
    assert_eq!((sources.pinned_from().await, on_disk(&replica)), (Some(LogIndex(128)), 1));
    assert_eq!(sources.file_part(one.source, 0, 0).await, Err(NotServed::Ended));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        sources.file_part(other.source, 0, 0).await.unwrap();
        assert_eq!(sources.pinned_from().await, Some(LogIndex(128)), "it is asked for");
    }
    tokio::time::sleep(Duration::from_millis(401)).await;
    assert_eq!((sources.pinned_from().await, on_disk(&replica)), (None, 0));
    assert_eq!(sources.records(Some(other.source), LogIndex(150), LogIndex(151)).await, Err(NotServed::Ended));
}

#[tokio::test]
async fn a_reader_that_asks_again_goes_on_with_its_source_and_a_new_start_has_none() {
    let replica = TestReplica::new(1);
    replica.write_upto(100);
    let sources = replica.sources();
    let first = sources.open("n2", LogIndex(90)).await.unwrap();
    assert_eq!(sources.open("n2", LogIndex(100)).await.unwrap().source, first.source);
    replica.write_upto(120);
    let later = sources.open("n2", LogIndex(101)).await.unwrap();
    assert_ne!(later.source, first.source, "it has to have applied more");
    assert_eq!(later.applied, record(120).id());
    assert_eq!(sources.file_part(first.source, 0, 0).await, Err(NotServed::Ended));
    assert_eq!(on_disk(&replica), 1);
    let again = replica.sources();
    assert_eq!(on_disk(&replica), 0);
    assert_eq!(again.file_part(later.source, 0, 0).await, Err(NotServed::Ended));
}

#[tokio::test]
async fn sources_are_few_and_have_applied_what_is_asked_for() {
    let replica = TestReplica::new(1);
    replica.write_upto(100);
    let sources = replica.sources();
    assert_eq!(sources.open("n2", LogIndex(101)).await, Err(NotServed::Behind(LogIndex(100))));
    for reader in ["a", "b", "c", "d"] {
        sources.open(reader, LogIndex(0)).await.unwrap();
    }
    assert_eq!(sources.open("e", LogIndex(0)).await, Err(NotServed::Busy));
    sources.end_all().await;
    assert_eq!((sources.pinned_from().await, on_disk(&replica)), (None, 0));
    replica.has_room.store(false, Ordering::Relaxed);
    assert!(matches!(sources.open("e", LogIndex(0)).await, Err(NotServed::Failed(_))));
    replica.has_room.store(true, Ordering::Relaxed);
    sources.open("e", LogIndex(0)).await.unwrap();
}

#[tokio::test]
async fn records_are_had_without_a_source_and_none_that_may_not_be_committed() {
    let replica = TestReplica::new(1);
    replica.write_upto(100);
    let sources = replica.sources();
    assert_eq!(sources.records(None, LogIndex(7), LogIndex(7)).await.unwrap(), [record(7)]);
    let all = sources.records(None, LogIndex(1), LogIndex(500)).await.unwrap();
    assert_eq!(all.len(), 100);
    assert!(all.iter().map(Record::wire_bytes).sum::<usize>() <= PART_BYTES_MAX);
    replica.applied.send_replace(LogIndex(60));
    assert_eq!(sources.records(None, LogIndex(60), LogIndex(70)).await.unwrap(), [record(60)]);
    for first in [0, 61, 101] {
        let missing = sources.records(None, LogIndex(first), LogIndex(200)).await;
        assert_eq!(missing, Err(NotServed::Missing(LogIndex(first))));
    }
}

#[tokio::test]
async fn p19_a_damaged_record_is_not_served() {
    let replica = TestReplica::new(1);
    replica.write_upto(100);
    let name = replica.disk.list(Path::new("/store/log")).unwrap().into_iter().find(|name| name.ends_with(".seg"));
    let path = Path::new("/store/log").join(name.unwrap());
    let mut bytes = replica.disk.bytes(&path).unwrap();
    bytes[200] ^= 1;
    replica.disk.put_bytes(&path, bytes);
    let read = replica.sources().records(None, LogIndex(1), LogIndex(10)).await;
    assert!(matches!(read, Err(NotServed::Failed(ref words)) if words.contains("damaged")), "{read:?}");
}

#[tokio::test]
async fn p19_a_state_that_cannot_be_read_through_is_not_given_and_its_node_makes_it_anew() {
    let replica = TestReplica::new(1);
    replica.write_upto(100);
    let sources = replica.sources();
    replica.kv.copies_rot.store(true, Ordering::Relaxed);
    let made = sources.open("n2", LogIndex(0)).await;
    assert!(matches!(made, Err(NotServed::Failed(ref words)) if words.contains("Corruption")), "{made:?}");
    assert!(replica.kv.is_given_up.load(Ordering::Relaxed));
    assert_eq!((sources.pinned_from().await, on_disk(&replica)), (None, 0));
}

#[tokio::test]
async fn what_could_not_be_made_leaves_nothing_behind() {
    let replica = TestReplica::new(1);
    replica.write_upto(100);
    let sources = replica.sources();
    for after in 0..6 {
        replica.disk.fail_write(after);
        let made = sources.open("n2", LogIndex(0)).await;
        if let Ok(manifest) = made {
            assert!(after >= manifest.files.len() as u64);
            return;
        }
        assert!(matches!(made, Err(NotServed::Failed(_))), "{made:?}");
        assert_eq!((sources.pinned_from().await, on_disk(&replica)), (None, 0));
    }
}
