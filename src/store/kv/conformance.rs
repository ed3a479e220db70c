//! One suite for every implementation of the key-value store.

use bytes::Bytes;

use crate::store::kv::memory::MemoryKv;
use crate::store::kv::rocks::{RocksKv, damage_mark};
use crate::store::kv::{Kv, Space, WriteBatch};

const MEMORY_BYTES: usize = 8 * 1024 * 1024;
const OPEN_FILES_MAX: u32 = 64;

fn put(kv: &dyn Kv, space: Space, pairs: &[(&'static str, Option<&'static str>)]) {
    let write = |(key, value): &(&'static str, Option<&'static str>)| {
        (space, Bytes::from_static(key.as_bytes()), value.map(|value| Bytes::from_static(value.as_bytes())))
    };
    kv.write(WriteBatch { writes: pairs.iter().map(write).collect() }).unwrap();
}

fn keys(kv: &dyn Kv, from: &str, to: &str, limit: usize) -> Vec<String> {
    let pairs = kv.scan(Space::Queue, from.as_bytes(), to.as_bytes(), limit).unwrap();
    pairs.into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

pub(in crate::store) fn conforms(kv: &dyn Kv) {
    assert_eq!(kv.get(Space::Queue, b"a").unwrap(), None);
    put(kv, Space::Queue, &[("b", Some("2")), ("a", Some("1")), ("d", Some("4")), ("c", Some("3"))]);
    put(kv, Space::Lease, &[("b", Some("other"))]);
    assert_eq!(kv.get(Space::Queue, b"b").unwrap(), Some(Bytes::from_static(b"2")));
    assert_eq!(kv.get(Space::Lease, b"b").unwrap(), Some(Bytes::from_static(b"other")));
    assert_eq!(keys(kv, "a", "d", 9), ["a", "b", "c"]);
    assert_eq!(keys(kv, "a", "z", 2), ["a", "b"]);
    assert_eq!(keys(kv, "bb", "z", 9), ["c", "d"]);
    assert_eq!(keys(kv, "d", "a", 9), [""; 0]);
    assert_eq!(keys(kv, "a", "a", 9), [""; 0]);
    let last = |to: &str| kv.last(Space::Queue, b"b", to.as_bytes()).unwrap().map(|(key, _)| key);
    assert_eq!(last("d"), Some(Bytes::from_static(b"c")));
    assert_eq!(last("z"), Some(Bytes::from_static(b"d")));
    assert_eq!(last("b"), None);
    put(kv, Space::Queue, &[("a", None), ("c", Some("9")), ("c", Some("10"))]);
    assert_eq!(keys(kv, "a", "z", 9), ["b", "c", "d"]);
    assert_eq!(kv.get(Space::Queue, b"c").unwrap(), Some(Bytes::from_static(b"10")));
    kv.flush().unwrap();
    assert_eq!(keys(kv, "a", "z", 9), ["b", "c", "d"]);
    let snapshot = kv.snapshot().unwrap();
    put(kv, Space::Queue, &[("b", None), ("c", Some("11")), ("e", Some("5"))]);
    assert_eq!(keys(kv, "a", "z", 9), ["c", "d", "e"]);
    assert_eq!(keys(&*snapshot, "a", "z", 9), ["b", "c", "d"], "as it was");
    assert_eq!(snapshot.get(Space::Queue, b"c").unwrap(), Some(Bytes::from_static(b"10")));
    let last = snapshot.last(Space::Queue, b"a", b"z").unwrap();
    assert_eq!(last, Some((Bytes::from_static(b"d"), Bytes::from_static(b"4"))));
    drop(snapshot);
    kv.write_at_once(WriteBatch { writes: vec![(Space::Queue, Bytes::from_static(b"f"), Some(Bytes::new()))] })
        .unwrap();
    assert_eq!(keys(kv, "a", "z", 9), ["c", "d", "e", "f"]);
}

#[test]
fn the_store_in_memory_conforms() {
    conforms(&MemoryKv::default());
}

#[test]
fn the_store_on_rocksdb_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&RocksKv::open(folder.path(), MEMORY_BYTES, OPEN_FILES_MAX).unwrap());
}

