//! The key-value store in memory: for tests, and for reading snapshots.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::store::kv::{Kv, Result, Space, WriteBatch};

type Spaces = [BTreeMap<Bytes, Bytes>; Space::ALL.len()];

/// One map per space; nothing is durable.
#[derive(Default)]
pub struct MemoryKv {
    spaces: RwLock<Spaces>,
}

impl Kv for MemoryKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.spaces.read()[space as usize].get(key).cloned())
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let spaces = self.spaces.read();
        let range = spaces[space as usize].range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        Ok(range.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn last(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
        if from >= to {
            return Ok(None);
        }
        let spaces = self.spaces.read();
        let mut range = spaces[space as usize].range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        Ok(range.next_back().map(|(key, value)| (key.clone(), value.clone())))
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        let mut spaces = self.spaces.write();
        for (space, key, value) in batch.writes {
            match value {
                Some(value) => spaces[space as usize].insert(key, value),
                None => spaces[space as usize].remove(&key),
            };
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn Kv + '_>> {
        let spaces = RwLock::new(self.spaces.read().clone());
        Ok(Box::new(Self { spaces }))
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}
