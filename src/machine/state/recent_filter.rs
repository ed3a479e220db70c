//! A filter over the message ids that are only in the state: in which slices of time an id may be.
//!
//! Hot path. It saves look-ups and decides nothing: where it says "maybe", the state is asked, so replicas whose filters
//! differ answer the same. An id leaves sixteen bits of its hash in one cache line, after those that came before it, and the
//! line counts how many each slice brought. A line that is full keeps eight bits of each id instead, so that twice as many
//! fit; beyond that it says "maybe" for every slice up to the last that it had no room for.
//!
//! The hashes are divided into ranges; the lines of a range are together, so a range is made anew, larger or smaller, by
//! itself. One that is not made yet says "maybe" to all.

use crate::machine::state::recent_id::Key;

/// How many slices back, the present one included, a line counts.
pub(super) const AGES: usize = 11;
/// Ids in a line with sixteen bits of each.
const WIDE: usize = 24;
/// With eight.
const NARROW: usize = 2 * WIDE;
/// Ids for which a line is made: more would often find it full.
pub(super) const FILL: usize = 18;
/// Every slice may have the id.
pub(super) const ALL_AGES: u16 = (1 << AGES) - 1;

/// A cache line. Slices are numbered modulo 256: a line that nothing came to for hours may say "maybe" too often.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line {
    /// The slice of the first count.
    newest: u8,
    /// The last slice with an id that found no room, if `has_lost`.
    lost: u8,
    has_lost: bool,
    is_narrow: bool,
    /// Ids of each slice, backwards from the newest.
    counts: [u8; AGES],
    /// Low eight bits of each id, in the order in which they came; after the first [`WIDE`], unless it is narrow, the high
    /// eight bits of the same.
    prints: [u8; NARROW],
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    pub const EMPTY: Self =
        Self { newest: 0, lost: 0, has_lost: false, is_narrow: false, counts: [0; AGES], prints: [0; NARROW] };

    fn len(&self) -> usize {
        self.counts.iter().map(|count| usize::from(*count)).sum()
    }

    /// Slices that are too old fall out.
    fn advance(&mut self, slice: u8) {
        let by = usize::from(slice.wrapping_sub(self.newest));
        if by == 0 {
            return;
        }
        self.newest = slice;
        if self.has_lost && usize::from(slice.wrapping_sub(self.lost)) >= AGES {
            self.has_lost = false;
        }
        let before = self.len();
        let by = by.min(AGES);
        self.counts.copy_within(..AGES - by, by);
        self.counts[..by].fill(0);
        let left = self.len();
        let gone = before - left;
        self.prints.copy_within(gone..before, 0);
        if !self.is_narrow {
            self.prints.copy_within(WIDE + gone..WIDE + before, WIDE);
        } else if left == 0 {
            self.is_narrow = false;
        }
    }

    fn add(&mut self, print: u16, slice: u8) {
        self.advance(slice);
        let len = self.len();
        if len == WIDE {
            self.is_narrow = true;
        }
        if len == NARROW {
            (self.lost, self.has_lost) = (slice, true);
            return;
        }
        let [high, low] = print.to_be_bytes();
        self.prints[len] = low;
        if !self.is_narrow {
            self.prints[WIDE + len] = high;
        }
        self.counts[0] += 1;
    }

    /// Bit 0 is for the slice `now`, each next one for the slice before.
    fn ages(&self, print: u16, now: u8) -> u16 {
        let since = u32::from(now.wrapping_sub(self.newest));
        if since as usize >= AGES {
            return 0;
        }
        let [high, low] = print.to_be_bytes();
        let (lows, highs) = self.prints.split_at(WIDE);
        // Without a branch for each of them; what is beyond the last may match, and is looked at below.
        let is_here = match self.is_narrow {
            true => self.prints.iter().fold(false, |any, of| any | (*of == low)),
            false => lows.iter().zip(highs).fold(false, |any, (a, b)| any | ((*a == low) & (*b == high))),
        };
        let mut ages = 0;
        if is_here {
            ages |= self.ages_of(low, high);
        }
        if self.has_lost {
            ages |= ALL_AGES << usize::from(self.newest.wrapping_sub(self.lost)).min(AGES);
        }
        (ages << since) & ALL_AGES
    }

    /// As [`Self::ages`], of its newest slice and of what is in it.
    fn ages_of(&self, low: u8, high: u8) -> u16 {
        let (mut ages, mut end) = (0, 0);
        for (age, count) in self.counts.iter().enumerate().rev() {
            let (first, len) = (end, usize::from(*count));
            end += len;
            let mut of_slice = first..end;
            if of_slice.any(|at| self.prints[at] == low && (self.is_narrow || self.prints[WIDE + at] == high)) {
                ages |= 1 << age;
            }
        }
        ages
    }
}

/// The filter.
#[derive(Default)]
pub(super) struct Filter {
    /// The lines of each range of hashes; none if it is not made yet.
    ranges: Vec<Vec<Line>>,
}

impl Filter {
    /// None of the ranges is made.
    pub fn unmade(ranges: u32) -> Self {
        Self { ranges: vec![Vec::new(); ranges as usize] }
    }

    /// All of them are made, and no id is in any.
    pub fn empty(ranges: u32, lines: usize) -> Self {
        Self { ranges: vec![vec![Line::EMPTY; lines]; ranges as usize] }
    }

