//! The last segment: the one that is written to. Its file and the places of its records are always in memory.
//!
//! Hot path. Preallocated, written at positions by the log's one writer thread, read by anyone. When the next segment is
//! about to be made it is sealed: its footer is written, and what was reserved beyond is given back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::env::disk::{Disk, DiskFile, is_full};
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::footer::{FOOTER_MAKER_BYTES, Footer, footer_bytes_max};
use crate::store::log::gather_buffer::GatherBuffer;
use crate::store::log::places::{Places, Span};
use crate::store::log::record;
use crate::store::log::record::{Maker, Record, RecordId};
use crate::store::log::scan;
use crate::store::log::segment;
use crate::store::log::segment::{Access, Header};

/// A segment with so many records takes no more, so that its places take some 4 MiB at most.
const RECORDS_MAX: usize = 1024 * 1024;
/// Less space is not worth being reserved.
const RESERVED_MIN: u64 = 64 * 1024;
/// Bytes that are written again at once.
const BLOCK_BYTES: usize = 1024 * 1024;

pub(in crate::store) struct LastSegment {
    first: LogIndex,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// As in [`Checksums`].
    before: Option<u32>,
    written: RwLock<Written>,
}

/// Checksums of the records of a segment.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::store) struct Checksums {
    /// Of all.
    pub all: u32,
    /// Of the last one, if there is one and it is known.
    pub last: Option<u32>,
    /// Of the one before the segment, if it is known.
    pub before: Option<u32>,
}

struct Written {
    places: Places,
    /// Of all records.
    checksum: u32,
    /// Of the last record; `None` if there is none or it is not known.
    last_checksum: Option<u32>,
}

/// A record as it is written.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct FramedRecord {
    /// In the file.
    pub bytes: u64,
    /// As [`record::encode_head`] gives it.
    pub checksum: u32,
    pub maker: Maker,
}

impl LastSegment {
    /// Makes an empty segment, durably, reserving `bytes`; `before` is the checksum of the record before it, if that is
    /// known. It is not in its place yet: see [`Self::put_in_place`].
    pub fn begin(
        disk: &dyn Disk,
        folder: &Path,
        first: LogIndex,
        bytes: u64,
        before: Option<u32>,
    ) -> Result<Self, Error> {
        let path = segment::begun_path(folder, first);
        let failed = |source| Error::Io { place: path.display().to_string(), source };
        let file = disk.create(&path).map_err(Error::unwritten(path.display()))?;
        reserve(&*file, bytes, 0);
        file.write_at(&segment::header(first), 0).map_err(Error::unwritten(path.display()))?;
        file.sync_data().map_err(failed)?;
        disk.sync_dir(folder).map_err(failed)?;
        Ok(Self::new(
            segment::path(folder, first),
            file.into(),
            Places::new(first),
            Checksums { before, ..Checksums::default() },
        ))
    }

    /// From now on it is a segment of the log, durably.
    pub fn put_in_place(&self, disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
        let begun = segment::begun_path(folder, self.first);
        disk.rename(&begun, &self.path).map_err(self.failed())?;
        disk.sync_dir(folder).map_err(self.failed())
    }

    /// Over a file with these records.
    pub fn new(path: PathBuf, file: Arc<dyn DiskFile>, places: Places, checksums: Checksums) -> Self {
        let Checksums { all, last, before } = checksums;
        let first = places.first();
        Self { first, path, file, before, written: RwLock::new(Written { places, checksum: all, last_checksum: last }) }
    }

