//! The commit log: the replicated log on this node's disk, which is also the message store.
//!
//! Hot path. Appends are visible to readers at once (tail cache) and written by one thread, which takes everything that
//! waits, writes it, syncs once, and then completes the appends newest first (D3). Votes, cuts and purges go through the
//! same queue, so each is a barrier: the appends before it are done first.
//!
//! Invariants: indexes are consecutive except over what Raft purged; a record is completed only after its sync
//! (`SYNC_FLUSH`) or its write (`ASYNC_FLUSH`); after a failed write or sync nothing is completed with success any more
//! (D18).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use parking_lot::{Condvar, Mutex, RwLock};

use crate::env::disk::Disk;
use crate::model::{LogIndex, NodeId};
use crate::store::Error;
use crate::store::log::log_state::{Done, LogState, OnDurable, OnFatal, OnFull, Op, OpReply, State, latest};
use crate::store::log::measures::LogMeasures;
use crate::store::log::meta::Meta;
use crate::store::log::meta_content::{KnownPeer, LogOwner, StartMark, VoteRecord};
use crate::store::log::options::Options;
use crate::store::log::reader::LogReader;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::recover::{Recovered, recover};
use crate::store::log::sealed_files::SealedFiles;
use crate::store::log::segments::{LogMemory, SegmentExtent, Segments};
use crate::store::log::tail_cache::TailCache;
use crate::store::log::writer::Writer;

/// Bytes that wait for the writer; an append beyond waits.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
pub(in crate::store) const LOCK_FILE: &str = "LOCK";

/// The log; cloning shares it. Closed when the last clone is dropped.
#[derive(Clone)]
pub struct CommitLog {
    log: Arc<LogState>,
    reader: LogReader,
    _closer: Arc<Closer>,
}

