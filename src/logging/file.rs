//! The log file of this process: `broker.log`, and those before it, `broker.1.log` the newest of them.

use std::io;
use std::path::{Path, PathBuf};

use crate::env::disk::{Disk, DiskFile, DiskLock};

/// The file that is open.
struct Open {
    file: Box<dyn DiskFile>,
    end: u64,
    /// Another process must not write into the same file.
    _lock: Box<dyn DiskLock>,
}

/// A file that is renamed when it is full.
pub(super) struct RotatingFile {
    disk: Box<dyn Disk>,
    folder: PathBuf,
    bytes_max: u64,
    /// Files beside the one that is written.
    kept: u32,
    open: Option<Open>,
}

/// The name of the file that is written.
const CURRENT: &str = "broker.log";

impl RotatingFile {
    /// In `folder`, which is made when the first line comes.
    pub fn new(disk: Box<dyn Disk>, folder: &Path, bytes_max: u64, kept: u32) -> Self {
        Self { disk, folder: folder.to_owned(), bytes_max, kept, open: None }
    }

    /// The file that is written.
    pub fn path(&self) -> PathBuf {
        self.folder.join(CURRENT)
    }

    fn path_before(&self, number: u32) -> PathBuf {
        self.folder.join(format!("broker.{number}.log"))
    }

    /// Writes whole lines at the end; a file has no more than `bytes_max`, unless one line is longer.
    ///
    /// * Errors: how many of `lines`' bytes are in the file all the same, and why not all.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < lines.len() {
            written += self.write_some(&lines[written..]).map_err(|error| (written, error))?;
        }
        Ok(())
    }

    fn write_some(&mut self, lines: &[u8]) -> io::Result<usize> {
        let (bytes_max, path) = (self.bytes_max, self.path());
        let open = self.opened()?;
        let room = usize::try_from(bytes_max.saturating_sub(open.end)).unwrap_or(usize::MAX);
        let end_of_line = |from: &[u8]| from.iter().position(|byte| *byte == b'\n').map_or(from.len(), |at| at + 1);
        let fits = match lines.get(..room) {
            None => lines.len(),
            Some(first) => first.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        };
        let length = match fits {
            0 if open.end > 0 => {
                self.rotate(&path)?;
                return Ok(0);
            }
            0 => end_of_line(lines),
            fits => fits,
        };
        if let Err(error) = open.file.write_at(&lines[..length], open.end) {
            // Half a line would be read as a whole one.
            let _ = open.file.set_len(open.end);
            return Err(error);
        }
        open.end += length as u64;
        Ok(length)
    }

    /// The file, opened if it is not, or if somebody moved, cut or removed it.
    fn opened(&mut self) -> io::Result<&mut Open> {
        let path = self.path();
        let is_in_place = |open: &Open| {
            self.disk.file_bytes(&path).is_ok_and(|bytes| bytes == open.end)
                && open.file.len().is_ok_and(|bytes| bytes == open.end)
        };
        let open = match self.open.take().filter(is_in_place) {
            Some(open) => open,
            None => {
                self.disk.create_dir_all(&self.folder)?;
                let lock = self.disk.lock(&path)?.ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::WouldBlock,
                        "another process writes it; give each node a logHome of its own",
                    )
                })?;
                let file = self.disk.create(&path)?;
                let end = file.len()?;
                Open { file, end, _lock: lock }
            }
        };
        Ok(self.open.insert(open))
    }

    fn rotate(&mut self, path: &Path) -> io::Result<()> {
        self.open = None;
        for number in (1..self.kept).rev() {
            let (from, to) = (self.path_before(number), self.path_before(number + 1));
            if self.disk.exists(&from)? {
                self.disk.rename(&from, &to)?;
            }
        }
        if self.kept > 0 {
            self.disk.rename(path, &self.path_before(1))?;
        } else {
            self.disk.remove(path)?;
        }
        self.remove_others()
    }

    /// More were kept before.
    fn remove_others(&self) -> io::Result<()> {
        for name in self.disk.list(&self.folder)? {
            let number = name.strip_prefix("broker.").and_then(|name| name.strip_suffix(".log")?.parse::<u32>().ok());
            if number.is_some_and(|number| number > self.kept) {
                self.disk.remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }
}
