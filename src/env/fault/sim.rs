//! A disk in memory that can fail: at a crash what was not synced is lost or partly kept, a chosen write or sync fails, a
//! part of a file cannot be read, the disk stops after a chosen operation, or it is full.
//!
//! Bytes and lengths of a file are durable after its sync, the entries of a folder after the folder's. Operations are what
//! changes anything, and syncs; reads are not counted among them.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Where the two may differ, apart from zeros at the end: a sync copies no more.
    changed: Option<(usize, usize)>,
    /// What the disk cannot read.
    unreadable: Option<(usize, usize)>,
}

impl Content {
    fn of(bytes: Vec<u8>) -> SharedContent {
        Arc::new(Mutex::new(Self { now: bytes.clone(), synced: bytes, changed: None, unreadable: None }))
    }

    /// A read of `[from, to)` fails, and so does a write that covers a part only of what cannot be read: a block is read first
    /// then. Written as a whole it is good again.
    fn check_readable(&self, from: usize, to: usize) -> io::Result<()> {
        let is_bad = self.unreadable.is_some_and(|bad| from < bad.1 && bad.0 < to);
        if is_bad { Err(rustix::io::Errno::IO.into()) } else { Ok(()) }
    }

    fn note_covered(&mut self, from: usize, to: usize) {
        self.unreadable = self.unreadable.filter(|bad| bad.0 < from || to < bad.1);
    }

    fn note_changed(&mut self, from: usize, to: usize) {
        let (before_from, before_to) = self.changed.unwrap_or((from, to));
        self.changed = Some((before_from.min(from), before_to.max(to)));
    }

    /// After a sync that failed what was written is still read, and the next sync knows nothing of it any more.
    fn lose_unsynced(&mut self) {
        self.synced.resize(self.now.len(), 0);
        self.changed = None;
    }

    fn sync(&mut self) {
        self.synced.resize(self.now.len(), 0);
        if let Some((from, to)) = self.changed.take() {
            let to = to.min(self.now.len());
            let from = from.min(to);
            self.synced[from..to].copy_from_slice(&self.now[from..to]);
        }
    }
}

type SharedContent = Arc<Mutex<Content>>;

/// A change of a folder that is not synced yet.
#[derive(Clone)]
enum Change {
    Create(PathBuf, SharedContent),
    Remove(PathBuf),
    /// A folder, after all that was in it.
    RemoveTree(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Create(path, _) | Self::Remove(path) | Self::RemoveTree(path) | Self::Rename(_, path) => path,
        }
    }

    fn make(self, files: &mut BTreeMap<PathBuf, SharedContent>) {
        match self {
            Self::Create(path, content) => {
                files.insert(path, content);
            }
            Self::Remove(path) => {
                files.remove(&path);
            }
            Self::RemoveTree(folder) => files.retain(|path, _| !path.starts_with(&folder)),
            Self::Rename(from, to) => {
                if let Some(content) = files.remove(&from) {
                    files.insert(to, content);
                }
            }
        }
    }
}

#[derive(Default)]
struct State {
    /// As the process sees them.
    files: BTreeMap<PathBuf, SharedContent>,
    /// Those that their folders know durably.
    durable: BTreeMap<PathBuf, SharedContent>,
    /// What happened to folders since their sync, in order.
    changes: Vec<Change>,
    locked: BTreeMap<PathBuf, ()>,
    /// Crashes so far: what was opened before one is of another life.
    crashes: u64,
    /// Operations so far.
    operations: u64,
    /// After so many the disk has stopped.
    operations_max: Option<u64>,
    writes_until_error: Option<u64>,
    syncs_until_error: Option<u64>,
    sync_error: Option<io::ErrorKind>,
    syncs: u64,
    bytes_read: u64,
    files_opened: u64,
    /// Bytes that all files together may have; no limit if `None`.
    capacity: Option<u64>,
    sync_takes: Duration,
    is_cold: bool,
}

impl State {
    /// Bytes of all files, used or reserved.
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

    fn check_alive(&self, state: &State) -> io::Result<()> {
        let is_stopped = state.operations_max.is_some_and(|max| state.operations > max);
        let is_alive = self.life.is_none_or(|life| life == state.crashes);
        if is_alive && !is_stopped { Ok(()) } else { Err(io::Error::other("the machine crashed")) }
    }

    fn alive(&self) -> io::Result<()> {
        self.check_alive(&self.state.lock())
    }

