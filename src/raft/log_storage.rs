//! The commit log as openraft wants it: entries in, completions out.
//!
//! Hot path. The contract is `openraft::storage::RaftLogStorage`; [`CommitLog`] meets it: appends are visible on return
//! and completed after their sync, a vote waits for the appends before it, purge is logical. A read that a truncation
//! overtakes gives the shorter prefix, never an error.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use crate::env::pool::Pool;
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::types;
use crate::raft::types::{Entry, LogId, Types, Vote};
use crate::store;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::{CommitLog, VoteRecord};

/// Most bytes one read gives to replication or apply.
const READ_BYTES_MAX: usize = 2 * 1024 * 1024;

/// An entry that is damaged here is looked for again after this long: it comes from a peer (`repair`).
const DAMAGED_PAUSE: Duration = Duration::from_millis(250);

const DAMAGED_REPORT: u32 = 240;

/// Entries that a start applies before the peers are served (D98).
const APPLIED_AT_START_MAX: u64 = 64;

/// Reads and writes the log for openraft. Cheap to clone.
#[derive(Clone)]
pub struct LogStorage {
    log: CommitLog,
    /// As the state said when it was opened.
    applied: LogIndex,
}

impl LogStorage {
    /// Over an open log, up to `applied` of which is in the state.
    pub fn new(log: CommitLog, applied: LogIndex) -> Self {
        Self { log, applied }
    }

    /// From the tail cache at once, else from the disk, away from the Raft runtime.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (from, to) = (types::index_in(from), types::index_in(to));
        let reader = self.log.reader();
        let records = match reader.read_cached(from, to, bytes_max) {
            Some(records) => records,
            None => {
                let reader = reader.clone();
                on_disk(Pool::LogReads, move || reader.read(from, to, bytes_max)).await?
            }
        };
        records.into_iter().map(|record| types::to_entry(record).map_err(io::Error::other)).collect()
    }

    /// As [`Self::read`]; waits for an entry that is damaged here until it is repaired.
    async fn read_repaired(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let mut waits = 0u32;
        loop {
            match self.read(from, to, READ_BYTES_MAX).await {
                Err(error) if is_unread(&error) => {
                    if waits.is_multiple_of(DAMAGED_REPORT) {
                        let entry = types::index_in(from);
                        tracing::error!(%entry, %error, "nothing is applied here until this entry comes from a peer");
                    }
                    waits += 1;
                    tokio::time::sleep(DAMAGED_PAUSE).await;
                }
                read => return read,
            }
        }
    }

    /// Half-open bounds of a range, cut to what the log holds.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let purged = self.log.purged().map_or(LogIndex(0), |purged| purged.index);
        let first = self.log.first_index().unwrap_or_default().max(purged.next());
        let from = from.max(types::index_out(first).unwrap_or(0));
        let end = self.log.last().and_then(|last| types::index_out(last.index)).map_or(0, |last| last + 1);
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => end,
        };
        (from, to.min(end))
    }
}

/// Reads what openraft reads of a log when it starts, as [`LogStorage`] gives it.
///
/// * Errors: [`store::Error::Damaged`] if that cannot be read.
pub(super) fn read_like_a_start(log: &CommitLog) -> Result<(), store::Error> {
    let purged = log.purged().map_or(LogIndex(0), |purged| purged.index);
    let Some(last) = log.last().filter(|last| last.index > purged).and_then(to_log_id) else { return Ok(()) };
    let first = log.reader().read(purged.next(), purged.next().next(), 1)?;
    match first.first().map(Record::id).and_then(to_log_id) {
        Some(first) => key_log_ids(first..=last, |index| id_at(log, index)).map(drop),
        None => Ok(()),
    }
}

/// By what its segment knows of it, or else by reading it.
fn id_at(log: &CommitLog, index: u64) -> Result<Option<LogId>, store::Error> {
    let index = types::index_in(index);
    let id = match log.id_at(index) {
        Some(id) => Some(id),
        None => log.reader().read(index, index.next(), 1)?.first().map(Record::id),
    };
    Ok(id.and_then(to_log_id))
}

/// The last entry of each leader in this range, whose ends exist; `read` gives the id of an entry between them.
fn key_log_ids(
    range: RangeInclusive<LogId>,
    mut read: impl FnMut(u64) -> Result<Option<LogId>, store::Error>,
) -> Result<Vec<LogId>, store::Error> {
    let (first, last) = range.into_inner();
    let mut found = Vec::new();
    let mut from = first;
    while from.leader_id != last.leader_id {
        // The last entry with this leader: terms never fall along a log.
        let (mut of_it, mut after) = (from, last.index);
        while of_it.index + 1 < after {
            let middle = of_it.index.midpoint(after);
            match read(middle)? {
                Some(id) if id.leader_id == from.leader_id => of_it = id,
                _ => after = middle,
            }
        }
        found.push(of_it);
        from = if after == last.index { last } else { read(after)?.unwrap_or(last) };
    }
    found.push(last);
    Ok(found)
}

