//! The next generation of log and state while it is pulled: what is there already, what is missing, and whether it is whole.
//!
//! Nothing in it counts before the generation is flipped to, so anything may be there after a crash. Files of the state are
//! kept if they have the length and the checksum of the manifest; one that is shorter is gone on with. The log is an own
//! commit log, which knows itself how far it goes. Blocks; to be called away from Raft's thread.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::machine::newest_version;
use crate::model::LogIndex;
use crate::raft::snapshot::install::Staged;
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::state_check::check_state;
use crate::raft::snapshot::target::{StagingError, Target, append};
use crate::store::kv::rocks::damage_mark;
use crate::store::log::CommitLog;
use crate::store::log::copy::begin_copy;
use crate::store::log::record::{Record, RecordId};
use crate::store::state_files::{StateFile, checksum_of};
use crate::store::{self};

/// A file of the state that is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::raft) struct Missing {
    /// Its number in the manifest.
    pub file: usize,
    /// So many bytes of it are there.
    pub has: u64,
}

/// The next generation, being filled.
pub(in crate::raft) struct Staging {
    target: Target,
    manifest: Arc<Manifest>,
    log: CommitLog,
}

impl Staging {
    /// Over what an earlier pull left, as far as that fits the manifest.
    pub fn open(target: Target, manifest: Arc<Manifest>) -> Result<Self, StagingError> {
        if manifest.cluster != target.owner.cluster || manifest.group != target.owner.group {
            let Manifest { cluster, group, .. } = &*manifest;
            return Err(StagingError::Unusable(format!("it is of group {group} in cluster {cluster}")));
        }
        if manifest.cluster_version > newest_version() {
            let (theirs, ours) = (manifest.cluster_version, newest_version());
            return Err(StagingError::Unusable(format!(
                "it has cluster version {theirs} and this build knows {ours}: install the build of the others here"
            )));
        }
        let disk = &target.store.disk;
        disk.create_dir_all(&target.state())?;
        // What an earlier process noted of an earlier copy says nothing of this one.
        let mark = damage_mark(&target.state());
        if disk.exists(&mark)? {
            disk.remove(&mark)?;
        }
        let names: BTreeSet<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        for name in disk.list(&target.state())? {
            if !names.contains(name.as_str()) {
                disk.remove(&target.state().join(name))?;
            }
        }
        let log = open_log(&target, &manifest)?;
        Ok(Self { target, manifest, log })
    }

    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// To be kept for as long as somebody waits for what is staged.
    pub fn ends_waiting(&self) -> EndsWaiting {
        EndsWaiting(self.log.clone())
    }

    /// The files of the state that are not complete.
    pub fn missing_files(&self) -> Result<Vec<Missing>, StagingError> {
        let mut missing = Vec::new();
        for (number, file) in self.manifest.files.iter().enumerate() {
            let path = self.target.state().join(&file.name);
            if !self.target.store.disk.exists(&path)? {
                missing.push(Missing { file: number, has: 0 });
                continue;
            }
            let has = self.target.store.disk.file_bytes(&path)?;
            if has < file.bytes {
                missing.push(Missing { file: number, has });
            } else if !self.is_whole(file)? {
                missing.push(Missing { file: number, has: 0 });
            }
        }
        Ok(missing)
    }

    /// Takes bytes of a file, after those that are there.
    pub fn write_file(&self, file: usize, at: u64, bytes: &[u8]) -> Result<(), StagingError> {
        let file = &self.manifest.files[file];
        if bytes.is_empty() || at + bytes.len() as u64 > file.bytes {
            let what = format!("{} bytes of the file {} at {at}, which has {}", bytes.len(), file.name, file.bytes);
            return Err(StagingError::Unusable(what));
        }
        let open = self.target.store.disk.create(&self.target.state().join(&file.name))?;
        Ok(open.write_at(bytes, at)?)
    }

    /// Makes a file durable; whether it is the one in the manifest. If it is another one, nothing of it is kept.
    pub fn finish_file(&self, file: usize) -> Result<bool, StagingError> {
        let file = &self.manifest.files[file];
        let path = self.target.state().join(&file.name);
        self.target.store.disk.create(&path)?.set_len(file.bytes)?;
        self.sync_file(&path)?;
        let is_whole = self.is_whole(file)?;
        if !is_whole {
            self.target.store.disk.remove(&path)?;
        }
        Ok(is_whole)
    }

    /// A file for which this fails is not there any more: what is read of it now may never be on the disk, and another sync
    /// would not say so.
    fn sync_file(&self, path: &Path) -> Result<(), StagingError> {
        let disk = &self.target.store.disk;
        if let Err(error) = disk.open(path)?.sync_data() {
            disk.remove(path)?;
            return Err(error.into());
        }
        Ok(())
    }

    fn is_whole(&self, file: &StateFile) -> Result<bool, StagingError> {
        let open = self.target.store.disk.open(&self.target.state().join(&file.name))?;
        Ok(open.len()? == file.bytes && checksum_of(&*open, file.bytes)? == file.crc32c)
    }

