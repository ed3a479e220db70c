//! Makes the folder of a node from a backup: the node that starts there is a group of its own, with a new identity (D123).
//!
//! The state is the backup's, byte for byte, and so are the records; after them come entries that make the new node the only
//! member and end what was under way. The folder gets a lineage (D155), a disk id and a history of starts of its own, so no
//! node of the old group takes it for one that it knows. The key of the cluster's handles is in the state: handles that
//! clients hold stay good.
//!
//! A mark is in the folder until everything is durable, and no node starts beside it (`store/restoring`): a crash leaves
//! nothing that starts, or the whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;

use crate::backup::error::Error;
#[cfg(debug_assertions)]
use crate::backup::planted;
use crate::backup::reader::Backup;
use crate::env::disk::Disk;
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::sole_member;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::{CommitLog, FlushMode, LogOwner, Options, VoteRecord};
use crate::store::state_files::StateFile;
use crate::store::{self, restoring};

const STATE: &str = "state";
const LOG: &str = "log";
/// Held by whoever restores into the folder; it goes when that is done.
const LOCK: &str = "restore.lock";
/// What the system puts into a file system of its own.
const NOT_OURS: &str = "lost+found";
/// Nothing of the log is read while it is written.
const TAIL_CACHE_BYTES: usize = 1024 * 1024;
const OPEN_FILES_MAX: usize = 16;
/// Free beside what is restored: the log reserves room for its last segment.
const ROOM_BESIDE: u64 = 64 * 1024 * 1024;

/// The node that is to start from a backup.
#[derive(Debug, Clone)]
pub struct Target {
    /// `storePathRootDir`.
    pub store: PathBuf,
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    /// The replica; none of the old group has its number.
    pub node: NodeId,
    /// By which the nodes of its group know each other from those of every other one (D155).
    pub lineage: u64,
    /// Where its peers will reach it: `host:port`.
    pub address: String,
    /// `mappedFileSizeCommitLog`.
    pub segment_bytes: u64,
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    pub bytes: u64,
    /// The last entry of the backup.
    pub applied: LogIndex,
    pub records: u64,
}

/// Restores a backup into a folder that is empty, or made, or holds what an earlier restore left. Reads all of the backup
/// before the folder can be used. `progress` is called with the bytes of each part.
///
/// * Errors: [`Error::Busy`], [`Error::NotEmpty`]; after any other one the folder cannot be used by any node.
pub fn restore(
    disk: &Arc<dyn Disk>,
    backup: &Backup,
    target: &Target,
    mut progress: impl FnMut(usize),
) -> Result<Restored, Error> {
    let folder = target.store.as_path();
    disk.create_dir_all(folder).map_err(Error::io(folder))?;
    let lock = folder.join(LOCK);
    // Two at once would take the files of each other for those of an interrupted one.
    let _held = disk.lock(&lock).map_err(Error::io(&lock))?.ok_or_else(|| Error::Busy(folder.to_owned()))?;
    if let Err(error) = empty(&**disk, folder) {
        remove_if_there(&**disk, &lock)?;
        return Err(error);
    }
    check_room(&**disk, folder, backup.manifest().bytes())?;
    restoring::begin(&**disk, folder).map_err(Error::io(folder))?;
    let state = folder.join(STATE);
    disk.create_dir_all(&state).map_err(Error::io(&state))?;
    for file in &backup.manifest().source.state {
        copy(&**disk, backup, file, &state, &mut progress)?;
    }
    #[cfg(debug_assertions)]
    planted::drop_offsets(&state)?;
    disk.sync_dir(&state).map_err(Error::io(&state))?;
    let records = write_log(disk, backup, target, &mut progress)?;
    disk.sync_dir(folder).map_err(Error::io(folder))?;
    restoring::end(&**disk, folder).map_err(Error::io(folder))?;
    // Who waits for it finds a folder that is not empty.
    remove_if_there(&**disk, &lock)?;
    let applied = backup.manifest().source.applied.index;
    Ok(Restored { bytes: backup.manifest().bytes(), applied, records })
}

