//! Says once, at the first start on a folder that was written when nothing was deleted, what will be deleted now.
//!
//! A file in the folder of the node says that this is known. Builds from before do not make it, and whoever makes a new
//! folder finds it empty, so that a folder that has a log and not this file is an old one.

use std::path::Path;

use crate::config::RetentionConfig;
use crate::env::disk::Disk;

const MARK_FILE: &str = "retention";
const MARK: &[u8] = b"messages are deleted by age (fileReservedTime) since this file was made\n";

/// What to tell the operator, if it was never told here.
///
/// A disk that cannot take the mark is no reason not to start: then it is said again at the next start.
pub(super) fn notice(disk: &dyn Disk, folder: &Path, has_log: bool, retention: &RetentionConfig) -> Option<String> {
    let mark = folder.join(MARK_FILE);
    if disk.exists(&mark).unwrap_or(false) {
        return None;
    }
    let made = disk.create(&mark).and_then(|file| file.write_at(MARK, 0).and_then(|()| file.sync_data()));
    if let Err(error) = made.and_then(|()| disk.sync_dir(folder)) {
        tracing::warn!(%error, file = %mark.display(), "a mark in the folder could not be made");
    }
    has_log.then(|| {
        let (kept, hours) = (retention.kept_for.in_one_unit(), retention.delete_hours);
        format!(
            "this folder was written by a version that kept every message; from now on those older than {kept} \
             (fileReservedTime) are deleted (deleteWhen={hours}): to keep them, stop all nodes now and start them with a \
             longer time, such as fileReservedTime=3650d, or give a topic its own: raftmq topic update TOPIC --retention"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::disk::RealDisk;
    use crate::model::{HoursOfDay, Millis};

    #[test]
    fn what_will_be_deleted_is_said_once_and_of_an_old_folder_only() {
        let retention = RetentionConfig {
            kept_for: Millis::from_secs(72 * 3600),
            delete_hours: HoursOfDay::parse("04").unwrap(),
            disk_used_max: 75,
            deletes_unexpired: true,
            log_bytes_max: None,
        };
        let said = |folder: &Path, has_log| notice(&RealDisk, folder, has_log, &retention);
        let old = tempfile::tempdir().unwrap();
        let text = said(old.path(), true).unwrap();
        for part in ["older than 3d", "fileReservedTime", "deleteWhen=04", "to keep them"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\n'));
        assert_eq!(said(old.path(), true), None);
        let new = tempfile::tempdir().unwrap();
        assert_eq!(said(new.path(), false), None);
        assert_eq!(said(new.path(), true), None, "it has a log by now and was never an old folder");
    }
}
