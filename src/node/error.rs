//! Why a node does not start.

use crate::raft;

/// Why a node does not start. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder is in use or another node's.
    #[error("{0}")]
    FolderTaken(String),
    /// Its files are damaged or the disk failed.
    #[error("{0}")]
    Damaged(String),
    /// The disk is full, and nothing is left in reserve.
    #[error(
        "{0}: not even a start is possible on this disk. Give the file system of storePathRootDir room (delete other files \
         there or enlarge it; never files of this folder but `reserve`), and start again"
    )]
    NoRoom(String),
    /// Its configuration is not the shard's.
    #[error("{0}")]
    Contradiction(String),
    /// The group has another place for this node than its folder says.
    #[error(transparent)]
    Again(raft::StartAgain),
    /// Raft refused.
    #[error("{0}")]
    Raft(String),
}

impl From<raft::StartError> for StartError {
    fn from(error: raft::StartError) -> Self {
        let text = error.to_string();
        match error {
            raft::StartError::ForeignState { .. }
            | raft::StartError::StateBehindLog { .. }
            | raft::StartError::LostEntries { .. }
            | raft::StartError::Storage(_) => Self::Damaged(text),
            raft::StartError::Again(again) => Self::Again(again),
            raft::StartError::Disowned(_) => Self::FolderTaken(text),
            raft::StartError::Stranger(_) | raft::StartError::TooOld { .. } => Self::Contradiction(text),
            raft::StartError::Raft(_) => Self::Raft(text),
        }
    }
}
