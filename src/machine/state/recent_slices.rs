//! The older sends of the window, in the state: by slices of time, and in each slice by ranges of hashes (D234).
//!
//! Sends leave memory a *lot* at a time. A lot is written in the order of the hashes, some ranges with each entry, under keys
//! that put together what the lots of one slice have of a range: who looks for an id reads that, for those slices that the
//! filter names. A slice that the window has passed is deleted, some ranges with each entry.
//!
//! The filter knows an id by the minute in which it was sent, which may be before that of its lot. It learns of an id when that is
//! sent, while its line is in the processor's cache from looking for it. Only what is sent while the filter is made anew is added
//! when its lot is written.
//!
//! Which range an id is in depends on a secret of the cluster, so that nobody can send many ids of one range.
//!
//! * Shape of the record, `recent slices`: version, seed u64, slices (number varint, lots varint, ids varint), the lot that is being
//!   written if there is one (its last entry u64, ranges written varint), ranges deleted of the oldest slice varint.
//! * Shape of what a lot has of a range: version, the time of the lot's last entry u64, count varint, then for each id the
//!   twelve bytes of its key; then for each id varints: time before that of the last entry, queue or slot, offset or entry.
//! * Sizes, and how much is done with an entry, are part of what the state is: other ones need another cluster version. The
//!   size of the filter is not.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::recent_filter;
use crate::machine::state::recent_filter::{AGES, FILL, Filter, Line};
use crate::machine::state::recent_id::{Key, RecentSend};
use crate::machine::state::recent_newest::Newest;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::limits::{RECENT_FILTER_BYTES_MAX, RECENT_FOR};
use crate::model::{LogIndex, Timestamp};
use crate::store::kv;
use crate::store::kv::{Kv, Space};

const VERSION: u8 = 1;
/// Length of a slice.
const SLICE: u64 = 60_000;
/// Bytes of a key in the state.
const KEY_BYTES: usize = 12;
/// Lines of a range in the smallest filter.
const LINES_MIN: usize = 4;
/// A filter that is too small becomes so many times as large.
const GROWTH: usize = 4;

const _: () = assert!(RECENT_FOR.0.is_multiple_of(SLICE));
const _: () = assert!(AGES as u64 == RECENT_FOR.0 / SLICE + 1);

/// What is small in tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Fewest ids in a lot.
    pub lot: usize,
    /// Ranges of hashes: two to the power of this.
    pub range_bits: u32,
    /// Most lines of the filter for one range.
    pub lines_max: usize,
}

impl Sizes {
    pub const OF_NODES: Self =
        Self { lot: 128 * 1024, range_bits: 12, lines_max: RECENT_FILTER_BYTES_MAX / size_of::<Line>() / 4096 };

    pub fn ranges(self) -> u32 {
        1 << self.range_bits
    }

    /// Ids for which so many lines in each range are made.
    fn ids_in(self, lines: usize) -> u64 {
        u64::from(self.ranges()) * (lines * FILL) as u64
    }

    /// Lines for each range that so many ids need.
    fn lines_for(self, ids: u64) -> usize {
        let mut lines = LINES_MIN;
        while lines < self.lines_max && self.ids_in(lines) < ids {
            lines = (lines * GROWTH).min(self.lines_max);
        }
        lines
    }
}

/// A minute of sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    /// Minutes of machine time before it.
    number: u64,
    lots: u32,
    ids: u64,
}

/// The lot that is being written; the last one of the last slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Writing {
    last: LogIndex,
    /// Ranges that are written.
    ranges: u32,
}

/// The ids of a lot by their ranges: where in the list of the newest they are, and how long before the lot's end they came.
struct Order {
    ids: Vec<(u32, u32)>,
    /// Where the ids of each range begin, and where those of the last end.
    starts: Vec<u32>,
    until: Timestamp,
}

impl Order {
    fn ids_of(&self, range: u32) -> &[(u32, u32)] {
        let [first, end] = [range, range + 1].map(|at| self.starts[at as usize] as usize);
        &self.ids[first..end]
    }
}

/// A filter on its way to another size.
struct Making {
    lines: usize,
    /// Ranges that are made.
    ranges: u32,
}

