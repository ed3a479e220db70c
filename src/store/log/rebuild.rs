//! A segment made anew: what is whole of the old one, and what it lacks from elsewhere, in a file beside it that takes its
//! place once it is durable.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Buf;

use crate::env::disk::{Disk, DiskFile};
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::examine::{EntryRange, Examined};
use crate::store::log::footer::Footer;
use crate::store::log::gather_buffer::GatherBuffer;
use crate::store::log::last_segment::write_footer;
use crate::store::log::places::{Places, Span};
use crate::store::log::record;
use crate::store::log::record::{Preamble, Record, RecordId};
use crate::store::log::sealed_files::SealedFiles;
use crate::store::log::segment;
use crate::store::log::segment::{Access, HEADER_BYTES};

/// What the name of such a file ends with.
pub(in crate::store) const SUFFIX: &str = ".rebuild";
/// Bytes of records that are copied at once.
const COPY_BYTES: usize = 1024 * 1024;

/// One that is being made.
pub(in crate::store) struct NewSegment {
    unfinished: Unfinished,
    file: Box<dyn DiskFile>,
    places: Places,
    checksum: u32,
    /// Of the last one here, or of the one before the segment, if that is known.
    last_checksum: Option<u32>,
    first_id: Option<RecordId>,
    /// The last one here, or the one before the segment, if that is known.
    last_id: Option<RecordId>,
    /// The one after the segment, if it is known.
    after: Option<RecordId>,
    /// The old file, if there is one.
    old: Option<Arc<dyn DiskFile>>,
    old_places: Option<Places>,
    bad: Vec<EntryRange>,
    /// The entry after the last one of the old segment.
    to: LogIndex,
    /// Where another one is missing.
    missing_from: Option<LogIndex>,
    /// As in [`Examined`], until it is compared.
    proof: Option<LogIndex>,
    /// The one before the segment, as it was given.
    before: (Option<RecordId>, Option<u32>),
    segment_bytes: u64,
}

/// The file of one that is being made: removed if it is given up.
struct Unfinished {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    is_done: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next start.
        if !self.is_done
            && let Err(error) = self.disk.remove(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %error, "a segment that is not made anew after all stays on the disk");
        }
    }
}

/// One that is made and durable, but not in its place yet.
pub(in crate::store) struct Rebuilt {
    pub path: PathBuf,
    pub first: LogIndex,
    /// It ends before this entry.
    pub next: LogIndex,
    /// The segment whose place it takes ends before this one: what is between is still to be made.
    pub old_next: LogIndex,
    pub bytes: u64,
}

impl NewSegment {
    /// Between these two, as far as they are known; `before_checksum` is that of the one before.
    pub fn begin(
        files: &SealedFiles,
        examined: Examined,
        segment_bytes: u64,
        (before, after): (Option<RecordId>, Option<RecordId>),
        before_checksum: Option<u32>,
    ) -> Result<Self, Error> {
        let Examined { first, next, bad, missing_from, proof, places, .. } = examined;
        let path = files.path(first).with_extension(&SUFFIX[1..]);
        let file = files.disk().create(&path).map_err(Error::unwritten(path.display()))?;
        let unfinished = Unfinished { disk: files.shared_disk(), path: path.clone(), is_done: false };
        file.set_len(0).map_err(Error::io(path.display()))?;
        file.write_at(&segment::header(first), 0).map_err(Error::unwritten(path.display()))?;
        let old = files.open_file(first).ok();
        let (first_id, last_id, old_places) = (None, before, places);
        let new = Places::new(first);
        let (checksum, last_checksum) = (0, before_checksum);
        Ok(Self {
            unfinished,
            file,
            places: new,
            checksum,
            last_checksum,
            first_id,
            last_id,
            after,
            old,
            old_places,
            bad,
            to: next,
            missing_from,
            proof,
            before: (before, before_checksum),
            segment_bytes,
        })
    }

    /// Copies what is whole, up to what has to be fetched: gives that. `None` once all is there, or as much as one segment
    /// has.
    pub fn advance(&mut self) -> Result<Option<EntryRange>, Error> {
        loop {
            let next = self.places.next();
            let is_full = self.places.end() >= self.segment_bytes && self.places.count() > 0 && self.proof.is_none();
            if next >= self.to || is_full || Some(next) == self.missing_from {
                return Ok(None);
            }
            let bad = self.bad.iter().find(|bad| bad.to > next).copied();
            if let Some(bad) = bad.filter(|bad| bad.from <= next) {
                // What is missing after that is another segment.
                let missing = self.missing_from.filter(|missing| *missing > next).unwrap_or(bad.to);
                return Ok(Some(EntryRange { from: next, to: bad.to.min(missing) }));
            }
            let to = bad.map_or(self.to, |bad| bad.from);
            let copied = self.copy(next, to);
            match copied {
                Some(records) if !records.is_empty() => match self.put(&records) {
                    // They are older than what is around them.
                    Err(Error::Damaged { .. }) => self.begin_again()?,
                    put => put?,
                },
                // Not whole any more, or never there.
                _ => self.bad.insert(0, EntryRange { from: next, to: next.next() }),
            }
            self.bad.retain(|bad| bad.to > self.places.next());
        }
    }