impl CommitLog {
    /// Opens the log of `owner` in `folder`, cuts a torn tail, and starts the writer. Blocks. What is damaged is known
    /// afterwards ([`Self::damage`], [`Self::lost_from`]).
    ///
    /// `on_fatal` is called once if the log closes itself after a failed write or sync.
    ///
    /// * Errors: [`Error::Locked`] (another process has it), [`Error::Foreign`] (another owner's), [`Error::Damaged`]
    ///   (durable records are missing or changed), [`Error::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        owner: &LogOwner,
        options: Options,
        on_fatal: OnFatal,
    ) -> Result<Self, Error> {
        disk.create_dir_all(folder).map_err(Error::io(folder.display()))?;
        let lock = disk.lock(&folder.join(LOCK_FILE)).map_err(Error::io(folder.display()))?;
        let lock = lock.ok_or_else(|| Error::Locked(folder.to_owned()))?;
        let mut meta = Meta::open(&*disk, folder, owner)?;
        let segments = Segments::new(SealedFiles::new(disk.clone(), folder, options.open_files_max));
        let Recovered { leftovers, last, committed } = recover(&*disk, folder, &segments, &options, &mut meta)?;
        let done = last.map_or(LogIndex(0), |last| last.index);
        let state = State {
            queue: VecDeque::new(),
            queue_bytes: 0,
            cache: TailCache::new(options.tail_cache_bytes),
            last,
            vote: meta.vote(),
            purged: latest(meta.purged(), meta.start().and_then(|start| start.before)),
            start: meta.start(),
            lost_from: meta.lost_from(),
            known: meta.known().clone(),
            committed,
            done,
            is_poisoned: false,
            is_closing: false,
            is_stopping: false,
        };
        let log = Arc::new(LogState {
            node: meta.node(),
            disk: meta.disk(),
            lineage: meta.lineage(),
            starts: meta.starts().to_vec(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            segment_bytes: options.segment_bytes,
            has_peers: options.has_peers,
            segments,
            on_durable: RwLock::new(None),
            on_full: RwLock::new(None),
            on_fatal,
            measures: LogMeasures::default(),
        });
        let writer = Writer::new(log.clone(), options, meta, leftovers, lock);
        let thread = std::thread::Builder::new()
            .name("commit-log".to_owned())
            .spawn(move || writer.run())
            .map_err(Error::io("start the commit log's thread"))?;
        let closer = Arc::new(Closer { log: log.clone(), thread: Some(thread) });
        Ok(Self { reader: LogReader::new(log.clone()), log, _closer: closer })
    }

    /// Reads the log.
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Appends consecutive records. On return they can be read; `done` is called when they are done. Waits for room if
    /// too many bytes wait for the writer.
    ///
    /// * Errors: [`Error::Poisoned`]; then `done` is never called. An error given to `done` leaves the fate of the
    ///   records on this disk unknown.
    pub fn append(&self, records: Vec<Record>, done: Done) -> Result<(), Error> {
        let bytes = records.iter().map(Record::wire_bytes).sum();
        let mut state = self.log.state.lock();
        while state.queue_bytes > QUEUE_BYTES_MAX && !state.is_poisoned {
            self.log.changed.wait(&mut state);
        }
        if state.is_poisoned {
            return Err(Error::Poisoned);
        }
        for record in &records {
            state.last = Some(record.id());
            state.cache.push(record.clone());
        }
        state.queue_bytes += bytes;
        state.queue.push_back(Op::Append { records, bytes, done });
        drop(state);
        self.log.changed.notify_all();
        Ok(())
    }

    /// Makes a vote durable, and every append before it. Blocks.
    ///
    /// * Errors: [`Error::Poisoned`]; whether the vote is on disk is then unknown.
    pub fn save_vote(&self, vote: VoteRecord) -> Result<(), Error> {
        self.blocking(|reply| Op::Vote { vote, reply })?;
        self.log.state.lock().vote = Some(vote);
        Ok(())
    }

    /// The last vote saved.
    pub fn read_vote(&self) -> Option<VoteRecord> {
        self.log.state.lock().vote
    }

    /// Removes every entry after `keep` (all entries for `None`), durably. Blocks.
    ///
    /// * Errors: as [`LogReader::read`] if `keep` cannot be read; [`Error::Poisoned`], then how much is left on disk is
    ///   unknown.
    pub fn truncate_after(&self, keep: Option<LogIndex>) -> Result<(), Error> {
        let keep = keep.unwrap_or(LogIndex(0));
        let kept = match self.id_at(keep) {
            None if keep > LogIndex(0) => self.reader.read(keep, keep.next(), 1)?.pop().map(|record| record.id()),
            known => known,
        };
        self.truncate(keep, kept)
    }

    /// As [`Self::truncate_after`], of an entry that the caller knows: so it need not be readable.
    pub fn truncate_to(&self, kept: RecordId) -> Result<(), Error> {
        self.truncate(kept.index, Some(kept))
    }

    fn truncate(&self, keep: LogIndex, kept: Option<RecordId>) -> Result<(), Error> {
        {
            // Readers see the shorter log first; then the files follow.
            let mut state = self.log.state.lock();
            let start = state.start.map_or(LogIndex(0), |start| start.first);
            assert!(keep.next() >= start, "entries after {keep} are to be cut, but the log begins with {start}");
            state.cache.truncate_after(keep);
            state.last = match kept {
                Some(id) if state.last.is_some_and(|last| last.index >= id.index) => Some(id),
                _ if state.last.is_some_and(|last| last.index <= keep) => state.last,
                _ => state.start.filter(|start| start.first == keep.next()).and_then(|start| start.before),
            };
        }
        self.blocking(|reply| Op::Cut { keep, kept, reply })
    }

    /// Notes durably what Raft no longer needs. The bytes stay: consumers may need them. Blocks.
    ///
    /// * Errors: [`Error::Poisoned`].
    pub fn purge(&self, upto: RecordId) -> Result<(), Error> {
        self.log.segments.files().note_purged(upto.index);
        self.blocking(|reply| Op::Purge { upto, reply })?;
        let mut state = self.log.state.lock();
        state.purged = latest(Some(upto), state.start.and_then(|start| start.before));
        Ok(())
    }

    /// Syncs what was appended so far, also with `ASYNC_FLUSH`. Blocks.
    ///
    /// * Errors: [`Error::Poisoned`].
    pub fn sync(&self) -> Result<(), Error> {
        self.blocking(|reply| Op::Sync { reply })
    }

    /// Removes the segments whose entries are all before `first`, never the one with the last entry. Gives the bytes that
    /// this freed. Raft must have purged what goes. Where the log begins then is durable before anything is removed. Blocks, but holds up no append.
    ///
    /// * Errors: [`Error::Io`] and [`Error::Damaged`] if a file cannot be read or removed; the log goes on, and the next
    ///   start removes what is left. [`Error::Poisoned`].
    pub fn forget_before(&self, first: LogIndex) -> Result<u64, Error> {
        self.blocking(|reply| Op::ForgetBefore { first, reply })
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> Vec<SegmentExtent> {
        self.log.segments.extents()
    }

    /// Bytes of all segments on disk, used or reserved.
    pub fn bytes(&self) -> u64 {
        self.log.segments.bytes()
    }

    /// Memory and open files that the sealed segments take.
    pub fn memory(&self) -> LogMemory {
        self.log.segments.memory()
    }

    /// What its writer measured.
    pub fn measures(&self) -> &LogMeasures {
        &self.log.measures
    }

    /// What the newest records take in memory.
    pub fn tail_cache_bytes(&self) -> u64 {
        self.log.state.lock().cache.bytes() as u64
    }

    /// The node whose log this is, as the folder said when it was opened.
    pub fn node(&self) -> NodeId {
        self.log.node
    }

    /// Makes this the folder of another replica of the same name, in the group of this lineage, from the next opening on. Only a folder without votes and
    /// entries may change hands. Blocks.
    ///
    /// * Errors: [`Error::Poisoned`].
    pub fn become_node(&self, node: NodeId, lineage: u64) -> Result<(), Error> {
        assert!(self.is_unused(), "a log that was used becomes another node's");
        self.blocking(|reply| Op::Become { node, lineage, reply })
    }

    /// Whether nothing was ever said or taken on the strength of this folder: no vote, no entry.
    pub fn is_unused(&self) -> bool {
        let state = self.log.state.lock();
        state.vote.is_none() && state.last.is_none() && state.purged.is_none() && state.start.is_none()
    }

    /// Which disk this folder is on: a number drawn when it was made, never 0.
    pub fn disk(&self) -> u64 {
        self.log.disk
    }

    /// Which group of its name this log is of: 0 for one that was founded, another number for each that was made from a
    /// backup (D155).
    pub fn lineage(&self) -> u64 {
        self.log.lineage
    }

    /// The last openings of this folder, oldest first; the last is this one.
    pub fn starts(&self) -> Vec<StartMark> {
        self.log.starts.clone()
    }

    /// Takes this opening back, after the peers refused it. Blocks.
    ///
    /// * Errors: [`Error::Poisoned`].
    pub fn forget_start(&self) -> Result<(), Error> {
        self.blocking(|reply| Op::ForgetStart { reply })
    }

    /// What is remembered of a peer's disk.
    pub fn known_peer(&self, node: NodeId) -> Option<KnownPeer> {
        self.log.state.lock().known.get(&node).copied()
    }

    pub(in crate::store) fn known_and_vote(&self) -> (BTreeMap<NodeId, KnownPeer>, Option<VoteRecord>) {
        let state = self.log.state.lock();
        (state.known.clone(), state.vote)
    }

    /// Remembers a peer durably, unless it is known with another disk. Blocks.
    ///
    /// * Errors: [`Error::Poisoned`].
    pub fn know_peer(&self, node: NodeId, peer: KnownPeer) -> Result<(), Error> {
        self.blocking(|reply| Op::Know { node, peer, reply })
    }

    /// Forgets durably all peers but these. Blocks.
    ///
    /// * Errors: [`Error::Poisoned`].
    pub fn know_only(&self, peers: BTreeSet<NodeId>) -> Result<(), Error> {
        if self.log.state.lock().known.keys().all(|known| peers.contains(known)) {
            return Ok(());
        }
        self.blocking(|reply| Op::KnowOnly { peers, reply })
    }

    /// Remembers, coarsely and some seconds late, how far peers have acknowledged what is committed.
    pub fn note_acknowledged(&self, marks: &[(NodeId, LogIndex)]) {
        let mut state = self.log.state.lock();
        let is_news =
            |(node, index): &(NodeId, LogIndex)| state.known.get(node).is_some_and(|known| known.acknowledged < *index);
        let news: Vec<_> = marks.iter().copied().filter(is_news).collect();
        if news.is_empty() || state.is_closing {
            return;
        }
        for (node, index) in &news {
            if let Some(known) = state.known.get_mut(node) {
                known.acknowledged = *index;
            }
        }
        state.queue.push_back(Op::Acknowledged(news));
        drop(state);
        self.log.changed.notify_all();
    }

    /// The last entry Raft no longer needs.
    pub fn purged(&self) -> Option<RecordId> {
        self.log.state.lock().purged
    }

    /// The entry before those that are kept, if some were forgotten.
    pub fn before_first(&self) -> Option<RecordId> {
        self.log.state.lock().start.and_then(|start| start.before)
    }

    /// The last entry, durable or not.
    pub fn last(&self) -> Option<RecordId> {
        self.reader.last()
    }

    /// The first entry on disk or on its way there.
    pub fn first_index(&self) -> Option<LogIndex> {
        let first = self.log.segments.first_index();
        first.filter(|first| self.last().is_some_and(|last| last.index >= *first))
    }

    /// Whether a write or sync failed: nothing is taken any more, and how much is on the disk is not known.
    pub fn is_poisoned(&self) -> bool {
        self.log.state.lock().is_poisoned
    }

    /// Appends up to here are done: durable, or with `ASYNC_FLUSH` written.
    pub fn durable(&self) -> LogIndex {
        self.log.state.lock().done
    }

    /// Calls `on_durable` now and whenever [`Self::durable`] changes; it falls only at a truncation. Replaces the one
    /// set before.
    pub fn on_durable(&self, on_durable: OnDurable) {
        on_durable(self.durable());
        *self.log.on_durable.write() = Some(on_durable);
    }

    /// Calls `on_full` when a write finds the disk full, before it waits. Replaces the one set before.
    pub fn on_full(&self, on_full: OnFull) {
        *self.log.on_full.write() = Some(on_full);
    }

    /// From now on a write that finds the disk full fails instead of waiting, because the process is about to end. What is
    /// lost by that is not acknowledged.
    pub fn stop_waiting_for_room(&self) {
        self.log.state.lock().is_stopping = true;
        self.log.changed.notify_all();
    }

    /// Bytes appended that the writer has not taken up yet.
    pub fn waiting_bytes(&self) -> u64 {
        self.log.state.lock().queue_bytes as u64
    }

    /// Notes what is committed, in memory; later records carry it as a hint for the next start.
    pub fn set_committed(&self, committed: LogIndex) {
        let mut state = self.log.state.lock();
        state.committed = state.committed.max(committed);
    }

    /// The highest committed index known, at most the last entry that is done.
    pub fn committed_hint(&self) -> LogIndex {
        let state = self.log.state.lock();
        state.committed.min(state.done)
    }

    pub(in crate::store) fn state_of_log(&self) -> &LogState {
        &self.log
    }

    pub(in crate::store) fn blocking<T>(&self, op: impl FnOnce(OpReply<T>) -> Op) -> Result<T, Error> {
        let (reply, answer) = sync_channel(1);
        {
            let mut state = self.log.state.lock();
            if state.is_poisoned {
                return Err(Error::Poisoned);
            }
            state.queue.push_back(op(reply));
        }
        self.log.changed.notify_all();
        answer.recv().unwrap_or(Err(Error::Poisoned))
    }
}

/// Ends the writer with the last clone, after it did what waits.
struct Closer {
    log: Arc<LogState>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.log.state.lock().is_closing = true;
        self.log.changed.notify_all();
        let Some(thread) = self.thread.take() else { return };
        // A completion may hold the last clone; the writer cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the commit log's thread panicked");
        }
    }
}
