//! Files: the few operations the store needs, and the real disk.
#![allow(clippy::disallowed_methods, reason = "env/ is where files are touched")]

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Buf;
use rustix::io::{Errno, ReadWriteFlags};

/// Parts that one system call writes.
const PARTS_AT_ONCE: usize = 64;

/// An open file, read and written at positions. Positions and lengths are in bytes.
pub trait DiskFile: Send + Sync {
    /// Fills `bytes` from `at`. May wait for the disk.
    ///
    /// * Errors: [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// As [`Self::read_at`], but from memory only; false, and anything in `bytes`, if this would wait for the disk or the
    /// file ends before.
    fn read_at_hand(&self, bytes: &mut [u8], at: u64) -> io::Result<bool>;
    /// Writes all of `bytes` at `at`. Durable only after [`Self::sync_data`].
    ///
    /// * Errors: any part of it may have been written.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// As [`Self::write_at`], of bytes in several parts.
    fn write_gathered_at(&self, parts: &mut dyn Buf, at: u64) -> io::Result<()> {
        let whole = parts.remaining();
        if parts.chunk().len() < whole {
            return self.write_at(&parts.copy_to_bytes(whole), at);
        }
        self.write_at(parts.chunk(), at)?;
        parts.advance(whole);
        Ok(())
    }
    /// Makes what was written durable. Blocks.
    ///
    /// * Errors: nothing is known of what was written since the last sync. Never retried: another sync could succeed
    ///   without having written anything.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space up to `len`, which reads as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    pub total: u64,
    /// To a process without privileges.
    pub free: u64,
    /// To this process: the superuser may use what a file system keeps for it beside.
    pub usable: u64,
}

/// Whether this says that the disk, or this user's share of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether this says of what is on the disk that it cannot be read: a part of it is unreadable or inconsistent, or the file
/// ends before. Other errors, of too many open files for instance, say nothing about it.
pub fn is_unreadable(error: &io::Error) -> bool {
    let bad = [Errno::IO, Errno::NODATA, Errno::BADMSG, Errno::UCLEAN, Errno::ILSEQ, Errno::REMOTEIO];
    error.kind() == io::ErrorKind::UnexpectedEof
        || Errno::from_io_error(error).is_some_and(|errno| bad.contains(&errno))
}

/// Keeps a lock until dropped.
pub trait DiskLock: Send + Sync {}

