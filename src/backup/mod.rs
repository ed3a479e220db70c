//! Backups: a folder with the state of a group as of one applied entry and the records of the log that it refers to, and
//! what can be made of one.
//!
//! `raftmq backup create` writes the folder (`writer`) with what a running node streams to it, `verify` reads it from end
//! to end (`reader`), `restore` makes the folder of a node from it (`restore`). `manifest` says what is in it, and is
//! written last: a folder without one is no backup.
//!
//! Not here: how a node makes a snapshot of itself (`raft/snapshot`), the request (`edge/admin/backup`).

mod error;
mod manifest;
#[cfg(debug_assertions)]
mod planted;
mod reader;
mod restore;
mod writer;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use manifest::{Manifest, RecordFile, Source};
pub use reader::Backup;
pub use restore::{Restored, Target, restore};
pub use writer::BackupWriter;

pub use crate::store::log::record::RecordId;
pub use crate::store::state_files::StateFile;
