//! Segments: the files of the commit log.
//!
//! Hot path. Preallocated, written at positions by the log's one writer thread, read by anyone. The position of each
//! record is kept in memory, eight bytes per entry.
//!
//! * Name: the first index in 20 digits, then `.seg`.
//! * Shape: a header of 64 bytes (`magic u64, version u32, first index u64, crc32c u32`, zeros), then
//!   records (`record`), then zeros.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::RwLock;

use crate::env::disk::{Disk, DiskFile, is_full};
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::gather_buffer::GatherBuffer;
use crate::store::log::record;
use crate::store::log::record::{PREAMBLE_BYTES, Preamble, Record, WIRE_HEADER_BYTES, WireHeader};

pub(in crate::store) const SUFFIX: &str = ".seg";
pub(in crate::store) const HEADER_BYTES: u64 = 64;
const MAGIC: u64 = 0x5241_4654_4D51_5347;
/// Also stands for the formats inside, and for what the machine makes of them: a new version of one of those is a new
/// version here.
const VERSION: u32 = 4;
/// Bytes of one read, unless one record has more: whoever keeps one of the records keeps all that was read with it.
const READ_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Less space is not worth being reserved.
const RESERVED_MIN: u64 = 64 * 1024;
/// More is not read without waiting: copying and checking it takes time too.
const AT_HAND_BYTES_MAX: usize = 1024 * 1024;

/// Whether a read may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Access {
    Blocking,
    /// Only what the page cache has.
    AtHand,
}

/// How much of a record recovery checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Checks {
    Heads,
    Body,
}

/// The records `[from, to)` that fit `bytes_max`.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Span {
    pub from: LogIndex,
    pub to: LogIndex,
    pub bytes_max: usize,
    /// The first record is taken even if it does not fit.
    pub takes_one: bool,
}

/// One file of the log. Cloning shares it.
#[derive(Clone)]
pub(in crate::store) struct Segment {
    pub first: LogIndex,
    pub path: PathBuf,
    file: Arc<dyn DiskFile>,
    places: Arc<RwLock<Places>>,
}

/// Where the records are in the file.
#[derive(Default)]
struct Places {
    /// Byte of each record, by index from the first.
    starts: Vec<u64>,
    /// Where the next record goes.
    end: u64,
}

impl Segment {
    /// Makes an empty segment, durably, reserving `bytes`.
    pub fn create(disk: &dyn Disk, folder: &Path, first: LogIndex, bytes: u64) -> Result<Self, Error> {
        let path = folder.join(format!("{:020}{SUFFIX}", first.0));
        let failed = |source| Error::Io { place: path.display().to_string(), source };
        let file = disk.create(&path).map_err(Error::unwritten(path.display()))?;
        reserve(&*file, bytes);
        let mut head = BytesMut::with_capacity(HEADER_BYTES as usize);
        head.put_u64(MAGIC);
        head.put_u32(VERSION);
        head.put_u64(first.0);
        let crc = crc32c::crc32c(&head);
        head.put_u32(crc);
        head.resize(HEADER_BYTES as usize, 0);
        file.write_at(&head, 0).map_err(Error::unwritten(path.display()))?;
        file.sync_data().map_err(failed)?;
        disk.sync_dir(folder).map_err(failed)?;
        Ok(Self::with(first, path, file.into()))
    }

    /// Opens a segment without looking for records yet; `None` if its header was never completed.
    pub fn open(disk: &dyn Disk, path: PathBuf) -> Result<Option<Self>, Error> {
        let failed = |source| Error::Io { place: path.display().to_string(), source };
        let file = disk.open(&path).map_err(failed)?;
        if file.len().map_err(failed)? < HEADER_BYTES {
            return Ok(None);
        }
        let mut head = [0; HEADER_BYTES as usize];
        file.read_at(&mut head, 0).map_err(failed)?;
        let crc = crc32c::crc32c(&head[..20]);
        let mut read = &head[..];
        let (magic, version, first, found) = (read.get_u64(), read.get_u32(), read.get_u64(), read.get_u32());
        if magic != MAGIC || crc != found {
            return Ok(None);
        }
        if version != VERSION {
            let reason = format!(
                "it has format version {version}, this program reads {VERSION}; start the version of raftmq that wrote it"
            );
            return Err(Error::Damaged { file: path, at: 8, reason });
        }
        Ok(Some(Self::with(LogIndex(first), path, file.into())))
    }