/// The files of an open store as a crash would leave them. RocksDB removes what it no longer needs from a thread of its own;
/// a file that goes between the listing and its copy was not there at a later crash, so the image is taken anew.
#[allow(clippy::disallowed_methods, reason = "the test plays the crash")]
fn crash_image(of: &std::path::Path) -> tempfile::TempDir {
    let take = || -> std::io::Result<tempfile::TempDir> {
        let image = tempfile::tempdir()?;
        for file in std::fs::read_dir(of)? {
            let file = file?;
            std::fs::copy(file.path(), image.path().join(file.file_name()))?;
        }
        Ok(image)
    };
    for _ in 0..100 {
        match take() {
            Ok(image) => return image,
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("no image of {}: {error}", of.display()),
        }
    }
    panic!("files of {} went a hundred times while they were copied", of.display());
}

#[test]
fn p18_a_crash_takes_what_was_not_flushed_and_tears_no_batch() {
    let folder = tempfile::tempdir().unwrap();
    let kv = RocksKv::open(folder.path(), MEMORY_BYTES, OPEN_FILES_MAX).unwrap();
    let both = |value: &'static str| WriteBatch {
        writes: vec![
            (Space::Queue, Bytes::from_static(b"k"), Some(Bytes::from_static(value.as_bytes()))),
            (Space::Meta, Bytes::from_static(b"k"), Some(Bytes::from_static(value.as_bytes()))),
        ],
    };
    let after_crash = |image: &tempfile::TempDir| {
        let kv = RocksKv::open(image.path(), MEMORY_BYTES, OPEN_FILES_MAX).unwrap();
        (kv.get(Space::Queue, b"k").unwrap(), kv.get(Space::Meta, b"k").unwrap())
    };
    kv.write(both("1")).unwrap();
    assert_eq!(after_crash(&crash_image(folder.path())), (None, None), "there is no log beside the Raft log");
    kv.flush().unwrap();
    kv.write(both("2")).unwrap();
    let one = Some(Bytes::from_static(b"1"));
    assert_eq!(after_crash(&crash_image(folder.path())), (one.clone(), one));
    kv.flush().unwrap();
    let two = Some(Bytes::from_static(b"2"));
    assert_eq!(after_crash(&crash_image(folder.path())), (two.clone(), two));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test plays the damage")]
fn p19_damage_in_a_copy_is_found_when_it_is_read_through_and_noted_for_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let kv = RocksKv::open(&folder.path().join("state"), MEMORY_BYTES, OPEN_FILES_MAX).unwrap();
    let writes = (0..1000u32).map(|number| {
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        (Space::Queue, key, Some(Bytes::from(vec![number as u8; 100])))
    });
    kv.write(WriteBatch { writes: writes.collect() }).unwrap();
    kv.flush().unwrap();
    let copied = folder.path().join("copy");
    kv.checkpoint(&copied).unwrap();
    kv.open_copy(&copied).unwrap().verify(&mut |_| true).unwrap();
    let tables = std::fs::read_dir(&copied).unwrap().map(|file| file.unwrap().path());
    let table = tables.filter(|path| path.extension().is_some_and(|kind| kind == "sst"));
    let table = table.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[100] ^= 1;
    std::fs::remove_file(&table).unwrap();
    std::fs::write(&table, bytes).unwrap();
    let copy = kv.open_copy(&copied).unwrap();
    assert_eq!(copy.get(Space::Queue, &999u32.to_be_bytes()).unwrap().map(|value| value.len()), Some(100));
    let error = copy.verify(&mut |_| true).unwrap_err();
    assert!(error.is_damage(), "{error}");
    for of in ["state", "copy"] {
        assert!(!damage_mark(&folder.path().join(of)).exists(), "{of}");
    }
    kv.verify(&mut |_| true).unwrap();
}
