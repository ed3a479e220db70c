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
    values: RwLock<BoundedValues>,
    /// Counts the writes that changed the catalog.
    changes: watch::Sender<u64>,
}

impl CatalogCache {
    /// In front of a store, with nothing remembered yet.
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv, values: RwLock::default(), changes: watch::Sender::new(0) }
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
        if let Some(value) = self.values.read().get(space, key) {
            return Ok(Some(value.clone()));
        }
        // Held over the read: a write in between must not be hidden by what was read before it.
        let mut values = self.values.write();
        let value = self.kv.get(space, key)?;
        if let Some(value) = &value {
            values.remember(space, Bytes::copy_from_slice(key), value.clone());
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
        let changed: Vec<Bytes> =
            batch.writes.iter().filter(|write| write.0 == Space::Catalog).map(|write| write.1.clone()).collect();
        if changed.is_empty() {
            return self.kv.write(batch);
        }
        // Held over the write: nobody remembers the old value after it.
        let mut values = self.values.write();
        for key in &changed {
            values.forget(Space::Catalog, key);
        }
        self.kv.write(batch)?;
        drop(values);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
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
        assert!(cache.values.read().count() <= VALUES_MAX);
        write(3, Some(key(4)));
        assert_eq!(cache.get(Space::Catalog, &key(3)).unwrap(), Some(key(4)));
        write(3, None);
        assert_eq!(cache.get(Space::Catalog, &key(3)).unwrap(), None);
    }
}
