//! Whether the state goes with this node's log, found at the start, and what becomes of one that does not.
//!
//! The log is never given up for the state: what is in it may be acknowledged and be nowhere else (D147).

use crate::model::LogIndex;
use crate::raft::error::StartError;
use crate::raft::marks::read_marks;
use crate::raft::types;
use crate::raft::types::LogId;
use crate::store;
use crate::store::kv::Kv;
use crate::store::log::CommitLog;

/// Bytes that are read at once.
const READ_BYTES: usize = 1024 * 1024;

/// How a state and a log go together.
#[derive(Debug)]
pub(super) enum Fit {
    /// As they should; or they will when the log has again what it lost (`lost_entries`).
    Good,
    /// The log still has everything: the state is made anew of it. Why.
    ApplyAnew(&'static str),
    /// Another node's state is to come in its place, with this entry applied at least.
    FromPeer { needs: LogIndex, why: StartError },
    /// What the log has where the state ends is damaged: it has to be repaired first.
    Unreadable(store::Error),
}

/// The state may only be behind the log (D5), of the same log, and not behind what is purged of it.
///
/// * A state that is ahead shows that the log lost its end: that is noted, and comes from the peers. With `may_lose_tail`
///   (`ASYNC_FLUSH`) a loss of power may do so on all nodes at once, and nobody has it: as long as the log reaches back to
///   its beginning, the state is made anew of it.
/// * Any other one was put back from elsewhere, is damaged and was removed, or was of another log.
///
/// * Errors: [`StartError::StateBehindLog`], [`StartError::ForeignState`] if there are no peers.
pub(super) fn judge(log: &CommitLog, kv: &dyn Kv, may_lose_tail: bool) -> Result<Fit, StartError> {
    let (applied_id, _) = read_marks(kv)?;
    let applied = applied_id.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index));
    let purged = log.purged().map_or(LogIndex(0), |purged| purged.index);
    let last = log.last().map_or(LogIndex(0), |last| last.index);
    let first = log.first_index().unwrap_or(last.next());
    let from_peer = |why| {
        let needs = purged.max(if last > LogIndex(0) { LogIndex(first.0 - 1) } else { LogIndex(0) }).max(LogIndex(1));
        if log.has_peers() { Ok(Fit::FromPeer { needs, why }) } else { Err(why) }
    };
    if applied < purged {
        return from_peer(StartError::StateBehindLog { applied, purged });
    }
    let Some(applied_id) = applied_id else { return Ok(Fit::Good) };
    let is_whole = purged == LogIndex(0) && (last == LogIndex(0) || first <= LogIndex(1));
    let is_ahead = applied > last.max(purged);
    if is_ahead && log.lost_from().is_some() {
        return Ok(Fit::Good);
    }
    if is_ahead && log.has_peers() && !(may_lose_tail && is_whole) {
        let from = last.max(purged).next();
        tracing::error!(
            %applied, %last,
            "the state is ahead of the log, which lost its end: that comes from the other nodes, and until it is here this \
             node neither votes nor stands for election"
        );
        log.lose_from(from).map_err(std::io::Error::other)?;
        return Ok(Fit::Good);
    }
    if !is_ahead {
        match id_in(log, applied) {
            Ok(id) if id == Some(applied_id) => return Ok(Fit::Good),
            Ok(_) => {}
            Err(error @ store::Error::Damaged { .. }) if log.has_peers() => return Ok(Fit::Unreadable(error)),
            Err(error) => return Err(std::io::Error::other(error).into()),
        }
    }
    if !is_whole {
        return from_peer(StartError::ForeignState { applied, first, last });
    }
    let why = if is_ahead { "it is ahead of the log" } else { "it is of another log" };
    Ok(Fit::ApplyAnew(why))
}

/// Entries that are not in the state yet, from the first one on that cannot be read, are given up: the leader sends them
/// again. Raft reads all of them when it starts.
pub(super) fn give_up_unreadable(log: &CommitLog, kv: &dyn Kv) -> Result<(), StartError> {
    let applied = read_marks(kv)?.0.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index));
    let first = log.first_index().unwrap_or_default();
    let (mut next, last) = (applied.next().max(first), log.last().map_or(LogIndex(0), |last| last.index));
    while next <= last {
        match log.reader().read(next, last.next(), READ_BYTES) {
            Ok(records) if records.is_empty() => break,
            Ok(records) => next = LogIndex(next.0 + records.len() as u64),
            Err(store::Error::Damaged { .. }) if log.has_peers() => {
                log.lose_from(next).map_err(std::io::Error::other)?;
                break;
            }
            Err(error) => return Err(std::io::Error::other(error).into()),
        }
    }
    Ok(())
}

/// The entry that the state has applied last can be read, or is purged.
pub(super) fn read_applied(log: &CommitLog, kv: &dyn Kv) -> Result<(), store::Error> {
    // Marks that cannot be read are seen by whoever judges them.
    let Ok((Some(applied), _)) = read_marks(kv) else { return Ok(()) };
    let (applied, last) = (types::index_in(applied.index), log.last().map_or(LogIndex(0), |last| last.index));
    let begins = log.first_index().is_some_and(|first| first <= applied);
    if begins && applied <= last { log.reader().read(applied, applied.next(), 1).map(drop) } else { Ok(()) }
}

