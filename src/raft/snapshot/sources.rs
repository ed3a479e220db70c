//! Snapshots that this node gives: makes them, keeps them while somebody pulls, and reads them out in parts.
//!
//! A source is a checkpoint of the state (hard links) in a folder of its own, and a pin on the log: what the checkpoint
//! refers to is not forgotten. Both end when whoever pulls says so, or says nothing for a while. Records of the log can be
//! had without a source too.
//!
//! Everything that reads the disk or computes checksums runs away from Raft's thread. All that is read out together keeps
//! to `snapshotRate`.
//!
//! Called by the peers' link (`raft/peer/snapshot_server`) and, for backups, from above.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::env::pool::Pool;
use crate::env::rng::random_u64;
use crate::machine::state::view::View;
use crate::model::{LogIndex, NodeId};
use crate::raft::flush::StateFlush;
use crate::raft::marks::read_marks;
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::rate::RateLimit;
use crate::raft::types;
use crate::store::folder::StoreFolder;
use crate::store::kv::{self, Kv};
use crate::store::log::CommitLog;
use crate::store::log::record::{Record, RecordId};
use crate::store::state_files::{StateFile, checksum_of};

/// Most bytes of one part, beside a record that is larger by itself.
pub const PART_BYTES_MAX: usize = 1024 * 1024;
/// A source that nobody asks for this long ends, unless it is said otherwise.
pub(in crate::raft) const LEASE: Duration = Duration::from_secs(60);
/// Sources at once.
const SOURCES_MAX: usize = 4;
/// Longest wait until an entry is applied that the snapshot has to have.
const APPLIED_WAIT: Duration = Duration::from_secs(2);
/// Where the checkpoints are, in the store's folder.
const FOLDER: &str = "snap";

/// Why a part of a snapshot is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// It ended, or the node has started again: ask for another one.
    #[error("this source is not there any more")]
    Ended,
    /// Come back later, or ask another node.
    #[error(
        "as many snapshots are being pulled from this node, or made, as it gives at once ({SOURCES_MAX}, at snapshotRate)"
    )]
    Busy,
    /// Ask a node that has applied more.
    #[error("this node has applied entry {0} only")]
    Behind(LogIndex),
    /// Its log begins later, or does not reach so far.
    #[error("this node does not have entry {0} in its log, or does not know that it is committed")]
    Missing(LogIndex),
    /// Its disk is full, failed, or is damaged here.
    #[error("{0}")]
    Failed(String),
}

fn failed(error: impl std::fmt::Display) -> NotServed {
    NotServed::Failed(error.to_string())
}

/// What snapshots are made of.
pub(in crate::raft) struct SourceParts {
    pub cluster: String,
    pub group: String,
    pub store: StoreFolder,
    pub log: CommitLog,
    pub kv: Arc<dyn Kv>,
    pub flush: StateFlush,
    pub applied: watch::Receiver<LogIndex>,
    /// `snapshotRate`.
    pub rate: Arc<RateLimit>,
    /// A source that nobody asks for this long ends.
    pub lease: Duration,
    /// Whether the disk has room for what a source keeps from being removed.
    pub has_room: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// The snapshots that this node gives. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotSources(Arc<Shared>);

struct Shared {
    parts: SourceParts,
    folder: PathBuf,
    /// One permit: making one reads the whole state.
    makes: Arc<Semaphore>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    sources: BTreeMap<u64, Source>,
    /// How many are being made: meanwhile nothing is forgotten.
    making: usize,
}

struct Source {
    manifest: Arc<Manifest>,
    /// Who pulls it.
    reader: String,
    asked_at: Instant,
}

impl SnapshotSources {
    /// Removes what an earlier process left. Blocks.
    pub(in crate::raft) fn new(parts: SourceParts) -> io::Result<Self> {
        let folder = parts.store.path.join(FOLDER);
        parts.store.disk.remove_tree(&folder)?;
        let (makes, open) = (Arc::new(Semaphore::new(1)), Mutex::default());
        Ok(Self(Arc::new(Shared { parts, folder, makes, open })))
    }

