//! Whether the log file takes lines.

use std::path::PathBuf;

use parking_lot::Mutex;

/// The file that lines of this process go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    pub path: PathBuf,
    /// Why they do not get there now.
    pub error: Option<String>,
}

static STATUS: Mutex<Option<FileStatus>> = Mutex::new(None);

/// The log file of this process, if it has one.
pub fn file() -> Option<FileStatus> {
    STATUS.lock().clone()
}

pub(super) fn set(path: PathBuf, error: Option<String>) {
    *STATUS.lock() = Some(FileStatus { path, error });
}
