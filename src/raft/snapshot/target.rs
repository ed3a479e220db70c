//! Where a snapshot that is pulled goes: the next generation of log and state, beside the one in use.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::env::disk::Disk;
use crate::store;
use crate::store::folder::StoreFolder;
use crate::store::generation::Generation;
use crate::store::kv::Kv;
use crate::store::log::copy::is_open;
use crate::store::log::record::Record;
use crate::store::log::{CommitLog, LogOwner, Options};

/// Between two steps of removing what was staged: others use the disk too.
const REMOVE_PAUSE: Duration = Duration::from_millis(5);
/// What works on the staged log still ends within this time, or nothing is removed.
const CLOSE_STEPS_MAX: usize = 2000;

/// Why a snapshot is not what it should be, or cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(in crate::raft) enum StagingError {
    /// The source sent what does not fit its manifest, or its manifest does not fit.
    #[error("{0}")]
    Unusable(String),
    /// The disk of this node is full: what is there stays, and is gone on with later.
    #[error("the disk is full: {0}")]
    Full(String),
    /// The disk of this node failed.
    #[error("{0}")]
    Failed(String),
}

impl From<io::Error> for StagingError {
    fn from(error: io::Error) -> Self {
        if crate::env::disk::is_full(&error) { Self::Full(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

impl From<store::Error> for StagingError {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Full { .. } => Self::Full(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// What a staged generation is for.
#[derive(Clone)]
pub(in crate::raft) struct Target {
    pub store: StoreFolder,
    pub owner: LogOwner,
    pub log_options: Options,
    /// Opens what was staged as a state.
    pub kv: Arc<dyn Kv>,
    /// Of the generation in use.
    pub generation: Generation,
}

/// What is there of a snapshot already, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::raft) struct StagedBytes {
    /// By the names of the files of the state.
    pub state: BTreeMap<String, u64>,
    pub log: u64,
}

impl Target {
    pub(super) fn state(&self) -> PathBuf {
        self.store.state_of(self.generation.next())
    }

    pub(super) fn log(&self) -> PathBuf {
        self.store.log_of(self.generation.next())
    }

    /// What an earlier pull left. Blocks.
    pub fn staged(&self) -> StagedBytes {
        let disk = &*self.store.disk;
        StagedBytes {
            state: sizes(disk, &self.state()).collect(),
            log: sizes(disk, &self.log()).map(|(_, bytes)| bytes).sum(),
        }
    }

    /// Removes what is staged, if anything is; after what works on it still. Blocks.
    pub fn discard(&self) -> Result<(), StagingError> {
        let folder = self.store.folder_of(self.generation.next());
        if self.store.disk.list(&folder).is_ok_and(|names| !names.is_empty()) {
            let mut steps = 0;
            // A log that is being closed writes into its folder to the end, also into a new one of that name.
            while is_open(&*self.store.disk, &self.log())? {
                steps += 1;
                if steps > CLOSE_STEPS_MAX {
                    return Err(StagingError::Failed("something works on what was pulled still".to_owned()));
                }
                std::thread::sleep(REMOVE_PAUSE);
            }
            while self.store.remove_some(&folder)? {
                std::thread::sleep(REMOVE_PAUSE);
            }
        }
        Ok(())
    }
}

/// The files of a folder, none if it is not there, with their lengths.
fn sizes<'a>(disk: &'a dyn Disk, folder: &'a Path) -> impl Iterator<Item = (String, u64)> + 'a {
    let names = disk.list(folder).unwrap_or_default();
    names.into_iter().filter_map(|name| Some((name.clone(), disk.file_bytes(&folder.join(&name)).ok()?)))
}

/// Appends, and waits until it is durable.
pub(super) fn append(log: &CommitLog, records: Vec<Record>) -> Result<(), StagingError> {
    let (sender, done) = channel();
    log.append(records, Box::new(move |result| drop(sender.send(result))))?;
    let result = done.recv().map_err(|_| StagingError::Failed("the staged log is closed".to_owned()))?;
    Ok(result?)
}