    /// The next record that is missing; after the last one there is none.
    pub fn next_record(&self) -> Option<LogIndex> {
        let next = self.log.last().map_or(self.manifest.first, |last| last.index.next());
        Some(next.max(self.manifest.first)).filter(|next| *next <= self.manifest.applied.index)
    }

    /// The last record that is there already. An installation that was broken off can have left others than those of the
    /// snapshot: unless this one is the source's, [`Self::forget_records`] is to be called.
    pub fn last_record(&self) -> Option<RecordId> {
        self.log.last()
    }

    /// All records are pulled anew.
    pub fn forget_records(self) -> Result<Self, StagingError> {
        let Self { target, manifest, log } = self;
        drop(log);
        target.store.disk.remove_tree(&target.log())?;
        Self::open(target, manifest)
    }

    /// Takes consecutive records, the next one first; durable on return.
    pub fn append(&self, records: Vec<Record>) -> Result<(), StagingError> {
        let expected = self.next_record();
        let mut term = self.log.last().map(|last| last.term);
        for (at, record) in (0..).zip(&records) {
            let is_next = expected.is_some_and(|first| record.index == LogIndex(first.0 + at));
            let is_in_order = term.is_none_or(|term| term <= record.term) && record.term <= self.manifest.applied.term;
            let is_last = record.index == self.manifest.applied.index;
            let fits =
                record.index <= self.manifest.applied.index && (!is_last || record.id() == self.manifest.applied);
            if !is_next || !is_in_order || !fits {
                return Err(StagingError::Unusable(format!("entry {} does not belong to it", record.index)));
            }
            term = Some(record.term);
        }
        append(&self.log, records)
    }

    /// Looks whether everything is there and is what the manifest says, and closes it.
    pub fn finish(self) -> Result<Staged, StagingError> {
        let unusable = |what: String| Err(StagingError::Unusable(what));
        let Manifest { applied, first, .. } = &*self.manifest;
        if let Some(next) = self.next_record() {
            return unusable(format!("entry {next} is missing"));
        }
        if let Some(missing) = self.missing_files()?.first() {
            return unusable(format!("the file {} is not complete", self.manifest.files[missing.file].name));
        }
        // Also those that were complete when this pull began: an earlier process may have ended before their sync.
        for file in &self.manifest.files {
            self.sync_file(&self.target.state().join(&file.name))?;
        }
        let copy = self.target.kv.open_copy(&self.target.state());
        let copy = copy.map_err(|error| StagingError::Unusable(error.to_string()))?;
        check_state(&*copy, *first, *applied).map_err(StagingError::Unusable)?;
        drop(copy);
        let folder = self.target.store.folder_of(self.target.generation.next());
        self.target.store.disk.sync_dir(&self.target.state())?;
        self.target.store.disk.sync_dir(&folder)?;
        self.target.store.disk.sync_dir(&self.target.store.path)?;
        self.log.sync()?;
        Ok(Staged { target: self.target, manifest: self.manifest })
    }
}

/// Ends, when dropped, what waits for room on the disk: nobody waits for it any more.
pub(in crate::raft) struct EndsWaiting(CommitLog);

impl Drop for EndsWaiting {
    fn drop(&mut self) {
        self.0.stop_waiting_for_room();
    }
}

/// The staged log, made anew unless what is there can be gone on with.
fn open_log(target: &Target, manifest: &Manifest) -> Result<CommitLog, StagingError> {
    let (disk, folder) = (&target.store.disk, target.log());
    let open = || {
        let on_fatal = |error: &store::Error| tracing::warn!(%error, "the log that is pulled cannot be written");
        CommitLog::open(disk.clone(), &folder, &target.owner, target.log_options.clone(), Box::new(on_fatal))
    };
    if disk.list(&folder).is_ok_and(|names| !names.is_empty()) {
        match open() {
            // What works on it still is about to end.
            Err(error @ store::Error::Locked(_)) => return Err(error.into()),
            Ok(log) if goes_on(&log, manifest) => return Ok(log),
            // One that is damaged is as good as none.
            Err(_) | Ok(_) => {}
        }
        disk.remove_tree(&folder)?;
        disk.sync_dir(&target.store.folder_of(target.generation.next()))?;
    }
    let beginning = (manifest.first, manifest.before);
    begin_copy(&**disk, &folder, &target.owner, target.log_options.segment_bytes, beginning)?;
    Ok(open()?)
}

/// Whether a log that an earlier pull left can be gone on with. What its opening found to be lost is no loss: nobody was told
/// that it is here, and it is pulled again.
fn goes_on(log: &CommitLog, manifest: &Manifest) -> bool {
    let joins = log.last().is_some_and(|last| last.index.next() >= manifest.first)
        && log.first_index().is_some_and(|first| first <= manifest.first);
    joins
        && log.damage().is_empty()
        && (log.lost_from().is_none() || log.note_restored().is_ok())
        && log.truncate_after(Some(manifest.applied.index)).is_ok()
}
