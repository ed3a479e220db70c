//! What can go wrong with the files of a node. All of it ends the start or the process.

use std::io;
use std::path::PathBuf;

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
}