/// The older sends.
pub(super) struct Slices {
    pub(super) sizes: Sizes,
    /// Spreads the hashes over the ranges; a new one if there are no slices.
    seed: u64,
    /// In order; those of the state that are not wholly deleted.
    slices: VecDeque<Slice>,
    writing: Option<Writing>,
    /// Ranges of the oldest slice that are deleted.
    deleted: u32,
    /// The record in the state is not this any more.
    is_changed: bool,
    order: Option<Order>,
    filter: Filter,
    /// Lines of each range, once the filter is made.
    lines: usize,
    making: Option<Making>,
    /// The filter has those of the newest before which so many came (`Newest::before`).
    noted_from: u64,
}

impl Slices {
    pub fn none(sizes: Sizes) -> Self {
        Self {
            sizes,
            seed: 0,
            slices: VecDeque::new(),
            writing: None,
            deleted: 0,
            is_changed: false,
            order: None,
            filter: Filter::default(),
            lines: 0,
            making: None,
            noted_from: u64::MAX,
        }
    }

    /// From the state, with the whole filter: until that is made, a look for one id reads the lots of ten minutes.
    pub fn load(sizes: Sizes, kv: &dyn Kv, newest: &Newest) -> Result<Self, Failure> {
        let mut slices = Self::none(sizes);
        let Some(record) = kv.get(Space::Meta, keys::RECENT_SLICES)? else { return Ok(slices) };
        slices.read(record)?;
        if slices.slices.is_empty() {
            return Ok(slices);
        }
        if let Some(writing) = slices.writing
            && writing.ranges < sizes.ranges()
        {
            slices.order = Some(slices.order(newest, writing.last));
        }
        slices.lines = sizes.lines_for(slices.ids());
        slices.filter = Filter::empty(sizes.ranges(), slices.lines);
        slices.fill_filter(kv)?;
        slices.noted_from = newest.before(newest.len());
        Ok(slices)
    }

    /// Adds all ids of the state to the filter, in the order of their keys: the lines of a range stay in the processor's cache.
    fn fill_filter(&mut self, kv: &dyn Kv) -> Result<(), Failure> {
        let mut filter = std::mem::take(&mut self.filter);
        for slice in &self.slices {
            let [from, end] = [0, self.sizes.ranges()].map(|range| keys::recent_range(slice.number, range));
            kv::each(kv, Space::RecentSend, &from, &end, |_, lot| {
                for key in keys_in(&mut reader_of(lot)?)?.iter() {
                    let (range, key) = self.spread(key);
                    filter.add(range, key, minute(slice.number));
                }
                Ok::<_, Failure>(())
            })?;
        }
        self.filter = filter;
        Ok(())
    }

    fn read(&mut self, record: Bytes) -> Result<(), Malformed> {
        let mut reader = Reader::versioned(record, "slices of recent sends", VERSION)?;
        self.seed = reader.u64()?;
        let slice = |reader: &mut Reader| {
            Ok(Slice { number: reader.varint()?, lots: reader.varint_u32()?, ids: reader.varint()? })
        };
        self.slices = reader.list(slice)?.into();
        let writing = |reader: &mut Reader| Ok(Writing { last: LogIndex(reader.u64()?), ranges: reader.varint_u32()? });
        self.writing = reader.option(writing)?;
        self.deleted = reader.varint_u32()?;
        Ok(())
    }

    /// Puts the record into the state, if it changed.
    pub fn put_into(&mut self, stage: &mut Stage<'_>) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let mut record = BytesMut::with_capacity(32 + self.slices.len() * 16);
        record.put_u8(VERSION);
        record.put_u64(self.seed);
        record.put_list(self.slices.make_contiguous(), |out, slice| {
            out.put_varint(slice.number);
            out.put_varint(slice.lots.into());
            out.put_varint(slice.ids);
        });
        record.put_option(self.writing, |out, writing| {
            out.put_u64(writing.last.0);
            out.put_varint(writing.ranges.into());
        });
        record.put_varint(self.deleted.into());
        stage.put(Space::Meta, Bytes::from_static(keys::RECENT_SLICES), record.freeze());
    }