    /// Counts an operation; fails if the disk has stopped before it.
    fn operate(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        self.check_alive(&state)?;
        state.operations += 1;
        self.check_alive(&state)
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Stops when so many more operations are done: the next one and all that come later fail, as reads do. A crash ends
    /// it.
    pub fn stop_after(&self, operations: u64) {
        let mut state = self.state.lock();
        state.operations_max = Some(state.operations + operations);
    }

    /// Loses power: of every file, what was not synced is kept or lost sector by sector, and so is each change of a folder,
    /// by the seed. Locks are gone. Files opened before must not be used any more.
    pub fn crash(&self, seed: u64) {
        let mut rng = SeededRng::new(seed);
        let mut state = self.state.lock();
        state.crashes += 1;
        state.locked.clear();
        state.operations_max = None;
        state.writes_until_error = None;
        state.syncs_until_error = None;
        let mut files = std::mem::take(&mut state.durable);
        for change in std::mem::take(&mut state.changes) {
            if rng.below(2) == 0 {
                change.make(&mut files);
            }
        }
        for content in files.values_mut() {
            let Content { now, synced, unreadable, .. } = content.lock().clone();
            let kept_len = if rng.below(2) == 0 { now.len() } else { synced.len() };
            let mut kept = synced;
            kept.resize(kept_len, 0);
            for start in (0..kept.len()).step_by(SECTOR_BYTES) {
                let end = (start + SECTOR_BYTES).min(kept.len()).min(now.len());
                if start < end && rng.below(2) == 0 {
                    kept[start..end].copy_from_slice(&now[start..end]);
                }
            }
            *content = Content::of(kept);
            content.lock().unreadable = unreadable;
        }
        state.files.clone_from(&files);
        state.durable = files;
    }

    /// A disk of its own with the same content and the same fate at a crash. Nothing is locked on it.
    pub fn copy(&self) -> Self {
        let state = self.state.lock();
        let mut copies: BTreeMap<*const Mutex<Content>, SharedContent> = BTreeMap::new();
        let mut copy = |content: &SharedContent| {
            let new = || Arc::new(Mutex::new(content.lock().clone()));
            copies.entry(Arc::as_ptr(content)).or_insert_with(new).clone()
        };
        let files = state.files.iter().map(|(path, content)| (path.clone(), copy(content))).collect();
        let durable = state.durable.iter().map(|(path, content)| (path.clone(), copy(content))).collect();
        let changes = state.changes.iter().map(|change| match change {
            Change::Create(path, content) => Change::Create(path.clone(), copy(content)),
            other => other.clone(),
        });
        let changes = changes.collect();
        let capacity = state.capacity;
        let state = State { files, durable, changes, capacity, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), life: None }
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

    /// From now on all files together may have so many bytes; what would need more fails with
    /// [`io::ErrorKind::StorageFull`].
    pub fn resize(&self, capacity: Option<u64>) {
        self.state.lock().capacity = capacity;
    }

    /// Bytes of all files, used or reserved.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Bytes read, and files opened, so far.
    pub fn reads(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.bytes_read, state.files_opened)
    }

    /// The bytes of a file as the process sees them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        self.state.lock().files.get(path).map(|content| content.lock().now.clone())
    }

    /// From now on this part of a file cannot be read: by whole blocks of the disk, as the caller chooses.
    pub fn make_unreadable(&self, path: &Path, part: std::ops::Range<usize>) {
        let state = self.state.lock();
        state.files[path].lock().unreadable = Some((part.start, part.end));
    }

    /// Replaces a file's bytes, as damage would.
    pub fn put_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let content = Content::of(bytes);
        let mut state = self.state.lock();
        state.changes.retain(|change| change.path() != path);
        state.files.insert(path.to_owned(), content.clone());
        state.durable.insert(path.to_owned(), content);
    }
}