    /// The same records in a copy of the file.
    pub fn in_file(&self, file: Arc<dyn DiskFile>) -> Self {
        let written = self.written.read();
        let checksums = Checksums { all: written.checksum, last: written.last_checksum, before: self.before };
        Self::new(self.path.clone(), file, written.places.clone(), checksums)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checksum of the last record, or of the one before the segment, if it is known.
    pub fn last_checksum(&self) -> Option<u32> {
        let written = self.written.read();
        if written.places.count() == 0 { self.before } else { written.last_checksum }
    }

    pub fn first(&self) -> LogIndex {
        self.first
    }

    /// Index after the last record.
    pub fn next(&self) -> LogIndex {
        self.written.read().places.next()
    }

    /// Where the records end.
    pub fn end(&self) -> u64 {
        self.written.read().places.end()
    }

    pub fn is_empty(&self) -> bool {
        self.next() == self.first
    }

    /// Bytes that are left for records of one leader; each takes `FOOTER_RECORD_BYTES` more. So the footer has its place
    /// too, and to seal a segment needs no more of the disk.
    pub fn room(&self, segment_bytes: u64) -> u64 {
        let written = self.written.read();
        // A segment that begins has room for as many as one that has records: so both end at the same one.
        let makers_to_come = if written.places.maker_count() == 0 { 2 } else { 1 };
        let footer = footer_bytes_max(&written.places) + makers_to_come * FOOTER_MAKER_BYTES;
        let has_room = written.places.count() < RECORDS_MAX;
        if has_room { segment_bytes.saturating_sub(written.places.end() + footer) } else { 0 }
    }

    /// Which record has this index, if it is here.
    pub fn id_of(&self, index: LogIndex) -> Option<RecordId> {
        self.written.read().places.id_of(index)
    }

    /// Bytes of the file, used or reserved.
    pub fn file_bytes(&self) -> u64 {
        self.file.len().unwrap_or(0).max(self.end())
    }

    /// Its file, and where its records are.
    pub fn parts(&self) -> (Arc<dyn DiskFile>, Places) {
        (self.file.clone(), self.written.read().places.compact())
    }

    /// Writes these framed records after the last one; not durable yet.
    pub fn write(&self, framed: &mut GatherBuffer, records: &[FramedRecord]) -> Result<(), Error> {
        self.file.write_gathered_at(framed, self.end()).map_err(Error::unwritten(self.path.display()))?;
        let mut written = self.written.write();
        records.iter().for_each(|record| written.places.push(record.bytes, record.maker));
        written.checksum = record::checksum_with(written.checksum, records.iter().map(|record| record.checksum));
        written.last_checksum = records.last().map(|record| record.checksum).or(written.last_checksum);
        Ok(())
    }

    /// Writes the header and the records from `index` on once more, as they are.
    pub fn write_again(&self, index: LogIndex) -> Result<(), Error> {
        self.file.write_at(&segment::header(self.first), 0).map_err(self.failed())?;
        let (mut at, end) = (self.written.read().places.start_of(index), self.end());
        // A file that was cut short within the zeros after its last record has all records.
        if self.file.len().map_err(self.failed())? < end {
            self.file.set_len(end).map_err(self.failed())?;
        }
        let mut block = vec![0; usize::try_from(end - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES)];
        while at < end {
            let count = usize::try_from((end - at).min(block.len() as u64)).expect("at most a block");
            self.file.read_at(&mut block[..count], at).map_err(Error::read(&self.path, at))?;
            self.file.write_at(&block[..count], at).map_err(self.failed())?;
            at += count as u64;
        }
        Ok(())
    }

    /// Makes everything written durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(self.failed())
    }

    /// Writes the footer, durably, over records that are. Gives the bytes of the file.
    pub fn seal(&self, committed: LogIndex) -> Result<u64, Error> {
        let (places, checksum) = {
            let written = self.written.read();
            (written.places.compact(), written.checksum)
        };
        assert!(places.count() > 0, "a segment without records is not sealed");
        let id_of = |index| match places.id_of(index) {
            Some(id) => Ok(id),
            None => scan::read_heads(&*self.file, &self.path, places.start_of(index)).map(|(_, header)| header.id()),
        };
        let (first, last) = (id_of(self.first)?, id_of(LogIndex(places.next().0 - 1))?);
        let footer = Footer { first, last, committed, checksum, places };
        write_footer(&*self.file, &self.path, &footer)
    }