    /// Ids that are in the state, and not wholly deleted.
    fn ids(&self) -> u64 {
        self.slices.iter().map(|slice| slice.ids).sum()
    }

    /// Whether nothing is in the state, and no memory in use for it.
    #[cfg(test)]
    pub fn is_unused(&self) -> bool {
        self.slices.is_empty() && self.filter.is_unused()
    }

    /// The range of an id, and what the filter knows it by.
    fn spread(&self, key: Key) -> (u32, Key) {
        let product = u128::from(key.low ^ self.seed) * u128::from(self.seed.rotate_left(32) | 1);
        let low = ((product ^ (product >> 64)) & u128::from(u64::MAX)) as u64;
        let range = u32::try_from(low >> (u64::BITS - self.sizes.range_bits)).expect("fewer bits than 32");
        (range, Key { low, high: key.high })
    }

    /// Brings what is looked at for this key into the processor's cache.
    pub fn touch(&self, key: Key) {
        if !self.slices.is_empty() {
            let (range, key) = self.spread(key);
            self.filter.touch(range, key);
        }
    }

    /// The filter learns of an id that is sent now.
    pub fn note(&mut self, key: Key, now: Timestamp) {
        if self.noted_from < u64::MAX {
            let (range, key) = self.spread(key);
            self.filter.add(range, key, minute(slice_at(now)));
        }
    }

    /// The minutes back from now in which the filter says that this id may have been sent, the present one first.
    pub fn ages(&self, key: Key, now: Timestamp) -> u16 {
        if self.slices.is_empty() {
            return 0;
        }
        let (range, key) = self.spread(key);
        self.filter.ages(range, key, minute(slice_at(now)))
    }

    /// Whether the filter knows all of the newest.
    pub fn has_noted(&self, newest: &Newest) -> bool {
        self.noted_from <= newest.before(0)
    }

    /// The message of this key, if it was sent within the window in one of these minutes.
    pub fn find(&self, stage: &Stage<'_>, key: Key, ages: u16) -> Result<Option<RecentSend>, Failure> {
        let (now, (range, _)) = (slice_at(stage.now()), self.spread(key));
        for (place, slice) in self.slices.iter().enumerate().rev() {
            if now.saturating_sub(slice.number) >= AGES as u64 {
                break;
            }
            // A lot has what was sent since the one before it.
            let began = place.checked_sub(1).map_or(0, |before| self.slices[before].number);
            if (began..=slice.number).rev().map_while(|minute| age(now, minute)).all(|age| ages >> age & 1 == 0) {
                continue;
            }
            for lot in lots_of(stage, slice, range)? {
                if let Some(sent) = find_in(lot, key, stage.now())? {
                    return Ok(Some(sent));
                }
            }
        }
        Ok(None)
    }

    /// The last entry of the lot that is being written, and whether all of it is.
    pub fn writing(&self) -> Option<(LogIndex, bool)> {
        self.writing.map(|writing| (writing.last, writing.ranges == self.sizes.ranges()))
    }

    /// All messages of the newest, which end with this entry, become a lot.
    pub fn begin_lot(&mut self, stage: &Stage<'_>, newest: &Newest) -> Result<(), Failure> {
        assert!(self.writing.is_none(), "one lot after the other");
        let last = stage.at();
        if self.slices.is_empty() {
            self.seed = match stage.get(Space::Meta, keys::HANDLE_KEY)? {
                Some(secret) => xxhash_rust::xxh3::xxh3_64(&secret),
                None => stage.number(Space::Meta, keys::DIGEST)?,
            };
            self.lines = LINES_MIN;
            self.filter = Filter::empty(self.sizes.ranges(), LINES_MIN);
            (self.making, self.noted_from) = (None, newest.before(newest.len()));
        }
        let (number, ids) = (slice_at(stage.now()), newest.len() as u64);
        match self.slices.back_mut() {
            Some(slice) if slice.number == number => {
                slice.lots += 1;
                slice.ids += ids;
            }
            _ => self.slices.push_back(Slice { number, lots: 1, ids }),
        }
        self.writing = Some(Writing { last, ranges: 0 });
        self.order = Some(self.order(newest, last));
        self.is_changed = true;
        Ok(())
    }

