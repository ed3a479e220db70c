//! The files of sealed segments: opened, and their footers read, only when somebody reads them.
//!
//! Hot path. What was loaded is kept in caches of bounded size. No lock is held while the disk is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::env::disk::{Disk, DiskFile};
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::footer::Footer;
use crate::store::log::lru::Lru;
use crate::store::log::places::Places;
use crate::store::log::scan;
use crate::store::log::scan::Checks;
use crate::store::log::segment;
use crate::store::log::segment::Access;

/// Memory for places of records.
const PLACES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an entry of that cache costs beside the places.
const ENTRY_BYTES: usize = 128;

pub(in crate::store) struct SealedFiles {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Over entries up to here there may be gaps between segments.
    purged: AtomicU64,
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

impl SealedFiles {
    /// Keeps at most so many files open.
    pub fn new(disk: Arc<dyn Disk>, folder: &Path, open_files_max: usize) -> Self {
        let cache = Cache { files: Lru::new(open_files_max.max(1)), places: Lru::new(PLACES_BYTES_MAX) };
        Self { disk, folder: folder.to_owned(), purged: AtomicU64::new(0), cache: Mutex::new(cache) }
    }

    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
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

    fn open_file(&self, first: LogIndex) -> Result<Arc<dyn DiskFile>, Error> {
        let path = self.path(first);
        Ok(self.disk.open(&path).map_err(Error::io(path.display()))?.into())
    }

    /// Opens a sealed segment and finds its records: in its footer or, without one, by reading it.
    ///
    /// * Errors: [`Error::Damaged`] if it does not end where the next begins, [`Error::Io`].
    pub fn open(&self, first: LogIndex, next: LogIndex) -> Result<Opened, Error> {
        let path = self.path(first);
        let file = self.open_file(first)?;
        let damaged = |at, reason| Error::Damaged { file: path.clone(), at, reason };
        let Some(version) = segment::read_header(&*file, &path, first)? else {
            return Err(damaged(0, "the header cannot be read".to_owned()));
        };
        let footer = Footer::read(&*file, first).map_err(Error::io(path.display()))?;
        let lacks_footer = footer.is_none();
        let (footer, stopped) = match footer {
            Some(footer) => (footer, None),
            None => {
                let scan = scan::scan(&*file, &path, first, Checks::Heads)?;
                let at = scan.places.end();
                let (Some(first_id), Some(last_id)) = (scan.first, scan.last) else {
                    return Err(damaged(at, format!("entry {first} cannot be read")));
                };
                let (committed, checksum, places) = (scan.committed, scan.checksum, scan.places);
                if let Some(entry) = scan.bad_body {
                    tracing::warn!(file = %path.display(), %entry, "the entry is damaged");
                }
                (Footer { first: first_id, last: last_id, committed, checksum, places }, scan.stopped)
            }
        };
        let end = footer.places.next();
        let is_gap_purged = end < next && next.0 <= self.purged.load(Ordering::Relaxed) + 1;
        if end != next && !is_gap_purged {
            let why = stopped.map_or(String::new(), |bad| format!(" ({bad})"));
            let reason = format!("it ends before entry {end}{why}, but the next segment begins with entry {next}");
            return Err(damaged(footer.places.end(), reason));
        }
        Ok(Opened { file, version, footer, lacks_footer })
    }

    /// Removes a segment's file; durable after [`Self::sync_folder`].
    pub fn remove(&self, first: LogIndex) -> Result<(), Error> {
        let path = self.path(first);
        self.disk.remove(&path).map_err(Error::io(path.display()))
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
