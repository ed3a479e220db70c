//! Which segments there are, and reading from any of them.
//!
//! Hot path. Of a sealed segment only its first index and its size are kept, 16 bytes; the rest is loaded when it is read
//! (`sealed_files`, D87). Only the log's one writer thread changes
//! anything here. Readers look a segment up under the lock and read the disk without it. What is cut or forgotten is gone
//! here before it is gone on the disk, and `changes` has grown by then: so a read that fails tells whether it was overtaken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::last_segment::LastSegment;
use crate::store::log::places::Span;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::sealed_files::{Opened, SealedFiles};
use crate::store::log::segment;
use crate::store::log::segment::Access;

/// A sealed segment as it is kept in memory. It ends where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Sealed {
    pub first: LogIndex,
    /// Of its file.
    pub bytes: u64,
}

/// One segment, as retention sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentExtent {
    /// The index of its first entry; it ends where the next segment begins.
    pub first: LogIndex,
    /// Bytes of its file, used or reserved.
    pub bytes: u64,
}

pub(in crate::store) struct Segments {
    files: SealedFiles,
    list: RwLock<List>,
    /// How often something was cut or forgotten; grows while `list` is locked.
    changes: AtomicU64,
}

struct List {
    sealed: VecDeque<Sealed>,
    sealed_bytes: u64,
    last: Option<Arc<LastSegment>>,
}

/// A segment that may have an entry, and how often things had changed when it was found.
pub(in crate::store) struct Found {
    segment: FoundSegment,
    pub changes: u64,
}

enum FoundSegment {
    Last(Arc<LastSegment>),
    /// The second is where the next segment begins.
    Sealed(LogIndex, LogIndex),
}

impl Segments {
    /// None yet.
    pub fn new(files: SealedFiles) -> Self {
        let list = List { sealed: VecDeque::new(), sealed_bytes: 0, last: None };
        Self { files, list: RwLock::new(list), changes: AtomicU64::new(0) }
    }

    /// The files of sealed segments.
    pub fn files(&self) -> &SealedFiles {
        &self.files
    }

    /// Takes over what recovery found.
    pub fn fill(&self, sealed: Vec<Sealed>, last: Option<LastSegment>) {
        let mut list = self.list.write();
        list.sealed_bytes = sealed.iter().map(|segment| segment.bytes).sum();
        list.sealed = sealed.into();
        list.last = last.map(Arc::new);
    }

    /// The segment that is written to.
    pub fn last(&self) -> Option<Arc<LastSegment>> {
        self.list.read().last.clone()
    }

    pub fn first_index(&self) -> Option<LogIndex> {
        let list = self.list.read();
        let sealed = list.sealed.front().map(|segment| segment.first);
        sealed.or_else(|| list.last.as_ref().map(|last| last.first()))
    }

    /// All of them, oldest first.
    pub fn extents(&self) -> Vec<SegmentExtent> {
        let (mut extents, last): (Vec<_>, _) = {
            let list = self.list.read();
            let sealed =
                list.sealed.iter().map(|Sealed { first, bytes }| SegmentExtent { first: *first, bytes: *bytes });
            (sealed.collect(), list.last.clone())
        };
        extents.extend(last.map(|last| SegmentExtent { first: last.first(), bytes: last.file_bytes() }));
        extents
    }

    /// Bytes of all their files.
    pub fn bytes(&self) -> u64 {
        let (sealed, last) = {
            let list = self.list.read();
            (list.sealed_bytes, list.last.clone())
        };
        sealed + last.map_or(0, |last| last.file_bytes())
    }

    /// How often something was cut or forgotten.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The segment in which the entry is, if it is in any.
    pub fn find(&self, index: LogIndex) -> Option<Found> {
        let list = self.list.read();
        let changes = self.changes();
        if let Some(last) = list.last.as_ref().filter(|last| last.first() <= index) {
            return Some(Found { segment: FoundSegment::Last(last.clone()), changes });
        }
        let after = list.sealed.partition_point(|segment| segment.first <= index);
        let position = after.checked_sub(1)?;
        let segment = FoundSegment::Sealed(list.sealed[position].first, list.next_of(position)?);
        Some(Found { segment, changes })
    }

    /// Reads and checks the records of a span, as many as one read takes. Records that are not in this segment are left
    /// out. `None` if `access` does not allow the wait for the disk that this needs.
    pub fn read(&self, found: &Found, span: Span, access: Access) -> Result<Option<Vec<Record>>, Error> {
        let (first, next) = match &found.segment {
            FoundSegment::Last(last) => return last.read(span, access),
            FoundSegment::Sealed(first, next) => (*first, *next),
        };
        let is_current = || self.changes() == found.changes;
        let Some((file, places)) = self.files.load(first, next, access, is_current)? else { return Ok(None) };
        segment::read_records(&*file, &|| self.files.path(first), span.from, &places.of_span(span), access)
    }

