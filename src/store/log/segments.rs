//! Which segments there are, and reading from any of them.
//!
//! Hot path. Of a sealed segment only its first index and its size are kept, 16 bytes; the rest is loaded when it is read
//! (`sealed_files`, D87). Only the log's one writer thread changes
//! anything here. Readers look a segment up under the lock and read the disk without it. What is cut or forgotten is gone
//! here before it is gone on the disk, and `changes` has grown by then: so a read that fails tells whether it was overtaken.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::env::disk::DiskFile;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::examine;
use crate::store::log::examine::{Examined, Pace, Remedy};
use crate::store::log::footer::LastRecord;
use crate::store::log::in_place;
use crate::store::log::in_place::NotInPlace;
use crate::store::log::last_segment::{Checksums, LastSegment};
use crate::store::log::meta::Anew;
use crate::store::log::places::{Places, Span};
use crate::store::log::quarantine::Quarantine;
use crate::store::log::rebuild::Rebuilt;
use crate::store::log::record::{Record, RecordId, WireHeader};
use crate::store::log::scan;
use crate::store::log::sealed_files::{Opened, SealedFiles};
use crate::store::log::segment;
use crate::store::log::segment::Access;
use crate::store::log::unreadable;

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
    quarantine: Quarantine,
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
        Self { files, quarantine: Quarantine::default(), list: RwLock::new(list), changes: AtomicU64::new(0) }
    }

    /// What is damaged.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
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
        self.files.note_last(list.last.as_ref().map_or(LogIndex(0), |last| last.first()));
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

    /// Whether the entry may be damaged: something in its segment is, or it is in none.
    pub fn is_in_doubt(&self, index: LogIndex) -> bool {
        self.find(index).is_none_or(|found| {
            self.quarantine.has(match &found.segment {
                FoundSegment::Last(last) => last.first(),
                FoundSegment::Sealed(first, _) => *first,
            })
        })
    }

    /// Reads and checks the records of a span, as many as one read takes. Records that are not in this segment are left
    /// out. `None` if `access` does not allow the wait for the disk that this needs.
    pub fn read(&self, found: &Found, span: Span, access: Access) -> Result<Option<Vec<Record>>, Error> {
        let first = match &found.segment {
            FoundSegment::Last(last) => last.first(),
            FoundSegment::Sealed(first, _) => *first,
        };
        if self.quarantine.is_closed(first) {
            let reason = "its records are not those that were written; they come from another node".to_owned();
            return Err(Error::Damaged { file: self.files.path(first), at: 0, reason });
        }
        let read = match &found.segment {
            FoundSegment::Last(last) => last.read(span, access),
            FoundSegment::Sealed(first, next) => self.read_sealed(found, (*first, *next), span, access),
        };
        read.inspect_err(|error| {
            if matches!(error, Error::Damaged { .. }) && self.changes() == found.changes {
                self.quarantine.note(first, &error.to_string());
            }
        })
    }

    fn read_sealed(
        &self,
        found: &Found,
        (first, next): (LogIndex, LogIndex),
        span: Span,
        access: Access,
    ) -> Result<Option<Vec<Record>>, Error> {
        let is_current = || self.changes() == found.changes;
        let Some((file, places)) = self.files.load(first, next, access, is_current)? else { return Ok(None) };
        let maker_of = |position| places.maker_of(LogIndex(span.from.0 + position as u64));
        segment::read_records(&*file, &|| self.files.path(first), span.from, &places.of_span(span), &maker_of, access)
    }

    /// Which record has an index, if its segment says it without the record.
    pub fn id_of(&self, index: LogIndex) -> Option<RecordId> {
        let found = self.find(index)?;
        match found.segment {
            FoundSegment::Last(last) => last.id_of(index),
            FoundSegment::Sealed(first, next) => {
                let is_current = || self.changes() == found.changes;
                match self.files.load(first, next, Access::Blocking, is_current) {
                    Ok(loaded) => loaded?.1.id_of(index),
                    Err(_) => self.files.open_as_far_as_it_goes(first).ok()?.1.places.id_of(index),
                }
            }
        }
    }

    /// The last entry up to `keep` that can stay when all after it is cut, and its id, if it is in a segment that says it:
    /// of a damaged segment what can be found.
    pub fn last_to_keep(&self, keep: LogIndex) -> Result<(LogIndex, Option<RecordId>), Error> {
        let mut keep = keep;
        loop {
            let first = match self.find(keep).map(|found| found.segment) {
                None => return Ok((keep, None)),
                Some(FoundSegment::Last(last)) => return Ok((keep, last.id_of(keep))),
                Some(FoundSegment::Sealed(first, _)) => first,
            };
            let found = match self.files.open_as_far_as_it_goes(first) {
                Ok((file, footer)) => {
                    let end = LogIndex(footer.places.next().0 - 1);
                    if end < keep {
                        keep = end;
                        continue;
                    }
                    self.id_in(first, &*file, &footer.places, keep)
                }
                Err(error) => Err(error),
            };
            match found {
                Ok(id) => return Ok((keep, Some(id))),
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!(%error, "the segment is given up with what is after it");
                    keep = LogIndex(first.0 - 1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn id_in(&self, first: LogIndex, file: &dyn DiskFile, places: &Places, index: LogIndex) -> Result<RecordId, Error> {
        match places.id_of(index) {
            Some(id) => Ok(id),
            // The footer of a version before does not say it.
            None => scan::read_heads(file, &self.files.path(first), places.start_of(index)).map(|heads| heads.1.id()),
        }
    }

    /// See [`examine::examine`]; also of the last segment, which ends nowhere.
    pub fn examine(&self, first: LogIndex, pace: Pace<'_>) -> Result<Option<Examined>, Error> {
        let Some(found) = self.find(first) else {
            self.quarantine.clear(first);
            return Ok(None);
        };
        let examined = match &found.segment {
            FoundSegment::Sealed(begins, next) if *begins == first => {
                examine::examine(&self.files, first, *next, pace)?
            }
            FoundSegment::Last(last) if last.first() == first => {
                let (file, places) = last.parts();
                let next = places.next();
                examine::check_records(&*file, &places, pace).map(|checked| Examined::of_last(first, next, checked.bad))
            }
            FoundSegment::Sealed(..) | FoundSegment::Last(_) => {
                self.quarantine.clear(first);
                None
            }
        };
        let Some(examined) = examined.filter(|_| self.changes() == found.changes) else { return Ok(None) };
        match examined.remedy {
            Remedy::None => {
                if self.quarantine.clear(first) {
                    tracing::info!(segment = %first, "the segment is whole again");
                }
            }
            Remedy::Rebuild if examined.places.is_none() => self.quarantine.close(first, &examined.reason),
            Remedy::Rebuild | Remedy::InPlace => self.quarantine.note(first, &examined.reason),
        }
        Ok(Some(examined))
    }

    /// Writes entries in their places, durably.
    ///
    /// * Errors: [`NotInPlace`].
    pub fn write_in_place(&self, records: &[Record]) -> Result<(), NotInPlace> {
        for record in records {
            let Some(found) = self.find(record.index) else { continue };
            match &found.segment {
                FoundSegment::Last(last) => self.write_in_last(last, record)?,
                FoundSegment::Sealed(first, next) => {
                    let loaded = self.files.load(*first, *next, Access::Blocking, || true);
                    let (file, places) = loaded.map_err(NotInPlace::Left)?.expect("it may wait for the disk");
                    let path = self.files.path(*first);
                    let before = self.checksum_before(&*file, &path, &places, record.index);
                    let before = before.map_err(NotInPlace::Left)?;
                    in_place::write(&*file, &path, &places, record, before).map_err(NotInPlace::Left)?;
                    // What is not of this record was durable before, so nothing else is in doubt if this fails.
                    let synced = file.sync_data().map_err(Error::io(path.display()));
                    synced
                        .and_then(|()| in_place::read_again(&*file, &path, &places, record))
                        .map_err(NotInPlace::Left)?;
                }
            }
        }
        Ok(())
    }

    fn write_in_last(&self, last: &LastSegment, record: &Record) -> Result<(), NotInPlace> {
        let (mut file, places) = last.parts();
        let before = self.checksum_before(&*file, last.path(), &places, record.index).map_err(NotInPlace::Left)?;
        let written = match in_place::write(&*file, last.path(), &places, record, before) {
            // The block around it cannot be read.
            Err(Error::Io { .. }) if unreadable::has_unreadable(&*file, last.path()).map_err(NotInPlace::Left)? => {
                file = self.renew_last(last).map_err(NotInPlace::Ended)?;
                in_place::write(&*file, last.path(), &places, record, before)
            }
            written => written,
        };
        written.map_err(NotInPlace::Left)?;
        // Appends that are not synced yet are in doubt if this fails.
        file.sync_data().map_err(Error::io(last.path().display())).map_err(NotInPlace::Ended)?;
        in_place::read_again(&*file, last.path(), &places, record).map_err(NotInPlace::Left)
    }

    /// The checksum of the record before this one of a segment, if that can be read and is the one that should be there.
    fn checksum_before(
        &self,
        file: &dyn DiskFile,
        path: &Path,
        places: &Places,
        index: LogIndex,
    ) -> Result<Option<u32>, Error> {
        if index == places.first() {
            return self.checksum_before_segment(index);
        }
        let before = LogIndex(index.0.saturating_sub(1));
        let heads = scan::heads(file, path, places.start_of(before))?.map(|heads| heads.1);
        let is_it = |header: &WireHeader| {
            header.index == before && places.id_of(before).is_none_or(|expected| expected == header.id())
        };
        Ok(heads.filter(is_it).map(|header| header.checksum))
    }

    /// The checksum of the last record before the segment that begins with `first`; `None` if the segment that has it is
    /// damaged.
    pub fn checksum_before_segment(&self, first: LogIndex) -> Result<Option<u32>, Error> {
        let found = self.find(LogIndex(first.0.saturating_sub(1))).map(|found| found.segment);
        let Some(FoundSegment::Sealed(before, next)) = found else { return Ok(None) };
        let is_damaged = self.quarantine.has(before);
        match self.files.open_alone(before, next) {
            Ok(Opened { file, footer, .. }) if !is_damaged && footer.places.next() == first => {
                let last = footer.last_record(&*file, &self.files.path(before))?;
                Ok(if let LastRecord::Is(checksum) = last { Some(checksum) } else { None })
            }
            Ok(_) | Err(Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which record is before the segment that begins with `first`, and which one is at `next`, of segments that are not
    /// damaged.
    pub fn ids_around(&self, first: LogIndex, next: LogIndex) -> (Option<RecordId>, Option<RecordId>) {
        let id_of = |index: LogIndex| {
            let found = self.find(index)?;
            match &found.segment {
                FoundSegment::Last(last) => last.id_of(index),
                FoundSegment::Sealed(first, next) => self.files.open(*first, *next).ok()?.footer.places.id_of(index),
            }
        };
        (id_of(LogIndex(first.0.saturating_sub(1))), id_of(next))
    }

    /// Puts a copy in the place of the last segment's file, of which a part cannot be read.
    fn renew_last(&self, last: &LastSegment) -> Result<Arc<dyn DiskFile>, Error> {
        let (file, _) = last.parts();
        let file = unreadable::renew(self.files.disk(), &*file, last.path())?;
        self.list.write().last = Some(Arc::new(last.in_file(file.clone())));
        Ok(file)
    }

    /// Puts a segment that was made anew in its place, durably, unless that was cut or forgotten meanwhile.
    pub fn replace(&self, rebuilt: Rebuilt) -> Result<(), Error> {
        let Rebuilt { path, first, next, old_next, bytes } = rebuilt;
        let is_there = {
            let list = self.list.read();
            let position = list.sealed.binary_search_by_key(&first, |segment| segment.first);
            position.is_ok_and(|position| list.next_of(position) == Some(old_next))
        };
        let failed = |source| Error::Io { place: path.display().to_string(), source };
        if !is_there {
            return self.files.disk().remove(&path).map_err(failed);
        }
        self.files.disk().rename(&path, &self.files.path(first)).map_err(failed)?;
        self.files.sync_folder()?;
        {
            let mut list = self.list.write();
            self.changes.fetch_add(1, Ordering::Release);
            let position = list.sealed.partition_point(|segment| segment.first < first);
            list.sealed_bytes = list.sealed_bytes - list.sealed[position].bytes + bytes;
            list.sealed[position].bytes = bytes;
            if next < old_next {
                list.sealed.insert(position + 1, Sealed { first: next, bytes: 0 });
            }
        }
        self.files.drop_kept([first]);
        self.quarantine.clear(first);
        if next < old_next {
            self.quarantine.note(next, "the segment is missing");
        }
        Ok(())
    }

    /// Seals the last segment, whose records are durable, and makes a new one that begins with `first`.
    pub fn roll(&self, first: LogIndex, segment_bytes: u64, committed: LogIndex) -> Result<Arc<LastSegment>, Error> {
        let mut sealed = None;
        let before = self.last().filter(|last| !last.is_empty()).and_then(|last| last.last_checksum());
        let (disk, folder) = (self.files.disk(), self.files.folder());
        // Before the footer: a start that finds it knows that nothing had come after the footer yet.
        let next = Arc::new(LastSegment::begin(disk, folder, first, segment_bytes, before)?);
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
        next.put_in_place(disk, folder)?;
        let mut list = self.list.write();
        if let Some(sealed) = sealed {
            list.sealed.push_back(sealed);
            list.sealed_bytes += sealed.bytes;
        }
        list.last = Some(next.clone());
        self.files.note_last(first);
        Ok(next)
    }

    /// Which segment is the last one once everything after `keep` is cut, and what of it may have been other entries before.
    pub fn anew_after(&self, keep: LogIndex) -> Anew {
        match self.find(keep.next()).map(|found| found.segment) {
            Some(FoundSegment::Last(last)) => Anew { first: last.first(), from: keep.next() },
            // Which cuts there were when it was the last one is not known any more.
            Some(FoundSegment::Sealed(first, _)) => Anew { first, from: first },
            None => Anew { first: keep.next(), from: keep.next() },
        }
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
                segment.first > keep || target.as_ref().is_some_and(|target| target.first() <= segment.first)
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
            self.files.note_last(target.as_ref().map_or(LogIndex(0), |target| target.first()));
        }
        self.files.drop_kept(removed.iter().copied().chain(target.iter().map(|target| target.first())));
        self.quarantine.clear_range(keep.next()..);
        // From the back, each durably, so that a crash in between leaves no gap.
        removed.into_iter().try_for_each(|first| self.files.remove_durably(first))?;
        let Some(target) = target else { return Ok(()) };
        match target.cut_file(segment_bytes) {
            Err(Error::Damaged { .. }) if unreadable::has_unreadable(&*target.parts().0, target.path())? => {
                self.renew_last(&target)?;
                self.last().map_or(Ok(()), |last| last.cut_file(segment_bytes))
            }
            cut => cut,
        }
    }

    /// The segment that is the last one once everything after `keep` is cut; `None` if none is left.
    fn cut_target(&self, keep: LogIndex) -> Result<Option<Arc<LastSegment>>, Error> {
        match self.find(keep.next()).map(|found| found.segment) {
            Some(FoundSegment::Sealed(first, _)) => match (self.open_to_cut(first, keep), self.find(keep)) {
                // Nothing of it is kept, so the one before can be the last.
                (Err(Error::Damaged { .. }), before) if first == keep.next() => match before {
                    Some(Found { segment: FoundSegment::Sealed(before, _), .. }) => {
                        self.open_to_cut(before, keep).map(Some)
                    }
                    _ => Ok(None),
                },
                (opened, _) => opened.map(Some),
            },
            Some(FoundSegment::Last(last)) => Ok(Some(last)),
            None => Ok(None),
        }
    }

    /// A sealed segment that is to end with `keep`: what is damaged after that does not matter.
    fn open_to_cut(&self, first: LogIndex, keep: LogIndex) -> Result<Arc<LastSegment>, Error> {
        let (file, footer) = self.files.open_as_far_as_it_goes(first)?;
        let path = self.files.path(first);
        let before = self.checksum_before_segment(first)?;
        let checksums = Checksums { all: footer.checksum, last: None, before };
        let end = footer.places.next();
        if end <= keep {
            let reason = format!("it ends before entry {end}, and is to be cut after that");
            return Err(Error::Damaged { file: path, at: footer.places.end(), reason });
        }
        Ok(Arc::new(LastSegment::new(path, file, footer.places, checksums)))
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
        let before = match self.files.open(last_to_go, next) {
            Ok(opened) => Some(opened.footer.last),
            // It goes, and Raft, which has purged it, knows the entry.
            Err(Error::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Some((next, before.filter(|before| before.index.next() == next))))
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
        self.quarantine.clear_range(..start);
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
