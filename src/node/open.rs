//! Opens what a node has on its disk: the log, the state, the folder for snapshots.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::BrokerConfig;
use crate::env::disk::{self, Disk, RealDisk};
use crate::env::fault::power_loss_disk::PowerLossDisk;
use crate::node::StartError;
use crate::raft::{Fatal, OnFatal};
use crate::store;
use crate::store::kv::rocks::RocksKv;
use crate::store::log::{CommitLog, FlushMode, LogOwner, Options};

/// Files of the log that are kept open.
const LOG_FILES_MAX: usize = 128;

/// What is open while the node runs.
pub(super) struct Storage {
    pub disk: Arc<dyn Disk>,
    pub log: CommitLog,
    pub kv: RocksKv,
}

pub(super) fn snapshot_folder(config: &BrokerConfig) -> PathBuf {
    config.store.join("snapshot")
}

/// Opens the files of a node; `on_fatal` is called if the log fails later.
pub(super) fn open(config: &BrokerConfig, on_fatal: OnFatal) -> Result<Storage, StartError> {
    let damaged = |error: &dyn std::fmt::Display| StartError::Damaged(error.to_string());
    let disk: Arc<dyn Disk> = if config.loses_power { Arc::new(PowerLossDisk) } else { Arc::new(RealDisk) };
    let folder = disk::absolute(&config.store).map_err(|error| damaged(&error))?;
    let owner = LogOwner { cluster: config.cluster.clone(), group: config.broker_name.clone(), node: config.self_id };
    let options = Options {
        segment_bytes: config.segment_bytes,
        tail_cache_bytes: config.tail_cache_bytes,
        flush: if config.syncs_before_ack { FlushMode::Sync } else { FlushMode::Async },
        open_files_max: LOG_FILES_MAX,
    };
    let on_failure = Box::new(move |error: &store::Error| on_fatal(Fatal::Failed(error.to_string())));
    let log =
        CommitLog::open(disk.clone(), &folder.join("log"), &owner, options, on_failure).map_err(
            |error| match error {
                store::Error::Locked(_) | store::Error::Foreign { .. } => StartError::FolderTaken(error.to_string()),
                store::Error::Io { .. } | store::Error::Damaged { .. } | store::Error::Poisoned => damaged(&error),
            },
        )?;
    disk.create_dir_all(&snapshot_folder(config)).map_err(|error| damaged(&error))?;
    let kv = RocksKv::open(&folder.join("state"), config.state_memory_bytes).map_err(|error| damaged(&error))?;
    tracing::info!(folder = %folder.display(), last = log.last().map_or(0, |last| last.index.0), "store opened");
    Ok(Storage { disk, log, kv })
}