fn remove_if_there(disk: &dyn Disk, file: &Path) -> Result<(), Error> {
    let is_there = disk.exists(file).map_err(Error::io(file))?;
    if is_there { disk.remove(file).map_err(Error::io(file)) } else { Ok(()) }
}

/// Removes what an interrupted restore left.
///
/// * Errors: [`Error::NotEmpty`] if there is anything else.
fn empty(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    let is_ours = |name: &String| [STATE, LOG, LOCK, restoring::FILE, NOT_OURS].contains(&name.as_str());
    let names = disk.list(folder).map_err(Error::io(folder))?;
    let mut left = Vec::new();
    for inner in [folder.join(STATE), folder.join(LOG)] {
        match disk.list(&inner) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            names => left.extend(names.map_err(Error::io(&inner))?.into_iter().map(|name| inner.join(name))),
        }
    }
    let is_unfinished = restoring::is_unfinished(disk, folder).map_err(Error::io(folder))?;
    if !names.iter().all(is_ours) || (!left.is_empty() && !is_unfinished) {
        return Err(Error::NotEmpty(folder.to_owned()));
    }
    for file in &left {
        disk.remove(file).map_err(Error::io(file))?;
    }
    Ok(())
}

fn check_room(disk: &dyn Disk, folder: &Path, bytes: u64) -> Result<(), Error> {
    let free = disk.space(folder).map_err(Error::io(folder))?.free;
    let needed = bytes.saturating_add(ROOM_BESIDE);
    if free < needed {
        return Err(Error::NoRoom { folder: folder.to_owned(), free, needed });
    }
    Ok(())
}

fn copy(
    disk: &dyn Disk,
    backup: &Backup,
    file: &StateFile,
    to: &Path,
    progress: &mut impl FnMut(usize),
) -> Result<(), Error> {
    let path = to.join(&file.name);
    let copy = disk.create(&path).map_err(Error::io(&path))?;
    backup.read_state(file, |part, at| {
        progress(part.len());
        copy.write_at(part, at).map_err(Error::io(&path))
    })?;
    copy.sync_data().map_err(Error::io(&path))
}

/// Writes the log; how many records of the backup it has.
fn write_log(
    disk: &Arc<dyn Disk>,
    backup: &Backup,
    target: &Target,
    progress: &mut impl FnMut(usize),
) -> Result<u64, Error> {
    let options = Options {
        segment_bytes: target.segment_bytes,
        tail_cache_bytes: TAIL_CACHE_BYTES,
        flush: FlushMode::Sync,
        open_files_max: OPEN_FILES_MAX,
        has_peers: false,
    };
    let owner = LogOwner { cluster: target.cluster.clone(), group: target.group.clone(), node: target.node };
    let log = CommitLog::open(disk.clone(), &target.store.join(LOG), &owner, options, Box::new(|_| {}))?;
    log.become_node(target.node, target.lineage)?;
    let source = &backup.manifest().source;
    if source.first > LogIndex(1) {
        // Nobody else has the entry before the first one, so nobody can tell if its term is not known.
        let index = LogIndex(source.first.0 - 1);
        log.purge(source.before.unwrap_or(RecordId { term: Term(0), node: NodeId(0), index }))?;
    }
    let mut count = 0;
    backup.each_record_file(|_, records| {
        progress(records.iter().map(Record::wire_bytes).sum());
        count += records.len() as u64;
        append(&log, records)
    })?;
    let first = sole_member(source.applied, target.node, &target.address);
    // As of a leader that stopped after its first entries: it stands for election anew, in a later term.
    let vote = VoteRecord { term: first[0].term, node: target.node, committed: true };
    append(&log, first.into())?;
    log.save_vote(vote)?;
    Ok(count)
}

/// Durable on return.
fn append(log: &CommitLog, records: Vec<Record>) -> Result<(), Error> {
    let (sender, done) = channel();
    log.append(
        records,
        Box::new(move |result| {
            // Nobody waits any more if the append was refused.
            let _ = sender.send(result.is_ok());
        }),
    )?;
    if done.recv() == Ok(true) { Ok(()) } else { Err(store::Error::Poisoned.into()) }
}
