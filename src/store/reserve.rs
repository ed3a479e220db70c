//! The reserve: a file that holds space on the store's disk, which the log and the state get when nothing else is free.
//!
//! * Shape: a file `reserve` in the store folder; its length is what it holds, and its bytes mean nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::env::disk::{Disk, DiskFile};

const FILE: &str = "reserve";

pub(in crate::store) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<Box<dyn DiskFile>>,
    bytes: u64,
}

impl Reserve {
    /// What an earlier process left in the folder; it need not be there.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let file = if disk.exists(&path)? { Some(disk.open(&path)?) } else { None };
        let bytes = file.as_ref().map_or(Ok(0), |file| file.len())?;
        Ok(Self { disk, path, file, bytes })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// * Errors: there is no room for so much, or the file system cannot hold space; then nothing more is held.
    pub fn grow_to(&mut self, bytes: u64) -> io::Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => self.disk.create(&self.path)?,
        };
        let grown = file.allocate(bytes).inspect_err(|_| {
            // A part of it may have been allocated.
            let _ = file.set_len(self.bytes);
        });
        self.file = Some(file);
        grown?;
        self.bytes = bytes;
        Ok(())
    }

    /// Gives back all but so much.
    pub fn shrink_to(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| bytes < self.bytes) {
            file.set_len(bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }
}
