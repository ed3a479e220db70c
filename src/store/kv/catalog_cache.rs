//! A cache of the catalog in front of a slower store: every request looks its topic up, on every front-end thread, and
//! the catalog hardly ever changes.
//!
//! Hot path. Everything that writes to the store beneath must write through here.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::store::kv::bounded_values::BoundedValues;
use crate::store::kv::{Kv, KvFacts, Result, Space, WriteBatch};

/// Caches topics, groups and subscriptions.
pub struct CatalogCache {
    kv: Arc<dyn Kv>,
    values: RwLock<Values>,
    /// Counts the writes that changed the catalog.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Values {
    known: BoundedValues,
    /// Keys that are being written: what is read of them now may be the old value.
    changing: Vec<Bytes>,
}

impl CatalogCache {
    /// In front of a store, with nothing remembered yet.
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv, values: RwLock::default(), changes: watch::Sender::new(0) }
    }

    /// The lock is not held over the write, which may take long: nobody who reads the catalog waits for that. Writes come one
    /// after the other.
    fn write_by(&self, batch: WriteBatch, write: impl FnOnce(WriteBatch) -> Result<()>) -> Result<()> {
        let changed: Vec<Bytes> =
            batch.writes.iter().filter(|write| write.0 == Space::Catalog).map(|write| write.1.clone()).collect();
        if changed.is_empty() {
            return write(batch);
        }
        let mut values = self.values.write();
        for key in &changed {
            values.known.forget(Space::Catalog, key);
        }
        values.changing = changed;
        drop(values);
        let written = write(batch);
        self.values.write().changing.clear();
        written?;
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Changes with every write to the catalog.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Kv for CatalogCache {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        if space != Space::Catalog {
            return self.kv.get(space, key);
        }
        if let Some(value) = self.values.read().known.get(space, key) {
            return Ok(Some(value.clone()));
        }
        // Held over the read: a write in between must not be hidden by what was read before it.
        let mut values = self.values.write();
        let value = self.kv.get(space, key)?;
        if let Some(value) = value.as_ref().filter(|_| !values.changing.iter().any(|changing| changing == key)) {
            values.known.remember(space, Bytes::copy_from_slice(key), value.clone());
        }
        Ok(value)
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        self.kv.scan(space, from, to, limit)
    }

    fn last(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
        self.kv.last(space, from, to)
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        self.write_by(batch, |batch| self.kv.write(batch))
    }

    fn write_at_once(&self, batch: WriteBatch) -> Result<()> {
        self.write_by(batch, |batch| self.kv.write_at_once(batch))
    }

    fn snapshot(&self) -> Result<Box<dyn Kv + '_>> {
        self.kv.snapshot()
    }

    fn flush(&self) -> Result<()> {
        self.kv.flush()
    }

    fn checkpoint(&self, folder: &Path) -> Result<()> {
        self.kv.checkpoint(folder)
    }

    fn open_copy(&self, folder: &Path) -> Result<Box<dyn Kv>> {
        self.kv.open_copy(folder)
    }

    fn verify(&self, pace: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        self.kv.verify(pace)
    }

    fn give_up(&self, reason: &str) {
        self.kv.give_up(reason);
    }

    fn facts(&self) -> KvFacts {
        self.kv.facts()
    }

    fn is_given_up(&self) -> bool {
        self.kv.is_given_up()
    }

    fn unflushed_bytes(&self) -> u64 {
        self.kv.unflushed_bytes()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::store::kv::bounded_values::VALUES_MAX;
    use crate::store::kv::conformance;
    use crate::store::kv::memory::MemoryKv;

    #[test]
    fn it_is_a_key_value_store_like_the_one_beneath() {
        conformance::conforms(&CatalogCache::new(Arc::new(MemoryKv::default())));
    }

    #[test]
    fn a_remembered_value_changes_with_the_store_and_the_cache_is_bounded() {
        let cache = CatalogCache::new(Arc::new(MemoryKv::default()));
        let key = |number: u32| Bytes::copy_from_slice(&number.to_be_bytes());
        let write = |number, value: Option<Bytes>| {
            cache.write(WriteBatch { writes: vec![(Space::Catalog, key(number), value)] }).unwrap();
        };
        for number in 0..(VALUES_MAX as u32 + 10) {
            write(number, Some(key(number)));
            assert_eq!(cache.get(Space::Catalog, &key(number)).unwrap(), Some(key(number)));
        }
        assert!(cache.values.read().known.count() <= VALUES_MAX);
        write(3, Some(key(4)));
        assert_eq!(cache.get(Space::Catalog, &key(3)).unwrap(), Some(key(4)));
        write(3, None);
        assert_eq!(cache.get(Space::Catalog, &key(3)).unwrap(), None);
    }

    /// A store whose writes take as long as the test says.
    struct Slow {
        kv: MemoryKv,
        is_writing: std::sync::mpsc::SyncSender<()>,
        may_write: Mutex<std::sync::mpsc::Receiver<()>>,
    }

    impl Kv for Slow {
        fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
            self.kv.get(space, key)
        }

        fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
            self.kv.scan(space, from, to, limit)
        }

        fn last(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
            self.kv.last(space, from, to)
        }

        fn write(&self, batch: WriteBatch) -> Result<()> {
            self.is_writing.send(()).unwrap();
            self.may_write.lock().recv().unwrap();
            self.kv.write(batch)
        }

        fn flush(&self) -> Result<()> {
            self.kv.flush()
        }
    }

    #[test]
    fn nobody_waits_for_a_write_and_what_is_read_meanwhile_is_not_remembered() {
        let (is_writing, began) = std::sync::mpsc::sync_channel(1);
        let (go_on, may_write) = std::sync::mpsc::channel();
        let kv = Slow { kv: MemoryKv::default(), is_writing, may_write: Mutex::new(may_write) };
        let cache = CatalogCache::new(Arc::new(kv));
        let key = Bytes::from_static(b"k");
        let write = |value: &'static [u8]| {
            cache.write(WriteBatch { writes: vec![(Space::Catalog, key.clone(), Some(Bytes::from_static(value)))] })
        };
        go_on.send(()).unwrap();
        write(b"old").unwrap();
        began.recv().unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| write(b"new").unwrap());
            began.recv().unwrap();
            assert_eq!(cache.get(Space::Catalog, &key).unwrap(), Some(Bytes::from_static(b"old")));
            go_on.send(()).unwrap();
            writing.join().unwrap();
        });
        assert_eq!(cache.get(Space::Catalog, &key).unwrap(), Some(Bytes::from_static(b"new")));
    }
}