struct SimFile {
    disk: SimDisk,
    content: SharedContent,
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if self.disk.life.is_none_or(|life| life == state.crashes) {
            state.locked.remove(&self.path);
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
        let mut state = self.state.lock();
        let content = state.files.get(file).cloned().ok_or_else(|| missing(file))?;
        state.files_opened += 1;
        Ok(Box::new(SimFile { disk: self.clone(), content }))
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.operate()?;
        let mut state = self.state.lock();
        let content = match state.files.get(file) {
            Some(content) => content.clone(),
            None => {
                let content = SharedContent::default();
                state.files.insert(file.to_owned(), content.clone());
                state.changes.push(Change::Create(file.to_owned(), content.clone()));
                content
            }
        };
        Ok(Box::new(SimFile { disk: self.clone(), content }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate()?;
        let mut state = self.state.lock();
        let content = state.files.remove(from).ok_or_else(|| missing(from))?;
        state.files.insert(to.to_owned(), content);
        state.changes.push(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.operate()?;
        let mut state = self.state.lock();
        state.files.remove(file).ok_or_else(|| missing(file))?;
        state.changes.push(Change::Remove(file.to_owned()));
        Ok(())
    }

    /// Folders are what the paths of files say: one without files is not there.
    fn remove_tree(&self, folder: &Path) -> io::Result<()> {
        let inside: Vec<PathBuf> = {
            let state = self.state.lock();
            state.files.keys().filter(|path| path.starts_with(folder)).cloned().collect()
        };
        for path in inside {
            self.remove(&path)?;
        }
        self.operate()?;
        self.state.lock().changes.push(Change::RemoveTree(folder.to_owned()));
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.alive()?;
        let state = self.state.lock();
        let inside = state.files.keys().filter_map(|path| path.strip_prefix(folder).ok());
        let names: BTreeSet<_> = inside.filter_map(|path| path.components().next()).collect();
        Ok(names.into_iter().map(|name| name.as_os_str().to_string_lossy().into_owned()).collect())
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.operate()?;
        let mut state = self.state.lock();
        let changes = std::mem::take(&mut state.changes);
        for change in changes {
            if change.path().parent() == Some(folder) {
                if let Change::RemoveTree(tree) = &change {
                    state.changes.retain(|before| !before.path().starts_with(tree));
                }
                change.make(&mut state.durable);
            } else {
                state.changes.push(change);
            }
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state.lock().files.contains_key(path))
    }

    fn file_bytes(&self, file: &Path) -> io::Result<u64> {
        self.alive()?;
        let state = self.state.lock();
        let content = state.files.get(file).ok_or_else(|| missing(file))?;
        Ok(content.lock().now.len() as u64)
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
    /// Makes the file longer, as far as there is room.
    fn grow(&self, len: usize) -> io::Result<()> {
        let state = self.disk.state.lock();
        let free = if state.capacity.is_some() { state.free() } else { u64::MAX };
        let mut content = self.content.lock();
        let now = content.now.len();
        let may = usize::try_from((now as u64).saturating_add(free)).unwrap_or(usize::MAX).min(len);
        if now < may {
            content.now.resize(may, 0);
        }
        if may < len && now < len { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl SimFile {
    /// Makes the file longer, all or nothing.
    fn reserve(&self, len: usize) -> io::Result<()> {
        let more = (len as u64).saturating_sub(self.len()?);
        let has_room = more == 0 || more <= self.disk.state.lock().free();
        if has_room { self.grow(len) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.disk.alive()?;
        self.disk.state.lock().bytes_read += bytes.len() as u64;
        let content = self.content.lock();
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let from = content.now.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        content.check_readable(at, at + bytes.len())?;
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
        self.disk.operate()?;
        if is_due(&mut self.disk.state.lock().writes_until_error) {
            return Err(io::Error::other("injected write error"));
        }
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let end = at + bytes.len();
        {
            let mut content = self.content.lock();
            content.note_covered(at, end);
            content.check_readable(at, end)?;
        }
        let grown = self.grow(end);
        let mut content = self.content.lock();
        // A full disk takes what it can.
        let taken = end.min(content.now.len());
        if at < taken {
            content.now[at..taken].copy_from_slice(&bytes[..taken - at]);
            content.note_changed(at, taken);
        }
        grown
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.operate()?;
        let takes = {
            let mut state = self.disk.state.lock();
            if is_due(&mut state.syncs_until_error) {
                self.content.lock().lose_unsynced();
                return Err(state.sync_error.map_or_else(|| io::Error::other("injected sync error"), io::Error::from));
            }
            state.syncs += 1;
            state.sync_takes
        };
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
        self.content.lock().sync();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.operate()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.reserve(len)?;
        let mut content = self.content.lock();
        let before = content.now.len();
        if len < before {
            content.note_covered(len, usize::MAX);
            content.check_readable(len, before)?;
            content.now.truncate(len);
            // It may grow again, and has zeros there then.
            content.note_changed(len, before);
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.operate()?;
        self.reserve(usize::try_from(len).map_err(io::Error::other)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().now.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_entries_are_durable_after_the_sync_of_their_folder_only() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..100 {
            let disk = SimDisk::default();
            let path = |name: &str| Path::new("/folder").join(name);
            for name in ["removed", "renamed", "stays"] {
                disk.create(&path(name)).unwrap();
            }
            disk.sync_dir(Path::new("/folder")).unwrap();
            disk.create(&path("created")).unwrap();
            disk.remove(&path("removed")).unwrap();
            disk.rename(&path("renamed"), &path("new")).unwrap();
            disk.sync_dir(Path::new("/other")).unwrap();
            disk.crash(seed);
            let has = |name: &str| disk.exists(&path(name)).unwrap();
            assert!(has("stays"));
            assert_ne!(has("renamed"), has("new"), "a rename happens or not");
            kept += [has("created"), !has("removed"), has("renamed")].iter().filter(|has| **has).count();
            lost += [!has("created"), has("removed"), has("new")].iter().filter(|has| **has).count();
        }
        assert!(kept > 50 && lost > 50, "{kept} {lost}");
    }

    #[test]
    fn it_stops_after_any_operation_until_the_crash() {
        let disk = SimDisk::default();
        let file = disk.create(Path::new("/file")).unwrap();
        disk.stop_after(2);
        file.write_at(b"one", 0).unwrap();
        file.sync_data().unwrap();
        assert!(file.write_at(b"two", 0).is_err());
        assert!(file.read_at(&mut [0; 3], 0).is_err());
        assert!(disk.copy().bytes(Path::new("/file")).is_some());
        disk.sync_dir(Path::new("/")).unwrap_err();
        let copy = disk.copy();
        copy.sync_dir(Path::new("/")).unwrap();
        copy.crash(1);
        assert_eq!(copy.bytes(Path::new("/file")).unwrap(), b"one");
    }

    #[test]
    fn what_a_failed_sync_left_is_read_and_no_later_sync_makes_it_durable() {
        let mut lost = 0;
        for seed in 0..20 {
            let disk = SimDisk::default();
            let path = Path::new("/file");
            let file = disk.create(path).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            file.write_at(&[1; 2 * SECTOR_BYTES], 0).unwrap();
            disk.fail_sync(0);
            file.sync_data().unwrap_err();
            disk.fail_sync(u64::MAX);
            assert_eq!(disk.bytes(path).unwrap(), [1; 2 * SECTOR_BYTES]);
            file.write_at(&[2; SECTOR_BYTES], SECTOR_BYTES as u64).unwrap();
            file.sync_data().unwrap();
            disk.crash(seed);
            let bytes = disk.bytes(path).unwrap();
            assert_eq!(bytes[SECTOR_BYTES..], [2; SECTOR_BYTES], "it was written again");
            lost += u32::from(bytes[..SECTOR_BYTES] == [0; SECTOR_BYTES]);
        }
        assert!(lost > 5, "{lost}");
    }

    #[test]
    fn what_was_cut_off_and_made_longer_again_is_zeros_also_after_a_crash() {
        for seed in 0..20 {
            let disk = SimDisk::default();
            let path = Path::new("/file");
            let file = disk.create(path).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            file.write_at(b"0123456789", 0).unwrap();
            file.sync_data().unwrap();
            file.set_len(4).unwrap();
            file.allocate(8).unwrap();
            file.write_at(b"x", 1).unwrap();
            file.sync_data().unwrap();
            file.write_at(b"y", 6).unwrap();
            disk.crash(seed);
            let bytes = disk.bytes(path).unwrap();
            assert!(bytes == b"0x23\0\0\0\0" || bytes == b"0x23\0\0y\0", "{bytes:?}");
        }
    }

    #[test]
    fn a_full_disk_refuses_what_needs_more_and_takes_what_was_reserved() {
        let disk = SimDisk::default();
        disk.resize(Some(1000));
        let file = disk.create(Path::new("/file")).unwrap();
        file.allocate(600).unwrap();
        let free = || disk.space(Path::new("/")).unwrap().free;
        assert_eq!(free(), 400);
        let other = disk.create(Path::new("/other")).unwrap();
        other.write_at(&[1; 400], 0).unwrap();
        for full in [other.write_at(&[1; 1], 400), file.allocate(601), file.set_len(601)] {
            assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
        file.write_at(&[1; 600], 0).unwrap();
        disk.remove(Path::new("/other")).unwrap();
        assert_eq!(free(), 400);
    }
}