    fn copy(&self, from: LogIndex, to: LogIndex) -> Option<Vec<Record>> {
        let (file, places) = (self.old.as_ref()?, self.old_places.as_ref()?);
        let span = Span { from, to, bytes_max: COPY_BYTES, takes_one: true };
        let found = places.of_span(span);
        let maker_of = |position| places.maker_of(LogIndex(from.0 + position as u64));
        segment::read_records(&**file, &PathBuf::new, from, &found, &maker_of, Access::Blocking).ok().flatten()
    }

    /// Adds the next records, all or none. If they show that the old segment is an older version, nothing of it is kept, and it
    /// begins anew.
    ///
    /// * Errors: [`Error::Damaged`] if they do not follow what is there, or what comes after them does not follow them;
    ///   [`Error::Full`], [`Error::Io`].
    pub fn put(&mut self, records: &[Record]) -> Result<(), Error> {
        let at = self.places.end();
        let mut last = self.last_id;
        for (record, index) in records.iter().zip(self.places.next().0..) {
            let is_next = record.index == LogIndex(index) && record.index < self.to;
            let falls = last.is_some_and(|last| record.term < last.term)
                || self.after.is_some_and(|after| record.term > after.term);
            if !is_next || falls {
                let (index, term) = (record.index, record.term);
                let reason = format!("entry {index} of term {term} does not fit between {last:?} and {:?}", self.after);
                return Err(Error::Damaged { file: self.unfinished.path.clone(), at, reason });
            }
            last = Some(record.id());
        }
        if self.is_disproved(records) {
            return self.begin_again();
        }
        let mut framed = GatherBuffer::default();
        for record in records {
            let preamble = Preamble::of(record, LogIndex(record.index.0 - 1), LogIndex(0)).after(self.last_checksum);
            let checksum = preamble.put(record, &mut framed);
            self.last_checksum = Some(checksum);
            self.checksum = record::checksum_with(self.checksum, std::iter::once(checksum));
            self.places.push(preamble.whole_bytes(), record.id().into());
            self.first_id.get_or_insert(record.id());
            self.last_id = Some(record.id());
        }
        debug_assert_eq!(framed.remaining() as u64, self.places.end() - at, "what is framed is what has its place");
        self.file.write_gathered_at(&mut framed, at).map_err(Error::unwritten(self.unfinished.path.display()))
    }

    /// Whether the entry that proves what was copied is another one here.
    fn is_disproved(&mut self, records: &[Record]) -> bool {
        let is_it = |record: &&Record| Some(record.index) == self.proof;
        let Some(record) = records.iter().find(is_it) else { return false };
        let ours = self.copy(record.index, record.index.next());
        self.proof = None;
        ours.is_none_or(|ours| ours.first() != Some(record))
    }

    /// Without anything of the old segment.
    fn begin_again(&mut self) -> Result<(), Error> {
        tracing::warn!(file = %self.unfinished.path.display(), "what is left of a segment is older: nothing of it is kept");
        let first = self.places.first();
        (self.last_id, self.last_checksum) = self.before;
        (self.first_id, self.checksum, self.places) = (None, 0, Places::new(first));
        (self.old, self.proof, self.bad) = (None, None, vec![EntryRange { from: first, to: self.to }]);
        self.file.set_len(HEADER_BYTES).map_err(Error::unwritten(self.unfinished.path.display()))
    }

    /// Seals it, durably.
    pub fn seal(mut self, committed: LogIndex) -> Result<Option<Rebuilt>, Error> {
        let (Some(first), Some(last)) = (self.first_id, self.last_id) else { return Ok(None) };
        let (next, checksum, places) = (self.places.next(), self.checksum, self.places);
        let footer = Footer { first, last, committed: committed.min(last.index), checksum, places };
        let path = self.unfinished.path.clone();
        let bytes = write_footer(&*self.file, &path, &footer)?;
        self.unfinished.is_done = true;
        Ok(Some(Rebuilt { path, first: first.index, next, old_next: self.to, bytes }))
    }
}