    fn order(&self, newest: &Newest, last: LogIndex) -> Order {
        let range_at = |place| self.spread(newest.at_place(place).key()).0 as usize;
        let mut starts = vec![0; self.sizes.ranges() as usize + 1];
        let (mut count, mut until) = (0, Timestamp(0));
        for (entry, places) in newest.up_to(last) {
            (count, until) = (places.end, entry.at);
            places.for_each(|place| starts[range_at(place) + 1] += 1);
        }
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = before;
        }
        let (mut ends, mut ids) = (starts.clone(), vec![(0, 0); count]);
        for (entry, places) in newest.up_to(last) {
            let age = u32::try_from(until.since(entry.at).0).unwrap_or(u32::MAX);
            for place in places {
                let end = &mut ends[range_at(place)];
                ids[*end as usize] = (u32::try_from(place).expect("a lot is smaller"), age);
                *end += 1;
            }
        }
        Order { ids, starts, until }
    }

    /// Writes about so many ids of the lot, at least a few ranges of them.
    pub fn write_some(&mut self, stage: &mut Stage<'_>, newest: &Newest, ids: usize) {
        let (Some(writing), Some(order), Some(slice)) = (self.writing, self.order.take(), self.slices.back()) else {
            return;
        };
        let (slice, ranges) = (*slice, self.sizes.ranges());
        let count = 4 + ids * ranges as usize / self.sizes.lot;
        let end = writing.ranges.saturating_add(u32::try_from(count).unwrap_or(u32::MAX)).min(ranges);
        for range in writing.ranges..end {
            let ids = order.ids_of(range);
            if ids.is_empty() {
                continue;
            }
            for (place, _) in ids.iter().filter(|(place, _)| newest.before(*place as usize) < self.noted_from) {
                let (_, key) = self.spread(newest.at_place(*place as usize).key());
                self.filter.add(range, key, minute(slice.number));
            }
            let key = keys::recent_lot(slice.number, range, slice.lots - 1);
            stage.put(Space::RecentSend, key, encode(newest, ids, order.until));
        }
        self.writing = Some(Writing { ranges: end, ..writing });
        if end < ranges {
            self.order = Some(order);
        }
        self.is_changed = true;
    }

    /// The lot is written, and its messages are no longer among the newest.
    pub fn end_lot(&mut self) {
        self.writing = None;
        self.is_changed = true;
    }

    /// Deletes about so many keys of slices that the window has passed.
    pub fn delete_some(&mut self, stage: &mut Stage<'_>, keys: usize) {
        let mut room = keys;
        while room > 0
            && let Some(slice) = self.slices.front().copied()
            && slice.number + AGES as u64 <= slice_at(stage.now())
            && (self.writing.is_none() || self.slices.len() > 1)
        {
            for lot in 0..slice.lots {
                stage.delete(Space::RecentSend, keys::recent_lot(slice.number, self.deleted, lot));
            }
            room = room.saturating_sub(slice.lots as usize);
            self.deleted += 1;
            self.is_changed = true;
            if self.deleted == self.sizes.ranges() {
                self.deleted = 0;
                self.slices.pop_front();
            }
        }
        if self.slices.is_empty() {
            (self.filter, self.lines, self.making, self.noted_from) = (Filter::default(), 0, None, u64::MAX);
        }
    }

    /// Makes some more of a filter that is not whole, or not as large as it should be, from about so many ids.
    pub fn make_filter(&mut self, stage: &Stage<'_>, newest: &Newest, ids: u64) -> Result<(), Failure> {
        if self.making.is_none() {
            let lines = self.lines_wanted();
            if lines == self.lines {
                return Ok(());
            }
            (self.lines, self.making, self.noted_from) = (lines, Some(Making { lines, ranges: 0 }), u64::MAX);
        }
        let mut room = ids;
        while room > 0
            && let Some(making) = &mut self.making
        {
            let (lines, range) = (making.lines, making.ranges);
            making.ranges += 1;
            if making.ranges == self.sizes.ranges() {
                (self.making, self.noted_from) = (None, newest.before(newest.len()));
            }
            let (lines, count) = self.lines_of(stage, range, lines)?;
            self.filter.set(range, lines);
            room = room.saturating_sub(count.max(1));
        }
        Ok(())
    }

    /// Larger if it is full, smaller if an eighth of it would do.
    fn lines_wanted(&self) -> usize {
        let ids = self.ids();
        if ids > self.sizes.ids_in(self.lines) {
            self.sizes.lines_for(ids)
        } else {
            self.sizes.lines_for(ids * 8).min(self.lines)
        }
    }

    /// The lines of a range, from the state.
    fn lines_of(&self, stage: &Stage<'_>, range: u32, lines: usize) -> Result<(Vec<Line>, u64), Failure> {
        let (mut lines, mut count) = (vec![Line::EMPTY; lines], 0);
        for slice in &self.slices {
            for lot in lots_of(stage, slice, range)? {
                for key in keys_in(&mut reader_of(lot)?)?.iter() {
                    recent_filter::add(&mut lines, self.spread(key).1, minute(slice.number));
                    count += 1;
                }
            }
        }
        Ok((lines, count))
    }
}