    /// A source with a state that has applied `at_least` this entry: the one that the reader has already, or a new one.
    ///
    /// * Errors: [`NotServed::Busy`], [`NotServed::Behind`], [`NotServed::Failed`].
    pub async fn open(&self, reader: &str, at_least: LogIndex) -> Result<Arc<Manifest>, NotServed> {
        self.end_silent().await;
        if let Some(manifest) = self.of_reader(reader, at_least) {
            return Ok(manifest);
        }
        let mut applied = self.0.parts.applied.clone();
        let waiting = applied.wait_for(|applied| *applied >= at_least.max(LogIndex(1)));
        if tokio::time::timeout(APPLIED_WAIT, waiting).await.is_err() {
            return Err(NotServed::Behind(*self.0.parts.applied.borrow()));
        }
        if !(self.0.parts.has_room)() {
            return Err(failed("this node's disk is short of room (diskHardMark)"));
        }
        let Ok(turn) = self.0.makes.clone().try_acquire_owned() else { return Err(NotServed::Busy) };
        let before: Vec<u64> = {
            let mut open = self.0.open.lock();
            let is_before = |_: &u64, source: &mut Source| source.reader == reader;
            open.sources.extract_if(.., is_before).map(|(id, _)| id).collect()
        };
        self.remove(before).await;
        let making = {
            let mut open = self.0.open.lock();
            if open.sources.len() >= SOURCES_MAX {
                return Err(NotServed::Busy);
            }
            open.making += 1;
            Making { sources: self.clone(), _turn: turn }
        };
        // By the way the log is synced, with ASYNC_FLUSH, and the next start has less to apply.
        self.0.parts.flush.flush().await.map_err(failed)?;
        let reader = reader.to_owned();
        // It goes on if the reader is gone meanwhile, and ends then as any source that nobody asks for.
        Pool::Upkeep.run(move || making.make(reader)).await.map_err(failed)?
    }

    /// Bytes of a file of the state from `at` on, as many as one part has; none at the end of the file.
    ///
    /// * Errors: [`NotServed::Ended`]; [`NotServed::Busy`] while much is to be sent before; [`NotServed::Failed`].
    pub async fn file_part(&self, source: u64, file: usize, at: u64) -> Result<Bytes, NotServed> {
        let manifest = self.asked(source)?;
        let file = manifest.files.get(file).ok_or_else(|| failed(format!("the snapshot has no file {file}")))?;
        let bytes = usize::try_from(file.bytes.saturating_sub(at)).unwrap_or(usize::MAX).min(PART_BYTES_MAX);
        self.take_rate(bytes).await?;
        let (own, path) = (self.clone(), self.folder_of(source).join(&file.name));
        let reading = Pool::Upkeep.run(move || {
            let file = own.0.parts.store.disk.open(&path)?;
            let mut part = vec![0; bytes];
            file.read_at(&mut part, at)?;
            Ok::<_, io::Error>(part.into())
        });
        let part = reading.await.map_err(failed)?.map_err(failed);
        // It may have ended meanwhile, and its files with it.
        self.asked(source)?;
        part
    }

    /// Committed records from `first` up to `last`, consecutive, at least one and as many as one part has. `source` is the one
    /// that they are read for, if any.
    ///
    /// * Errors: [`NotServed::Ended`]; [`NotServed::Missing`] if the first of them is not here; [`NotServed::Busy`] while much
    ///   is to be sent before; [`NotServed::Failed`], for instance if it is damaged here.
    pub async fn records(
        &self,
        source: Option<u64>,
        first: LogIndex,
        last: LogIndex,
    ) -> Result<Vec<Record>, NotServed> {
        source.map(|source| self.asked(source)).transpose()?;
        // What is applied is committed.
        let last = last.min(*self.0.parts.applied.borrow());
        if first > last || first == LogIndex(0) {
            return Err(NotServed::Missing(first));
        }
        let reader = self.0.parts.log.reader().clone();
        let reading = Pool::Upkeep.run(move || reader.read(first, last.next(), PART_BYTES_MAX));
        let records = reading.await.map_err(failed)?.map_err(failed)?;
        if records.is_empty() {
            return Err(NotServed::Missing(first));
        }
        self.take_rate(records.iter().map(Record::wire_bytes).sum()).await?;
        Ok(records)
    }

