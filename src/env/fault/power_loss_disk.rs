//! A disk that loses power: what is not synced lives in this process's memory and dies with it.
//!
//! For drills (`simulatePowerLoss`). On the machine's own disk a killed process loses nothing that it wrote,
//! because the kernel keeps the pages; here `kill -9` takes exactly what was not synced. Directory entries
//! and lengths are durable at once.
//!
//! It can be slow too: a file [`SLOW_SYNC_FILE`] in the folder it was made for holds the milliseconds that each sync takes longer.
//! And it can be full: a file [`QUOTA_FILE`] there holds the bytes that all files in there may have
//! together. What grows beyond is refused as on a full disk; the state store does not go through here and is only
//! counted.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::disk;
use crate::env::disk::{Disk, DiskFile, DiskLock, RealDisk, Space};

/// Makes syncs of the files in a disk's folder slow.
pub const SLOW_SYNC_FILE: &str = "slow-sync-ms";

/// Bounds the files in a disk's folder.
pub const QUOTA_FILE: &str = "quota-bytes";

/// Written to a file and not yet synced, in order.
type Pending = Arc<Mutex<Vec<(u64, Vec<u8>)>>>;

/// The real disk without what was not synced.
#[derive(Debug, Clone, Default)]
pub struct PowerLossDisk {
    folder: PathBuf,
    /// What is pending belongs to the file: it outlives whoever opened it, and everybody who opens it reads it.
    files: Arc<Mutex<BTreeMap<PathBuf, Pending>>>,
}

impl PowerLossDisk {
    /// For the files of a folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: Arc::default() }
    }

    /// What the files may still grow by, and may have in all; `None` without a bound.
    fn quota(&self) -> io::Result<Option<Space>> {
        let Ok(text) = disk::read_text(&self.folder.join(QUOTA_FILE)) else { return Ok(None) };
        let Ok(total) = text.trim().parse::<u64>() else { return Ok(None) };
        let free = total.saturating_sub(disk::folder_bytes(&self.folder)?);
        Ok(Some(Space { total, free, usable: free }))
    }

    /// * Errors: a file may not grow by so much.
    fn take(&self, grows_by: u64) -> io::Result<()> {
        match self.quota()? {
            Some(space) if space.free < grows_by => Err(io::ErrorKind::StorageFull.into()),
            Some(_) | None => Ok(()),
        }
    }

    fn over(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let slow_sync = self.folder.join(SLOW_SYNC_FILE);
        let mut files = self.files.lock();
        // Nobody has those open, and they are whole on the disk.
        files.retain(|_, pending| Arc::strong_count(pending) > 1 || !pending.lock().is_empty());
        let pending = files.entry(path.to_owned()).or_default().clone();
        Box::new(PowerLossFile { disk: self.clone(), file, pending, slow_sync })
    }

    /// What is pending for files that are gone goes with them.
    fn forget(&self, path: &Path) {
        self.files.lock().retain(|file, _| !file.starts_with(path));
    }
}

struct PowerLossFile {
    disk: PowerLossDisk,
    file: Box<dyn DiskFile>,
    pending: Pending,
    slow_sync: PathBuf,
}

impl Disk for PowerLossDisk {
    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(folder)
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(file).map(|open| self.over(file, open))
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.create(file).map(|open| self.over(file, open))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)?;
        let mut files = self.files.lock();
        let moved: Vec<_> = files.extract_if(.., |file, _| file.starts_with(from)).collect();
        for (file, pending) in moved {
            let rest = file.strip_prefix(from).map(Path::to_owned).unwrap_or_default();
            let file = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            files.insert(file, pending);
        }
        Ok(())
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.forget(file);
        RealDisk.remove(file)
    }

    fn remove_tree(&self, folder: &Path) -> io::Result<()> {
        self.forget(folder);
        RealDisk.remove_tree(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(folder)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_dir(folder)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }

    fn file_bytes(&self, file: &Path) -> io::Result<u64> {
        RealDisk.file_bytes(file)
    }

    fn lock(&self, file: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        RealDisk.lock(file)
    }

    fn space(&self, folder: &Path) -> io::Result<Space> {
        let real = RealDisk.space(folder)?;
        let Some(quota) = self.quota()? else { return Ok(real) };
        Ok(Space { total: quota.total, free: quota.free.min(real.free), usable: quota.usable.min(real.usable) })
    }
}