    #[cfg(test)]
    pub fn is_unused(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn set(&mut self, range: u32, lines: Vec<Line>) {
        self.ranges[range as usize] = lines;
    }

    /// Brings what [`Self::ages`] looks at into the processor's cache.
    pub fn touch(&self, range: u32, key: Key) {
        let Some(lines) = self.ranges.get(range as usize) else { return };
        std::hint::black_box(lines.get(line_of(key, lines.len())).map(|line| line.newest));
    }

    /// Which slices may have the id: bit 0 is for the slice `now`, each next one for the slice before.
    pub fn ages(&self, range: u32, key: Key, now: u8) -> u16 {
        let Some(lines) = self.ranges.get(range as usize) else { return ALL_AGES };
        lines.get(line_of(key, lines.len())).map_or(ALL_AGES, |line| line.ages(print_of(key), now))
    }

    /// Adds an id of a slice to a range, if that is made. Slices come in order.
    pub fn add(&mut self, range: u32, key: Key, slice: u8) {
        if let Some(lines) = self.ranges.get_mut(range as usize) {
            add(lines, key, slice);
        }
    }
}

/// Adds an id of a slice to the lines of its range. Slices come in order.
pub(super) fn add(lines: &mut [Line], key: Key, slice: u8) {
    let at = line_of(key, lines.len());
    if let Some(line) = lines.get_mut(at) {
        line.add(print_of(key), slice);
    }
}

/// Other bits of the hash than those that choose the range.
fn line_of(key: Key, lines: usize) -> usize {
    let spread = (key.low >> 16) & u64::from(u32::MAX);
    usize::try_from((spread * lines as u64) >> 32).expect("below the count of lines")
}

fn print_of(key: Key) -> u16 {
    u16::try_from(key.high & 0xffff).expect("sixteen bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64) -> Key {
        let hash = xxhash_rust::xxh3::xxh3_128(&id.to_be_bytes());
        Key { low: (hash & u128::from(u64::MAX)) as u64, high: (hash >> 96) as u32 }
    }

    /// Adds so many ids in each slice to a range of one line; whether an id that is there is always named, and how often
    /// one that is not.
    fn wrongly_named(slices: impl Iterator<Item = (u64, usize)>) -> usize {
        let mut filter = Filter::empty(1, 1);
        let mut all: Vec<(u64, u64)> = Vec::new();
        let mut wrong = 0;
        for (slice, count) in slices {
            let slice_number = (slice & 0xff) as u8;
            for _ in 0..count {
                let id = all.len() as u64;
                filter.add(0, key(id), slice_number);
                all.push((id, slice));
            }
            for (id, of) in all.iter().filter(|(_, of)| slice - of < AGES as u64) {
                let ages = filter.ages(0, key(*id), slice_number);
                assert_ne!(ages >> (slice - of) & 1, 0, "id {id} of slice {of} in {slice}: {ages:b}");
            }
            for id in 1_000_000..1_001_000 {
                wrong += usize::from(filter.ages(0, key(id), slice_number) != 0);
            }
        }
        wrong
    }

    #[test]
    fn p4_an_id_that_is_there_is_named_with_its_slice_however_full_the_line() {
        // Wide, narrow, beyond; with pauses in which some slices or all of them leave.
        let slices =
            |count: usize| (0..600u64).filter(|slice| slice / 7 % 3 != 1 && slice % 40 != 3).map(move |it| (it, count));
        let [few, some, many] = [1, 3, 9].map(|count| wrongly_named(slices(count)));
        assert!(few < 400, "{few} of 380,000: sixteen bits of each id");
        assert!((10_000..60_000).contains(&some), "{some} of 380,000: eight bits of each");
        assert!(many > some);
    }

    #[test]
    fn p4_a_line_that_had_no_room_names_all_slices_until_the_last_such_id_is_too_old() {
        let mut filter = Filter::empty(1, 1);
        (0..NARROW as u64 + 1).for_each(|id| filter.add(0, key(id), 250));
        let print = |id| print_of(key(id)) as u8;
        let is_strange = |id: &u64| (0..NARROW as u64).all(|of| print(of) != print(*id));
        let stranger = key((1000..).find(is_strange).unwrap());
        assert_eq!(filter.ages(0, stranger, 250), ALL_AGES);
        assert_eq!(filter.ages(0, stranger, 250 + 3), ALL_AGES & !0b111, "nothing was lost since");
        assert_eq!(filter.ages(0, stranger, 250u8.wrapping_add(AGES as u8)), 0);
        filter.add(0, key(5000), 250u8.wrapping_add(AGES as u8));
        assert_eq!(filter.ages(0, stranger, 250u8.wrapping_add(AGES as u8)), 0);
        assert_eq!(filter.ages(0, key(5000), 250u8.wrapping_add(AGES as u8)), 1);
    }

    #[test]
    fn p4_a_range_that_is_not_made_names_all_slices() {
        let mut filter = Filter::unmade(2);
        assert_eq!(filter.ages(1, key(1), 3), ALL_AGES);
        filter.add(1, key(2), 3);
        filter.set(1, vec![Line::EMPTY; 5]);
        assert_eq!((filter.ages(0, key(1), 3), filter.ages(1, key(1), 3)), (ALL_AGES, 0));
        filter.add(1, key(1), 3);
        assert_eq!(filter.ages(1, key(1), 4), 0b10);
    }
}
