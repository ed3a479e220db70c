//! The footer of a sealed segment: what a start, a reader and a repair need to know of it without reading its records.
//!
//! It is written once the records before it are synced, so a whole footer also says that they are durable.
//!
//! * Shape, after the last record: `version u8 (2), shard varint, first record (term u64, node u64, index u64), last
//!   record (the same), count varint, committed u64, end u64, checksum u32`, the length of each record as a varint in
//!   units of 8 bytes, who made the records (`places`; not in version 1). Then a trailer, which ends the file: `length of the footer u32, crc32c of footer and length u32,
//!   magic u64`.
//! * `committed` is a hint for a start that finds no record after this segment; `end` is where the records end;
//!   `checksum` is the crc32c of the checksums of all records, in order. Each of those stands for its whole record and not
//!   for what only this node adds to it: so segments of two nodes with the same entries have the same.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::env::disk::{DiskFile, is_unreadable};
use crate::model::LogIndex;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::store::Error;
use crate::store::log::places::Places;
use crate::store::log::record::{Maker, RecordId};
use crate::store::log::scan;
use crate::store::log::segment::HEADER_BYTES;

const VERSION: u8 = 2;
/// Did not say who made the records.
const VERSION_MIN: u8 = 1;
/// There is only one shard yet.
const SHARD: u64 = 0;
const MAGIC: u64 = 0x5241_4654_4D51_4654;
const TRAILER_BYTES: u64 = 4 + 4 + 8;
/// A footer and its trailer are no longer than this, so much for each record, and so much for each change of leader.
pub(in crate::store) const FOOTER_BYTES: u64 = 2 + 2 * 24 + 5 + 8 + 8 + 4 + 3 + TRAILER_BYTES;
pub(in crate::store) const FOOTER_RECORD_BYTES: u64 = 4;
pub(in crate::store) const FOOTER_MAKER_BYTES: u64 = 3 + 10 + 10;

/// What a sealed segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Footer {
    pub first: RecordId,
    pub last: RecordId,
    /// Highest committed index known when the segment was sealed.
    pub committed: LogIndex,
    /// Of all records.
    pub checksum: u32,
    /// At least one.
    pub places: Places,
}

/// The last record of a sealed segment, by its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum LastRecord {
    Is(u32),
    /// It is another one than the footer says: one of both is older.
    Other,
    Unreadable,
}

/// Bytes that the footer over these records takes at most.
pub(in crate::store) fn footer_bytes_max(places: &Places) -> u64 {
    let (records, makers) = (places.count() as u64, places.maker_count() as u64);
    FOOTER_BYTES + records * FOOTER_RECORD_BYTES + makers * FOOTER_MAKER_BYTES
}

impl Footer {
    /// Footer and trailer.
    pub fn encode(&self) -> Bytes {
        let bytes_max = footer_bytes_max(&self.places);
        let mut out = BytesMut::with_capacity(usize::try_from(bytes_max).expect("a footer fits in memory"));
        out.put_u8(VERSION);
        out.put_varint(SHARD);
        self.first.put(&mut out);
        self.last.put(&mut out);
        out.put_varint(self.places.count() as u64);
        out.put_u64(self.committed.0);
        out.put_u64(self.places.end());
        out.put_u32(self.checksum);
        self.places.put_lengths(&mut out);
        self.places.put_makers(&mut out);
        out.put_u32(u32::try_from(out.len()).expect("a footer is far below 4 GiB"));
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out.put_u64(MAGIC);
        out.freeze()
    }