/// A file system. After an error the fate of what was asked for is unknown.
pub trait Disk: Send + Sync + 'static {
    /// Makes a folder and those above it; durable on return.
    fn create_dir_all(&self, folder: &Path) -> io::Result<()>;
    /// Opens a file that exists, to read and write.
    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file, which is made if it is missing; its content stays.
    fn create(&self, file: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Puts a file in the place of another, atomically; durable after [`Self::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable after [`Self::sync_dir`].
    fn remove(&self, file: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it, if it is there; durable after [`Self::sync_dir`] of the folder above.
    /// After a crash any part of it may be left.
    fn remove_tree(&self, folder: &Path) -> io::Result<()>;
    /// The names in a folder, sorted, those of folders among them.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Makes the folder's entries durable.
    fn sync_dir(&self, folder: &Path) -> io::Result<()>;
    /// Whether something is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Length of a file in bytes, without opening it.
    fn file_bytes(&self, file: &Path) -> io::Result<u64>;
    /// Locks a file for this process; `None` if another holds it.
    fn lock(&self, file: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;
    /// The room on the file system of a folder.
    fn space(&self, folder: &Path) -> io::Result<Space>;
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealFile(File);

struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

impl Disk for RealDisk {
    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        if std::fs::exists(folder)? {
            return Ok(());
        }
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.create_dir_all(parent)?;
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // A folder that its parent forgets in a power loss takes all that was synced in it along.
            made => made.and_then(|()| self.sync_dir(parent)),
        }
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().read(true).write(true).open(file)?)))
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file)?;
        Ok(Box::new(RealFile(open)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        std::fs::remove_file(file)
    }

    fn remove_tree(&self, folder: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        std::fs::exists(path)
    }

    fn file_bytes(&self, file: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(file)?.len())
    }

    fn lock(&self, file: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn space(&self, folder: &Path) -> io::Result<Space> {
        let system = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        let (free, all) = (bytes(system.f_bavail), bytes(system.f_bfree));
        let usable = if rustix::process::geteuid().is_root() { all } else { free };
        Ok(Space { total: bytes(system.f_blocks), free, usable })
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, at)
    }

    /// From the page cache (`RWF_NOWAIT`, preadv2(2)).
    fn read_at_hand(&self, bytes: &mut [u8], at: u64) -> io::Result<bool> {
        let whole = bytes.len();
        match rustix::io::preadv2(&self.0, &mut [io::IoSliceMut::new(bytes)], at, ReadWriteFlags::NOWAIT) {
            // A part is in the page cache, or the file ends: only a read that may wait can tell which.
            Ok(read) => Ok(read == whole),
            // Nothing is there, or the file system cannot say so.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn write_gathered_at(&self, parts: &mut dyn Buf, mut at: u64) -> io::Result<()> {
        while parts.has_remaining() {
            let mut slices = [io::IoSlice::new(&[]); PARTS_AT_ONCE];
            let count = parts.chunks_vectored(&mut slices);
            match rustix::io::pwritev(&self.0, &slices[..count], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    parts.advance(written);
                    at += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, len)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// Reads a whole text file: configuration and certificates.
///
/// * Errors: `InvalidData` if it is not UTF-8, with the place and what to do.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(std::fs::read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, not_utf8(error.as_bytes(), error.utf8_error())))
}

/// Editors of Windows write UTF-16, and RocketMQ reads its files as ISO-8859-1.
fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> String {
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes {
        return "the file is in UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)".to_owned();
    }
    let before = &bytes[..error.valid_up_to()];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.len() - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1) + 1;
    let byte = bytes[before.len()];
    format!(
        "line {line}, byte {column}: 0x{byte:02X} is not UTF-8: save the file as UTF-8 \
         (from what RocketMQ reads: iconv -f ISO-8859-1 -t UTF-8)"
    )
}

/// Writes a whole text file: a report.
pub fn write_text(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}

/// Replaces a whole text file at once: who reads it sees the old text or the new one.
pub fn replace_text(path: &Path, text: &str) -> io::Result<()> {
    let staging = path.with_extension("new");
    std::fs::write(&staging, text)?;
    std::fs::rename(&staging, path)
}

/// The bytes of all files in a folder and below.
pub fn folder_bytes(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Others remove files meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() { folder_bytes(&entry.path()).unwrap_or(0) } else { metadata.len() };
    }
    Ok(sum)
}

/// Removes a folder with all that is in it, if it is there.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes a file, if it is there and may be removed.
pub fn remove_if_there(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Whether there is something at a path.
pub fn is_there(path: &Path) -> bool {
    path.exists()
}

/// A path in the folder for temporary files.
pub fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Makes a folder; an error if there is something in it.
pub fn make_empty(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    match std::fs::read_dir(folder)?.next() {
        None => Ok(()),
        Some(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty")),
    }
}

/// A path as given, made absolute against the working folder.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_was_just_written_is_at_hand_and_no_more_than_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&folder.path().join("file")).unwrap();
        file.write_at(b"0123456789", 0).unwrap();
        let mut bytes = [0; 4];
        assert!(file.read_at_hand(&mut bytes, 6).unwrap());
        assert_eq!(&bytes, b"6789");
        assert!(!file.read_at_hand(&mut bytes, 7).unwrap(), "the file ends before");
        assert!(!file.read_at_hand(&mut bytes, 20).unwrap());
    }

    #[test]
    fn a_text_in_another_encoding_is_refused_with_its_place_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broker.conf");
        let refused = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            read_text(&file).unwrap_err().to_string()
        };
        let latin = refused(b"a=1\nbrokerName=caf\xe9\n");
        assert!(latin.starts_with("line 2, byte 15: 0xE9 is not UTF-8: save the file as UTF-8"), "{latin}");
        assert!(refused(b"\xe9").starts_with("line 1, byte 1: 0xE9"));
        let utf16: Vec<u8> = "\u{feff}a=1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(refused(&utf16).starts_with("the file is in UTF-16: save it as UTF-8"));
        std::fs::write(&file, "地区=华东\n").unwrap();
        assert_eq!(read_text(&file).unwrap(), "地区=华东\n");
    }

    #[test]
    fn parts_are_written_whole_and_in_order_however_many() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&folder.path().join("file")).unwrap();
        let parts: Vec<Bytes> = (0..3 * PARTS_AT_ONCE).map(|number| vec![number as u8; number].into()).collect();
        let mut gathered = Gathered(parts.iter().cloned().collect());
        file.write_gathered_at(&mut gathered, 5).unwrap();
        assert!(!gathered.has_remaining());
        let mut read = vec![0; parts.iter().map(Bytes::len).sum()];
        file.read_at(&mut read, 5).unwrap();
        assert_eq!(read, parts.concat());
        assert_eq!(file.len().unwrap(), 5 + read.len() as u64);
    }

    struct Gathered(std::collections::VecDeque<Bytes>);

    impl Buf for Gathered {
        fn remaining(&self) -> usize {
            self.0.iter().map(Bytes::len).sum()
        }

        fn chunk(&self) -> &[u8] {
            self.0.iter().find(|part| !part.is_empty()).map_or(&[], |part| part)
        }

        fn chunks_vectored<'a>(&'a self, to: &mut [io::IoSlice<'a>]) -> usize {
            let parts = self.0.iter().filter(|part| !part.is_empty());
            to.iter_mut().zip(parts).map(|(slot, part)| *slot = io::IoSlice::new(part)).count()
        }

        fn advance(&mut self, mut count: usize) {
            while let Some(part) = self.0.front_mut() {
                let taken = part.len().min(count);
                part.advance(taken);
                count -= taken;
                if !part.is_empty() {
                    return;
                }
                self.0.pop_front();
            }
        }
    }
}
