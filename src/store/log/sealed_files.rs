//! The files of sealed segments: opened, and their footers read, only when somebody reads them.
//!
//! A disk can put back what was in a file before, all of it or some blocks, and every checksum in it fits. But the first record
//! of a segment names the last one of the segment before, by its checksum. Two versions of a segment with the same last record
//! have the same records, as any two logs of a group; so that one is compared when a segment is opened (D165). That the others
//! are those of the footer is checked when they are read.
//!
//! Hot path. What was loaded is kept in caches of bounded size. No lock is held while the disk is read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::env::disk::{Disk, DiskFile};
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::footer::{Footer, LastRecord};
use crate::store::log::lru::Lru;
use crate::store::log::places::Places;
use crate::store::log::record::{BadRecord, NamedBefore};
use crate::store::log::scan;
use crate::store::log::segment;
use crate::store::log::segment::{Access, HEADER_BYTES, Header};

/// Memory for places of records.
const PLACES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an entry of that cache costs beside the places.
const ENTRY_BYTES: usize = 128;

pub(in crate::store) struct SealedFiles {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Over entries up to here there may be gaps between segments.
    purged: AtomicU64,
    /// Where the last segment begins.
    last: AtomicU64,
    cache: Mutex<Cache>,
}

struct Cache {
    files: Lru<Arc<dyn DiskFile>>,
    places: Lru<Arc<Places>>,
}

/// A sealed segment that was opened.
pub(in crate::store) struct Opened {
    pub file: Arc<dyn DiskFile>,
    /// Format version of the segment.
    pub version: u32,
    pub footer: Footer,
    /// It had none, or none that can be used: the segment was read instead.
    pub lacks_footer: bool,
}

/// What the next segment says of a sealed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum NextSays {
    /// It follows it.
    Right,
    /// It follows another one.
    Older,
    /// It says which it follows, and the last record here cannot be read.
    InDoubt,
    /// Nothing, or it cannot be believed itself.
    Unknown,
}

/// The records of a segment.
struct Records {
    footer: Footer,
    lacks_footer: bool,
    /// Why they end, unless a footer says it.
    stopped: Option<BadRecord>,
    /// One of them does not follow the one before it.
    has_stale: bool,
}

/// Finds the records of a segment: by its footer or, without one, by reading it.
fn records(file: &dyn DiskFile, path: &Path, first: LogIndex) -> Result<Records, Error> {
    if let Some(footer) = Footer::read(file, first).map_err(Error::io(path.display()))? {
        return Ok(Records { footer, lacks_footer: false, stopped: None, has_stale: false });
    }
    let scan = scan::scan(file, path, first)?;
    let (Some(first_id), Some(last_id)) = (scan.first, scan.last) else {
        let reason = format!("entry {first} cannot be read");
        return Err(Error::Damaged { file: path.to_owned(), at: scan.places.end(), reason });
    };
    let (committed, checksum, places) = (scan.committed, scan.checksum, scan.places);
    if let Some(entry) = scan.bad_bodies.first() {
        tracing::warn!(file = %path.display(), %entry, "the entry is damaged");
    }
    let footer = Footer { first: first_id, last: last_id, committed, checksum, places };
    Ok(Records { footer, lacks_footer: true, stopped: scan.stopped, has_stale: scan.has_stale })
}

/// `None` for what is damaged.
fn or_damaged<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(Error::Damaged { .. }) => Ok(None),
        found => found.map(Some),
    }
}

