//! Where the records of one segment are in its file, and which leaders made them: four bytes of memory per record, and some
//! for each change of leader.
//!
//! Hot path. Who made a record tells it from one that was at the same place before and has a valid checksum, too.

use std::ops::Range;

use bytes::BytesMut;

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{LogIndex, NodeId, Term};
use crate::store::log::record::{ALIGN, Maker, RecordId};
use crate::store::log::segment::HEADER_BYTES;

/// Bytes of one read, unless one record has more: whoever keeps one of the records keeps all that was read with it.
const READ_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// The records `[from, to)` that fit `bytes_max`.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Span {
    pub from: LogIndex,
    pub to: LogIndex,
    pub bytes_max: usize,
    /// The first record is taken even if it does not fit.
    pub takes_one: bool,
}

/// Where consecutive records are, which lie one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Places {
    first: LogIndex,
    /// Where each record begins, and after the last one where the records end; in units of [`ALIGN`].
    starts: Vec<u32>,
    /// Who made the records from each of these indexes on. Empty if that is not known.
    makers: Vec<(LogIndex, Maker)>,
}

impl Places {
    /// Of a segment without records.
    pub fn new(first: LogIndex) -> Self {
        Self { first, starts: vec![unit(HEADER_BYTES)], makers: Vec::new() }
    }

    pub fn first(&self) -> LogIndex {
        self.first
    }

    /// Index after the last record.
    pub fn next(&self) -> LogIndex {
        LogIndex(self.first.0 + self.count() as u64)
    }

    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// Where the records end.
    pub fn end(&self) -> u64 {
        byte(*self.starts.last().expect("there is always an end"))
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let makers = self.makers.capacity() * size_of::<(LogIndex, Maker)>();
        size_of::<Self>() + self.starts.capacity() * size_of::<u32>() + makers
    }

    /// Adds a record of so many bytes.
    pub fn push(&mut self, bytes: u64, maker: Maker) {
        if self.makers.last().is_none_or(|(_, last)| *last != maker) {
            self.makers.push((self.next(), maker));
        }
        self.starts.push(unit(self.end() + bytes));
    }

    /// Who made the record with this index, if it is here and that is known.
    pub fn maker_of(&self, index: LogIndex) -> Option<Maker> {
        let after = self.makers.partition_point(|(first, _)| *first <= index);
        let (_, maker) = self.makers.get(after.checked_sub(1)?)?;
        (index < self.next()).then_some(*maker)
    }

    /// Which record that is, if it is here and that is known.
    pub fn id_of(&self, index: LogIndex) -> Option<RecordId> {
        self.maker_of(index).map(|Maker { term, node }| RecordId { term, node, index })
    }

    /// How often the leader changed, and once more.
    pub fn maker_count(&self) -> usize {
        self.makers.len()
    }

    /// All of them were made by this one.
    pub fn set_maker(&mut self, maker: Maker) {
        self.makers = vec![(self.first, maker)];
    }

    /// Where the record with this index is, if it is here.
    pub fn place_of(&self, index: LogIndex) -> Option<Range<u64>> {
        let is_here = index >= self.first && index < self.next();
        is_here.then(|| self.start_of(index)..self.start_of(index.next()))
    }

    /// Drops all records after `keep`.
    pub fn truncate_after(&mut self, keep: LogIndex) {
        let kept = self.position(keep.next());
        self.starts.truncate(kept + 1);
        self.makers.retain(|(first, _)| *first <= keep);
    }

    /// Where the record with this index is, or where the records end if it is not here.
    pub fn start_of(&self, index: LogIndex) -> u64 {
        byte(self.starts[self.position(index)])
    }

    /// A copy without spare memory.
    pub fn compact(&self) -> Self {
        Self { first: self.first, starts: self.starts.as_slice().into(), makers: self.makers.as_slice().into() }
    }

