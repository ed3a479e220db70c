//! A hash table for numbers of a window that moves on: a number is found as long as it is in the window.
//!
//! Hot path. The window has a quarter of a million messages, so every bucket that is read is a cache miss. Finding,
//! adding and forgetting a number touch one cache line: a number that the window has passed is not removed, it is
//! overwritten. The caller says which numbers are in the window.

use std::collections::{BTreeSet, VecDeque};

/// Numbers in a bucket, as many as fit into a cache line.
const SLOTS: usize = 10;
/// The table doubles at more numbers than this for each bucket. With the four that the whole window makes, one bucket of
/// four hundred is too small.
const FILL: usize = 5;

/// A cache line.
#[derive(Clone)]
#[repr(align(64))]
struct Bucket {
    numbers: [u32; SLOTS],
    /// Sixteen bits of each hash, so that few other numbers are compared.
    tags: [u16; SLOTS],
    /// Whether some of its numbers are in the overflow.
    overflows: bool,
}

/// The table.
pub(in crate::machine) struct Table {
    /// Their count is a power of two.
    buckets: Vec<Bucket>,
    /// Numbers that found no room in their buckets, by bucket and in order. They are few, and removed.
    overflow: BTreeSet<(usize, u32)>,
    overflow_in_order: VecDeque<u32>,
}

impl Table {
    /// An empty table with room for `count` numbers; `never` is a number that no window has soon.
    pub fn new(count: usize, never: u32) -> Self {
        let buckets = count.div_ceil(FILL).next_power_of_two();
        let empty = Bucket { numbers: [never; SLOTS], tags: [0; SLOTS], overflows: false };
        Self { buckets: vec![empty; buckets], overflow: BTreeSet::new(), overflow_in_order: VecDeque::new() }
    }

    /// A number of this hash that is the one looked for.
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (at, tag) = (self.bucket_of(hash), tag_of(hash));
        let bucket = &self.buckets[at];
        for (number, _) in bucket.numbers.iter().zip(bucket.tags).filter(|(_, of)| *of == tag) {
            if is_it(*number) {
                return Some(*number);
            }
        }
        if !bucket.overflows {
            return None;
        }
        self.overflow_of(at).find(|number| is_it(*number))
    }

    /// Brings the bucket of a hash into the processor's cache, which does that for many at once.
    pub fn touch(&self, hash: u64) {
        std::hint::black_box(self.buckets[self.bucket_of(hash)].overflows);
    }

    fn overflow_of(&self, bucket: usize) -> impl Iterator<Item = u32> {
        self.overflow.range((bucket, 0)..=(bucket, u32::MAX)).map(|(_, number)| *number)
    }

    /// Adds a number; it overwrites one that is no longer in the window.
    pub fn insert(&mut self, hash: u64, number: u32, is_in_window: impl Fn(u32) -> bool) {
        let at = self.bucket_of(hash);
        let bucket = &mut self.buckets[at];
        match bucket.numbers.iter().position(|old| !is_in_window(*old)) {
            Some(slot) => {
                bucket.numbers[slot] = number;
                bucket.tags[slot] = tag_of(hash);
            }
            None => {
                bucket.overflows = true;
                self.overflow.insert((at, number));
                self.overflow_in_order.push_back(number);
            }
        }
    }

    /// The window has passed this number. Called for every number, in order.
    pub fn leave(&mut self, hash: u64, number: u32) {
        if self.overflow_in_order.front() == Some(&number) {
            let at = self.bucket_of(hash);
            self.overflow_in_order.pop_front();
            self.overflow.remove(&(at, number));
            let overflows = self.overflow_of(at).next().is_some();
            self.buckets[at].overflows = overflows;
        }
    }

    /// Whether `count` numbers are too many for it.
    pub fn is_full(&self, count: usize) -> bool {
        count > self.buckets.len() * FILL
    }

    fn bucket_of(&self, hash: u64) -> usize {
        usize::try_from(hash & (self.buckets.len() as u64 - 1)).expect("below the number of buckets")
    }
}

fn tag_of(hash: u64) -> u16 {
    u16::try_from(hash >> 48).expect("sixteen bits")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Against a plain list, with hashes that crowd into few buckets and numbers that wrap.
    #[test]
    fn p4_what_is_in_the_window_is_found_and_nothing_else() {
        for crowd in [0xffff_0000_0000_0fff_u64, 0x0007_0000_0000_0003, 0] {
            let mut first = u32::MAX - 3000;
            let mut table = Table::new(0, first.wrapping_sub(1));
            let mut window: VecDeque<u64> = VecDeque::new();
            let mut most_overflow = 0;
            for step in 0..20_000u32 {
                let hash = xxhash_rust::xxh3::xxh3_64(&step.to_be_bytes()) & crowd;
                let number = first.wrapping_add(u32::try_from(window.len()).unwrap());
                window.push_back(hash);
                if table.is_full(window.len()) {
                    table = Table::new(window.len(), first.wrapping_sub(1));
                    for (number, hash) in (0..).zip(&window).map(|(at, hash)| (first.wrapping_add(at), hash)) {
                        table.insert(*hash, number, |old| old.wrapping_sub(first) < number.wrapping_sub(first));
                    }
                } else {
                    table.insert(hash, number, |old| old.wrapping_sub(first) < number.wrapping_sub(first));
                }
                while window.len() > 1000 + (step / 4 % 300) as usize {
                    table.leave(window.pop_front().unwrap(), first);
                    first = first.wrapping_add(1);
                }
                most_overflow = most_overflow.max(table.overflow.len());
                let at = |number: u32| window.get(number.wrapping_sub(first) as usize).copied();
                let last = window.len() - 1;
                for wanted in [0, last / 2, last] {
                    let number = first.wrapping_add(u32::try_from(wanted).unwrap());
                    assert_eq!(table.find(window[wanted], |found| found == number), Some(number), "step {step}");
                }
                assert_eq!(table.find(u64::MAX, |number| at(number) == Some(u64::MAX)), None);
            }
            let is_spread = crowd == 0xffff_0000_0000_0fff;
            assert_eq!(most_overflow < 30, is_spread, "{most_overflow} numbers found no room");
            assert!(table.overflow.len() <= window.len(), "numbers that the window has passed are removed");
            assert_eq!(table.overflow.len(), table.overflow_in_order.len());
            let expected: BTreeSet<usize> = table.overflow.iter().map(|(bucket, _)| *bucket).collect();
            let marked = (0..table.buckets.len()).filter(|bucket| table.buckets[*bucket].overflows);
            assert!(marked.eq(expected), "the buckets that overflow are marked");
        }
    }
}