impl SealedFiles {
    /// Keeps at most so many files open.
    pub fn new(disk: Arc<dyn Disk>, folder: &Path, open_files_max: usize) -> Self {
        let cache = Cache { files: Lru::new(open_files_max.max(1)), places: Lru::new(PLACES_BYTES_MAX) };
        Self {
            disk,
            folder: folder.to_owned(),
            purged: AtomicU64::new(0),
            last: AtomicU64::new(0),
            cache: Mutex::new(cache),
        }
    }

    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub fn shared_disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, first: LogIndex) -> PathBuf {
        segment::path(&self.folder, first)
    }

    /// Raft has purged up to here.
    pub fn note_purged(&self, upto: LogIndex) {
        self.purged.fetch_max(upto.0, Ordering::Relaxed);
    }

    /// The segment that begins here is the last one now.
    pub fn note_last(&self, first: LogIndex) {
        self.last.store(first.0, Ordering::Relaxed);
    }

    pub fn is_last(&self, first: LogIndex) -> bool {
        self.last.load(Ordering::Relaxed) == first.0
    }

    /// The file and the places of a segment, which ends before `next`. `None` if `access` does not allow the wait for the
    /// disk that this needs. Kept only if `is_current` says then that the segment was neither cut nor forgotten since.
    #[allow(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    pub fn load(
        &self,
        first: LogIndex,
        next: LogIndex,
        access: Access,
        is_current: impl Fn() -> bool,
    ) -> Result<Option<(Arc<dyn DiskFile>, Arc<Places>)>, Error> {
        let cached = {
            let mut cache = self.cache.lock();
            (cache.files.get(first), cache.places.get(first))
        };
        let (file, places) = match (cached, access) {
            ((Some(file), Some(places)), _) => return Ok(Some((file, places))),
            (_, Access::AtHand) => return Ok(None),
            ((None, Some(places)), Access::Blocking) => (self.open_file(first)?, places),
            ((_, None), Access::Blocking) => {
                let Opened { file, footer, .. } = self.open(first, next)?;
                (file, Arc::new(footer.places))
            }
        };
        self.keep(&file, &places, is_current);
        Ok(Some((file, places)))
    }

    /// Keeps what is known of a segment, if `is_current`.
    pub fn keep(&self, file: &Arc<dyn DiskFile>, places: &Arc<Places>, is_current: impl Fn() -> bool) {
        let mut cache = self.cache.lock();
        if is_current() {
            let first = places.first();
            cache.files.put(first, file.clone(), 1);
            cache.places.put(first, places.clone(), places.memory_bytes() + ENTRY_BYTES);
        }
    }

    /// Keeps nothing of these segments any more.
    pub fn drop_kept(&self, firsts: impl IntoIterator<Item = LogIndex>) {
        let mut cache = self.cache.lock();
        for first in firsts {
            cache.files.remove(first);
            cache.places.remove(first);
        }
    }

    /// * Errors: [`Error::Damaged`] if it is not there.
    pub fn open_file(&self, first: LogIndex) -> Result<Arc<dyn DiskFile>, Error> {
        let path = self.path(first);
        let opened = self.disk.open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                Error::Damaged { file: path.clone(), at: 0, reason: "the file is missing".to_owned() }
            }
            _ => Error::Io { place: path.display().to_string(), source },
        });
        Ok(opened?.into())
    }

    /// Opens a sealed segment and finds its records: in its footer or, without one, by reading it.
    ///
    /// * Errors: [`Error::Damaged`] also if it is an older version of the one that the next one follows, [`Error::Io`].
    pub fn open(&self, first: LogIndex, next: LogIndex) -> Result<Opened, Error> {
        let opened = self.open_alone(first, next)?;
        if self.next_says(&*opened.file, &opened.footer, next)? == NextSays::Older {
            return Err(self.older(first));
        }
        Ok(opened)
    }

    /// An older version of a segment is in its place.
    pub fn older(&self, first: LogIndex) -> Error {
        let reason = "it is an older version of the segment".to_owned();
        Error::Damaged { file: self.path(first), at: 0, reason }
    }

    /// As [`Self::open`], whatever the next one says.
    ///
    /// * Errors: [`Error::Damaged`] if it does not end where the next begins, [`Error::Io`].
    pub fn open_alone(&self, first: LogIndex, next: LogIndex) -> Result<Opened, Error> {
        let path = self.path(first);
        let file = self.open_file(first)?;
        let damaged = |at, reason| Error::Damaged { file: path.clone(), at, reason };
        let version = match segment::read_header(&*file, &path, first)? {
            Header::Whole(version) => version,
            Header::Bad => return Err(damaged(0, "the header cannot be read".to_owned())),
            Header::OfAnother(found) => {
                return Err(damaged(12, format!("its header says that it begins with entry {found}")));
            }
        };
        let Records { footer, lacks_footer, stopped, has_stale } = records(&*file, &path, first)?;
        if has_stale {
            return Err(self.older(first));
        }
        let end = footer.places.next();
        // Only a footer says for sure where a segment ended.
        if end != next && (lacks_footer || !self.is_gap_purged(end, next)) {
            let why = stopped.map_or(String::new(), |bad| format!(" ({bad})"));
            let reason = format!("it ends before entry {end}{why}, but the next segment begins with entry {next}");
            return Err(damaged(footer.places.end(), reason));
        }
        Ok(Opened { file, version, footer, lacks_footer })
    }

    /// What the first record of a segment says of the last one before it; `None` if that cannot be read, or does not say it.
    ///
    /// * Errors: [`Error::Damaged`] if there is no such file.
    pub fn named_by(&self, first: LogIndex) -> Result<Option<NamedBefore>, Error> {
        let file = self.open_file(first)?;
        let heads = scan::heads(&*file, &self.path(first), HEADER_BYTES)?;
        let heads = heads.filter(|(_, header)| header.index == first);
        Ok(heads.and_then(|(preamble, header)| preamble.names_before(&header)))
    }

    /// What the next segment, which begins with `next`, says of the one with this footer.
    pub fn next_says(&self, file: &dyn DiskFile, footer: &Footer, next: LogIndex) -> Result<NextSays, Error> {
        if footer.places.next() != next {
            return Ok(NextSays::Unknown);
        }
        let last = footer.last_record(file, &self.path(footer.places.first()))?;
        let named = or_damaged(self.named_by(next))?.flatten();
        Ok(match (last, named) {
            (LastRecord::Other, _) => NextSays::Older,
            (_, None) => NextSays::Unknown,
            (LastRecord::Unreadable, Some(_)) => NextSays::InDoubt,
            (LastRecord::Is(last), Some(named)) if named.is(last) => NextSays::Right,
            // One of both is older.
            (LastRecord::Is(_), Some(_)) if self.is_believed(next)? => NextSays::Older,
            (LastRecord::Is(_), Some(_)) => NextSays::Unknown,
        })
    }

    /// Whether the first record of a segment is the one that was written there last.
    fn is_believed(&self, first: LogIndex) -> Result<bool, Error> {
        if self.is_last(first) {
            // A start compared it with what `meta` knows of the end.
            return Ok(true);
        }
        let (Some(file), path) = (or_damaged(self.open_file(first))?, self.path(first)) else { return Ok(false) };
        let Some(footer) = Footer::read(&*file, first).map_err(Error::io(path.display()))? else { return Ok(false) };
        let is_first = scan::heads(&*file, &path, HEADER_BYTES)?.is_some_and(|heads| heads.1.id() == footer.first);
        let last = footer.last_record(&*file, &path)?;
        Ok(match or_damaged(self.named_by(footer.places.next()))? {
            // It ends where no segment begins.
            None => false,
            Some(Some(named)) => is_first && matches!(last, LastRecord::Is(last) if named.is(last)),
            Some(None) => is_first && last != LastRecord::Other,
        })
    }

    /// Opens a segment and finds its records, as far as they go. Its header may be damaged.
    pub fn open_as_far_as_it_goes(&self, first: LogIndex) -> Result<(Arc<dyn DiskFile>, Footer), Error> {
        let file = self.open_file(first)?;
        let records = records(&*file, &self.path(first), first)?;
        Ok((file, records.footer))
    }

    /// Whether what is missing between two segments was purged and never came here.
    pub fn is_gap_purged(&self, end: LogIndex, next: LogIndex) -> bool {
        end < next && next.0 <= self.purged.load(Ordering::Relaxed) + 1
    }

    /// Removes a segment's file, if it is there; durable after [`Self::sync_folder`].
    pub fn remove(&self, first: LogIndex) -> Result<(), Error> {
        let path = self.path(first);
        match self.disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::io(path.display())),
        }
    }

    /// Makes the folder's entries durable.
    pub fn sync_folder(&self) -> Result<(), Error> {
        self.disk.sync_dir(&self.folder).map_err(Error::io(self.folder.display()))
    }

    pub fn remove_durably(&self, first: LogIndex) -> Result<(), Error> {
        self.remove(first)?;
        self.sync_folder()
    }

    /// Bytes of places that are kept, and how many files are open.
    pub fn cost(&self) -> (usize, usize) {
        let cache = self.cache.lock();
        (cache.places.cost(), cache.files.cost())
    }
}