    fn with(first: LogIndex, path: PathBuf, file: Arc<dyn DiskFile>) -> Self {
        let places = Places { starts: Vec::new(), end: HEADER_BYTES };
        Self { first, path, file, places: Arc::new(RwLock::new(places)) }
    }

    /// Index after the last record.
    pub fn next(&self) -> LogIndex {
        LogIndex(self.first.0 + self.places.read().starts.len() as u64)
    }

    /// Bytes used.
    pub fn end(&self) -> u64 {
        self.places.read().end
    }

    /// Bytes of the file, used or reserved.
    pub fn file_bytes(&self) -> Result<u64, Error> {
        self.file.len().map_err(Error::io(self.path.display()))
    }

    /// Notes a record found by recovery.
    pub fn found(&self, bytes: u64) {
        let mut places = self.places.write();
        let start = places.end;
        places.starts.push(start);
        places.end += bytes;
    }

    /// Writes framed records of these sizes after the last one; not durable yet.
    pub fn write(&self, framed: &mut GatherBuffer, sizes: &[u64]) -> Result<(), Error> {
        let end = self.end();
        self.file.write_gathered_at(framed, end).map_err(Error::unwritten(self.path.display()))?;
        for size in sizes {
            self.found(*size);
        }
        Ok(())
    }

    /// Writes the records from `index` on once more, as they are.
    pub fn write_again(&self, index: LogIndex) -> Result<(), Error> {
        let (start, end) = {
            let places = self.places.read();
            let position = usize::try_from(index.0.saturating_sub(self.first.0)).expect("a segment fits in memory");
            (places.starts.get(position).copied().unwrap_or(places.end), places.end)
        };
        let mut block = vec![0; 1024 * 1024];
        let mut at = start;
        while at < end {
            let count = usize::try_from((end - at).min(block.len() as u64)).expect("at most a block");
            self.read_at(&mut block[..count], at)?;
            self.file.write_at(&block[..count], at).map_err(Error::io(self.path.display()))?;
            at += count as u64;
        }
        Ok(())
    }

