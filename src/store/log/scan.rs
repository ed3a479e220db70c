//! Finding the records of a segment by reading it from the front: of the last segment at each start, of another one only if
//! its footer cannot be used.

use std::path::Path;

use crate::env::disk::DiskFile;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::places::Places;
use crate::store::log::record;
use crate::store::log::record::{
    BadRecord, NamedBefore, PREAMBLE_BYTES, Preamble, RecordId, WIRE_HEADER_BYTES, WireHeader,
};

pub(in crate::store) const HEADS_BYTES: usize = PREAMBLE_BYTES + WIRE_HEADER_BYTES;
/// Bytes that are read at once.
const BLOCK_BYTES: usize = 1024 * 1024;

/// What lies in a segment.
#[derive(Debug)]
pub(in crate::store) struct Scan {
    pub places: Places,
    /// Of the records, as in a footer.
    pub checksum: u32,
    /// Of the last one.
    pub last_checksum: Option<u32>,
    /// What the first one says of the record before the segment.
    pub before: Option<NamedBefore>,
    /// A record that does not follow the one before it: one of those before was at its place earlier.
    pub has_stale: bool,
    pub first: Option<RecordId>,
    pub last: Option<RecordId>,
    /// Highest committed index that a record knew.
    pub committed: LogIndex,
    /// Highest index that a record knew to be durable.
    pub durable: LogIndex,
    /// Why no record follows, unless the file ends there or only zeros follow.
    pub stopped: Option<BadRecord>,
    /// The entries with whole heads and damaged bodies. They are refused to whoever reads them.
    pub bad_bodies: Vec<LogIndex>,
}

impl Scan {
    /// Of a segment without records.
    pub fn none(first: LogIndex) -> Self {
        let (places, none) = (Places::new(first), LogIndex(0));
        let bad_bodies = Vec::new();
        Self {
            places,
            checksum: 0,
            last_checksum: None,
            before: None,
            has_stale: false,
            first: None,
            last: None,
            committed: none,
            durable: none,
            stopped: None,
            bad_bodies,
        }
    }
}

/// Reads the records of a segment that begins with `first`.
///
/// * Errors: [`Error::Damaged`] if a part of the file cannot be read.
pub(in crate::store) fn scan(file: &dyn DiskFile, path: &Path, first: LogIndex) -> Result<Scan, Error> {
    let file_bytes = file.len().map_err(Error::io(path.display()))?;
    let mut blocks = Blocks { file, path, file_bytes, start: 0, bytes: Vec::new(), read_bytes: BLOCK_BYTES };
    let mut scan = Scan::none(first);
    loop {
        let at = scan.places.end();
        if at >= file_bytes {
            return Ok(scan);
        }
        match blocks.record(at)? {
            Ok((preamble, header, framed)) if header.index == scan.places.next() => {
                // Terms never fall along a log.
                if scan.last.is_some_and(|before| header.term < before.term) {
                    scan.stopped = Some(BadRecord::Stale);
                    return Ok(scan);
                }
                match scan.last_checksum.zip(preamble.names_before(&header)) {
                    Some((before, named)) => scan.has_stale |= !named.is(before),
                    None if scan.first.is_none() => scan.before = preamble.names_before(&header),
                    None => {}
                }
                scan.last_checksum = Some(header.checksum);
                if !header.is_body(&framed[HEADS_BYTES..PREAMBLE_BYTES + preamble.wire_bytes]) {
                    scan.bad_bodies.push(header.index);
                }
                scan.checksum = record::checksum_with(scan.checksum, std::iter::once(header.checksum));
                scan.first.get_or_insert(header.id());
                scan.last = Some(header.id());
                scan.committed = scan.committed.max(preamble.committed);
                scan.durable = scan.durable.max(preamble.durable);
                scan.places.push(preamble.whole_bytes(), header.id().into());
            }
            Ok(_) => {
                scan.stopped = Some(BadRecord::Magic);
                return Ok(scan);
            }
            Err(bad) => {
                let is_unwritten = is_zero(file, path, at)?;
                scan.stopped = Some(bad).filter(|_| !is_unwritten);
                return Ok(scan);
            }
        }
    }
}

/// The heads of a record, and all its bytes.
type Framed<'a> = (Preamble, WireHeader, &'a [u8]);

/// The file in blocks.
struct Blocks<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    file_bytes: u64,
    /// Where in the file these bytes are.
    start: u64,
    bytes: Vec<u8>,
    /// Bytes that are read at once, at least.
    read_bytes: usize,
}