/// Which entry the log has, or had, at an index.
fn id_in(log: &CommitLog, index: LogIndex) -> Result<Option<LogId>, store::Error> {
    let found = match log.id_at(index) {
        None => log.reader().read(index, index.next(), 1)?.pop().map(|record| record.id()),
        known => known,
    };
    let id = found.or_else(|| log.purged().filter(|purged| purged.index == index));
    Ok(id.and_then(|id| types::log_id(id.term, id.node, id.index)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use bytes::Bytes;

    use super::*;
    use crate::env::fault::sim::SimDisk;
    use crate::model::{NodeId, Term};
    use crate::raft::marks::push_marks;
    use crate::store::kv::WriteBatch;
    use crate::store::kv::memory::MemoryKv;
    use crate::store::log::record::{Record, RecordId, RecordKind};
    use crate::store::log::{FlushMode, LogOwner, Options};

    const TERM: Term = Term(2);
    const NODE: NodeId = NodeId(0);

    /// A log of three entries of term 2.
    fn log(has_peers: bool) -> CommitLog {
        let owner = LogOwner { cluster: "c".into(), group: "g".into(), node: NODE };
        let options = Options {
            segment_bytes: 2048,
            tail_cache_bytes: 1024,
            flush: FlushMode::Sync,
            open_files_max: 8,
            has_peers,
        };
        let disk = Arc::new(SimDisk::default());
        let log = CommitLog::open(disk, Path::new("/log"), &owner, options, Box::new(|_| {})).unwrap();
        let record = |index| Record { term: TERM, node: NODE, index, kind: RecordKind::Blank, body: Bytes::new() };
        let (sender, done) = channel();
        let records = (1..=3).map(|index| record(LogIndex(index))).collect();
        log.append(records, Box::new(move |result| sender.send(result.is_ok()).unwrap())).unwrap();
        assert!(done.recv().unwrap());
        log
    }

    /// A state that has applied this entry.
    fn state(term: Term, index: u64) -> MemoryKv {
        let kv = MemoryKv::default();
        let mut batch = WriteBatch { writes: Vec::new() };
        push_marks(&mut batch, &types::log_id(term, NODE, LogIndex(index)), None);
        kv.write(batch).unwrap();
        kv
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Found {
        Good,
        ApplyAnew,
        FromPeer(u64),
        Behind,
        Foreign,
    }

    /// What a start finds, with the entry from which on the log is lost by that.
    fn found(log: &CommitLog, term: Term, index: u64, may_lose_tail: bool) -> (Found, Option<u64>) {
        let kv = state(term, index);
        let found = match judge(log, &kv, may_lose_tail) {
            Ok(Fit::Good) => Found::Good,
            Ok(Fit::ApplyAnew(_)) => Found::ApplyAnew,
            Ok(Fit::FromPeer { needs, .. }) => Found::FromPeer(needs.0),
            Err(StartError::StateBehindLog { .. }) => Found::Behind,
            Err(StartError::ForeignState { .. }) => Found::Foreign,
            other => panic!("{other:?}"),
        };
        assert_eq!(read_marks(&kv).unwrap().0.is_some(), index > 0, "the state is as it was");
        assert_eq!(log.last().map(|last| last.index), Some(LogIndex(3)), "and the log too");
        (found, log.lost_from().map(|from| from.0))
    }

    #[test]
    fn p18_a_state_of_another_log_is_dropped_and_applied_anew() {
        for (what, term, index, alone, with_peers, may_lose_tail) in [
            ("empty", TERM, 0, Found::Good, Found::Good, Found::Good),
            ("behind", TERM, 1, Found::Good, Found::Good, Found::Good),
            ("up to date", TERM, 3, Found::Good, Found::Good, Found::Good),
            ("ahead", TERM, 5, Found::ApplyAnew, Found::Good, Found::ApplyAnew),
            ("of another leader", Term(1), 2, Found::ApplyAnew, Found::ApplyAnew, Found::ApplyAnew),
        ] {
            assert_eq!(found(&log(false), term, index, false), (alone, None), "{what}");
            // What it is ahead by was durable in the log once: who has peers knows that its log lost it.
            let lost = (what == "ahead").then_some(4);
            assert_eq!(found(&log(true), term, index, false), (with_peers, lost), "{what}, with peers");
            assert_eq!(found(&log(true), term, index, true), (may_lose_tail, None), "{what}, with ASYNC_FLUSH");
        }
    }

    #[test]
    fn p18_beside_a_purged_log_a_state_that_does_not_go_with_it_is_refused_and_kept() {
        let purged = |has_peers| {
            let log = log(has_peers);
            log.purge(RecordId { term: TERM, node: NODE, index: LogIndex(2) }).unwrap();
            log
        };
        for (what, term, index, alone, with_peers) in [
            ("empty", TERM, 0, Found::Behind, Found::FromPeer(2)),
            ("behind what is purged", TERM, 1, Found::Behind, Found::FromPeer(2)),
            ("where the log is purged", TERM, 2, Found::Good, Found::Good),
            ("up to date", TERM, 3, Found::Good, Found::Good),
            ("ahead", TERM, 5, Found::Foreign, Found::Good),
            ("of another leader, purged", Term(1), 2, Found::Foreign, Found::FromPeer(2)),
            ("of another leader", Term(1), 3, Found::Foreign, Found::FromPeer(2)),
        ] {
            assert_eq!(found(&purged(false), term, index, false), (alone, None), "{what}");
            let lost = (what == "ahead").then_some(4);
            let found = found(&purged(true), term, index, true);
            assert_eq!(found, (with_peers, lost), "{what}, with peers");
        }
    }
}