    /// Where the records of a span are, as many as one read takes.
    pub fn of_span(&self, span: Span) -> Vec<Range<u64>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        for position in self.position(span.from)..self.position(span.to) {
            let (start, end) = (byte(self.starts[position]), byte(self.starts[position + 1]));
            let with_it = end - found.first().map_or(start, |first| first.start);
            let fits = with_it <= span.bytes_max as u64 && (found.is_empty() || with_it <= READ_BYTES_MAX);
            let is_taken = fits || span.takes_one && found.is_empty();
            if !is_taken {
                break;
            }
            found.push(start..end);
        }
        found
    }

    /// How many records are before this index.
    fn position(&self, index: LogIndex) -> usize {
        usize::try_from(index.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX).min(self.count())
    }

    /// Appends the lengths of the records as varints, in units of [`ALIGN`].
    pub fn put_lengths(&self, out: &mut BytesMut) {
        self.starts.windows(2).for_each(|pair| out.put_varint(u64::from(pair[1] - pair[0])));
    }

    /// Reads what [`Self::put_lengths`] wrote of `count` records.
    pub fn read_lengths(first: LogIndex, count: u64, reader: &mut Reader) -> Result<Self, Malformed> {
        // Each length takes a byte at least, so a wrong count cannot ask for more memory than there are bytes.
        let count = usize::try_from(count).ok().filter(|count| *count <= reader.remaining());
        let count = count.ok_or(Malformed::Short("places of records"))?;
        let mut starts = Vec::with_capacity(count + 1);
        let mut end = unit(HEADER_BYTES);
        starts.push(end);
        for _ in 0..count {
            let length = reader.varint_u32()?;
            end = end.checked_add(length).ok_or_else(|| reader.unknown(length.into()))?;
            starts.push(end);
        }
        Ok(Self { first, starts, makers: Vec::new() })
    }

    /// Appends who made the records: `count varint`, and for each change of leader `records after the first varint, term
    /// varint, node varint`.
    pub fn put_makers(&self, out: &mut BytesMut) {
        out.put_varint(self.makers.len() as u64);
        for (first, Maker { term, node }) in &self.makers {
            out.put_varint(first.0 - self.first.0);
            out.put_varint(term.0);
            out.put_varint(node.0);
        }
    }

    /// Reads what [`Self::put_makers`] wrote.
    pub fn read_makers(&mut self, reader: &mut Reader) -> Result<(), Malformed> {
        let count = reader.varint()?;
        for _ in 0..count {
            let first = LogIndex(self.first.0.saturating_add(reader.varint()?));
            let maker = Maker { term: Term(reader.varint()?), node: NodeId(reader.varint()?) };
            let is_after = self.makers.last().is_none_or(|(before, _)| first > *before);
            if !is_after || first >= self.next() {
                return Err(reader.unknown(first.0));
            }
            self.makers.push((first, maker));
        }
        Ok(())
    }
}

/// Segments are far below the 32 GiB that this can say.
fn unit(at: u64) -> u32 {
    debug_assert!(at.is_multiple_of(ALIGN as u64), "records are aligned");
    u32::try_from(at / ALIGN as u64).expect("a segment is below 32 GiB")
}

fn byte(unit: u32) -> u64 {
    u64::from(unit) * ALIGN as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_and_take_four_bytes_per_record() {
        let mut places = Places::new(LogIndex(7));
        let maker = |term| Maker { term: Term(term), node: NodeId(term % 3) };
        (0..1000).for_each(|number| places.push(8 * (9 + number % 300), maker(2 + number / 400)));
        let mut out = BytesMut::new();
        places.put_lengths(&mut out);
        assert!(out.len() < 2000, "{} bytes for 1000 records", out.len());
        places.put_makers(&mut out);
        let mut reader = Reader::new(out.freeze(), "test");
        let mut read = Places::read_lengths(LogIndex(7), 1000, &mut reader).unwrap();
        read.read_makers(&mut reader).unwrap();
        assert_eq!(read, places);
        for (index, term) in [(7, Some(2)), (406, Some(2)), (407, Some(3)), (1006, Some(4)), (1007, None), (6, None)] {
            assert_eq!(places.maker_of(LogIndex(index)).map(|maker| maker.term.0), term, "{index}");
        }
        assert_eq!((read.next(), read.end()), (LogIndex(1007), places.end()));
        assert!(read.memory_bytes() <= 4 * 1001 + 64 + 4 * 24 + 24);
        places.truncate_after(LogIndex(9));
        assert_eq!((places.count(), places.end()), (3, 64 + 8 * (9 + 10 + 11)));
        places.truncate_after(LogIndex(3));
        assert_eq!((places.count(), places.end()), (0, 64));
    }
}
