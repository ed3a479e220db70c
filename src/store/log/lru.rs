//! A cache bounded by cost: what was used least recently goes first.

use std::collections::{BTreeMap, HashMap};

use crate::model::LogIndex;

/// By the first index of a segment. The entry put last always stays, whatever it costs.
pub(in crate::store) struct Lru<T> {
    entries: HashMap<LogIndex, Entry<T>>,
    /// By last use.
    uses: BTreeMap<u64, LogIndex>,
    use_count: u64,
    cost: usize,
    cost_max: usize,
}

struct Entry<T> {
    value: T,
    cost: usize,
    used: u64,
}

impl<T: Clone> Lru<T> {
    pub fn new(cost_max: usize) -> Self {
        Self { entries: HashMap::new(), uses: BTreeMap::new(), use_count: 0, cost: 0, cost_max }
    }

    pub fn get(&mut self, key: LogIndex) -> Option<T> {
        let entry = self.entries.get_mut(&key)?;
        self.use_count += 1;
        self.uses.remove(&std::mem::replace(&mut entry.used, self.use_count));
        self.uses.insert(self.use_count, key);
        Some(entry.value.clone())
    }

    pub fn put(&mut self, key: LogIndex, value: T, cost: usize) {
        self.remove(key);
        self.use_count += 1;
        self.entries.insert(key, Entry { value, cost, used: self.use_count });
        self.uses.insert(self.use_count, key);
        self.cost += cost;
        while self.cost > self.cost_max && self.entries.len() > 1 {
            let (_, oldest) = self.uses.first_key_value().expect("there is more than one entry");
            self.remove(*oldest);
        }
    }

    pub fn remove(&mut self, key: LogIndex) {
        if let Some(entry) = self.entries.remove(&key) {
            self.uses.remove(&entry.used);
            self.cost -= entry.cost;
        }
    }

    pub fn cost(&self) -> usize {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_least_recently_goes_first_and_the_newest_stays() {
        let mut lru = Lru::new(10);
        (1..=3).for_each(|key| lru.put(LogIndex(key), key, 3));
        assert_eq!(lru.get(LogIndex(1)), Some(1));
        lru.put(LogIndex(4), 4, 4);
        let left = |lru: &mut Lru<u64>| (1..=5).filter_map(|key| lru.get(LogIndex(key))).collect::<Vec<_>>();
        assert_eq!(left(&mut lru), [1, 3, 4]);
        lru.put(LogIndex(5), 5, 100);
        assert_eq!(left(&mut lru), [5]);
        lru.put(LogIndex(5), 6, 1);
        assert_eq!((left(&mut lru), lru.cost()), (vec![6], 1));
        lru.remove(LogIndex(5));
        assert_eq!((left(&mut lru), lru.cost()), (vec![], 0));
    }
}
