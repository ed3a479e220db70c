//! Why a backup cannot be written, read or restored.

use std::io;
use std::path::{Path, PathBuf};

use crate::store;

/// What went wrong. A node is never touched by it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is not empty: name a folder that does not exist yet, or an empty one")]
    NotEmpty(PathBuf),
    #[error("another process restores a backup into {0}")]
    Busy(PathBuf),
    #[error("{0} holds no whole backup: it has no manifest, which is written last; make the backup again")]
    NoBackup(PathBuf),
    /// A file of the backup is not what was written.
    #[error("{file} is damaged: {reason}; nothing was restored from it, use another backup")]
    Damaged { file: PathBuf, reason: String },
    /// What a node sent is not what it said it would send.
    #[error(
        "the node sent something else than it announced: {0}; what is there is no backup, remove it and make it again"
    )]
    Unusable(String),
    #[error("{folder} has {free} bytes free, and {needed} are needed: make room, or name a folder on another disk")]
    NoRoom { folder: PathBuf, free: u64, needed: u64 },
    #[error("{place}: {source}")]
    Io { place: String, source: io::Error },
    /// The log of the restored node cannot be written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let place = path.display().to_string();
        move |source| Self::Io { place, source }
    }

    pub(super) fn damaged(file: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Damaged { file: file.to_owned(), reason: reason.to_string() }
    }
}
