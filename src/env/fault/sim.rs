//! A disk in memory that can fail: what was not synced is lost or partly kept at a crash, and a chosen
//! write or sync can fail, or it can be full.
//!
//! Directory entries are durable at once; what tests need is the fate of bytes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::disk::{Disk, DiskFile, DiskLock, Space};
use crate::env::rng::SeededRng;

/// What survives of an unsynced write at a crash comes in units of this size.
const SECTOR_BYTES: usize = 512;

#[derive(Default, Clone)]
struct Content {
    /// As the process sees it.
    now: Vec<u8>,
    /// As it was at the last sync.
    synced: Vec<u8>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    locked: BTreeMap<PathBuf, ()>,
    /// Crashes so far: what was opened before one is of another life.
    crashes: u64,
    writes_until_error: Option<u64>,
    syncs_until_error: Option<u64>,
    sync_error: Option<io::ErrorKind>,
    syncs: u64,
    sync_takes: Duration,
    is_cold: bool,
    /// Bytes that all files together may have; no limit if `None`.
    capacity: Option<u64>,
}

impl State {
    fn used(&self) -> u64 {
        self.files.values().map(|content| content.lock().now.len() as u64).sum()
    }

    /// What files may still grow by.
    fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }
}

/// A disk in memory. Cloning shares it.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// The life this handle belongs to, if to one only.
    life: Option<u64>,
}

impl SimDisk {
    /// The disk as one process sees it: dead after the next crash.
    pub fn mount(&self) -> Self {
        let life = Some(self.state.lock().crashes);
        Self { state: self.state.clone(), life }
    }

    fn alive(&self) -> io::Result<()> {
        let crashes = self.state.lock().crashes;
        if self.life.is_none_or(|life| life == crashes) { Ok(()) } else { Err(io::Error::other("the machine crashed")) }
    }

    /// Loses power: of every file, what was not synced is kept or lost sector by sector, by the seed.
    /// Locks are gone. Files opened before must not be used any more.
    pub fn crash(&self, seed: u64) {
        let mut rng = SeededRng::new(seed);
        let mut state = self.state.lock();
        state.crashes += 1;
        state.locked.clear();
        state.writes_until_error = None;
        state.syncs_until_error = None;
        let files = std::mem::take(&mut state.files);
        for (path, content) in files {
            let Content { now, synced } = content.lock().clone();
            let kept_len = if rng.below(2) == 0 { now.len() } else { synced.len() };
            let mut kept = synced;
            kept.resize(kept_len, 0);
            for start in (0..kept.len()).step_by(SECTOR_BYTES) {
                let end = (start + SECTOR_BYTES).min(kept.len()).min(now.len());
                if start < end && rng.below(2) == 0 {
                    kept[start..end].copy_from_slice(&now[start..end]);
                }
            }
            let content = Content { now: kept.clone(), synced: kept };
            state.files.insert(path, Arc::new(Mutex::new(content)));
        }
    }

    /// The n-th write from now fails, counted from 0.
    pub fn fail_write(&self, after: u64) {
        self.state.lock().writes_until_error = Some(after);
    }

    /// The n-th sync from now fails, counted from 0.
    pub fn fail_sync(&self, after: u64) {
        self.state.lock().syncs_until_error = Some(after);
    }

    /// The next sync fails because the disk is full, as where room is found only then.
    pub fn fail_sync_for_lack_of_room(&self) {
        let mut state = self.state.lock();
        state.syncs_until_error = Some(0);
        state.sync_error = Some(io::ErrorKind::StorageFull);
    }

    /// Every sync takes this long.
    pub fn slow_sync(&self, takes: Duration) {
        self.state.lock().sync_takes = takes;
    }

    /// From now on nothing is in the page cache: every read waits for the disk.
    pub fn cool(&self) {
        self.state.lock().is_cold = true;
    }