impl DiskFile for PowerLossFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let pending = self.pending.lock();
        let end = at + bytes.len() as u64;
        if end > self.len_with(&pending)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let stored = usize::try_from(self.file.len()?.min(end).saturating_sub(at)).map_err(io::Error::other)?;
        self.file.read_at(&mut bytes[..stored], at)?;
        bytes[stored..].fill(0);
        for (start, written) in pending.iter() {
            let (from, to) = ((*start).max(at), (start + written.len() as u64).min(end));
            if from < to {
                let (into, of) = ((from - at) as usize, (from - start) as usize);
                let count = (to - from) as usize;
                bytes[into..into + count].copy_from_slice(&written[of..of + count]);
            }
        }
        Ok(())
    }

    fn read_at_hand(&self, bytes: &mut [u8], at: u64) -> io::Result<bool> {
        self.read_at(bytes, at).map(|()| true)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut pending = self.pending.lock();
        // A full disk refuses what a file grows by when it is written, never when it is synced.
        let end = at + bytes.len() as u64;
        if end > self.file.len()? {
            self.allocate(end)?;
        }
        pending.push((at, bytes.to_vec()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let slow = disk::read_text(&self.slow_sync).ok().and_then(|text| text.trim().parse().ok());
        std::thread::sleep(Duration::from_millis(slow.unwrap_or(0)));
        let mut pending = self.pending.lock();
        for (at, bytes) in pending.drain(..) {
            self.file.write_at(&bytes, at)?;
        }
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut pending = self.pending.lock();
        for (at, bytes) in pending.iter_mut() {
            bytes.truncate(usize::try_from(len.saturating_sub(*at)).unwrap_or(usize::MAX));
        }
        pending.retain(|(_, bytes)| !bytes.is_empty());
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.take(len.saturating_sub(self.file.len()?))?;
        self.file.allocate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.len_with(&self.pending.lock())
    }
}

impl PowerLossFile {
    fn len_with(&self, pending: &[(u64, Vec<u8>)]) -> io::Result<u64> {
        let ends = pending.iter().map(|(at, bytes)| at + bytes.len() as u64);
        Ok(ends.fold(self.file.len()?, u64::max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_synced_is_read_here_and_gone_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = PowerLossDisk::new(folder.path()).create(&path).unwrap();
        file.write_at(b"synced....", 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(b"LOST", 4).unwrap();
        file.write_at(b"end", 12).unwrap();
        let read = |file: &dyn DiskFile| {
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert_eq!(read(&*file), b"syncLOST..\0\0end");
        assert_eq!(read(&*RealDisk.open(&path).unwrap()), b"synced....\0\0\0\0\0", "a length is durable at once");
        file.set_len(6).unwrap();
        assert_eq!(read(&*file), b"syncLO");
        file.sync_data().unwrap();
        assert_eq!(read(&*RealDisk.open(&path).unwrap()), b"syncLO");
    }
    #[test]
    fn what_is_pending_belongs_to_the_file_however_often_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        let disk = PowerLossDisk::new(folder.path());
        disk.create(&path).unwrap().write_at(b"one", 0).unwrap();
        disk.create(&path).unwrap().write_at(b"two", 3).unwrap();
        disk.rename(&path, &other).unwrap();
        let mut bytes = [0; 6];
        disk.open(&other).unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"onetwo");
        assert_eq!(disk::read_text(&other).unwrap().as_bytes(), [0; 6], "and is nowhere else");
        disk.create(&other).unwrap().sync_data().unwrap();
        assert_eq!(disk::read_text(&other).unwrap(), "onetwo");
        disk.create(&other).unwrap().write_at(b"gone", 0).unwrap();
        disk.remove(&other).unwrap();
        disk.create(&other).unwrap().sync_data().unwrap();
        assert_eq!(disk::read_text(&other).unwrap(), "");
    }

    #[test]
    fn p20_a_bound_on_the_folder_refuses_growth_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let disk = PowerLossDisk::new(folder.path());
        let file = disk.create(&folder.path().join("file")).unwrap();
        file.write_at(&[1; 100], 0).unwrap();
        disk::write_text(&folder.path().join(QUOTA_FILE), "200").unwrap();
        // The file with the bound counts too.
        assert_eq!(disk.space(folder.path()).unwrap(), Space { total: 200, free: 97, usable: 97 });
        file.write_at(&[2; 50], 50).unwrap();
        let refused = file.write_at(&[3; 98], 100).unwrap_err();
        assert!(disk::is_full(&refused), "{refused}");
        file.write_at(&[3; 97], 100).unwrap();
        assert!(disk::is_full(&file.allocate(300).unwrap_err()));
        file.sync_data().unwrap();
        disk::remove_if_there(&folder.path().join(QUOTA_FILE));
        file.allocate(300).unwrap();
    }
}
