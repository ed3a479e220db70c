//! A bounded map of values by space and key: what the caches in front of a store remember.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use indexmap::{Equivalent, IndexMap};

use crate::store::kv::Space;

/// When as many values are remembered, each further one takes the place of the oldest. To forget all of them at once took
/// Raft's thread 20 to 50 ms.
pub(in crate::store) const VALUES_MAX: usize = 64 * 1024;

#[derive(Default)]
pub(in crate::store) struct BoundedValues {
    /// In a ring, once it is full.
    values: IndexMap<(Space, Bytes), Bytes>,
    /// The place of the oldest in the ring.
    oldest: usize,
}

/// A key as it is asked for.
struct Wanted<'a>(Space, &'a [u8]);

impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0, self.1).hash(state);
    }
}

impl Equivalent<(Space, Bytes)> for Wanted<'_> {
    fn equivalent(&self, (space, key): &(Space, Bytes)) -> bool {
        self.0 == *space && self.1 == key
    }
}

impl BoundedValues {
    pub fn get(&self, space: Space, key: &[u8]) -> Option<&Bytes> {
        self.values.get(&Wanted(space, key))
    }

    pub fn remember(&mut self, space: Space, key: Bytes, value: Bytes) {
        self.values.insert((space, key), value);
        if self.values.len() > VALUES_MAX {
            // The new one, which is the last, takes its place. What was forgotten since has moved some: they stay for longer.
            self.oldest %= VALUES_MAX;
            self.values.swap_remove_index(self.oldest);
            self.oldest += 1;
        }
    }

    pub fn forget(&mut self, space: Space, key: &[u8]) {
        self.values.swap_remove(&Wanted(space, key));
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    #[test]
    fn one_value_too_many_takes_the_place_of_the_oldest_alone() {
        let mut values = BoundedValues::default();
        let known = |values: &BoundedValues, number| values.get(Space::Queue, &key(number)).is_some();
        for number in 0..VALUES_MAX + 10 {
            values.remember(Space::Queue, key(number), Bytes::new());
        }
        assert_eq!(values.count(), VALUES_MAX);
        assert!((0..10).all(|number| !known(&values, number)));
        assert!((10..VALUES_MAX + 10).all(|number| known(&values, number)));
        // Another value of a known key is no further one.
        values.remember(Space::Queue, key(10), Bytes::from_static(b"new"));
        assert_eq!(values.get(Space::Queue, &key(10)).map(Bytes::len), Some(3));
        assert!(known(&values, 11));
        values.forget(Space::Queue, &key(10));
        values.forget(Space::Queue, &key(10));
        assert!(!known(&values, 10) && !values.values.contains_key(&Wanted(Space::Cursor, &key(11))));
        assert_eq!(values.count(), VALUES_MAX - 1);
        (0..3 * VALUES_MAX).for_each(|number| values.remember(Space::Cursor, key(number), Bytes::new()));
        assert_eq!(values.count(), VALUES_MAX);
    }
}
