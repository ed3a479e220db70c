//! The folder of all data of a node.

use std::path::PathBuf;
use std::sync::Arc;

use crate::env::disk::Disk;

/// `storePathRootDir`, and the disk that it is on. Cheap to clone.
#[derive(Clone)]
pub struct StoreFolder {
    pub disk: Arc<dyn Disk>,
    pub path: PathBuf,
}
