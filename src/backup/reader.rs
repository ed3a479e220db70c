//! Reads a backup: what it is, whether all of it is what was written, and its files and records one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::backup::error::Error;
use crate::backup::manifest::{Manifest, RecordFile};
use crate::backup::writer::{MANIFEST, RECORDS, STATE, record_file_name};
use crate::env::disk::Disk;
use crate::store::log::record::{Record, RecordId, decode_wire};
use crate::store::state_files::{StateFile, read_through};

/// A manifest names two files for each 64 MiB, about.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A backup with its manifest.
pub struct Backup {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    manifest: Manifest,
}

impl Backup {
    /// Reads the manifest.
    ///
    /// * Errors: [`Error::NoBackup`], [`Error::Damaged`], [`Error::Io`].
    pub fn open(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self, Error> {
        let path = folder.join(MANIFEST);
        if !disk.exists(&path).map_err(Error::io(&path))? {
            return Err(Error::NoBackup(folder.to_owned()));
        }
        let file = disk.open(&path).map_err(Error::io(&path))?;
        let bytes = file.len().map_err(Error::io(&path))?;
        if bytes > MANIFEST_BYTES_MAX {
            return Err(Error::damaged(&path, format!("it has {bytes} bytes")));
        }
        let mut encoded = vec![0; usize::try_from(bytes).expect("below the limit")];
        file.read_at(&mut encoded, 0).map_err(Error::io(&path))?;
        let manifest = Manifest::decode(encoded.into()).map_err(|reason| Error::damaged(&path, reason))?;
        Ok(Self { disk, folder: folder.to_owned(), manifest })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads everything. `progress` is called with the bytes of each part.
    ///
    /// * Errors: the first thing that is not what was written: [`Error::Damaged`], [`Error::Io`].
    pub fn verify(&self, mut progress: impl FnMut(usize)) -> Result<(), Error> {
        for file in &self.manifest.source.state {
            self.read_state(file, |part, _| {
                progress(part.len());
                Ok(())
            })?;
        }
        self.each_record_file(|_, records| {
            progress(records.iter().map(Record::wire_bytes).sum());
            Ok(())
        })
    }

    /// Reads a file of the state, and its bytes in parts, each with where it begins; ends with the first error of `part`.
    pub(super) fn read_state(
        &self,
        file: &StateFile,
        part: impl FnMut(&[u8], u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let path = self.folder.join(STATE).join(&file.name);
        self.read(&path, file.bytes, file.crc32c, part)
    }

    /// All records, a file of the backup after the other; ends with the first error of `records`. What is given is
    /// consecutive and whole, also if a later part is not.
    pub(super) fn each_record_file(
        &self,
        mut records: impl FnMut(&RecordFile, Vec<Record>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut last: Option<RecordId> = None;
        for file in &self.manifest.records {
            let path = self.folder.join(RECORDS).join(record_file_name(file.first));
            let mut bytes = Vec::new();
            self.read(&path, file.bytes, file.crc32c, |part, _| {
                bytes.extend_from_slice(part);
                Ok(())
            })?;
            let read = decode_all(bytes.into()).map_err(|reason| Error::damaged(&path, reason))?;
            let is_next = |(index, record): (u64, &Record)| record.index.0 == index;
            let is_whole = read.len() as u64 == file.last.0 - file.first.0 + 1;
            if !is_whole || !(file.first.0..).zip(&read).all(is_next) {
                return Err(Error::damaged(&path, "it has other records than the manifest says"));
            }
            last = read.last().map(Record::id);
            records(file, read)?;
        }
        if last != Some(self.manifest.source.applied) {
            let path = self.folder.join(RECORDS);
            return Err(Error::damaged(&path, "the last record is another one than the state has applied"));
        }
        Ok(())
    }

    fn read(
        &self,
        path: &Path,
        bytes: u64,
        crc32c: u32,
        part: impl FnMut(&[u8], u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if !self.disk.exists(path).map_err(Error::io(path))? {
            return Err(Error::damaged(path, "it is missing"));
        }
        let file = self.disk.open(path).map_err(Error::io(path))?;
        let found = file.len().map_err(Error::io(path))?;
        if found != bytes {
            return Err(Error::damaged(path, format!("it has {found} bytes, and had {bytes}")));
        }
        let failed = |error| Error::io(path)(error);
        if read_through(&*file, bytes, failed, part)? != crc32c {
            return Err(Error::damaged(path, "its checksum does not fit"));
        }
        Ok(())
    }
}

fn decode_all(mut bytes: Bytes) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        records.push(decode_wire(&mut bytes).map_err(|bad| bad.to_string())?);
    }
    Ok(records)
}
