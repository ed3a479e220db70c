//! Entries that are in the state of this node and that its log lost to damage: fetched from the peers before Raft starts,
//! which takes what is applied and not in the log for purged.

use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::model::LogIndex;
use crate::raft::error::StartError;
use crate::raft::marks::read_marks;
use crate::raft::repair::RecordSource;
use crate::raft::snapshot::source::NotGiven;
use crate::raft::snapshot::sources::NotServed;
use crate::raft::types;
use crate::store::kv::Kv;
use crate::store::log::CommitLog;
use crate::store::log::examine::EntryRange;
use crate::store::log::record::{Record, RecordId};

/// Of a start.
pub(super) const FETCH_MAX: Duration = Duration::from_secs(60);
const TRY_EVERY: Duration = Duration::from_millis(500);

/// Peers that are asked for what was lost, each for itself.
pub(super) trait LostEntrySource: RecordSource {
    /// As [`RecordSource::records`], with the reason why there are none.
    fn ask(&self, range: EntryRange, turn: usize) -> impl Future<Output = Result<Vec<Record>, NotGiven>> + Send;
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The log has all that the state has applied.
    All,
    /// Nobody gives it, and somebody says not to have it: the state of one that has applied as much is to come (D148).
    NobodyHas,
}

/// Brings the log to what the state has applied, if damage took the end of it, `within` this time: peers may be starting too,
/// and know only after a moment what is committed of what they have.
///
/// * Errors: [`StartError::LostEntries`] if no peer gives them or says that it has none.
pub(super) async fn fetch_lost_entries(
    log: &CommitLog,
    kv: &dyn Kv,
    peers: &impl LostEntrySource,
    within: Duration,
) -> Result<Fetched, StartError> {
    let applied_id = read_marks(kv)?.0;
    let applied = applied_id.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index));
    if log.lost_from().is_none() {
        return Ok(Fetched::All);
    }
    let until = Instant::now() + within;
    let (mut turn, mut is_missing) = (0, false);
    loop {
        let last = log.last().or(log.purged());
        let next = last.map_or(LogIndex(0), |last| last.index).next();
        if next > applied {
            return Ok(Fetched::All);
        }
        match peers.ask(EntryRange { from: next, to: applied.next() }, turn).await {
            Ok(records) if fit(&records, last, &applied_id) => {
                tracing::info!(from = %next, count = records.len(), "entries that the log lost come from another node");
                append(log, records).await?;
                continue;
            }
            Err(NotGiven::NotServed(NotServed::Missing(_))) => is_missing = true,
            Ok(_) | Err(_) => {}
        }
        if Instant::now() >= until {
            let lost = StartError::LostEntries { from: next, applied };
            return if is_missing { Ok(Fetched::NobodyHas) } else { Err(lost) };
        }
        turn += 1;
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Whether they follow what is there, and end with what the state knows.
fn fit(records: &[Record], last: Option<RecordId>, applied: &Option<types::LogId>) -> bool {
    let mut term = last.map_or(crate::model::Term(0), |last| last.term);
    let follow = records.iter().all(|record| std::mem::replace(&mut term, record.term) <= record.term);
    let same = |record: &Record| types::log_id(record.term, record.node, record.index) == *applied;
    let at_applied = records
        .iter()
        .find(|record| applied.as_ref().is_some_and(|applied| types::index_in(applied.index) == record.index));
    follow && at_applied.is_none_or(same)
}

async fn append(log: &CommitLog, records: Vec<Record>) -> Result<(), StartError> {
    let (sender, done) = oneshot::channel();
    let completed = move |result| {
        // Nobody waits only if this start is given up.
        let _ = sender.send(result);
    };
    log.append(records, Box::new(completed)).map_err(std::io::Error::other)?;
    let done = done.await.map_err(std::io::Error::other)?;
    Ok(done?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::env::fault::sim::SimDisk;
    use crate::model::{NodeId, Term};
    use crate::raft::marks::push_marks;
    use crate::store::kv::WriteBatch;
    use crate::store::kv::memory::MemoryKv;
    use crate::store::log::record::RecordKind;
    use crate::store::log::{FlushMode, LogOwner, Options};

    #[test]
    fn p19_entries_that_do_not_follow_or_are_not_what_was_applied_are_not_taken() {
        let record = |term, index| Record {
            term: Term(term),
            node: NodeId(1),
            index: LogIndex(index),
            kind: RecordKind::Blank,
            body: Bytes::new(),
        };
        let applied = types::log_id(Term(3), NodeId(1), LogIndex(6));
        let last = Some(record(2, 4).id());
        assert!(fit(&[record(2, 5), record(3, 6)], last, &applied));
        assert!(fit(&[record(2, 5)], last, &applied));
        assert!(!fit(&[record(1, 5)], last, &applied), "a term below the one before");
        assert!(!fit(&[record(2, 5), record(2, 6)], last, &applied), "another entry was applied");
        assert!(!fit(&[record(3, 5), record(2, 6)], last, &None));
    }

    fn record(index: u64) -> Record {
        let body = Bytes::new();
        Record { term: Term(2), node: NodeId(1), index: LogIndex(index), kind: RecordKind::Blank, body }
    }

    /// A log of entries up to 3, with a state that has applied entry 6.
    fn replica() -> (CommitLog, MemoryKv) {
        let owner = LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(0) };
        let options = Options {
            segment_bytes: 4096,
            tail_cache_bytes: 512,
            flush: FlushMode::Sync,
            open_files_max: 8,
            has_peers: true,
        };
        let disk = Arc::new(SimDisk::default());
        let log = CommitLog::open(disk, Path::new("/log"), &owner, options, Box::new(|_| {})).unwrap();
        let (sender, done) = std::sync::mpsc::channel();
        let records = (1..=3).map(record).collect();
        log.append(records, Box::new(move |result| sender.send(result.is_ok()).unwrap())).unwrap();
        assert!(done.recv().unwrap());
        log.lose_from(LogIndex(4)).unwrap();
        let (kv, mut batch) = (MemoryKv::default(), WriteBatch::default());
        push_marks(&mut batch, &types::log_id(Term(2), NodeId(1), LogIndex(6)), None);
        kv.write(batch).unwrap();
        (log, kv)
    }

    /// Two peers: the first entry in the log of each; 0 for one that is silent.
    struct Peers([u64; 2]);

    impl RecordSource for Peers {
        async fn records(&self, range: EntryRange, turn: usize) -> Option<Vec<Record>> {
            self.ask(range, turn).await.ok()
        }

        fn count(&self) -> usize {
            2
        }
    }

    impl LostEntrySource for Peers {
        async fn ask(&self, range: EntryRange, turn: usize) -> Result<Vec<Record>, NotGiven> {
            match self.0[turn % 2] {
                0 => Err(NotGiven::Unreachable("it is down".to_owned())),
                first if range.from.0 < first => Err(NotServed::Missing(range.from).into()),
                _ => Ok(vec![record(range.from.0)]),
            }
        }
    }

    #[tokio::test]
    async fn p18_what_no_peer_has_in_its_log_any_more_is_not_waited_for() {
        let (log, kv) = replica();
        assert_eq!(
            fetch_lost_entries(&log, &kv, &Peers([5, 7]), Duration::from_millis(1)).await.unwrap(),
            Fetched::NobodyHas
        );
        assert_eq!((log.last().unwrap().index, log.lost_from()), (LogIndex(3), Some(LogIndex(4))));
    }

    #[tokio::test]
    async fn p18_a_start_whose_peers_are_all_silent_ends() {
        let (log, kv) = replica();
        let silent = fetch_lost_entries(&log, &kv, &Peers([0, 0]), Duration::ZERO).await;
        assert!(matches!(silent, Err(StartError::LostEntries { .. })), "{silent:?}");
    }

    #[tokio::test]
    async fn p18_what_one_peer_has_is_fetched_though_another_one_lacks_it() {
        let (log, kv) = replica();
        assert_eq!(fetch_lost_entries(&log, &kv, &Peers([7, 4]), FETCH_MAX).await.unwrap(), Fetched::All);
        assert_eq!((log.last().unwrap().index, log.lost_from()), (LogIndex(6), Some(LogIndex(4))));
    }
}
