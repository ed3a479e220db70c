//! The mark of a folder in which a backup is being restored: no node starts there until the restore has ended.

use std::io;
use std::path::Path;

use crate::env::disk::Disk;

/// The file that is there meanwhile.
pub const FILE: &str = "restoring";
const TEXT: &[u8] = b"A backup is being restored into this folder. If that was interrupted, restore it again.\n";

/// From now on no node starts in the folder. Durable on return.
pub fn begin(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let file = disk.create(&folder.join(FILE))?;
    file.write_at(TEXT, 0)?;
    file.sync_data()?;
    disk.sync_dir(folder)
}

/// A node may start in the folder. Durable on return; all that was restored must be durable before.
pub fn end(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    disk.remove(&folder.join(FILE))?;
    disk.sync_dir(folder)
}

/// Whether a restore into the folder goes on, or was interrupted.
pub fn is_unfinished(disk: &dyn Disk, folder: &Path) -> io::Result<bool> {
    disk.exists(&folder.join(FILE))
}
