//! Opens what a node has on its disk: the log and the state.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::BrokerConfig;
use crate::env::disk::{self, Disk, RealDisk};
use crate::env::fault::power_loss_disk::PowerLossDisk;
use crate::node::StartError;
use crate::node::retention_notice::notice;
use crate::raft::{Fatal, OnFatal};
use crate::store;
use crate::store::kv;
use crate::store::kv::rocks::RocksKv;
use crate::store::log::{CommitLog, FlushMode, LogOwner, Options};
use crate::store::room::{RoomMarks, StoreRoom};

/// What a start needs on the disk, beside what there is.
const START_BYTES: u64 = 1024 * 1024;

/// What is open while the node runs.
pub(super) struct Storage {
    pub log: CommitLog,
    pub kv: RocksKv,
    pub room: Arc<StoreRoom>,
}

/// Opens the files of a node; `on_fatal` is called if the log fails later. On a full disk it takes what is held in reserve.
pub(super) fn open(config: &BrokerConfig, on_fatal: OnFatal) -> Result<Storage, StartError> {
    let folder = disk::absolute(&config.store).map_err(unusable)?;
    let disk: Arc<dyn Disk> =
        if config.loses_power { Arc::new(PowerLossDisk::new(&folder)) } else { Arc::new(RealDisk) };
    disk.create_dir_all(&folder).map_err(unusable)?;
    let marks = RoomMarks { soft: config.disk_soft, hard: config.disk_hard, reserve: config.disk_reserve };
    let room = Arc::new(StoreRoom::open(disk.clone(), &folder, marks).map_err(unusable)?);
    // The state store makes some small files at each start.
    room.look(START_BYTES, 0).map_err(unusable)?;
    let log = with_reserve(&room, || open_log(config, &disk, &folder, on_fatal.clone()))?;
    let giving = room.clone();
    log.on_full(Box::new(move || giving.release_reserve()));
    let kv = with_reserve(&room, || open_state(config, &folder))?;
    tracing::info!(folder = %folder.display(), last = log.last().map_or(0, |last| last.index.0), "store opened");
    if let Some(text) = notice(&*disk, &folder, log.last().is_some(), &config.retention) {
        tracing::warn!("{text}");
    }
    Ok(Storage { log, kv, room })
}

fn open_log(
    config: &BrokerConfig,
    disk: &Arc<dyn Disk>,
    folder: &Path,
    on_fatal: OnFatal,
) -> Result<CommitLog, StartError> {
    let owner = LogOwner { cluster: config.cluster.clone(), group: config.broker_name.clone(), node: config.self_id };
    let options = Options {
        segment_bytes: config.segment_bytes,
        tail_cache_bytes: config.tail_cache_bytes,
        flush: if config.syncs_before_ack { FlushMode::Sync } else { FlushMode::Async },
        open_files_max: (config.open_files_max - config.open_files_max / 2) as usize,
    };
    let on_failure = Box::new(move |error: &store::Error| on_fatal(Fatal::Failed(error.to_string())));
    CommitLog::open(disk.clone(), &folder.join("log"), &owner, options, on_failure).map_err(|error| match error {
        store::Error::Locked(_) | store::Error::Foreign { .. } => StartError::FolderTaken(error.to_string()),
        store::Error::Full { .. } => StartError::NoRoom(error.to_string()),
        store::Error::Io { .. } | store::Error::Damaged { .. } | store::Error::Poisoned => {
            StartError::Damaged(error.to_string())
        }
    })
}

fn open_state(config: &BrokerConfig, folder: &Path) -> Result<RocksKv, StartError> {
    let state_files_max = config.open_files_max / 2;
    RocksKv::open(&folder.join("state"), config.state_memory_bytes, state_files_max).map_err(|error| match error {
        kv::Error::Full { .. } => StartError::NoRoom(error.to_string()),
        kv::Error::Failed(_) => StartError::Damaged(error.to_string()),
    })
}

/// Tries again as long as there is a reserve to give up.
fn with_reserve<T>(room: &StoreRoom, mut open: impl FnMut() -> Result<T, StartError>) -> Result<T, StartError> {
    loop {
        match open() {
            Err(StartError::NoRoom(_)) if room.release_reserve() => {}
            result => return result,
        }
    }
}

fn unusable(error: io::Error) -> StartError {
    if disk::is_full(&error) { StartError::NoRoom(error.to_string()) } else { StartError::Damaged(error.to_string()) }
}
