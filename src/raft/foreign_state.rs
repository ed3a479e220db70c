//! A state that does not go with this log: found at the start. It is dropped and applied anew, if the log still has
//! everything; else the node does not start, because what the state lacks is nowhere on it.

use std::io;

use crate::model::LogIndex;
use crate::raft::error::StartError;
use crate::raft::marks::read_marks;
use crate::raft::types;
use crate::raft::types::LogId;
use crate::raft::whole_state::clear;
use crate::store::kv::Kv;
use crate::store::log::CommitLog;

/// The state may only be behind the log (D5), of the same log, and not behind what is purged of it. With `ASYNC_FLUSH` a
/// power loss can leave it ahead; a state folder that was put back from elsewhere may have applied an entry that this log
/// does not have. Then the state is dropped and applied again from the log, if that still reaches back to its beginning.
pub(super) fn rebuild_if_foreign(log: &CommitLog, kv: &dyn Kv) -> Result<(), StartError> {
    let (applied_id, _) = read_marks(kv)?;
    let applied = applied_id.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index));
    let purged = log.purged().map_or(LogIndex(0), |purged| purged.index);
    if applied < purged {
        return Err(StartError::StateBehindLog { applied, purged });
    }
    let Some(applied_id) = applied_id else { return Ok(()) };
    let last = log.last().map_or(LogIndex(0), |last| last.index);
    let is_ahead = applied > last.max(purged);
    if !is_ahead && id_in(log, applied)? == Some(applied_id) {
        return Ok(());
    }
    let first = log.first_index().unwrap_or(last.next());
    if purged > LogIndex(0) || (last > LogIndex(0) && first > LogIndex(1)) {
        return Err(StartError::ForeignState { applied, first, last });
    }
    let why = if is_ahead { "ahead of the log" } else { "of another log" };
    tracing::warn!(%applied, %last, "the state is {why}: after a power loss, or put back from elsewhere; applying the log anew");
    clear(kv)?;
    Ok(())
}

/// Which entry the log has, or had, at an index.
fn id_in(log: &CommitLog, index: LogIndex) -> io::Result<Option<LogId>> {
    let found = log.reader().read(index, index.next(), 1).map_err(io::Error::other)?.pop();
    let id = found.map(|record| record.id()).or_else(|| log.purged().filter(|purged| purged.index == index));
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
    fn log() -> CommitLog {
        let owner = LogOwner { cluster: "c".into(), group: "g".into(), node: NODE };
        let options =
            Options { segment_bytes: 2048, tail_cache_bytes: 1024, flush: FlushMode::Sync, open_files_max: 8 };
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

    fn start(log: &CommitLog, term: Term, index: u64) -> (Result<(), StartError>, bool) {
        let kv = state(term, index);
        let result = rebuild_if_foreign(log, &kv);
        (result, read_marks(&kv).unwrap().0.is_some())
    }

    #[test]
    fn p18_a_state_of_another_log_is_dropped_and_applied_anew() {
        let log = log();
        for (what, term, index, is_kept) in [
            ("behind", TERM, 1, true),
            ("up to date", TERM, 3, true),
            ("ahead", TERM, 4, false),
            ("of another leader", Term(1), 2, false),
        ] {
            let (result, is_there) = start(&log, term, index);
            assert!(result.is_ok(), "{what}");
            assert_eq!(is_there, is_kept, "{what}");
        }
    }

    #[test]
    fn p18_beside_a_purged_log_a_state_that_does_not_go_with_it_is_refused_and_kept() {
        let log = log();
        log.purge(RecordId { term: TERM, node: NODE, index: LogIndex(2) }).unwrap();
        for (what, term, index, refused) in [
            ("empty", TERM, 0, Some("behind")),
            ("behind what is purged", TERM, 1, Some("behind")),
            ("where the log is purged", TERM, 2, None),
            ("up to date", TERM, 3, None),
            ("ahead", TERM, 4, Some("foreign")),
            ("of another leader, purged", Term(1), 2, Some("foreign")),
            ("of another leader", Term(1), 3, Some("foreign")),
        ] {
            let (result, is_there) = start(&log, term, index);
            let found = match &result {
                Ok(()) => None,
                Err(StartError::StateBehindLog { applied, purged }) => {
                    assert_eq!((applied.0, purged.0), (index, 2), "{what}");
                    Some("behind")
                }
                Err(StartError::ForeignState { applied, .. }) => {
                    assert_eq!(applied.0, index, "{what}");
                    Some("foreign")
                }
                Err(error) => panic!("{what}: {error}"),
            };
            assert_eq!(found, refused, "{what}");
            assert_eq!(is_there, index > 0, "{what}: the state is as it was");
        }
    }
}
