//! A cache of small values that are read again and again, in front of a slower store.
//!
//! Hot path. Applying an entry reads the ends of its queues, the turn of its topics, group offsets and marks; each read
//! of the store beneath costs microseconds, on every node. Everything that writes to that store must write through
//! here.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::kv::bounded_values::BoundedValues;
use crate::store::kv::{Kv, KvFacts, Result, Space, WriteBatch};

/// Larger values are not remembered.
const VALUE_BYTES_MAX: usize = 256;
/// Longer keys of a queue are those of its runs, of which there is no end.
const KEY_BYTES_MAX: usize = 16;

/// Caches what applying an entry reads.
pub struct ValueCache {
    kv: Arc<dyn Kv>,
    values: Mutex<BoundedValues>,
}

impl ValueCache {
    /// In front of a store, with nothing remembered yet.
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv, values: Mutex::default() }
    }

    fn write_by(&self, batch: WriteBatch, write: impl FnOnce(WriteBatch) -> Result<()>) -> Result<()> {
        let mut values = self.values.lock();
        for (space, key, value) in &batch.writes {
            match value {
                Some(value) if is_worth_it(*space, key) && value.len() <= VALUE_BYTES_MAX => {
                    values.remember(*space, key.clone(), value.clone());
                }
                _ => values.forget(*space, key),
            }
        }
        let written = write(batch);
        if written.is_err() {
            *values = BoundedValues::default();
        }
        written
    }
}

fn is_worth_it(space: Space, key: &[u8]) -> bool {
    match space {
        // In `catalog_cache`, for those above the log too.
        Space::Catalog => false,
        // A lease is read once more at least, when it is settled.
        Space::Lease => true,
        Space::Due | Space::RecentSend => false,
        Space::Meta | Space::Queue | Space::Cursor | Space::Reference => key.len() <= KEY_BYTES_MAX,
    }
}

impl Kv for ValueCache {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        if !is_worth_it(space, key) {
            return self.kv.get(space, key);
        }
        // Held over the read: a write in between must not be hidden by what was read before it.
        let mut values = self.values.lock();
        if let Some(value) = values.get(space, key) {
            return Ok(Some(value.clone()));
        }
        let value = self.kv.get(space, key)?;
        if let Some(value) = value.as_ref().filter(|value| value.len() <= VALUE_BYTES_MAX) {
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
    use super::*;
    use crate::store::kv::bounded_values::VALUES_MAX;
    use crate::store::kv::conformance;
    use crate::store::kv::memory::MemoryKv;

    #[test]
    fn it_is_a_key_value_store_like_the_one_beneath() {
        conformance::conforms(&ValueCache::new(Arc::new(MemoryKv::default())));
    }

    #[test]
    fn it_never_forgets_a_write_and_stays_bounded() {
        let cache = ValueCache::new(Arc::new(MemoryKv::default()));
        let key = |number: u32| Bytes::copy_from_slice(&number.to_be_bytes());
        for number in 0..(VALUES_MAX as u32 + 10) {
            let writes = vec![(Space::Queue, key(number), Some(key(number)))];
            cache.write(WriteBatch { writes }).unwrap();
        }
        assert!(cache.values.lock().count() <= VALUES_MAX);
        for number in [0, 1, VALUES_MAX as u32, VALUES_MAX as u32 + 9] {
            assert_eq!(cache.get(Space::Queue, &key(number)).unwrap(), Some(key(number)));
        }
        let large = Bytes::from(vec![7; VALUE_BYTES_MAX + 1]);
        cache.write(WriteBatch { writes: vec![(Space::Queue, key(0), Some(large.clone()))] }).unwrap();
        assert_eq!(cache.get(Space::Queue, &key(0)).unwrap(), Some(large), "a value that grew is not the old one");
        cache.write(WriteBatch { writes: vec![(Space::Queue, key(0), None)] }).unwrap();
        assert_eq!(cache.get(Space::Queue, &key(0)).unwrap(), None);
    }
}
