//! The commit log: the replicated log on this node's disk, which is also the message store.
//!
//! Hot path. Appends are visible to readers at once (tail cache) and written by one thread, which takes
//! everything that waits, writes it, syncs once, and then completes the appends newest first (D3).
//! Votes, cuts and purges go through the same queue, so each is a barrier behind the appends before it.
//!
//! Invariants: indexes are consecutive except over what Raft purged; a record is completed only after
//! its sync (`SYNC_FLUSH`) or its write (`ASYNC_FLUSH`); after a failed write or sync nothing is
//! completed with success any more (D18).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::time::Instant;

use crate::env::disk::{Disk, DiskLock};
use crate::model::{LogIndex, NodeId, Term};
use crate::store::Error;
use crate::store::log::gather_buffer::GatherBuffer;
use crate::store::log::meta::Meta;
use crate::store::log::record::{Preamble, Record};
use crate::store::log::recover::{Recovered, recover};
use crate::store::log::segment::Segment;
use crate::store::log::tail_cache::TailCache;

/// Bytes the writer takes for one sync.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that wait for the writer; an append beyond waits.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// With `ASYNC_FLUSH`, what was written is synced this often.
const ASYNC_SYNC_EVERY: Duration = Duration::from_millis(500);
/// After this long without work the writer notes durably how far the log is synced: no later record says it
/// of the last ones.
const MARK_AFTER: Duration = Duration::from_secs(1);
const LOCK_FILE: &str = "LOCK";

/// Whose log it is; checked against the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOwner {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    /// The replica.
    pub node: NodeId,
}

impl fmt::Display for LogOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node n{} of group {} in cluster {}", self.node, self.group, self.cluster)
    }
}

/// LogOwner of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordId {
    /// Term of the leader that made it.
    pub term: Term,
    /// That leader.
    pub node: NodeId,
    /// Position.
    pub index: LogIndex,
}

/// A vote of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteRecord {
    /// In which term.
    pub term: Term,
    /// For whom.
    pub node: NodeId,
    /// Whether that node is known to lead.
    pub committed: bool,
}

/// When an append counts as done (`flushDiskType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// After its sync.
    Sync,
    /// After its write; a power loss can take the last half second.
    Async,
}

/// How the log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Size of a segment; a larger record makes a larger segment.
    pub segment_bytes: u64,
    /// Size of the tail cache.
    pub tail_cache_bytes: usize,
    /// When an append counts as done.
    pub flush: FlushMode,
}

/// Told the result of one append.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;
/// Told how far appends are done.
pub type OnDurable = Box<dyn Fn(LogIndex) + Send + Sync>;
/// Told once why the log closed itself.
pub type OnFatal = Box<dyn Fn(&Error) + Send + Sync>;

/// The log; cloning shares it. Closed when the last clone is dropped.
#[derive(Clone)]
pub struct CommitLog {
    shared: Arc<LogState>,
    _closer: Arc<Closer>,
}

struct LogState {
    /// Which disk this is.
    disk: u64,
    state: Mutex<State>,
    /// Rung for the writer when work comes, and for appenders when room comes.
    changed: Condvar,
    segments: RwLock<Vec<Segment>>,
    on_durable: RwLock<Option<OnDurable>>,
    on_fatal: OnFatal,
}

struct State {
    queue: VecDeque<Op>,
    queue_bytes: usize,
    cache: TailCache,
    last: Option<RecordId>,
    vote: Option<VoteRecord>,
    purged: Option<RecordId>,
    /// The disks the peers are on.
    known: BTreeMap<NodeId, u64>,
    committed: LogIndex,
    /// Appends up to here are done.
    done: LogIndex,
    is_poisoned: bool,
    is_closing: bool,
}

enum Op {
    Append { records: Vec<Record>, bytes: usize, done: Done },
    Vote { vote: VoteRecord, reply: SyncSender<Result<(), Error>> },
    Cut { keep: LogIndex, reply: SyncSender<Result<(), Error>> },
    Purge { upto: RecordId, reply: SyncSender<Result<(), Error>> },
    Know { node: NodeId, disk: u64, reply: SyncSender<Result<(), Error>> },
}

