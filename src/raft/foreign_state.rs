//! A state that is not of this log: found at the start, dropped, and applied anew.

use std::io;

use crate::model::LogIndex;
use crate::raft::error::StartError;
use crate::raft::marks::read_marks;
use crate::raft::{snapshot, types};
use crate::store::kv::Kv;
use crate::store::log::CommitLog;

/// The state may only be behind the log (D5), and of the same log. With `ASYNC_FLUSH` a power loss can leave it ahead; a
/// state folder that was put back from elsewhere may have applied an entry that this log does not have. Then the state is
/// dropped and applied again from the log, which still has everything.
pub(super) fn rebuild_if_foreign(log: &CommitLog, kv: &dyn Kv) -> Result<(), StartError> {
    let (applied, _) = read_marks(kv)?;
    let Some(applied_id) = applied else { return Ok(()) };
    let applied = types::index_in(applied_id.index);
    let last = log.last().map_or(LogIndex(0), |last| last.index);
    let is_ahead = applied > last;
    let is_whole = log.first_index() == Some(LogIndex(1));
    if !is_ahead {
        let found = log.reader().read(applied, applied.next(), 1).map_err(io::Error::other)?.pop();
        let found = found.map(|record| types::log_id(record.term, record.node, record.index));
        if found.is_none_or(|found| found == Some(applied_id)) {
            return Ok(());
        }
    }
    if last > LogIndex(0) && !is_whole {
        return Err(StartError::ForeignState { applied, last });
    }
    let why = if is_ahead { "ahead of the log" } else { "of another log" };
    tracing::warn!(%applied, %last, "the state is {why}: after a power loss, or put back from elsewhere; applying the log anew");
    snapshot::clear(kv)?;
    Ok(())
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
    use crate::store::log::record::{Record, RecordKind};
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

    #[test]
    fn p18_a_state_of_another_log_is_dropped_and_applied_anew() {
        let log = log();
        for (what, term, index, is_kept) in [
            ("behind", TERM, 1, true),
            ("up to date", TERM, 3, true),
            ("ahead", TERM, 4, false),
            ("of another leader", Term(1), 2, false),
        ] {
            let kv = state(term, index);
            rebuild_if_foreign(&log, &kv).unwrap();
            let (applied, _) = read_marks(&kv).unwrap();
            assert_eq!(applied.is_some(), is_kept, "{what}");
        }
    }
}