fn slice_at(at: Timestamp) -> u64 {
    at.0 / SLICE
}

/// As the filter counts it.
fn minute(slice: u64) -> u32 {
    u32::try_from(slice).unwrap_or(u32::MAX)
}

/// How many minutes ago that was, if the window reaches so far.
fn age(now: u64, minute: u64) -> Option<usize> {
    usize::try_from(now.saturating_sub(minute)).ok().filter(|age| *age < AGES)
}

/// What the lots of a slice have of a range.
fn lots_of(stage: &Stage<'_>, slice: &Slice, range: u32) -> Result<impl Iterator<Item = Bytes>, Failure> {
    let from = keys::recent_range(slice.number, range);
    let pairs = stage.scan(Space::RecentSend, &from, &keys::after_prefix(&from), slice.lots as usize)?;
    Ok(pairs.into_iter().map(|(_, value)| value))
}

fn encode(newest: &Newest, ids: &[(u32, u32)], until: Timestamp) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + ids.len() * 24);
    out.put_u8(VERSION);
    out.put_u64(until.0);
    out.put_varint(ids.len() as u64);
    for (place, _) in ids {
        let key = newest.at_place(*place as usize).key();
        out.put_u64(key.low);
        out.put_u32(key.high);
    }
    for (place, age) in ids {
        out.put_varint((*age).into());
        newest.at_place(*place as usize).put_place(&mut out);
    }
    out.freeze()
}

/// The keys of what a lot has of a range.
struct Keys(Bytes);

impl Keys {
    fn iter(&self) -> impl DoubleEndedIterator<Item = Key> + ExactSizeIterator {
        self.0.chunks_exact(KEY_BYTES).map(|bytes| {
            let (low, high) = bytes.split_at(8);
            Key {
                low: u64::from_be_bytes(low.try_into().expect("eight bytes")),
                high: u32::from_be_bytes(high.try_into().expect("four bytes")),
            }
        })
    }
}

fn reader_of(lot: Bytes) -> Result<Reader, Malformed> {
    Reader::versioned(lot, "lot of recent sends", VERSION)
}

/// Reads up to the keys, and them.
fn keys_in(reader: &mut Reader) -> Result<Keys, Malformed> {
    reader.u64()?;
    let count = reader.varint_u32()? as usize;
    Ok(Keys(reader.take(count.saturating_mul(KEY_BYTES))?))
}

/// The message of this key, if it was sent within the window.
fn find_in(lot: Bytes, key: Key, now: Timestamp) -> Result<Option<RecentSend>, Malformed> {
    let mut reader = reader_of(lot.clone())?;
    let keys = keys_in(&mut reader)?;
    let Some(last) = keys.iter().rposition(|of| of == key) else { return Ok(None) };
    let until = reader_of(lot)?.u64()?;
    for of in keys.iter().take(last + 1) {
        let age = reader.varint()?;
        let sent = RecentSend::read(of, &mut reader)?;
        if of == key && now.since(Timestamp(until.saturating_sub(age))) <= RECENT_FOR {
            return Ok(Some(sent));
        }
    }
    Ok(None)
}