    /// Makes everything written durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io(self.path.display()))
    }

    /// Cuts off everything after `keep`, durably. The bytes are given back and read as zeros afterwards, so a cut record
    /// cannot reappear (D32).
    pub fn cut_after(&self, keep: LogIndex) -> Result<(), Error> {
        let end = {
            let mut places = self.places.write();
            let kept = usize::try_from((keep.0 + 1).saturating_sub(self.first.0)).expect("a segment fits in memory");
            if let Some(cut) = places.starts.get(kept).copied() {
                places.starts.truncate(kept);
                places.end = cut;
            }
            places.end
        };
        self.file.set_len(end).map_err(Error::io(self.path.display()))?;
        self.sync()
    }

    /// Reads bytes for recovery.
    pub fn read_at(&self, bytes: &mut [u8], at: u64) -> Result<(), Error> {
        self.file.read_at(bytes, at).map_err(Error::io(self.path.display()))
    }

    /// Where the records of a span are, as many as one read takes.
    fn places(&self, span: Span) -> Vec<Range<u64>> {
        let places = self.places.read();
        let position = |index: LogIndex| usize::try_from(index.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX);
        let count = places.starts.len();
        let (from, to) = (position(span.from).min(count), position(span.to).min(count));
        let mut found: Vec<Range<u64>> = Vec::new();
        for position in from..to {
            let start = places.starts[position];
            let end = places.starts.get(position + 1).copied().unwrap_or(places.end);
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

    /// Reads and checks the records of a span, as many as one read takes. Records that are not in this segment, or were
    /// cut off meanwhile, are left out. `None` if `access` does not allow the wait for the disk that this needs.
    pub fn read(&self, span: Span, access: Access) -> Result<Option<Vec<Record>>, Error> {
        let places = self.places(span);
        match self.read_records(span.from, &places, access) {
            // A truncation overtook the read, so what it saw is no damage. Only the places that were read count: others
            // may have been appended meanwhile.
            Err(_) if !self.places(span).starts_with(&places) => Ok(Some(Vec::new())),
            read => read,
        }
    }

    /// Reads consecutive records with one read.
    fn read_records(
        &self,
        from: LogIndex,
        places: &[Range<u64>],
        access: Access,
    ) -> Result<Option<Vec<Record>>, Error> {
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(Some(Vec::new())) };
        let start = first.start;
        let within = |at: u64| usize::try_from(at - start).expect("records fit in memory");
        let length = within(last.end);
        if access == Access::AtHand && length > AT_HAND_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        match access {
            Access::Blocking => self.read_at(&mut bytes, start)?,
            Access::AtHand => {
                if !self.file.read_at_hand(&mut bytes, start).map_err(Error::io(self.path.display()))? {
                    return Ok(None);
                }
            }
        }
        let bytes = Bytes::from(bytes);
        let record = |(place, index): (&Range<u64>, u64)| {
            let damaged = |error: record::BadRecord| Error::Damaged {
                file: self.path.clone(),
                at: place.start,
                reason: error.to_string(),
            };
            let framed = bytes.slice(within(place.start)..within(place.end));
            let preamble = Preamble::decode(&framed).map_err(damaged)?;
            // Another record, if this one was cut off and written over meanwhile.
            if PREAMBLE_BYTES + preamble.wire_bytes > framed.len() {
                return Err(damaged(record::BadRecord::Short));
            }
            let mut wire = framed.slice(PREAMBLE_BYTES..PREAMBLE_BYTES + preamble.wire_bytes);
            let record = record::decode_wire(&mut wire).map_err(damaged)?;
            if record.index.0 != index {
                return Err(damaged(record::BadRecord::Magic));
            }
            Ok(record)
        };
        places.iter().zip(from.0..).map(record).collect::<Result<_, _>>().map(Some)
    }

    /// Reads the heads of the record at `at`; with [`Checks::Body`] the body too.
    pub fn probe(&self, at: u64, file_bytes: u64, checks: Checks) -> Result<Probed, Error> {
        let mut heads = [0; PREAMBLE_BYTES + WIRE_HEADER_BYTES];
        if at + heads.len() as u64 > file_bytes {
            return Ok(Err(record::BadRecord::Short));
        }
        self.read_at(&mut heads, at)?;
        let read = Preamble::decode(&heads).and_then(|preamble| {
            let header = WireHeader::decode(&heads[PREAMBLE_BYTES..])?;
            let is_whole = preamble.wire_bytes == WIRE_HEADER_BYTES + header.body_bytes;
            if is_whole { Ok((preamble, header)) } else { Err(record::BadRecord::Length(preamble.wire_bytes)) }
        });
        let (preamble, header) = match read {
            Ok(read) => read,
            Err(bad) => return Ok(Err(bad)),
        };
        if at + (PREAMBLE_BYTES + preamble.wire_bytes) as u64 > file_bytes {
            return Ok(Err(record::BadRecord::Short));
        }
        if checks == Checks::Body {
            let mut body = vec![0; header.body_bytes];
            self.read_at(&mut body, at + heads.len() as u64)?;
            if let Err(bad) = header.with_body(body.into()) {
                return Ok(Err(bad));
            }
        }
        Ok(Ok((preamble, header)))
    }
}

/// Reserves space for a new segment: an optimisation, a file system that cannot do it still works. On a full disk less is
/// reserved, or nothing.
fn reserve(file: &dyn DiskFile, bytes: u64) {
    let mut bytes = bytes;
    while let Err(error) = file.allocate(bytes) {
        tracing::debug!(%error, bytes, "the segment grows as it is written");
        // What was allocated in part is given back.
        let cut = file.set_len(0);
        bytes /= 4;
        if cut.is_err() || !is_full(&error) || bytes < RESERVED_MIN {
            return;
        }
    }
}

/// What is at a position: the heads of a record, or why there is none.
pub(in crate::store) type Probed = Result<(Preamble, WireHeader), record::BadRecord>;
