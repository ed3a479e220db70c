//! Opens what a node has on its disk: the log and the state.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::BrokerConfig;
use crate::env::disk::{self, Disk, RealDisk};
use crate::env::fault::power_loss_disk::PowerLossDisk;
use crate::model::NodeId;
use crate::node::retention_notice::notice;
use crate::node::{StartError, remembered};
use crate::raft::{Fatal, OnFatal};
use crate::store::folder::StoreFolder;
use crate::store::generation::Generation;
use crate::store::kv;
use crate::store::kv::rocks::{RocksKv, damage_mark};
use crate::store::log::{CommitLog, FlushMode, LogOwner, Options};
use crate::store::room::{RoomMarks, StoreRoom};
use crate::store::{self, restoring};

/// What a start needs on the disk, beside what there is.
const START_BYTES: u64 = 1024 * 1024;

/// What is open while the node runs.
pub(super) struct Storage {
    pub log: CommitLog,
    pub kv: RocksKv,
    pub room: Arc<StoreRoom>,
    pub store: StoreFolder,
    /// Which generation log and state are of.
    pub generation: Generation,
    pub log_options: Options,
}

/// Opens the files of a node; `on_fatal` is called if the log fails later. On a full disk it takes what is held in reserve.
pub(super) fn open(config: &BrokerConfig, on_fatal: OnFatal) -> Result<Storage, StartError> {
    let folder = disk::absolute(&config.store).map_err(unusable)?;
    let disk: Arc<dyn Disk> =
        if config.loses_power { Arc::new(PowerLossDisk::new(&folder)) } else { Arc::new(RealDisk) };
    disk.create_dir_all(&folder).map_err(unusable)?;
    if restoring::is_unfinished(&*disk, &folder).map_err(unusable)? {
        let text = format!(
            "a restore into {} was interrupted, or goes on: restore the backup into it again, or remove it",
            folder.display()
        );
        return Err(StartError::Damaged(text));
    }
    let marks = RoomMarks { soft: config.disk_soft, hard: config.disk_hard, reserve: config.disk_reserve };
    let room = Arc::new(StoreRoom::open(disk.clone(), &folder, marks).map_err(unusable)?);
    // The state store makes some small files at each start.
    room.look(START_BYTES, 0).map_err(unusable)?;
    let store = StoreFolder { disk: disk.clone(), path: folder.clone() };
    let (generation, log) = with_reserve(&room, || open_generation(config, &store, &on_fatal))?;
    let giving = room.clone();
    log.on_full(Box::new(move || giving.release_reserve()));
    let folders = StateFolders { state: store.state_of(generation), damaged: store.damaged_state_of(generation) };
    let made_of = match log.purged() {
        None => MadeOf::Log,
        Some(_) if log.has_peers() => MadeOf::Peer,
        Some(_) => MadeOf::Nothing,
    };
    let limits = (config.state_memory_bytes, config.open_files_max / 2);
    let kv = with_reserve(&room, || open_state(limits, &*disk, &folders, made_of))?;
    tracing::info!(folder = %folder.display(), last = log.last().map_or(0, |last| last.index.0), "store opened");
    if let Some(text) = notice(&*disk, &folder, log.last().is_some(), &config.retention) {
        tracing::warn!("{text}");
    }
    Ok(Storage { log, kv, room, store, generation, log_options: log_options(config) })
}

/// The log of the generation that counts: another process may be about to put the next one in its place, and holds the log
/// until it has.
fn open_generation(
    config: &BrokerConfig,
    store: &StoreFolder,
    on_fatal: &OnFatal,
) -> Result<(Generation, CommitLog), StartError> {
    let counts = || store.generation().map_err(|error| StartError::Damaged(error.to_string()));
    let mut generation = counts()?;
    loop {
        let log = open_log(config, &store.disk, &store.log_of(generation), on_fatal.clone())?;
        match counts()? {
            same if same == generation => return Ok((generation, log)),
            other => generation = other,
        }
    }
}

/// Whether the group has other members, as far as a node knows before it has asked anybody.
fn has_peers(config: &BrokerConfig) -> bool {
    match remembered::read(&config.store).len() {
        0 => config.peers.len() > 1,
        members => members > 1,
    }
}

fn log_options(config: &BrokerConfig) -> Options {
    Options {
        segment_bytes: config.segment_bytes,
        tail_cache_bytes: config.tail_cache_bytes,
        flush: if config.syncs_before_ack { FlushMode::Sync } else { FlushMode::Async },
        open_files_max: (config.open_files_max - config.open_files_max / 2) as usize,
        has_peers: has_peers(config),
    }
}

/// Has the next start begin with neither log nor state: those in this folder are of a replica that another one replaced.
/// Durable on return; what is left of them is removed later, in small steps.
pub fn discard(folder: &Path) -> Result<(), store::Error> {
    StoreFolder { disk: Arc::new(RealDisk), path: folder.to_owned() }.begin_anew()
}