/// Whether this says that an entry is damaged on this node's disk, or cannot be read now: reading it again may help, and
/// nothing is in doubt until then.
fn is_unread(error: &io::Error) -> bool {
    let store = error.get_ref().and_then(|error| error.downcast_ref::<store::Error>());
    matches!(store, Some(store::Error::Damaged { .. } | store::Error::Io { .. }))
}

/// Runs what waits for the disk away from the Raft runtime.
async fn on_disk<T: Send + 'static>(
    pool: Pool,
    work: impl FnOnce() -> Result<T, store::Error> + Send + 'static,
) -> io::Result<T> {
    match pool.run(work).await {
        Ok(result) => result.map_err(io::Error::other),
        Err(panic) => Err(io::Error::other(panic)),
    }
}

fn to_log_id(id: RecordId) -> Option<LogId> {
    types::log_id(id.term, id.node, id.index)
}

impl RaftLogReader<Types> for LogStorage {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (from, to) = self.bounds(&range);
        if from >= to {
            return Ok(Vec::new());
        }
        self.read(from, to, usize::MAX).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = self.bounds(&range);
        let log = self.clone();
        // Chunk by chunk, so that a long replay never sits in memory as a whole.
        stream::unfold(Some(from), move |next| {
            let log = log.clone();
            async move {
                let from = next.filter(|from| *from < to)?;
                match log.read_repaired(from, to).await {
                    Ok(entries) if entries.is_empty() => {
                        let missing = io::Error::other(format!("the log lacks entry {}", types::index_in(from)));
                        Some((vec![Err(missing)], None))
                    }
                    Ok(entries) => {
                        let next = from + entries.len() as u64;
                        Some((entries.into_iter().map(Ok).collect(), Some(next)))
                    }
                    Err(error) => Some((vec![Err(error)], None)),
                }
            }
        })
        .flat_map(stream::iter)
    }

    /// None of an entry that is damaged here: the follower gets it once it is repaired.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        match self.read(start, end, READ_BYTES_MAX).await {
            Err(error) if is_unread(&error) => {
                tokio::time::sleep(DAMAGED_PAUSE).await;
                Ok(Vec::new())
            }
            read => read,
        }
    }

    /// By what segments know of their records, so that a damaged one keeps no node from starting.
    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> io::Result<Vec<LogId>> {
        let log = self.log.clone();
        on_disk(Pool::LogReads, move || key_log_ids(range, |index| id_at(&log, index))).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let vote = self.log.read_vote().map(|vote| types::vote(vote.term.0, vote.node.0, vote.committed));
        Ok(vote)
    }
}

impl RaftLogStorage<Types> for LogStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let purged = self.log.purged().and_then(to_log_id);
        let last = self.log.last().and_then(to_log_id);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.max(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = VoteRecord {
            term: Term(vote.leader_id.term),
            node: NodeId(vote.leader_id.node_id),
            committed: vote.committed,
        };
        let log = self.log.clone();
        on_disk(Pool::Votes, move || log.save_vote(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.log.set_committed(committed.map_or(LogIndex(0), |id| types::index_in(id.index)));
        Ok(())
    }

    /// Openraft applies up to here before it serves anybody, and what comes after that as soon as the leader says again that
    /// it is committed. A few entries, so that a node that was idle is up to date at once; all of ten busy seconds would keep
    /// its vote and its acknowledgements from the others for as long as it takes to apply them.
    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let hint = self.log.committed_hint().min(LogIndex(self.applied.0 + APPLIED_AT_START_MAX));
        if hint == LogIndex(0) {
            return Ok(None);
        }
        // Only a hint: the leader says again what is committed.
        let read = || self.log.reader().read(hint, hint.next(), 1).ok()?.first().map(Record::id);
        Ok(self.log.id_at(hint).or_else(read).and_then(to_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(types::to_record).collect();
        self.log.append(records, Box::new(move |result| callback.io_completed(result))).map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let log = self.log.clone();
        on_disk(Pool::Votes, move || match last {
            Some(last) => log.truncate_to(types::record_id(&last)),
            None => log.truncate_after(None),
        })
        .await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let upto = types::record_id(&upto);
        let log = self.log.clone();
        on_disk(Pool::Votes, move || log.purge(upto)).await
    }
}