impl CommitLog {
    /// Opens the log of `identity` in `folder`, cuts a torn tail, and starts the writer.
    ///
    /// * Errors: [`Error::Locked`], [`Error::Foreign`], [`Error::Damaged`], [`Error::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        identity: &LogOwner,
        options: Options,
        on_fatal: OnFatal,
    ) -> Result<Self, Error> {
        disk.create_dir_all(folder).map_err(Error::io(folder.display()))?;
        let lock = disk.lock(&folder.join(LOCK_FILE)).map_err(Error::io(folder.display()))?;
        let lock = lock.ok_or_else(|| Error::Locked(folder.to_owned()))?;
        let meta = Meta::open(&*disk, folder, identity)?;
        let Recovered { segments, last, committed, durable } = recover(&*disk, folder, &meta)?;
        // What recovery found may only be in the page cache of a process that died: make it durable before
        // this process vouches for it. Written anew first: after a failed sync the kernel takes the pages
        // for clean, and another sync would write nothing.
        if let Some(segment) = segments.last() {
            segment.write_again(durable.next())?;
            segment.sync()?;
        }
        let done = last.map_or(LogIndex(0), |last| last.index);
        let state = State {
            queue: VecDeque::new(),
            queue_bytes: 0,
            cache: TailCache::new(options.tail_cache_bytes),
            last,
            vote: meta.vote(),
            purged: meta.purged(),
            known: meta.known().clone(),
            committed,
            done,
            is_poisoned: false,
            is_closing: false,
        };
        let shared = Arc::new(LogState {
            disk: meta.disk(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            segments: RwLock::new(segments),
            on_durable: RwLock::new(None),
            on_fatal,
        });
        let writer = Writer {
            shared: shared.clone(),
            disk,
            folder: folder.to_owned(),
            options,
            meta,
            synced: done,
            unsynced: None,
            unsynced_since: None,
            pieces: GatherBuffer::default(),
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("commit-log".to_owned())
            .spawn(move || writer.run())
            .map_err(Error::io("start the commit log's thread"))?;
        let closer = Arc::new(Closer { shared: shared.clone(), thread: Some(thread) });
        Ok(Self { shared, _closer: closer })
    }

    /// Appends consecutive records. On return they can be read; `done` is told when they are done.
    pub fn append(&self, records: Vec<Record>, done: Done) -> Result<(), Error> {
        let bytes = records.iter().map(Record::wire_bytes).sum();
        let mut state = self.shared.state.lock();
        while state.queue_bytes > QUEUE_BYTES_MAX && !state.is_poisoned {
            self.shared.changed.wait(&mut state);
        }
        if state.is_poisoned {
            return Err(Error::Poisoned);
        }
        for record in &records {
            state.last = Some(RecordId { term: record.term, node: record.node, index: record.index });
            state.cache.push(record.clone());
        }
        state.queue_bytes += bytes;
        state.queue.push_back(Op::Append { records, bytes, done });
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Makes a vote durable, and every append before it. Blocks.
    pub fn save_vote(&self, vote: VoteRecord) -> Result<(), Error> {
        self.blocking(|reply| Op::Vote { vote, reply })?;
        self.shared.state.lock().vote = Some(vote);
        Ok(())
    }

    /// The last vote saved.
    pub fn read_vote(&self) -> Option<VoteRecord> {
        self.shared.state.lock().vote
    }

    /// Cuts off everything behind `keep` (everything at all for `None`), durably. Blocks.
    pub fn truncate_after(&self, keep: Option<LogIndex>) -> Result<(), Error> {
        let keep = keep.unwrap_or(LogIndex(0));
        {
            // Readers see the shorter log first; then the files follow.
            let kept = if keep == LogIndex(0) { None } else { self.read(keep, keep.next(), 1)?.pop() };
            let mut state = self.shared.state.lock();
            state.cache.truncate_after(keep);
            state.last = match kept {
                Some(record) => Some(RecordId { term: record.term, node: record.node, index: record.index }),
                None if state.last.is_some_and(|last| last.index <= keep) => state.last,
                None => None,
            };
        }
        self.blocking(|reply| Op::Cut { keep, reply })
    }

    /// Notes durably what Raft no longer needs. The bytes stay: consumers may. Blocks.
    pub fn purge(&self, upto: RecordId) -> Result<(), Error> {
        self.blocking(|reply| Op::Purge { upto, reply })?;
        self.shared.state.lock().purged = Some(upto);
        Ok(())
    }

    /// Which disk this folder is on: a number drawn when it was made.
    pub fn disk(&self) -> u64 {
        self.shared.disk
    }

    /// The disk a peer was on when this node first heard of it.
    pub fn known_disk(&self, node: NodeId) -> Option<u64> {
        self.shared.state.lock().known.get(&node).copied()
    }

    /// Remembers durably which disk a peer is on, unless another is known already; the one known. Blocks.
    pub fn know_disk(&self, node: NodeId, disk: u64) -> Result<u64, Error> {
        self.blocking(|reply| Op::Know { node, disk, reply })?;
        Ok(self.known_disk(node).unwrap_or(disk))
    }

    /// The last entry Raft no longer needs.
    pub fn purged(&self) -> Option<RecordId> {
        self.shared.state.lock().purged
    }

    /// The last entry.
    pub fn last(&self) -> Option<RecordId> {
        self.shared.state.lock().last
    }

    /// The first entry on disk or on its way there.
    pub fn first_index(&self) -> Option<LogIndex> {
        let first = self.shared.segments.read().first().map(|segment| segment.first);
        first.filter(|first| self.last().is_some_and(|last| last.index >= *first))
    }

    /// Appends up to here are done: durable, or with `ASYNC_FLUSH` written.
    pub fn durable(&self) -> LogIndex {
        self.shared.state.lock().done
    }

    /// Sets who is told whenever [`Self::durable`] changes; it falls only at a truncation.
    pub fn on_durable(&self, told: OnDurable) {
        told(self.durable());
        *self.shared.on_durable.write() = Some(told);
    }

    /// Notes what is committed, in memory; later records carry it as a hint for the next start.
    pub fn set_committed(&self, committed: LogIndex) {
        let mut state = self.shared.state.lock();
        state.committed = state.committed.max(committed);
    }

    /// The highest committed index known, at most the last entry that is done.
    pub fn committed_hint(&self) -> LogIndex {
        let state = self.shared.state.lock();
        state.committed.min(state.done)
    }

    /// Reads `[from, to)`: at least one record if `from` is here, else as many as fit `bytes_max`. What
    /// is missing at the end is left out.
    pub fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<Record>, Error> {
        Ok(self.read_if(from, to, bytes_max, true)?.unwrap_or_default())
    }

    /// As [`Self::read`], but never waits for the disk; `None` if the first record is on the disk only.
    pub fn read_at_hand(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Option<Vec<Record>>, Error> {
        self.read_if(from, to, bytes_max, false)
    }

    fn read_if(
        &self,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
        waits: bool,
    ) -> Result<Option<Vec<Record>>, Error> {
        if let Some(found) = self.read_cached(from, to, bytes_max) {
            return Ok(Some(found));
        }
        let to = self.last().map_or(LogIndex(0), |last| last.index.next()).min(to);
        let mut found: Vec<Record> = Vec::new();
        let mut next = from;
        let mut room = bytes_max;
        while next < to {
            let segment = {
                let segments = self.shared.segments.read();
                let after = segments.partition_point(|segment| segment.first <= next);
                after.checked_sub(1).map(|position| segments[position].clone())
            };
            let Some(segment) = segment else { break };
            match segment.read(next, to, room, found.is_empty(), waits)? {
                None if found.is_empty() => return Ok(None),
                None => break,
                Some(more) if more.is_empty() => break,
                Some(more) => {
                    next = LogIndex(next.0 + more.len() as u64);
                    room = more.iter().fold(room, |room, record| room.saturating_sub(record.wire_bytes()));
                    found.extend(more);
                }
            }
        }
        Ok(Some(found))
    }

    /// As [`Self::read`], if `from` is in the tail cache.
    pub fn read_cached(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Option<Vec<Record>> {
        self.shared.state.lock().cache.read(from, to, bytes_max)
    }

    fn blocking(&self, op: impl FnOnce(SyncSender<Result<(), Error>>) -> Op) -> Result<(), Error> {
        let (reply, answer) = sync_channel(1);
        {
            let mut state = self.shared.state.lock();
            if state.is_poisoned {
                return Err(Error::Poisoned);
            }
            state.queue.push_back(op(reply));
        }
        self.shared.changed.notify_all();
        answer.recv().unwrap_or(Err(Error::Poisoned))
    }
}

/// Ends the writer with the last clone, after it did what waits.
struct Closer {
    shared: Arc<LogState>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.shared.state.lock().is_closing = true;
        self.shared.changed.notify_all();
        let Some(thread) = self.thread.take() else { return };
        // A completion may hold the last clone; the writer cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the commit log's thread panicked");
        }
    }
}

struct Writer {
    shared: Arc<LogState>,
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    options: Options,
    meta: Meta,
    /// Everything up to here is synced.
    synced: LogIndex,
    /// The last index written since.
    unsynced: Option<LogIndex>,
    /// When the first of those was written.
    unsynced_since: Option<Instant>,
    pieces: GatherBuffer,
    _lock: Box<dyn DiskLock>,
}

type Completion = (LogIndex, Done);

impl Writer {
    fn run(mut self) {
        while let Some(ops) = self.next_ops() {
            let is_late = |since: Instant| since.elapsed() >= ASYNC_SYNC_EVERY;
            let worked = self.work(ops).and_then(|()| match self.unsynced_since {
                Some(since) if is_late(since) => self.sync(),
                _ => Ok(()),
            });
            if let Err(error) = worked {
                return self.poison(&error);
            }
        }
        if let Err(error) = self.sync().and_then(|()| self.meta.mark_durable(self.synced)) {
            self.poison(&error);
        }
    }

    /// Waits for work; an empty list means that a background sync or the mark is due, `None` the end.
    fn next_ops(&mut self) -> Option<Vec<Op>> {
        let mut state = self.shared.state.lock();
        loop {
            if !state.queue.is_empty() {
                break;
            }
            if state.is_closing {
                return None;
            }
            let wait = match self.unsynced_since {
                Some(since) => Some(ASYNC_SYNC_EVERY.saturating_sub(since.elapsed())),
                None if self.meta.durable() != self.synced => Some(MARK_AFTER),
                None => None,
            };
            match wait {
                Some(wait) => {
                    if self.shared.changed.wait_for(&mut state, wait).timed_out() {
                        return Some(Vec::new());
                    }
                }
                None => self.shared.changed.wait(&mut state),
            }
        }
        let mut ops = Vec::new();
        let mut group_bytes = 0;
        while group_bytes < GROUP_BYTES_MAX {
            let Some(op) = state.queue.pop_front() else { break };
            if let Op::Append { bytes, .. } = &op {
                group_bytes += bytes;
                state.queue_bytes -= bytes;
            }
            ops.push(op);
        }
        drop(state);
        self.shared.changed.notify_all();
        Some(ops)
    }

    fn work(&mut self, ops: Vec<Op>) -> Result<(), Error> {
        if ops.is_empty() {
            self.sync()?;
            return self.meta.mark_durable(self.synced);
        }
        let mut records: Vec<Record> = Vec::new();
        let mut completions: Vec<Completion> = Vec::new();
        for op in ops {
            match op {
                Op::Append { records: more, done, .. } => {
                    let last = more.last().map_or(LogIndex(0), |record| record.index);
                    records.extend(more);
                    completions.push((last, done));
                }
                Op::Vote { vote, reply } => {
                    self.barrier(&mut records, &mut completions)?;
                    let result = self.meta.set_vote(vote);
                    answer(result, &reply)?;
                }
                Op::Cut { keep, reply } => {
                    self.barrier(&mut records, &mut completions)?;
                    let result = self.cut(keep);
                    answer(result, &reply)?;
                }
                Op::Purge { upto, reply } => {
                    self.barrier(&mut records, &mut completions)?;
                    let result = self.meta.set_purged(upto);
                    answer(result, &reply)?;
                }
                Op::Know { node, disk, reply } => {
                    let result = self.meta.know(node, disk);
                    self.shared.state.lock().known.clone_from(self.meta.known());
                    answer(result, &reply)?;
                }
            }
        }
        self.complete(&mut records, &mut completions)
    }

    /// Writes and completes a group; syncs it first unless asked not to.
    fn complete(&mut self, records: &mut Vec<Record>, completions: &mut Vec<Completion>) -> Result<(), Error> {
        if completions.is_empty() {
            return Ok(());
        }
        let written = self.write(records).and_then(|()| match self.options.flush {
            FlushMode::Sync => self.sync(),
            FlushMode::Async => Ok(()),
        });
        if let Err(error) = written {
            for (_, done) in completions.drain(..).rev() {
                done(Err(io::Error::other(error.to_string())));
            }
            return Err(error);
        }
        let last = records.last().map(|record| record.index);
        records.clear();
        {
            let mut state = self.shared.state.lock();
            if let Some(last) = last {
                state.done = last;
                state.cache.shrink(last);
            }
        }
        if let (Some(last), Some(told)) = (last, &*self.shared.on_durable.read()) {
            told(last);
        }
        // Newest first: its receiver keeps a mark, so the older ones then wake nobody.
        for (_, done) in completions.drain(..).rev() {
            done(Ok(()));
        }
        Ok(())
    }

    /// Everything appended so far is durable on return.
    fn barrier(&mut self, records: &mut Vec<Record>, completions: &mut Vec<Completion>) -> Result<(), Error> {
        self.complete(records, completions)?;
        self.sync()
    }

    fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        let committed = self.shared.state.lock().committed;
        let mut rest = records;
        while let Some(first) = rest.first() {
            let segment = self.segment_for(first)?;
            let mut sizes = Vec::new();
            let mut room = self.options.segment_bytes.saturating_sub(segment.end());
            for record in rest {
                let preamble = Preamble::of(record, self.synced, committed);
                let size = preamble.whole_bytes();
                // The first one fits or has the segment to itself.
                if size > room && !sizes.is_empty() {
                    break;
                }
                preamble.put(record, &mut self.pieces);
                room = room.saturating_sub(size);
                sizes.push(size);
            }
            segment.write(&mut self.pieces, &sizes)?;
            self.pieces.shrink();
            // Noted per segment: rolling to the next one must find what this one still owes.
            self.unsynced = Some(LogIndex(first.index.0 + sizes.len() as u64 - 1));
            self.unsynced_since.get_or_insert_with(Instant::now);
            rest = &rest[sizes.len()..];
        }
        Ok(())
    }

    /// The segment that takes `record` next: the last one, or a new one behind it.
    fn segment_for(&mut self, record: &Record) -> Result<Segment, Error> {
        let last = self.shared.segments.read().last().cloned();
        if let Some(last) = last {
            let size = (record.wire_bytes()
                + crate::store::log::record::PREAMBLE_BYTES
                + crate::store::log::record::ALIGN) as u64;
            let is_empty = last.next() == last.first;
            let has_room = last.end() + size <= self.options.segment_bytes || is_empty;
            if last.next() == record.index && has_room {
                return Ok(last);
            }
            // A later segment proves that the one before was whole: recovery relies on it.
            self.sync()?;
        }
        let segment = Segment::create(&*self.disk, &self.folder, record.index, self.options.segment_bytes)?;
        self.shared.segments.write().push(segment.clone());
        Ok(segment)
    }

    fn sync(&mut self) -> Result<(), Error> {
        let Some(upto) = self.unsynced.take() else { return Ok(()) };
        self.unsynced_since = None;
        let last = self.shared.segments.read().last().cloned();
        if let Some(segment) = last {
            segment.sync()?;
        }
        self.synced = upto;
        Ok(())
    }

    fn cut(&mut self, keep: LogIndex) -> Result<(), Error> {
        // First: a crash in between must not leave a mark behind the end of the log.
        self.meta.mark_durable(self.meta.durable().min(keep))?;
        loop {
            let last = self.shared.segments.read().last().cloned();
            let Some(segment) = last else { break };
            if segment.first <= keep {
                segment.cut_after(keep)?;
                break;
            }
            // From the back, each durably, so that a crash in between leaves no gap.
            self.disk.remove(&segment.path).map_err(Error::io(segment.path.display()))?;
            self.disk.sync_dir(&self.folder).map_err(Error::io(self.folder.display()))?;
            self.shared.segments.write().pop();
        }
        self.synced = self.synced.min(keep);
        let done = {
            let mut state = self.shared.state.lock();
            state.done = state.done.min(keep);
            state.done
        };
        // Those who wait for a mark must not take new records at cut positions for the old ones.
        if let Some(told) = &*self.shared.on_durable.read() {
            told(done);
        }
        Ok(())
    }

    fn poison(&self, error: &Error) {
        tracing::error!(%error, "the commit log is closed");
        let ops = {
            let mut state = self.shared.state.lock();
            state.is_poisoned = true;
            std::mem::take(&mut state.queue)
        };
        self.shared.changed.notify_all();
        for op in ops {
            match op {
                Op::Append { done, .. } => done(Err(io::Error::other(error.to_string()))),
                // The caller hears the closed channel.
                Op::Vote { .. } | Op::Cut { .. } | Op::Purge { .. } | Op::Know { .. } => {}
            }
        }
        (self.shared.on_fatal)(error);
    }
}

/// Tells the caller, and stops the writer if it failed.
fn answer(result: Result<(), Error>, reply: &SyncSender<Result<(), Error>>) -> Result<(), Error> {
    match result {
        Ok(()) => {
            // A caller that is gone does not care.
            let _ = reply.send(Ok(()));
            Ok(())
        }
        Err(error) => Err(error),
    }
}