impl Blocks<'_> {
    /// The heads of the record at `at` and all its bytes, padding included as far as the file has it.
    fn record(&mut self, at: u64) -> Result<Result<Framed<'_>, BadRecord>, Error> {
        let heads = match decode_heads(self.bytes(at, HEADS_BYTES)?) {
            Ok(heads) => heads,
            Err(bad) => return Ok(Err(bad)),
        };
        let (preamble, header) = heads;
        let whole = usize::try_from(preamble.whole_bytes()).expect("records fit in memory");
        let framed = self.bytes(at, whole)?;
        let is_whole = framed.len() >= PREAMBLE_BYTES + preamble.wire_bytes;
        Ok(if is_whole { Ok((preamble, header, framed)) } else { Err(BadRecord::Short) })
    }

    /// Bytes of the file from `at` on; fewer if it ends before.
    fn bytes(&mut self, at: u64, count: usize) -> Result<&[u8], Error> {
        let count = usize::try_from(self.file_bytes.saturating_sub(at)).unwrap_or(usize::MAX).min(count);
        let has = at >= self.start && at + count as u64 <= self.start + self.bytes.len() as u64;
        if !has {
            let left = usize::try_from(self.file_bytes - at).unwrap_or(usize::MAX);
            self.bytes.resize(left.min(self.read_bytes.max(count)), 0);
            self.start = at;
            self.file.read_at(&mut self.bytes, at).map_err(Error::read(self.path, at))?;
        }
        let from = usize::try_from(at - self.start).expect("within the block");
        Ok(&self.bytes[from..from + count])
    }
}

/// Reads and checks the heads of a record.
pub(in crate::store) fn decode_heads(bytes: &[u8]) -> Result<(Preamble, WireHeader), BadRecord> {
    let preamble = Preamble::decode(bytes)?;
    let header = WireHeader::decode(&bytes[PREAMBLE_BYTES..])?;
    let is_whole = preamble.wire_bytes == WIRE_HEADER_BYTES + header.body_bytes;
    if is_whole { Ok((preamble, header)) } else { Err(BadRecord::Length(preamble.wire_bytes)) }
}

/// Reads the heads of the record at `at`.
pub(in crate::store) fn read_heads(file: &dyn DiskFile, path: &Path, at: u64) -> Result<(Preamble, WireHeader), Error> {
    let mut heads = [0; HEADS_BYTES];
    file.read_at(&mut heads, at).map_err(Error::read(path, at))?;
    decode_heads(&heads).map_err(|bad| Error::Damaged { file: path.to_owned(), at, reason: bad.to_string() })
}

/// As [`read_heads`]; `None` if they cannot be read.
pub(in crate::store) fn heads(
    file: &dyn DiskFile,
    path: &Path,
    at: u64,
) -> Result<Option<(Preamble, WireHeader)>, Error> {
    match read_heads(file, path, at) {
        Err(Error::Damaged { .. }) => Ok(None),
        heads => heads.map(Some),
    }
}

/// Whether a whole record is at `at` that knows the entry `index` to be durable.
pub(in crate::store) fn knows_durable(
    file: &dyn DiskFile,
    path: &Path,
    at: u64,
    index: LogIndex,
) -> Result<bool, Error> {
    let file_bytes = file.len().map_err(Error::io(path.display()))?;
    let mut blocks = Blocks { file, path, file_bytes, start: 0, bytes: Vec::new(), read_bytes: 0 };
    let read = blocks.record(at)?;
    Ok(read.is_ok_and(|(preamble, header, framed)| {
        preamble.durable >= index && header.is_body(&framed[HEADS_BYTES..PREAMBLE_BYTES + preamble.wire_bytes])
    }))
}

/// Whether there are only zeros from `at` on.
pub(in crate::store) fn is_zero(file: &dyn DiskFile, path: &Path, at: u64) -> Result<bool, Error> {
    find_in_blocks(file, path, at, |_, block| block.iter().any(|byte| *byte != 0).then_some(()))
        .map(|found| found.is_none())
}

/// Reads a file from `at` on, in blocks of whole kilobytes, until `look` finds something in one.
pub(in crate::store) fn find_in_blocks<T>(
    file: &dyn DiskFile,
    path: &Path,
    mut at: u64,
    mut look: impl FnMut(u64, &[u8]) -> Option<T>,
) -> Result<Option<T>, Error> {
    let end = file.len().map_err(Error::io(path.display()))?;
    let mut block = vec![0; 64 * 1024];
    while at < end {
        let count = usize::try_from((end - at).min(block.len() as u64)).expect("at most a block");
        file.read_at(&mut block[..count], at).map_err(Error::read(path, at))?;
        if let Some(found) = look(at, &block[..count]) {
            return Ok(Some(found));
        }
        at += count as u64;
    }
    Ok(None)
}