    /// Forgets everything after `keep` in memory.
    pub fn cut_after(&self, keep: LogIndex) {
        self.written.write().places.truncate_after(keep);
    }

    /// Cuts the file off where the records end, durably; then reserves room anew. The bytes are given back and read as zeros
    /// afterwards, so a cut record cannot reappear (D32).
    pub fn shorten(&self, segment_bytes: u64) -> Result<(), Error> {
        let end = self.end();
        // The block that it ends in is read for that.
        self.file.set_len(end).map_err(Error::read(&self.path, end))?;
        self.sync()?;
        reserve(&*self.file, segment_bytes.max(end), end);
        Ok(())
    }

    /// As [`Self::shorten`], after [`Self::cut_after`]. A damaged header is written anew.
    ///
    /// * Errors: [`Error::Damaged`] if a part of the file cannot be read.
    pub fn cut_file(&self, segment_bytes: u64) -> Result<(), Error> {
        if !matches!(segment::read_header(&*self.file, &self.path, self.first)?, Header::Whole(_)) {
            // What is around it in its block is read for that.
            self.file.write_at(&segment::header(self.first), 0).map_err(Error::read(&self.path, 0))?;
        }
        self.shorten(segment_bytes)?;
        let left = scan::scan(&*self.file, &self.path, self.first)?;
        let mut written = self.written.write();
        if left.places.next() < written.places.next() {
            // The checksum will say so too, and whoever reads the entry is refused.
            tracing::warn!(file = %self.path.display(), entry = %left.places.next(), "the entry is damaged");
            // That of the last one is not known, and a wrong one would refuse the next one at a start.
            (written.checksum, written.last_checksum) = (left.checksum, None);
        } else {
            // A footer of the version before did not say who made the records.
            (written.places, written.checksum, written.last_checksum) =
                (left.places, left.checksum, left.last_checksum);
        }
        Ok(())
    }

    /// Reads and checks the records of a span, as many as one read takes. Records that are not in this segment are left
    /// out. `None` if `access` does not allow the wait for the disk that this needs.
    pub fn read(&self, span: Span, access: Access) -> Result<Option<Vec<Record>>, Error> {
        let (places, makers) = {
            let written = self.written.read();
            let places = written.places.of_span(span);
            let count = places.len() as u64;
            let from = span.from.max(self.first);
            (places, (from.0..from.0 + count).map(|index| written.places.maker_of(LogIndex(index))).collect::<Vec<_>>())
        };
        let (from, maker_of) = (span.from.max(self.first), |position: usize| makers.get(position).copied().flatten());
        segment::read_records(&*self.file, &|| self.path.clone(), from, &places, &maker_of, access)
    }

    fn failed(&self) -> impl FnOnce(std::io::Error) -> Error {
        |source| Error::Io { place: self.path.display().to_string(), source }
    }
}

/// Reserves space for a segment with so many bytes `used`: an optimisation, a file system that cannot do it still works. On
/// a full disk less is reserved, or nothing.
fn reserve(file: &dyn DiskFile, bytes: u64, used: u64) {
    let mut more = bytes.saturating_sub(used);
    while let Err(error) = file.allocate(used + more) {
        tracing::debug!(%error, more, "the segment grows as it is written");
        // What was allocated in part is given back.
        let cut = file.set_len(used);
        more /= 4;
        if cut.is_err() || !is_full(&error) || more < RESERVED_MIN {
            return;
        }
    }
}

/// Seals a segment: the footer after the records, which are durable; the file ends with it. Durable on return. Gives the
/// bytes of the file.
pub(in crate::store) fn write_footer(file: &dyn DiskFile, path: &Path, footer: &Footer) -> Result<u64, Error> {
    let (encoded, end) = (footer.encode(), footer.places.end());
    let bytes = end + encoded.len() as u64;
    file.write_at(&encoded, end).map_err(Error::unwritten(path.display()))?;
    file.set_len(bytes).map_err(Error::io(path.display()))?;
    file.sync_data().map_err(Error::io(path.display()))?;
    Ok(bytes)
}
