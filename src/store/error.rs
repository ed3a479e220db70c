//! What can go wrong with the files of a node. All of it ends the start or the process.

use std::io;
use std::path::{Path, PathBuf};

use crate::env::disk::{is_full, is_unreadable};

/// Why a store cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed.
    #[error("{place}: {source}")]
    Io {
        /// What was being done, and where.
        place: String,
        source: io::Error,
    },
    /// The disk is full: a file was not made, or a write not done or done in part. Nothing that was synced is in doubt, and
    /// it can be tried again.
    #[error("{place}: {source}")]
    Full {
        /// As in [`Self::Io`].
        place: String,
        source: io::Error,
    },
    /// Another process works on the folder.
    #[error("{0} is in use by another process; stop it first, or give this node a storePathRootDir of its own")]
    Locked(PathBuf),
    /// The folder belongs to another node, shard or cluster.
    #[error("{folder} belongs to {found}, but this is {expected}; check storePathRootDir, dLegerSelfId and the names")]
    Foreign {
        folder: PathBuf,
        /// Whose it is.
        found: String,
        /// Who opened it.
        expected: String,
    },
    /// Bytes that were durable are not what was written.
    #[error("{file} is damaged at byte {at}: {reason}; restore this node from its peers, never cut the file")]
    Damaged { file: PathBuf, at: u64, reason: String },
    /// An earlier write or sync failed.
    #[error("the commit log is closed after a failed write or sync")]
    Poisoned,
}

impl Error {
    pub(super) fn io(place: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let place = place.to_string();
        move |source| Self::Io { place, source }
    }

    /// Of making or writing a file, and of nothing else: after a failed sync nothing is known of what was written, also if
    /// the disk is full (D18).
    pub(super) fn unwritten(place: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let place = place.to_string();
        move |source| if is_full(&source) { Self::Full { place, source } } else { Self::Io { place, source } }
    }

    /// Of reading a file at a byte: what the disk cannot give is damaged.
    pub(super) fn read(file: &Path, at: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| match is_unreadable(&source) {
            true => Self::Damaged { file: file.to_owned(), at, reason: format!("it cannot be read: {source}") },
            false => Self::Io { place: file.display().to_string(), source },
        }
    }

    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}
