//! A bounded map of values by space and key: what the caches in front of a store remember.

use std::collections::HashMap;

use bytes::Bytes;

use crate::store::kv::Space;

/// When as many values are remembered, all are forgotten: bounded, and rarely reached.
pub(in crate::store) const VALUES_MAX: usize = 64 * 1024;

/// By space, in the order of [`Space::ALL`].
#[derive(Default)]
pub(in crate::store) struct BoundedValues {
    spaces: [HashMap<Bytes, Bytes>; Space::ALL.len()],
    count: usize,
}

impl BoundedValues {
    pub fn get(&self, space: Space, key: &[u8]) -> Option<&Bytes> {
        self.spaces[space as usize].get(key)
    }

    pub fn remember(&mut self, space: Space, key: Bytes, value: Bytes) {
        if self.count >= VALUES_MAX {
            *self = Self::default();
        }
        let is_new = self.spaces[space as usize].insert(key, value).is_none();
        self.count += usize::from(is_new);
    }

    pub fn forget(&mut self, space: Space, key: &[u8]) {
        self.count -= usize::from(self.spaces[space as usize].remove(key).is_some());
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.count
    }
}