    /// The reader has what it wanted, or gives up.
    pub async fn close(&self, source: u64) {
        let is_there = self.0.open.lock().sources.remove(&source).is_some();
        if is_there {
            self.remove(vec![source]).await;
        }
    }

    /// The first entry that a source refers to; what comes before may be forgotten. `None` if there is no source. Ends those
    /// that nobody asks for any more.
    pub(in crate::raft) async fn pinned_from(&self) -> Option<LogIndex> {
        self.end_silent().await;
        let open = self.0.open.lock();
        let of_sources = open.sources.values().map(|source| source.manifest.first);
        let of_making = (open.making > 0).then_some(LogIndex(1));
        of_sources.chain(of_making).min()
    }

    /// Ends all sources, because the disk has no room for what they keep.
    pub(in crate::raft) async fn end_all(&self) {
        let sources = std::mem::take(&mut self.0.open.lock().sources);
        for source in sources.values() {
            tracing::warn!(
                reader = source.reader,
                "this disk is short of room: the snapshot that is being pulled from here is given up, for what it keeps"
            );
        }
        self.remove(sources.into_keys().collect()).await;
    }

    async fn take_rate(&self, bytes: usize) -> Result<(), NotServed> {
        if self.0.parts.rate.take(bytes).await { Ok(()) } else { Err(NotServed::Busy) }
    }

    fn folder_of(&self, source: u64) -> PathBuf {
        self.0.folder.join(format!("{source:016x}"))
    }

    fn of_reader(&self, reader: &str, at_least: LogIndex) -> Option<Arc<Manifest>> {
        let mut open = self.0.open.lock();
        let is_it = |source: &&mut Source| source.reader == reader && source.manifest.applied.index >= at_least;
        let source = open.sources.values_mut().find(is_it)?;
        source.asked_at = Instant::now();
        Some(source.manifest.clone())
    }

    /// Somebody asks for a part of it.
    fn asked(&self, source: u64) -> Result<Arc<Manifest>, NotServed> {
        let mut open = self.0.open.lock();
        let source = open.sources.get_mut(&source).ok_or(NotServed::Ended)?;
        source.asked_at = Instant::now();
        Ok(source.manifest.clone())
    }

    async fn end_silent(&self) {
        let silent: Vec<(u64, String)> = {
            let mut open = self.0.open.lock();
            let is_silent = |_: &u64, source: &mut Source| source.asked_at.elapsed() > self.0.parts.lease;
            open.sources.extract_if(.., is_silent).map(|(id, source)| (id, source.reader)).collect()
        };
        for (_, reader) in &silent {
            tracing::info!(%reader, "nobody asked for the rest of a snapshot: it is given up");
        }
        self.remove(silent.into_iter().map(|(id, _)| id).collect()).await;
    }

    async fn remove(&self, sources: Vec<u64>) {
        if sources.is_empty() {
            return;
        }
        let own = self.clone();
        let removing = Pool::Upkeep.run(move || {
            sources.into_iter().try_for_each(|source| own.0.parts.store.disk.remove_tree(&own.folder_of(source)))
        });
        if let Ok(Err(error)) = removing.await {
            tracing::warn!(%error, "the files of a snapshot are left to the next start");
        }
    }

