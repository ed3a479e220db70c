//! One suite for every implementation of the key-value store.

use bytes::Bytes;

use super::kv::{Kv, Space, WriteBatch};
use super::memory::MemoryKv;
use super::rocks::RocksKv;

const MEMORY_BYTES: usize = 8 * 1024 * 1024;

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

pub(super) fn conforms(kv: &dyn Kv) {
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
}

#[test]
fn the_store_in_memory_conforms() {
    conforms(&MemoryKv::default());
}

#[test]
fn the_store_on_rocksdb_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&RocksKv::open(folder.path(), MEMORY_BYTES).unwrap());
}

#[test]
fn p18_what_was_flushed_is_there_after_a_restart_and_no_batch_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    {
        let kv = RocksKv::open(folder.path(), MEMORY_BYTES).unwrap();
        put(&kv, Space::Queue, &[("a", Some("1"))]);
        kv.flush().unwrap();
        kv.write(WriteBatch {
            writes: vec![
                (Space::Queue, Bytes::from_static(b"b"), Some(Bytes::from_static(b"2"))),
                (Space::Meta, Bytes::from_static(b"b"), Some(Bytes::from_static(b"2"))),
            ],
        })
        .unwrap();
    }
    let kv = RocksKv::open(folder.path(), MEMORY_BYTES).unwrap();
    assert_eq!(kv.get(Space::Queue, b"a").unwrap(), Some(Bytes::from_static(b"1")));
    assert_eq!(kv.get(Space::Queue, b"b").unwrap().is_some(), kv.get(Space::Meta, b"b").unwrap().is_some());
}
