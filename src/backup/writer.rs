//! Writes a backup with what a node sends: the files of the state, one after the other, then the records.
//!
//! * Shape: `state/` with the files of the state; `records/N` with wire records back to back, N being the index of the first
//!   one; `manifest`, which is made last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::backup::error::Error;
use crate::backup::manifest::{Manifest, RECORD_FILE_BYTES, RecordFile, Source};
use crate::env::disk::{Disk, DiskFile};
use crate::model::LogIndex;
use crate::store::log::record::{RecordId, decode_wire};

pub(super) const MANIFEST: &str = "manifest";
pub(super) const STATE: &str = "state";
pub(super) const RECORDS: &str = "records";
/// The manifest until it is whole.
const STAGED: &str = "manifest.new";

/// The name of a file of records.
pub(super) fn record_file_name(first: LogIndex) -> String {
    format!("{:020}", first.0)
}

/// A file that is being written.
struct Growing {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    crc32c: u32,
}

impl Growing {
    fn create(disk: &dyn Disk, path: PathBuf) -> Result<Self, Error> {
        let file = disk.create(&path).map_err(Error::io(&path))?;
        Ok(Self { path, file, bytes: 0, crc32c: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_at(bytes, self.bytes).map_err(Error::io(&self.path))?;
        self.bytes += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}

/// A backup that is being written.
pub struct BackupWriter {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    source: Source,
    /// Files of the state that are complete, and the one that is being written.
    state_done: usize,
    state_file: Option<Growing>,
    records: Vec<RecordFile>,
    record_file: Option<(LogIndex, Growing)>,
    /// The last record that came.
    last: Option<RecordId>,
    record_file_bytes: u64,
}

impl BackupWriter {
    /// Begins a backup in a folder that is empty, or made.
    ///
    /// * Errors: [`Error::NotEmpty`], [`Error::Unusable`], [`Error::Io`].
    pub fn begin(disk: Arc<dyn Disk>, folder: &Path, source: Source) -> Result<Self, Error> {
        source.check().map_err(Error::Unusable)?;
        disk.create_dir_all(folder).map_err(Error::io(folder))?;
        if !disk.list(folder).map_err(Error::io(folder))?.is_empty() {
            return Err(Error::NotEmpty(folder.to_owned()));
        }
        for inner in [STATE, RECORDS] {
            let inner = folder.join(inner);
            disk.create_dir_all(&inner).map_err(Error::io(&inner))?;
        }
        Ok(Self {
            disk,
            folder: folder.to_owned(),
            source,
            state_done: 0,
            state_file: None,
            records: Vec::new(),
            record_file: None,
            last: None,
            record_file_bytes: RECORD_FILE_BYTES,
        })
    }

    #[cfg(test)]
    pub(super) fn with_record_files_of(mut self, bytes: u64) -> Self {
        self.record_file_bytes = bytes;
        self
    }

    /// Bytes that came so far.
    pub fn bytes(&self) -> u64 {
        let state = self.source.state.iter().take(self.state_done).map(|file| file.bytes).sum::<u64>();
        let records = self.records.iter().map(|file| file.bytes).sum::<u64>();
        let growing = self.state_file.iter().chain(self.record_file.iter().map(|(_, file)| file));
        state + records + growing.map(|file| file.bytes).sum::<u64>()
    }

    /// The next bytes of the state: they may end one file and begin the next.
    ///
    /// * Errors: [`Error::Unusable`] if they are not what was announced.
    pub fn state(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.end_whole_state_files()?;
            let Some(announced) = self.source.state.get(self.state_done) else {
                return Err(Error::Unusable("more of the state than there is".to_owned()));
            };
            let file = match &mut self.state_file {
                Some(file) => file,
                none => none.insert(Growing::create(&*self.disk, self.folder.join(STATE).join(&announced.name))?),
            };
            let room = usize::try_from(announced.bytes - file.bytes).unwrap_or(usize::MAX);
            let part = bytes.split_to(room.min(bytes.len()));
            file.append(&part)?;
        }
        self.end_whole_state_files()
    }

    /// Closes the file that has all its bytes, and makes the empty ones that follow.
    fn end_whole_state_files(&mut self) -> Result<(), Error> {
        while let Some(announced) = self.source.state.get(self.state_done) {
            if self.state_file.is_none() && announced.bytes == 0 {
                self.state_file = Some(Growing::create(&*self.disk, self.folder.join(STATE).join(&announced.name))?);
            }
            let Some(file) = self.state_file.take_if(|file| file.bytes == announced.bytes) else { return Ok(()) };
            if file.crc32c != announced.crc32c {
                return Err(Error::Unusable(format!("the file {} of the state has another checksum", announced.name)));
            }
            file.sync()?;
            self.state_done += 1;
        }
        Ok(())
    }

    /// The next records, back to back, whole.
    ///
    /// * Errors: [`Error::Unusable`] if they are not records, or not the next ones.
    pub fn records(&mut self, bytes: Bytes) -> Result<(), Error> {
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            let record = decode_wire(&mut rest).map_err(|bad| Error::Unusable(bad.to_string()))?;
            let expected = self.last.map_or(self.source.first, |last| last.index.next());
            let is_of_later_term = self.last.is_none_or(|last| last.term <= record.term);
            if record.index != expected || record.index > self.source.applied.index || !is_of_later_term {
                return Err(Error::Unusable(format!(
                    "record {} of term {} where {expected} is next",
                    record.index, record.term
                )));
            }
            self.record(record.index, &bytes[at..bytes.len() - rest.len()])?;
            self.last = Some(record.id());
        }
        Ok(())
    }

    fn record(&mut self, index: LogIndex, wire: &[u8]) -> Result<(), Error> {
        let is_full = |(_, file): &mut (LogIndex, Growing)| file.bytes >= self.record_file_bytes;
        if let Some((first, file)) = self.record_file.take_if(is_full) {
            self.end_record_file(first, &file)?;
        }
        let (_, file) = match &mut self.record_file {
            Some(file) => file,
            none => {
                let path = self.folder.join(RECORDS).join(record_file_name(index));
                none.insert((index, Growing::create(&*self.disk, path)?))
            }
        };
        file.append(wire)
    }

    fn end_record_file(&mut self, first: LogIndex, file: &Growing) -> Result<(), Error> {
        file.sync()?;
        let last = self.last.expect("it has records").index;
        self.records.push(RecordFile { first, last, bytes: file.bytes, crc32c: file.crc32c });
        Ok(())
    }

    /// Ends the backup. Durable on return.
    ///
    /// * Errors: [`Error::Unusable`] if something is missing.
    pub fn finish(mut self) -> Result<Manifest, Error> {
        self.end_whole_state_files()?;
        let missing = self.source.state.len() - self.state_done;
        if missing > 0 {
            return Err(Error::Unusable(format!("{missing} files of the state did not come")));
        }
        if self.last != Some(self.source.applied) {
            let last = self.last.map_or(LogIndex(0), |last| last.index);
            return Err(Error::Unusable(format!("records up to {last} came, not up to {}", self.source.applied.index)));
        }
        if let Some((first, file)) = self.record_file.take() {
            self.end_record_file(first, &file)?;
        }
        for inner in [STATE, RECORDS] {
            let inner = self.folder.join(inner);
            self.disk.sync_dir(&inner).map_err(Error::io(&inner))?;
        }
        let manifest = Manifest { source: self.source, records: self.records };
        let staged = self.folder.join(STAGED);
        let mut file = Growing::create(&*self.disk, staged.clone())?;
        file.append(&manifest.encode())?;
        file.sync()?;
        self.disk.rename(&staged, &self.folder.join(MANIFEST)).map_err(Error::io(&staged))?;
        self.disk.sync_dir(&self.folder).map_err(Error::io(&self.folder))?;
        Ok(manifest)
    }
}