fn open_log(
    config: &BrokerConfig,
    disk: &Arc<dyn Disk>,
    folder: &Path,
    on_fatal: OnFatal,
) -> Result<CommitLog, StartError> {
    let owner = LogOwner {
        cluster: config.cluster.clone(),
        group: config.broker_name.clone(),
        node: NodeId::first_of(config.self_name),
    };
    let on_failure = Box::new(move |error: &store::Error| on_fatal(Fatal::Failed(error.to_string())));
    CommitLog::open(disk.clone(), folder, &owner, log_options(config), on_failure).map_err(|error| match error {
        store::Error::Locked(_) | store::Error::Foreign { .. } => StartError::FolderTaken(error.to_string()),
        store::Error::Full { .. } => StartError::NoRoom(error.to_string()),
        store::Error::Io { .. } | store::Error::Damaged { .. } | store::Error::Poisoned => {
            StartError::Damaged(error.to_string())
        }
    })
}

/// Where a state is, and where one is kept that is damaged.
struct StateFolders {
    state: PathBuf,
    damaged: PathBuf,
}

/// What a damaged state can be made anew of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MadeOf {
    /// The log, applied again from its beginning.
    Log,
    /// The state of another node, if one has it: this one is kept until then (D147).
    Peer,
    Nothing,
}

/// Opens the state store. A damaged one makes room for a new one, if there is something to make that of.
fn open_state(
    (memory_bytes, open_files_max): (usize, u32),
    disk: &dyn Disk,
    folders: &StateFolders,
    made_of: MadeOf,
) -> Result<RocksKv, StartError> {
    let StateFolders { state, damaged } = folders;
    let open = || RocksKv::open(state, memory_bytes, open_files_max);
    let mark = damage_mark(state);
    let can_rebuild = made_of != MadeOf::Nothing;
    let opened = if disk::is_there(&mark) && can_rebuild {
        Err(kv::Error::Failed("Corruption, as found before".to_owned()))
    } else {
        open()
    };
    let opened = match opened {
        Err(error) if error.is_damage() && can_rebuild => {
            tracing::error!(%error, folder = %state.display(), "the state store is damaged: it is made anew");
            // What was damaged after that is a part of what was to take its place.
            if made_of == MadeOf::Peer && !disk.exists(damaged).map_err(unusable)? {
                keep_damaged(disk, folders).map_err(unusable)?;
            } else {
                remove_files(disk, state).map_err(unusable)?;
            }
            disk::remove_if_there(&mark);
            open()
        }
        opened => opened,
    };
    opened.map_err(|error| match error {
        kv::Error::Full { .. } => StartError::NoRoom(error.to_string()),
        kv::Error::Failed(_) | kv::Error::Stalled { .. } => StartError::Damaged(error.to_string()),
    })
}

fn keep_damaged(disk: &dyn Disk, folders: &StateFolders) -> io::Result<()> {
    let StateFolders { state, damaged } = folders;
    if !disk.exists(state)? {
        return Ok(());
    }
    tracing::warn!(folder = %damaged.display(), "the damaged state is kept here until there is another one");
    disk.rename(state, damaged)?;
    state.parent().map_or(Ok(()), |above| disk.sync_dir(above))
}

/// The state store has no folders in its own.
fn remove_files(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    if !disk.exists(folder)? {
        return Ok(());
    }
    for name in disk.list(folder)? {
        disk.remove(&folder.join(name))?;
    }
    disk.sync_dir(folder)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kv::Kv;

    /// A damaged state under these folders, opened with what it can be made anew of; whether another one was opened.
    fn opens(folders: &StateFolders, made_of: MadeOf) -> bool {
        let limits = (1024 * 1024, 16);
        drop(open_state(limits, &RealDisk, folders, MadeOf::Nothing));
        let current = folders.state.join("CURRENT");
        RealDisk.open(&current).unwrap().set_len(1).unwrap();
        open_state(limits, &RealDisk, folders, made_of).is_ok_and(|kv| kv.flush().is_ok())
    }

    #[test]
    fn p18_a_damaged_state_is_kept_as_long_as_only_a_peer_could_have_a_better_one() {
        let above = tempfile::tempdir().unwrap();
        let folders = StateFolders { state: above.path().join("state"), damaged: above.path().join("state-damaged") };
        let is_kept = || RealDisk.exists(&folders.damaged).unwrap();
        assert!(!opens(&folders, MadeOf::Nothing), "it is refused, and stays");
        assert!(opens(&folders, MadeOf::Log) && !is_kept());
        assert!(opens(&folders, MadeOf::Peer) && is_kept());
        let before = RealDisk.list(&folders.damaged).unwrap();
        assert!(opens(&folders, MadeOf::Peer), "what was to take its place is damaged too");
        assert_eq!(RealDisk.list(&folders.damaged).unwrap(), before);
        // Killed before the mark went: the state is there no more.
        disk::write_text(&damage_mark(&folders.state), "found before").unwrap();
        RealDisk.remove_tree(&folders.state).unwrap();
        assert!(open_state((1024 * 1024, 16), &RealDisk, &folders, MadeOf::Peer).is_ok());
    }
}