    fn make_in(&self, folder: &Path, source: u64) -> Result<Manifest, NotServed> {
        let SourceParts { store, log, kv, .. } = &self.0.parts;
        store.disk.create_dir_all(&self.0.folder).map_err(failed)?;
        let begins = log.segments().first().map_or(LogIndex(1), |segment| segment.first);
        kv.checkpoint(folder).map_err(failed)?;
        let names = store.disk.list(folder).map_err(failed)?;
        // What it says of itself counts: entries were applied since the flush.
        let damaged = |error: kv::Error| {
            if error.is_damage() {
                // The copy shares its files with the state in use.
                kv.give_up(&error.to_string());
            }
            failed(error)
        };
        let copy = kv.open_copy(folder).map_err(damaged)?;
        // The checksums in the manifest are of what is read here: what rots in a file must not become one of them.
        copy.verify(&mut |_| true).map_err(damaged)?;
        let (applied, membership) = read_marks(&*copy).map_err(failed)?;
        let applied = applied.as_ref().map(types::record_id).ok_or(NotServed::Behind(LogIndex(0)))?;
        let view = View::new(&*copy);
        let needed = view.needed_from(begins).map_err(failed)?;
        let cluster_version = view.cluster_version().map_err(failed)?;
        drop(copy);
        // What is needed is told coarsely, and nothing that is needed was forgotten. The last applied record belongs to it: by
        // it a start sees that log and state go together.
        let first = needed.unwrap_or(applied.index).max(begins).min(applied.index);
        if begins > first {
            return Err(NotServed::Missing(first));
        }
        let segments = log.segments();
        let is_needed = |at: usize| segments.get(at + 1).is_none_or(|next| next.first > first);
        let log_bytes = segments.iter().enumerate().filter(|(at, _)| is_needed(*at)).map(|(_, it)| it.bytes).sum();
        let files = names.into_iter().map(|name| self.file(folder, name)).collect::<io::Result<_>>().map_err(failed)?;
        Ok(Manifest {
            source,
            cluster: self.0.parts.cluster.clone(),
            group: self.0.parts.group.clone(),
            cluster_version,
            applied,
            members: membership.membership().nodes().map(|(id, node)| (NodeId(*id), node.addr.clone())).collect(),
            first,
            before: self.id_before(first)?,
            log_bytes,
            files,
        })
    }

    fn file(&self, folder: &Path, name: String) -> io::Result<StateFile> {
        let file = self.0.parts.store.disk.open(&folder.join(&name))?;
        let bytes = file.len()?;
        let crc32c = checksum_of(&*file, bytes)?;
        Ok(StateFile { name, bytes, crc32c })
    }

    /// The entry before the first one of the snapshot; none before the first of all.
    fn id_before(&self, first: LogIndex) -> Result<Option<RecordId>, NotServed> {
        let log = &self.0.parts.log;
        let before = LogIndex(first.0 - 1);
        if before == LogIndex(0) {
            return Ok(None);
        }
        let read = log.reader().read(before, first, 1).map_err(failed)?.pop().map(|record| record.id());
        let known = [read, log.purged(), log.before_first()].into_iter().flatten().find(|id| id.index == before);
        known.map(Some).ok_or(NotServed::Missing(before))
    }
}

/// One that is being made.
struct Making {
    sources: SnapshotSources,
    _turn: OwnedSemaphorePermit,
}

impl Making {
    /// Makes a checkpoint, and looks what is in it. Blocks.
    fn make(self, reader: String) -> Result<Arc<Manifest>, NotServed> {
        let source = random_u64().max(1);
        let folder = self.sources.folder_of(source);
        let made = self.sources.make_in(&folder, source).inspect_err(|_| {
            // Nobody knows of it; what is left, the next start removes.
            let _ = self.sources.0.parts.store.disk.remove_tree(&folder);
        });
        let manifest = Arc::new(made?);
        tracing::info!(
            %reader, applied = %manifest.applied.index, log_from = %manifest.first, state_bytes = manifest.state_bytes(),
            log_bytes = manifest.log_bytes, "a snapshot of this node is being pulled"
        );
        let source = Source { manifest: manifest.clone(), reader, asked_at: Instant::now() };
        self.sources.0.open.lock().sources.insert(manifest.source, source);
        Ok(manifest)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.sources.0.open.lock().making -= 1;
    }
}
