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
use crate::store::log::footer::{FOOTER_BYTES, FOOTER_RECORD_BYTES, Footer};
use crate::store::log::gather_buffer::GatherBuffer;
use crate::store::log::places::{Places, Span};
use crate::store::log::record;
use crate::store::log::record::Record;
use crate::store::log::scan;
use crate::store::log::scan::Checks;
use crate::store::log::segment;
use crate::store::log::segment::Access;

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
    written: RwLock<Written>,
}

struct Written {
    places: Places,
    /// Of all records.
    checksum: u32,
}

/// A record as it is written.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct FramedRecord {
    /// In the file.
    pub bytes: u64,
    /// As [`record::encode_head`] gives it.
    pub checksum: u32,
}

impl LastSegment {
    /// Makes an empty segment, durably, reserving `bytes`.
    pub fn create(disk: &dyn Disk, folder: &Path, first: LogIndex, bytes: u64) -> Result<Self, Error> {
        let path = segment::path(folder, first);
        let failed = |source| Error::Io { place: path.display().to_string(), source };
        let file = disk.create(&path).map_err(Error::unwritten(path.display()))?;
        reserve(&*file, bytes, 0);
        file.write_at(&segment::header(first), 0).map_err(Error::unwritten(path.display()))?;
        file.sync_data().map_err(failed)?;
        disk.sync_dir(folder).map_err(failed)?;
        Ok(Self::new(path, file.into(), Places::new(first), 0))
    }

    /// Over a file with these records, of which this is the checksum.
    pub fn new(path: PathBuf, file: Arc<dyn DiskFile>, places: Places, checksum: u32) -> Self {
        Self { first: places.first(), path, file, written: RwLock::new(Written { places, checksum }) }
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

    /// Bytes that are left for records; each takes [`FOOTER_RECORD_BYTES`] more. So the footer has its place too, and to
    /// seal a segment needs no more of the disk.
    pub fn room(&self, segment_bytes: u64) -> u64 {
        let written = self.written.read();
        let count = written.places.count();
        let footer = FOOTER_BYTES + count as u64 * FOOTER_RECORD_BYTES;
        if count < RECORDS_MAX { segment_bytes.saturating_sub(written.places.end() + footer) } else { 0 }
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
        records.iter().for_each(|record| written.places.push(record.bytes));
        written.checksum = record::checksum_with(written.checksum, records.iter().map(|record| record.checksum));
        Ok(())
    }

    /// Writes the header and the records from `index` on once more, as they are.
    pub fn write_again(&self, index: LogIndex) -> Result<(), Error> {
        self.file.write_at(&segment::header(self.first), 0).map_err(self.failed())?;
        let (mut at, end) = (self.written.read().places.start_of(index), self.end());
        let mut block = vec![0; usize::try_from(end - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES)];
        while at < end {
            let count = usize::try_from((end - at).min(block.len() as u64)).expect("at most a block");
            self.file.read_at(&mut block[..count], at).map_err(self.failed())?;
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
        let last = LogIndex(places.next().0 - 1);
        let id_of = |index| scan::read_heads(&*self.file, &self.path, places.start_of(index));
        let (first, last) = (id_of(self.first)?.1.id(), id_of(last)?.1.id());
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
        self.file.set_len(end).map_err(self.failed())?;
        self.sync()?;
        reserve(&*self.file, segment_bytes.max(end), end);
        Ok(())
    }

    /// As [`Self::shorten`], after [`Self::cut_after`].
    pub fn cut_file(&self, segment_bytes: u64) -> Result<(), Error> {
        self.shorten(segment_bytes)?;
        let left = scan::scan(&*self.file, &self.path, self.first, Checks::Heads)?;
        if left.places.next() < self.next() {
            // The checksum will say so too, and whoever reads the entry is refused.
            tracing::warn!(file = %self.path.display(), entry = %left.places.next(), "the entry is damaged");
        }
        self.written.write().checksum = left.checksum;
        Ok(())
    }

    /// Reads and checks the records of a span, as many as one read takes. Records that are not in this segment are left
    /// out. `None` if `access` does not allow the wait for the disk that this needs.
    pub fn read(&self, span: Span, access: Access) -> Result<Option<Vec<Record>>, Error> {
        let places = self.written.read().places.of_span(span);
        segment::read_records(&*self.file, &|| self.path.clone(), span.from.max(self.first), &places, access)
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
