//! Records: one Raft entry as bytes.
//!
//! Hot path. The *wire record* (Raft header and body) is the same everywhere: it goes to the followers
//! as it goes to disk. In a segment each has a local *preamble* in front, which never leaves the node.
//!
//! * Wire record: `term u64, node u64, index u64, kind u8, body length u32, body crc32c u32,
//!   header crc32c u32`, body.
//! * In a segment: `magic u32, durable u64, committed u64, wire length u32, crc32c u32`, wire record,
//!   zeros up to a multiple of 8. `durable` is the last index known to be synced when this was written:
//!   it tells a torn tail from damage (see `recover`). `committed` is a hint for the next start. Both have 48 bits; the upper
//!   16 of each are together the checksum of the head of the record before, xor that of its own record, 0 if it is not said: so
//!   a record that was at its place before is found out by the next one. Earlier builds left its own out.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader};
use crate::model::limits::RECORD_BYTES_MAX;
use crate::model::{LogIndex, NodeId, Term};
use crate::store::log::gather_buffer::GatherBuffer;

/// Bytes before the body of a wire record.
pub const WIRE_HEADER_BYTES: usize = 8 + 8 + 8 + 1 + 4 + 4 + 4;
/// Bytes before the wire record in a segment.
pub const PREAMBLE_BYTES: usize = 4 + 8 + 8 + 4 + 4;
/// Starts a preamble.
pub const MAGIC: u32 = 0x524D_5152;
/// Records in a segment start at multiples of this.
pub const ALIGN: usize = 8;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A new leader's empty entry.
    Blank = 0,
    /// A batch of commands.
    Batch = 1,
    /// A membership.
    Membership = 2,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Term of the leader that made it.
    pub term: Term,
    /// That leader.
    pub node: NodeId,
    /// Position.
    pub index: LogIndex,
    /// What it is.
    pub kind: RecordKind,
    /// The body; shared.
    pub body: Bytes,
}

/// Which entry a record is: no two entries of a shard have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordId {
    /// Term of the leader that made it.
    pub term: Term,
    /// That leader.
    pub node: NodeId,
    pub index: LogIndex,
}

impl RecordId {
    /// `term u64, node u64, index u64`.
    pub fn put(self, out: &mut BytesMut) {
        out.put_u64(self.term.0);
        out.put_u64(self.node.0);
        out.put_u64(self.index.0);
    }

    pub fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        let (term, node) = (Term(reader.u64()?), NodeId(reader.u64()?));
        Ok(Self { term, node, index: LogIndex(reader.u64()?) })
    }
}

/// Who made a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Maker {
    pub term: Term,
    pub node: NodeId,
}

impl From<RecordId> for Maker {
    fn from(id: RecordId) -> Self {
        Self { term: id.term, node: id.node }
    }
}

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Fewer bytes than the record needs.
    #[error("the record is cut short")]
    Short,
    /// Not where a record starts.
    #[error("no record starts here")]
    Magic,
    /// A length beyond the limit.
    #[error("the record claims {0} bytes")]
    Length(usize),
    /// A checksum that does not fit.
    #[error("the record's checksum does not fit")]
    Checksum,
    /// Whole, and of another leader than the one that made the record of this place: it was there before.
    #[error("an older record is at the place of this one")]
    Stale,
    /// A kind this version does not know.
    #[error("the record has the unknown kind {0}")]
    Kind(u8),
}

/// The head of a wire record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireHeader {
    /// See [`Record::term`].
    pub term: Term,
    /// See [`Record::node`].
    pub node: NodeId,
    /// See [`Record::index`].
    pub index: LogIndex,
    kind: RecordKind,
    /// Length of the body.
    pub body_bytes: usize,
    body_crc: u32,
    /// As [`encode_head`] gives it.
    pub checksum: u32,
}

/// The local head of a record in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// Last index known to be synced when this was written.
    pub durable: LogIndex,
    /// Last index known to be committed when this was written.
    pub committed: LogIndex,
    /// To be written: the checksum of the record before. As it was read: see `names_before`. 0 if it is not said.
    pub before: u32,
    /// Length of the wire record.
    pub wire_bytes: usize,
}

/// What a record says of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct NamedBefore {
    before: u32,
    own: u32,
}

impl NamedBefore {
    /// Whether that one has this checksum.
    pub fn is(self, checksum: u32) -> bool {
        // Earlier builds did not tie it to its own record.
        self.before ^ self.own == checksum || self.before == checksum
    }
}

/// Bits of an index in a preamble.
const INDEX_BITS: u32 = 48;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

impl Record {
    pub fn id(&self) -> RecordId {
        RecordId { term: self.term, node: self.node, index: self.index }
    }

    /// Length as a wire record.
    pub fn wire_bytes(&self) -> usize {
        WIRE_HEADER_BYTES + self.body.len()
    }
}

/// Appends the wire record.
pub fn encode_wire(record: &Record, out: &mut BytesMut) {
    out.reserve(record.wire_bytes());
    encode_head(record, out);
    out.put_slice(&record.body);
}

