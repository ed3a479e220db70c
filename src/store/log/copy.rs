//! A log whose records are copied from another replica: made beside the node's own log, and then put in its place.
//!
//! It is a commit log like any other, but for what its `meta` says: where it begins from the start on, and whose disk it is
//! only when it is adopted.

use std::io;
use std::path::Path;

use crate::env::disk::Disk;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::CommitLog;
use crate::store::log::commit_log::LOCK_FILE;
use crate::store::log::last_segment::LastSegment;
use crate::store::log::meta::Meta;
use crate::store::log::meta_content::{LogIdentity, LogOwner, LogStart};
use crate::store::log::record::RecordId;

impl CommitLog {
    /// Nothing of it may change afterwards: no vote, no peer that is met.
    pub fn identity(&self) -> LogIdentity {
        let (known, vote) = self.known_and_vote();
        let lost_from = self.lost_from();
        let (disk, lineage) = (self.disk(), self.lineage());
        LogIdentity { node: self.node(), disk, lineage, starts: self.starts(), known, vote, lost_from }
    }
}

/// Makes an empty log that begins with `first`, after the entry `before`. Durable on return. Blocks.
///
/// * Errors: as [`CommitLog::open`].
pub fn begin_copy(
    disk: &dyn Disk,
    folder: &Path,
    owner: &LogOwner,
    segment_bytes: u64,
    (first, before): (LogIndex, Option<RecordId>),
) -> Result<(), Error> {
    disk.create_dir_all(folder).map_err(Error::io(folder.display()))?;
    Meta::open(disk, folder, owner)?.set_start(LogStart { first, before })?;
    LastSegment::begin(disk, folder, first, segment_bytes, None)?.put_in_place(disk, folder)
}

/// Whether the log in a folder is open, or is being closed. Blocks.
pub fn is_open(disk: &dyn Disk, folder: &Path) -> Result<bool, Error> {
    match disk.lock(&folder.join(LOCK_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        lock => Ok(lock.map_err(Error::io(folder.display()))?.is_none()),
    }
}

/// Makes a copied log, which is closed, this node's own. Can be done again. Durable on return. Blocks.
pub fn adopt_copy(disk: &dyn Disk, folder: &Path, owner: &LogOwner, identity: LogIdentity) -> Result<(), Error> {
    Meta::open(disk, folder, owner)?.adopt(identity)
}
