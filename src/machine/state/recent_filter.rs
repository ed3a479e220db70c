//! A filter over message ids: in which slices of time an id may have been sent.
//!
//! Hot path. It saves look-ups and decides nothing: where it says "maybe", memory and the state are asked, so replicas whose
//! filters differ answer the same. An id leaves sixteen bits of its hash in one cache line, behind those of its slice and of the
//! slices before, and the line counts how many each slice brought. A line that is full keeps eight bits of each id instead, so
//! that twice as many fit; beyond that it says "maybe" for every slice up to the last that it had no room for.
//!
//! The hashes are divided into ranges; the lines of a range are together, so a range is made anew, larger or smaller, by
//! itself.

use crate::machine::state::recent_id::Key;

/// How many slices back, the present one included, a line counts.
pub(super) const AGES: usize = 11;
/// Ids in a line with sixteen bits of each.
const WIDE: usize = 23;
/// With eight.
const NARROW: usize = 2 * WIDE;
/// Ids for which a line is made. With half as many more, one line in ten would be narrow, and one look in a hundred in vain,
/// which costs more than all else that is done with an id.
pub(super) const FILL: usize = 12;
/// Every slice may have the id.
pub(super) const ALL_AGES: u16 = (1 << AGES) - 1;

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line {
    /// The slice of the first count.
    newest: u32,
    /// How old the last slice is with an id that found no room; [`AGES`] if there is none.
    lost: u8,
    is_narrow: bool,
    /// Ids of each slice, backwards from the newest.
    counts: [u8; AGES],
    /// Low eight bits of each id, the oldest slice first; after the first [`WIDE`], unless it is narrow, the high eight bits of
    /// the same.
    prints: [u8; NARROW],
}

const _: () = assert!(size_of::<Line>() == 64);
const NONE_LOST: u8 = AGES as u8;

impl Line {
    pub const EMPTY: Self =
        Self { newest: 0, lost: NONE_LOST, is_narrow: false, counts: [0; AGES], prints: [0; NARROW] };

    fn len(&self) -> usize {
        self.since(0)
    }

    /// Ids of the slices that are at least so old.
    fn since(&self, age: usize) -> usize {
        self.counts[age..].iter().map(|count| usize::from(*count)).sum()
    }

    /// Slices that are too old fall out.
    fn advance(&mut self, slice: u32) {
        let by = usize::try_from(slice - self.newest).unwrap_or(AGES).min(AGES);
        self.newest = slice;
        self.lost = NONE_LOST.min(self.lost + u8::try_from(by).expect("at most AGES"));
        let before = self.len();
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

    /// Mostly of its newest slice or of a later one; what was sent while the line was made anew comes late.
    fn add(&mut self, print: u16, slice: u32) {
        if slice > self.newest {
            self.advance(slice);
        }
        let age = usize::try_from(self.newest - slice).unwrap_or(AGES);
        if age >= AGES {
            return;
        }
        let len = self.len();
        if len == NARROW {
            self.lost = self.lost.min(u8::try_from(age).expect("below AGES"));
            return;
        }
        if len == WIDE {
            self.is_narrow = true;
        }
        let at = if age == 0 { len } else { self.since(age) };
        let [high, low] = print.to_be_bytes();
        self.prints.copy_within(at..len, at + 1);
        self.prints[at] = low;
        if !self.is_narrow {
            self.prints.copy_within(WIDE + at..WIDE + len, WIDE + at + 1);
            self.prints[WIDE + at] = high;
        }
        self.counts[age] += 1;
    }

    /// Bit 0 is for the slice `now`, each next one for the slice before.
    fn ages(&self, print: u16, now: u32) -> u16 {
        let since = usize::try_from(now.saturating_sub(self.newest)).unwrap_or(AGES);
        if since >= AGES {
            return 0;
        }
        let [high, low] = print.to_be_bytes();
        let (lows, highs) = self.prints.split_at(WIDE);
        // Without a branch for each of them; what is beyond the last may match, and is looked at below.
        let is_here = match self.is_narrow {
            true => self.prints.iter().fold(false, |any, of| any | (*of == low)),
            false => lows.iter().zip(highs).fold(false, |any, (a, b)| any | ((*a == low) & (*b == high))),
        };
        let mut ages = ALL_AGES << self.lost;
        if is_here {
            ages |= self.ages_of(low, high);
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
    /// The lines of each range of hashes.
    ranges: Vec<Vec<Line>>,
}

impl Filter {
    /// No id is in any of so many ranges.
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
    pub fn ages(&self, range: u32, key: Key, now: u32) -> u16 {
        let Some(lines) = self.ranges.get(range as usize) else { return ALL_AGES };
        lines.get(line_of(key, lines.len())).map_or(ALL_AGES, |line| line.ages(print_of(key), now))
    }

    /// Adds an id of a slice to a range, if that is made.
    pub fn add(&mut self, range: u32, key: Key, slice: u32) {
        if let Some(lines) = self.ranges.get_mut(range as usize) {
            add(lines, key, slice);
        }
    }
}

/// Adds an id of a slice to the lines of its range.
pub(super) fn add(lines: &mut [Line], key: Key, slice: u32) {
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

    /// Adds so many ids in each slice to a range of one line, each `late` slices after its own; whether an id that is there is
    /// always named, and how often one that is not.
    fn wrongly_named(slices: impl Iterator<Item = (u32, usize)>, late: u32) -> usize {
        let mut filter = Filter::empty(1, 1);
        let mut all: Vec<(u64, u32)> = Vec::new();
        let mut wrong = 0;
        for (slice, count) in slices {
            for number in 0..count {
                let id = all.len() as u64;
                let of = if number % 2 == 0 { slice } else { slice.saturating_sub(late) };
                filter.add(0, key(id), of);
                all.push((id, of));
            }
            for (id, of) in all.iter().filter(|(_, of)| slice - of < AGES as u32) {
                let ages = filter.ages(0, key(*id), slice);
                assert_ne!(ages >> (slice - of) & 1, 0, "id {id} of slice {of} in {slice}: {ages:b}");
            }
            for id in 1_000_000..1_001_000 {
                wrong += usize::from(filter.ages(0, key(id), slice) != 0);
            }
        }
        wrong
    }

    #[test]
    fn p4_an_id_that_is_there_is_named_with_its_slice_however_full_the_line_and_however_late_it_came() {
        for late in [0, 3, AGES as u32 - 1, AGES as u32 + 2] {
            // Wide, narrow, beyond; with pauses in which some slices or all of them leave.
            let slices = |count: usize| {
                (0..600u32).filter(|slice| slice / 7 % 3 != 1 && slice % 40 != 3).map(move |it| (it, count))
            };
            let [few, some, many] = [1, 3, 9].map(|count| wrongly_named(slices(count), late));
            assert!(few < 400, "{few} of 380,000: sixteen bits of each id");
            if late == 0 {
                assert!((10_000..60_000).contains(&some), "{some} of 380,000: eight bits of each");
            }
            assert!(many > some);
        }
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
        assert_eq!(filter.ages(0, stranger, 250 + AGES as u32), 0);
        filter.add(0, key(5000), 250 + AGES as u32);
        assert_eq!(filter.ages(0, stranger, 250 + AGES as u32), 0);
        assert_eq!(filter.ages(0, key(5000), 250 + AGES as u32), 1);
    }
}