/// Appends what comes before the body. Gives the checksum over it, which has the body's in it: so it stands for the whole
/// record.
pub fn encode_head(record: &Record, out: &mut BytesMut) -> u32 {
    let start = out.len();
    out.put_u64(record.term.0);
    out.put_u64(record.node.0);
    out.put_u64(record.index.0);
    out.put_u8(record.kind as u8);
    out.put_u32(u32::try_from(record.body.len()).expect("bodies are below RECORD_BYTES_MAX"));
    out.put_u32(crc32c::crc32c(&record.body));
    let crc = crc32c::crc32c(&out[start..]);
    out.put_u32(crc);
    crc
}

/// The checksum that stands for a whole record, as [`encode_head`] gives it.
pub(in crate::store) fn checksum_of(record: &Record) -> u32 {
    encode_head(record, &mut BytesMut::with_capacity(WIRE_HEADER_BYTES))
}

/// The checksum of consecutive records: over those of their heads (see [`encode_head`]). Equal on all nodes.
pub fn checksum_with(before: u32, records: impl ExactSizeIterator<Item = u32>) -> u32 {
    // Together, because each call costs more than the few bytes of one record.
    let mut bytes = BytesMut::with_capacity(4 * records.len());
    records.for_each(|checksum| bytes.put_u32(checksum));
    crc32c::crc32c_append(before, &bytes)
}

/// Takes one wire record off the front; the body shares the bytes.
pub fn decode_wire(bytes: &mut Bytes) -> Result<Record, BadRecord> {
    let header = WireHeader::decode(bytes)?;
    if bytes.len() < WIRE_HEADER_BYTES + header.body_bytes {
        return Err(BadRecord::Short);
    }
    bytes.advance(WIRE_HEADER_BYTES);
    let body = bytes.split_to(header.body_bytes);
    header.with_body(body)
}

impl WireHeader {
    pub fn id(&self) -> RecordId {
        RecordId { term: self.term, node: self.node, index: self.index }
    }

    /// Reads and checks the head; the body may be missing.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut head = bytes.get(..WIRE_HEADER_BYTES).ok_or(BadRecord::Short)?;
        let crc = crc32c::crc32c(&head[..WIRE_HEADER_BYTES - 4]);
        let (term, node, index) = (head.get_u64(), head.get_u64(), head.get_u64());
        let (kind, body_bytes, body_crc) = (head.get_u8(), head.get_u32() as usize, head.get_u32());
        if head.get_u32() != crc {
            return Err(BadRecord::Checksum);
        }
        if body_bytes > RECORD_BYTES_MAX {
            return Err(BadRecord::Length(body_bytes));
        }
        let kind = match kind {
            0 => RecordKind::Blank,
            1 => RecordKind::Batch,
            2 => RecordKind::Membership,
            kind => return Err(BadRecord::Kind(kind)),
        };
        let (term, node, index) = (Term(term), NodeId(node), LogIndex(index));
        Ok(Self { term, node, index, kind, body_bytes, body_crc, checksum: crc })
    }

    /// Whether this is the body that was written.
    pub fn is_body(&self, body: &[u8]) -> bool {
        crc32c::crc32c(body) == self.body_crc
    }

    /// The record, if the body is what was written.
    pub fn with_body(self, body: Bytes) -> Result<Record, BadRecord> {
        if !self.is_body(&body) {
            return Err(BadRecord::Checksum);
        }
        Ok(Record { term: self.term, node: self.node, index: self.index, kind: self.kind, body })
    }
}

impl Preamble {
    /// Of a record that is to be written.
    pub fn of(record: &Record, durable: LogIndex, committed: LogIndex) -> Self {
        Self { durable, committed, before: 0, wire_bytes: record.wire_bytes() }
    }

    /// With the checksum of the record before, if that is known.
    pub fn after(self, before: Option<u32>) -> Self {
        Self { before: before.unwrap_or(0), ..self }
    }

    /// What it says of the record before its own one, if it does.
    pub(in crate::store) fn names_before(&self, own: &WireHeader) -> Option<NamedBefore> {
        let named = NamedBefore { before: self.before, own: own.checksum };
        (self.before != 0).then_some(named)
    }

    /// Appends preamble, wire record and padding. Gives the record's checksum, as [`encode_head`].
    pub fn put(&self, record: &Record, out: &mut GatherBuffer) -> u32 {
        let start = out.buffer().len();
        out.buffer().put_bytes(0, PREAMBLE_BYTES);
        let checksum = encode_head(record, out.buffer());
        // Tied to its record: neither can be older than the other.
        let before = if self.before == 0 { 0 } else { self.before ^ checksum };
        Self { before, ..*self }.encode(&mut out.buffer()[start..start + PREAMBLE_BYTES]);
        out.share(record.body.clone());
        let written = PREAMBLE_BYTES + self.wire_bytes;
        out.buffer().put_bytes(0, written.next_multiple_of(ALIGN) - written);
        checksum
    }

