//! The commit log as openraft wants it: entries in, completions out.
//!
//! Hot path. The contract is `openraft::storage::RaftLogStorage`; [`CommitLog`] meets it: appends are visible on return
//! and completed after their sync, a vote waits for the appends before it, purge is logical. A read that a truncation
//! overtakes gives the shorter prefix, never an error.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use futures_util::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use crate::model::{LogIndex, NodeId, Term};
use crate::raft::types;
use crate::raft::types::{Entry, LogId, Types, Vote};
use crate::store::log::record::RecordId;
use crate::store::log::{CommitLog, VoteRecord};

/// Most bytes one read gives to replication or apply.
const READ_BYTES_MAX: usize = 2 * 1024 * 1024;

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
                on_disk(move || reader.read(from, to, bytes_max)).await?
            }
        };
        records.into_iter().map(|record| types::to_entry(record).map_err(io::Error::other)).collect()
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

/// Runs what waits for the disk away from the Raft runtime.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::store::Error> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(io::Error::other),
        Err(panic) => Err(io::Error::other(panic)),
    }
}

fn to_log_id(id: RecordId) -> Option<LogId> {
    types::log_id(id.term, id.node, id.index)
}

fn to_record_id(id: &LogId) -> RecordId {
    RecordId { term: Term(id.leader_id.term), node: NodeId(id.leader_id.node_id), index: types::index_in(id.index) }
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
                match log.read(from, to, READ_BYTES_MAX).await {
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

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX).await
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
        on_disk(move || log.save_vote(vote)).await
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
        let records = self.log.reader().read(hint, hint.next(), 1).map_err(io::Error::other)?;
        Ok(records.first().and_then(|record| types::log_id(record.term, record.node, record.index)))
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
        let keep = last.map(|id| types::index_in(id.index));
        let log = self.log.clone();
        on_disk(move || log.truncate_after(keep)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let upto = to_record_id(&upto);
        let log = self.log.clone();
        on_disk(move || log.purge(upto)).await
    }
}