    /// From now on all files together may have so many bytes.
    pub fn resize(&self, capacity: Option<u64>) {
        self.state.lock().capacity = capacity;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// The bytes of a file as the process sees them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        self.state.lock().files.get(path).map(|content| content.lock().now.clone())
    }

    /// Replaces a file's bytes, as damage would.
    pub fn put_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let content = Content { now: bytes.clone(), synced: bytes };
        self.state.lock().files.insert(path.to_owned(), Arc::new(Mutex::new(content)));
    }
}

struct SimFile {
    disk: SimDisk,
    content: Arc<Mutex<Content>>,
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        if self.disk.alive().is_ok() {
            self.disk.state.lock().locked.remove(&self.path);
        }
    }
}

/// Counts down to an injected error.
fn is_due(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl Disk for SimDisk {
    fn create_dir_all(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.alive()?;
        let content = self.state.lock().files.get(file).cloned().ok_or_else(|| missing(file))?;
        Ok(Box::new(SimFile { disk: self.clone(), content }))
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.alive()?;
        let content = self.state.lock().files.entry(file.to_owned()).or_default().clone();
        Ok(Box::new(SimFile { disk: self.clone(), content }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive()?;
        let mut state = self.state.lock();
        let content = state.files.remove(from).ok_or_else(|| missing(from))?;
        state.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.alive()?;
        self.state.lock().files.remove(file).map(|_| ()).ok_or_else(|| missing(file))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.alive()?;
        let state = self.state.lock();
        let inside = state.files.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn sync_dir(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state.lock().files.contains_key(path))
    }

    fn lock(&self, file: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.alive()?;
        if self.state.lock().locked.insert(file.to_owned(), ()).is_some() {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock { disk: self.clone(), path: file.to_owned() })))
    }

    fn space(&self, _folder: &Path) -> io::Result<Space> {
        let state = self.state.lock();
        let free = state.free();
        Ok(Space { total: state.capacity.unwrap_or(u64::MAX), free, usable: free })
    }
}

impl SimFile {
    /// Whether a file of `now` bytes may have `len`; what it may have if not. The lock on its content is not held.
    fn room_for(&self, now: u64, len: u64) -> Result<(), u64> {
        let free = self.disk.state.lock().free();
        if len.saturating_sub(now) <= free { Ok(()) } else { Err(now + free) }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let content = self.content.lock();
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let from = content.now.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(from);
        Ok(())
    }

    fn read_at_hand(&self, bytes: &mut [u8], at: u64) -> io::Result<bool> {
        if self.disk.state.lock().is_cold {
            return Ok(false);
        }
        self.read_at(bytes, at).map(|()| true)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.disk.alive()?;
        if is_due(&mut self.disk.state.lock().writes_until_error) {
            return Err(io::Error::other("injected write error"));
        }
        let (room, now) = (at + bytes.len() as u64, self.len()?);
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let room = self.room_for(now, room);
        // A full disk takes what it can.
        let fits = room.err().map_or(bytes.len(), |len| (len as usize).saturating_sub(at).min(bytes.len()));
        let bytes = &bytes[..fits];
        let mut content = self.content.lock();
        let end = at + bytes.len();
        if content.now.len() < end && !bytes.is_empty() {
            content.now.resize(end, 0);
        }
        if !bytes.is_empty() {
            content.now[at..end].copy_from_slice(bytes);
        }
        room.map_err(|_| io::ErrorKind::StorageFull.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.alive()?;
        let takes = {
            let mut state = self.disk.state.lock();
            if is_due(&mut state.syncs_until_error) {
                return Err(state.sync_error.map_or_else(|| io::Error::other("injected sync error"), io::Error::from));
            }
            state.syncs += 1;
            state.sync_takes
        };
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
        let mut content = self.content.lock();
        content.synced = content.now.clone();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.content.lock().now.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.room_for(self.len()?, len).map_err(|_| io::ErrorKind::StorageFull)?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut content = self.content.lock();
        if content.now.len() < len {
            content.now.resize(len, 0);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().now.len() as u64)
    }
}