    fn encode(&self, out: &mut [u8]) {
        let (mut out, crc_at) = (out, PREAMBLE_BYTES - 4);
        let mut head = [0; PREAMBLE_BYTES];
        let mut rest = &mut head[..crc_at];
        rest.put_u32(MAGIC);
        let (high, low) = (u64::from(self.before >> 16), u64::from(self.before & 0xFFFF));
        assert!(self.durable.0 <= INDEX_MASK && self.committed.0 <= INDEX_MASK, "entries are counted with 48 bits");
        rest.put_u64(self.durable.0 | high << INDEX_BITS);
        rest.put_u64(self.committed.0 | low << INDEX_BITS);
        rest.put_u32(u32::try_from(self.wire_bytes).expect("records are below 4 GiB"));
        let crc = crc32c::crc32c(&head[..crc_at]);
        head[crc_at..].copy_from_slice(&crc.to_be_bytes());
        out.put_slice(&head);
    }

    /// Reads and checks the preamble.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut head = bytes.get(..PREAMBLE_BYTES).ok_or(BadRecord::Short)?;
        let crc = crc32c::crc32c(&head[..PREAMBLE_BYTES - 4]);
        if head.get_u32() != MAGIC {
            return Err(BadRecord::Magic);
        }
        let (durable, committed, wire_bytes) = (head.get_u64(), head.get_u64(), head.get_u32() as usize);
        if head.get_u32() != crc {
            return Err(BadRecord::Checksum);
        }
        if !(WIRE_HEADER_BYTES..=WIRE_HEADER_BYTES + RECORD_BYTES_MAX).contains(&wire_bytes) {
            return Err(BadRecord::Length(wire_bytes));
        }
        let before = u32::try_from((durable >> INDEX_BITS) << 16 | committed >> INDEX_BITS).expect("two times 16 bits");
        let (durable, committed) = (LogIndex(durable & INDEX_MASK), LogIndex(committed & INDEX_MASK));
        Ok(Self { durable, committed, before, wire_bytes })
    }

    /// Bytes of preamble, wire record and padding.
    pub fn whole_bytes(&self) -> u64 {
        (PREAMBLE_BYTES + self.wire_bytes).next_multiple_of(ALIGN) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            term: Term(3),
            node: NodeId(1),
            index: LogIndex(9),
            kind: RecordKind::Batch,
            body: Bytes::from_static(b"body"),
        }
    }

    fn framed(record: &Record) -> Bytes {
        let mut out = GatherBuffer::default();
        Preamble::of(record, LogIndex(8), LogIndex(7)).put(record, &mut out);
        out.copy_to_bytes(out.remaining())
    }

    #[test]
    fn a_wire_record_reads_back_and_leaves_the_rest() {
        let mut out = BytesMut::new();
        encode_wire(&record(), &mut out);
        out.put_slice(b"rest");
        let mut bytes = out.freeze();
        assert_eq!(decode_wire(&mut bytes), Ok(record()));
        assert_eq!(&bytes[..], b"rest");
    }

    #[test]
    fn p19_a_record_with_any_byte_changed_is_refused() {
        let out = framed(&record());
        let whole = PREAMBLE_BYTES + record().wire_bytes();
        for at in 0..whole {
            let mut broken = out.to_vec();
            broken[at] ^= 0x40;
            let read =
                Preamble::decode(&broken).and_then(|_| decode_wire(&mut Bytes::from(broken).split_off(PREAMBLE_BYTES)));
            assert!(read.is_err(), "byte {at}");
        }
    }

    #[test]
    fn records_in_a_segment_are_aligned() {
        for bytes in [4, 5, 100_000, 100_001] {
            let record = Record { body: vec![7; bytes].into(), ..record() };
            let out = framed(&record);
            assert_eq!(out.len() % ALIGN, 0);
            let preamble = Preamble::decode(&out).unwrap();
            assert_eq!(preamble, Preamble::of(&record, LogIndex(8), LogIndex(7)));
            let chained = preamble.after(Some(0x8765_4321));
            let mut out = GatherBuffer::default();
            chained.put(&record, &mut out);
            let bytes = out.copy_to_bytes(out.remaining());
            let (read, own) = (Preamble::decode(&bytes), WireHeader::decode(&bytes[PREAMBLE_BYTES..]).unwrap());
            let read = read.unwrap();
            assert_eq!(Preamble { before: chained.before, ..read }, chained);
            assert!(read.names_before(&own).is_some_and(|named| named.is(0x8765_4321) && !named.is(0x8765_4322)));
            let other = WireHeader { checksum: own.checksum ^ 1, ..own };
            assert!(read.names_before(&other).is_some_and(|named| !named.is(0x8765_4321)), "of another record");
            assert!(chained.names_before(&own).is_some_and(|named| named.is(0x8765_4321)), "of an earlier build");
            assert!(preamble.names_before(&own).is_none());
            let out = framed(&record);
            assert_eq!(preamble.whole_bytes(), out.len() as u64);
            assert_eq!(decode_wire(&mut out.slice(PREAMBLE_BYTES..)), Ok(record));
        }
    }
}