    /// Seals the last segment, whose records are durable, and makes a new one that begins with `first`.
    pub fn roll(&self, first: LogIndex, segment_bytes: u64, committed: LogIndex) -> Result<Arc<LastSegment>, Error> {
        let mut sealed = None;
        if let Some(last) = self.last() {
            if last.is_empty() {
                // Entries were purged that never came here: it would end before it begins.
                self.list.write().last = None;
                self.files.remove_durably(last.first())?;
            } else {
                sealed = Some(Sealed { first: last.first(), bytes: last.seal(committed)? });
                let (file, places) = last.parts();
                self.files.keep(&file, &Arc::new(places), || true);
            }
        }
        let last = Arc::new(LastSegment::create(self.files.disk(), self.files.folder(), first, segment_bytes)?);
        let mut list = self.list.write();
        if let Some(sealed) = sealed {
            list.sealed.push_back(sealed);
            list.sealed_bytes += sealed.bytes;
        }
        list.last = Some(last.clone());
        Ok(last)
    }

    /// Removes all entries after `keep`, durably. A sealed segment that is cut is the last one again.
    pub fn cut(&self, keep: LogIndex, segment_bytes: u64) -> Result<(), Error> {
        let mut removed = Vec::new();
        let target = self.cut_target(keep)?;
        {
            let mut list = self.list.write();
            self.changes.fetch_add(1, Ordering::Release);
            removed.extend(list.last.take().map(|last| last.first()));
            while list.sealed.back().is_some_and(|segment| {
                segment.first > keep.next() || target.as_ref().is_some_and(|target| target.first() <= segment.first)
            }) {
                let sealed = list.sealed.pop_back().expect("there is a last one");
                list.sealed_bytes -= sealed.bytes;
                removed.push(sealed.first);
            }
            if let Some(target) = &target {
                target.cut_after(keep);
                removed.retain(|first| *first != target.first());
            }
            list.last.clone_from(&target);
        }
        self.files.drop_kept(removed.iter().copied().chain(target.iter().map(|target| target.first())));
        // From the back, each durably, so that a crash in between leaves no gap.
        removed.into_iter().try_for_each(|first| self.files.remove_durably(first))?;
        target.map_or(Ok(()), |target| target.cut_file(segment_bytes))
    }

    /// The segment that is the last one once everything after `keep` is cut.
    fn cut_target(&self, keep: LogIndex) -> Result<Option<Arc<LastSegment>>, Error> {
        let found = self.find(keep.next()).map(|found| found.segment);
        match found {
            Some(FoundSegment::Sealed(first, next)) => {
                let Opened { file, footer, .. } = self.files.open(first, next)?;
                let (path, checksum) = (self.files.path(first), footer.checksum);
                Ok(Some(Arc::new(LastSegment::new(path, file, footer.places, checksum))))
            }
            Some(FoundSegment::Last(last)) => Ok(Some(last)),
            None => Ok(None),
        }
    }

    /// The first index that is kept if the log is forgotten before `first`: of whole segments only, and never of the last
    /// entry. With it the last id before it, if that entry is here. `None` if nothing can go.
    pub fn start_after_forgetting(&self, first: LogIndex) -> Result<Option<(LogIndex, Option<RecordId>)>, Error> {
        let (last_to_go, next) = {
            let list = self.list.read();
            let has_more = list.last.as_ref().is_some_and(|last| !last.is_empty());
            let may_go = list.sealed.len().saturating_sub(usize::from(!has_more));
            let goes = |position: &usize| list.next_of(*position).is_some_and(|next| next <= first);
            let Some(position) = (0..may_go).take_while(goes).last() else { return Ok(None) };
            let Some(next) = list.next_of(position) else { return Ok(None) };
            (list.sealed[position].first, next)
        };
        let before = self.files.open(last_to_go, next)?.footer.last;
        Ok(Some((next, Some(before).filter(|before| before.index.next() == next))))
    }

    /// Forgets the segments before `start` in memory; gives them, oldest first.
    pub fn forget_before(&self, start: LogIndex) -> Vec<Sealed> {
        let forgotten: Vec<Sealed> = {
            let mut list = self.list.write();
            self.changes.fetch_add(1, Ordering::Release);
            let count = list.sealed.partition_point(|segment| segment.first < start);
            let forgotten: Vec<Sealed> = list.sealed.drain(..count).collect();
            list.sealed_bytes -= forgotten.iter().map(|segment| segment.bytes).sum::<u64>();
            // Memory follows the size of the log down too.
            let kept = list.sealed.len();
            list.sealed.shrink_to(2 * kept);
            forgotten
        };
        self.files.drop_kept(forgotten.iter().map(|segment| segment.first));
        forgotten
    }

    /// What is kept in memory, without the records and places of the last segment.
    pub fn memory(&self) -> LogMemory {
        let list_bytes = self.list.read().sealed.capacity() * size_of::<Sealed>();
        let (places_bytes, open_files) = self.files.cost();
        LogMemory { list_bytes, places_bytes, open_files }
    }
}

/// Memory and files that sealed segments take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogMemory {
    /// Grows with the log.
    pub list_bytes: usize,
    /// Bounded by a constant.
    pub places_bytes: usize,
    /// Bounded by `Options::open_files_max`.
    pub open_files: usize,
}

impl List {
    /// Where the segment after the sealed one at `position` begins.
    fn next_of(&self, position: usize) -> Option<LogIndex> {
        let next = self.sealed.get(position + 1).map(|next| next.first);
        next.or_else(|| self.last.as_ref().map(|last| last.first()))
    }
}
