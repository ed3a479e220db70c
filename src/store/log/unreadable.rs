//! A file of which the disk cannot read a part any more, as long as it is written to: a copy takes its place, or no cut and
//! no write into a block that cannot be read would ever succeed.

use std::path::Path;
use std::sync::Arc;

use crate::env::disk::{Disk, DiskFile, is_unreadable};
use crate::store::Error;

/// What the name of such a copy ends with until it is whole.
pub(in crate::store) const SUFFIX: &str = ".readable";
/// Read at once, and if that fails, in parts: what a disk and the page cache read as one.
const BLOCK_BYTES: usize = 256 * 1024;
const PAGE_BYTES: usize = 4096;
/// What stands for bytes that cannot be read: zeros would say that they were never written.
const UNREADABLE: u8 = 0xff;

/// Whether a part of the file cannot be read.
pub(in crate::store) fn has_unreadable(file: &dyn DiskFile, path: &Path) -> Result<bool, Error> {
    let mut found = false;
    each_block(file, path, |_, _, is_whole| {
        found |= !is_whole;
        Ok(())
    })?;
    Ok(found)
}

/// Puts a copy in the place of a file, durably. What cannot be read is there, and is damaged.
pub(in crate::store) fn renew(disk: &dyn Disk, file: &dyn DiskFile, path: &Path) -> Result<Arc<dyn DiskFile>, Error> {
    tracing::error!(file = %path.display(), "a part of the file cannot be read: a copy takes its place");
    let copy_path = path.with_extension(&SUFFIX[1..]);
    let copy = disk.create(&copy_path).map_err(Error::unwritten(copy_path.display()))?;
    copy.set_len(0).map_err(Error::io(copy_path.display()))?;
    copy.set_len(file.len().map_err(Error::io(path.display()))?).map_err(Error::unwritten(copy_path.display()))?;
    each_block(file, path, |at, block, _| match block.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => copy.write_at(block, at).map_err(Error::unwritten(copy_path.display())),
    })?;
    copy.sync_data().map_err(Error::io(copy_path.display()))?;
    disk.rename(&copy_path, path).map_err(Error::io(path.display()))?;
    let folder = path.parent().unwrap_or(path);
    disk.sync_dir(folder).map_err(Error::io(folder.display()))?;
    Ok(copy.into())
}

/// Reads a file; `look` is called with each block, and whether it could be read.
fn each_block(
    file: &dyn DiskFile,
    path: &Path,
    mut look: impl FnMut(u64, &[u8], bool) -> Result<(), Error>,
) -> Result<(), Error> {
    let end = file.len().map_err(Error::io(path.display()))?;
    let (mut at, mut block) = (0, vec![0; BLOCK_BYTES]);
    // So far it is read by pages.
    let mut by_pages_to = 0;
    while at < end {
        let most = if at < by_pages_to { PAGE_BYTES } else { BLOCK_BYTES };
        let count = usize::try_from((end - at).min(most as u64)).expect("at most a block");
        let is_whole = match file.read_at(&mut block[..count], at) {
            Ok(()) => true,
            Err(error) if is_unreadable(&error) && count > PAGE_BYTES => {
                by_pages_to = at + count as u64;
                continue;
            }
            Err(error) if is_unreadable(&error) => {
                block[..count].fill(UNREADABLE);
                false
            }
            Err(error) => return Err(Error::io(path.display())(error)),
        };
        look(at, &block[..count], is_whole)?;
        at += count as u64;
    }
    Ok(())
}