    /// Reads the footer at the end of a file; `None` if there is none, or none that is whole.
    pub fn read(file: &dyn DiskFile, first: LogIndex) -> std::io::Result<Option<Self>> {
        let file_bytes = file.len()?;
        if file_bytes < HEADER_BYTES + TRAILER_BYTES {
            return Ok(None);
        }
        let mut trailer = [0; TRAILER_BYTES as usize];
        let trailer_at = file_bytes - TRAILER_BYTES;
        if !can_read(file, &mut trailer, trailer_at)? {
            return Ok(None);
        }
        let mut rest = &trailer[..];
        let (length, crc, magic) = (u64::from(rest.get_u32()), rest.get_u32(), rest.get_u64());
        if magic != MAGIC || length > trailer_at - HEADER_BYTES {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).expect("a length of four bytes")];
        if !can_read(file, &mut bytes, trailer_at - length)? {
            return Ok(None);
        }
        if crc32c::crc32c_append(crc32c::crc32c(&bytes), &trailer[..4]) != crc {
            return Ok(None);
        }
        let footer = Self::decode(bytes.into()).ok();
        let is_here = |footer: &Self| footer.places.first() == first && footer.places.end() == trailer_at - length;
        Ok(footer.filter(is_here))
    }

    /// Finds the last record where this says that it is.
    pub fn last_record(&self, file: &dyn DiskFile, path: &Path) -> Result<LastRecord, Error> {
        let heads = scan::heads(file, path, self.places.start_of(self.last.index))?;
        Ok(match heads {
            Some((_, header)) if header.id() == self.last => LastRecord::Is(header.checksum),
            Some(_) => LastRecord::Other,
            None => LastRecord::Unreadable,
        })
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "footer of a segment");
        let version = reader.u8()?;
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Err(reader.unknown(version.into()));
        }
        let shard = reader.varint()?;
        if shard != SHARD {
            return Err(reader.unknown(shard));
        }
        let (first, last) = (RecordId::read(&mut reader)?, RecordId::read(&mut reader)?);
        let count = reader.varint()?;
        let (committed, end, checksum) = (LogIndex(reader.u64()?), reader.u64()?, reader.u32()?);
        let mut places = Places::read_lengths(first.index, count, &mut reader)?;
        if version >= 2 {
            places.read_makers(&mut reader)?;
        } else if Maker::from(first) == Maker::from(last) {
            places.set_maker(first.into());
        }
        if places.end() != end || places.next() != last.index.next() || reader.remaining() > 0 {
            return Err(reader.unknown(end));
        }
        Ok(Self { first, last, committed, checksum, places })
    }
}

/// Reads; false if the disk cannot.
fn can_read(file: &dyn DiskFile, bytes: &mut [u8], at: u64) -> std::io::Result<bool> {
    match file.read_at(bytes, at) {
        Err(error) if is_unreadable(&error) => Ok(false),
        read => read.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::disk::Disk;
    use crate::env::fault::sim::SimDisk;
    use crate::model::{NodeId, Term};

    #[test]
    fn p19_a_footer_reads_back_and_with_any_byte_changed_it_is_none() {
        let mut places = Places::new(LogIndex(5));
        let id = |index| RecordId { term: Term(2), node: NodeId(1), index: LogIndex(index) };
        [80, 72, 4000].into_iter().for_each(|bytes| places.push(bytes, id(5).into()));
        let footer = Footer { first: id(5), last: id(7), committed: LogIndex(6), checksum: 9, places };
        let file = SimDisk::default().create(Path::new("/file")).unwrap();
        let encoded = footer.encode();
        assert!(encoded.len() as u64 <= footer_bytes_max(&footer.places));
        file.write_at(&encoded, footer.places.end()).unwrap();
        assert_eq!(Footer::read(&*file, LogIndex(5)).unwrap(), Some(footer.clone()));
        assert_eq!(Footer::read(&*file, LogIndex(4)).unwrap(), None, "of another segment");
        for at in 0..encoded.len() {
            let mut broken = encoded.to_vec();
            broken[at] ^= 0x10;
            file.write_at(&broken, footer.places.end()).unwrap();
            assert_eq!(Footer::read(&*file, LogIndex(5)).unwrap(), None, "byte {at}");
        }
        file.write_at(&encoded, footer.places.end()).unwrap();
        file.set_len(footer.places.end() + encoded.len() as u64 - 1).unwrap();
        assert_eq!(Footer::read(&*file, LogIndex(5)).unwrap(), None, "cut short");
    }
}
