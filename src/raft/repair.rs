//! Repairs the log of this node with what its peers have: entries in their places, or whole segments.
//!
//! Works when something was found to be damaged, by a reader, the scrub or the start. Only entries that this node has applied,
//! or knows to be committed, are repaired: every peer that has applied them has the same, and gives no others. What is not
//! committed comes from the leader, as always.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::pool::Pool;
use crate::model::LogIndex;
use crate::raft::peer::status::Damage;
#[cfg(debug_assertions)]
use crate::raft::planted;
use crate::store;
use crate::store::log::CommitLog;
use crate::store::log::examine::{EntryRange, Examined, Remedy};
use crate::store::log::record::Record;

/// What could not be repaired is tried again after this long, and then after twice as long each time, up to the longest.
const TRY_EVERY: Duration = Duration::from_secs(2);
const TRY_EVERY_MAX: Duration = Duration::from_secs(60);
const NOBODY: &str = "none answers, or none has them";
/// What stays as it is, is reported once in this time.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Gives committed records of the peers.
pub(super) trait RecordSource: Send + Sync {
    /// Consecutive records from `from` on, at least one and none at `to` or later; `None` if no peer gives any now.
    /// `turn` says how often it was asked before for the same ones: another peer may have better ones.
    fn records(&self, range: EntryRange, turn: usize) -> impl Future<Output = Option<Vec<Record>>> + Send;
    /// How many peers there are.
    fn count(&self) -> usize;
}

/// What was repaired since the start. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Repairs {
    entries: Arc<AtomicU64>,
    segments: Arc<AtomicU64>,
}

impl Repairs {
    /// As the status of this replica says it.
    pub fn damage(&self, log: &CommitLog) -> Damage {
        Damage {
            damaged_segments: log.damage().len() as u64,
            lacks_tail: log.lost_from().is_some(),
            repaired_entries: self.entries.load(Ordering::Relaxed),
            rebuilt_segments: self.segments.load(Ordering::Relaxed),
        }
    }
}

/// What it works with.
pub(super) struct Repair<S> {
    pub log: CommitLog,
    pub applied: watch::Receiver<LogIndex>,
    pub peers: S,
    pub repairs: Repairs,
}

/// Why a segment is not repaired now.
#[derive(Debug, thiserror::Error)]
enum NotRepaired {
    /// No peer has it, or not as it should be.
    #[error("no other node gives entries {0} to {1}: {2}")]
    NotThere(LogIndex, LogIndex, String),
    /// It is not known to be committed yet.
    #[error("it has entries that are not known to be committed yet")]
    NotCommitted,
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<S: RecordSource> Repair<S> {
    /// Works until it is dropped.
    pub async fn run(self) {
        let found = self.log.damage_found();
        let mut reported: Option<Instant> = None;
        let mut pause = TRY_EVERY;
        loop {
            let damage = self.log.damage();
            if damage.is_empty() {
                found.notified().await;
                (reported, pause) = (None, TRY_EVERY);
                continue;
            }
            let is_due = reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
            let mut is_left = false;
            for (first, reason) in damage {
                let Err(error) = self.segment(first).await else { continue };
                is_left = true;
                if is_due {
                    report(first, &reason, &error);
                }
            }
            if is_left {
                reported = if is_due { Some(Instant::now()) } else { reported };
                match tokio::time::timeout(pause, found.notified()).await {
                    // Something else is damaged.
                    Ok(()) => pause = TRY_EVERY,
                    Err(_) => pause = (2 * pause).min(TRY_EVERY_MAX),
                }
            }
        }
    }

    /// Repairs what Raft reads when it starts, until `readable` finds nothing damaged. What no peer gives in time is left as
    /// it is.
    pub async fn before_raft(&self, within: Duration, readable: impl Fn() -> Result<(), store::Error>) {
        let until = Instant::now() + within;
        while let Err(store::Error::Damaged { .. }) = readable() {
            let mut left = None;
            for (first, reason) in self.log.damage() {
                if let Err(error) = self.segment(first).await {
                    left = Some((first, reason, error));
                }
            }
            if Instant::now() >= until {
                if let Some((first, reason, error)) = &left {
                    report(*first, reason, error);
                }
                return;
            }
            if left.is_some() {
                tokio::time::sleep(TRY_EVERY).await;
            }
        }
    }

    /// Repairs one segment.
    async fn segment(&self, first: LogIndex) -> Result<(), NotRepaired> {
        let Some(examined) = self.examine(first).await? else { return Ok(()) };
        #[cfg(debug_assertions)]
        let examined = planted::all_is_bad(examined);
        // Apply may be waiting for just these.
        let committed = self.log.committed_hint().max(*self.applied.borrow());
        if examined.bad.last().is_some_and(|bad| bad.to > committed.next()) {
            return Err(NotRepaired::NotCommitted);
        }
        match examined.remedy {
            Remedy::None => return Ok(()),
            Remedy::InPlace => match self.in_place(&examined).await {
                // The disk cannot write there: it cannot read what is around it.
                Err(NotRepaired::Store(store::Error::Io { .. })) if examined.is_sealed() => {
                    self.rebuild(examined).await?;
                }
                repaired => repaired?,
            },
            Remedy::Rebuild => self.rebuild(examined).await?,
        }
        // By the checksum in its footer it is whole again, or it is seen to be another than it should be.
        self.examine(first).await?;
        Ok(())
    }

    async fn examine(&self, first: LogIndex) -> Result<Option<Examined>, NotRepaired> {
        let log = self.log.clone();
        blocking(move || log.examine(first, &mut |_| true)).await
    }

    async fn in_place(&self, examined: &Examined) -> Result<(), NotRepaired> {
        for bad in &examined.bad {
            let mut next = bad.from;
            while next < bad.to {
                next = self.part_in_place(EntryRange { from: next, to: bad.to }).await?;
            }
        }
        Ok(())
    }

    /// Fetches and writes some entries from the front of a range; gives where it goes on.
    async fn part_in_place(&self, range: EntryRange) -> Result<LogIndex, NotRepaired> {
        let mut why = NOBODY.to_owned();
        for turn in 0..self.peers.count() {
            let Some(records) = self.peers.records(range, turn).await else { continue };
            let count = records.len() as u64;
            let log = self.log.clone();
            match blocking(move || log.repair_in_place(records)).await {
                Ok(()) => {
                    let next = LogIndex(range.from.0 + count);
                    self.repairs.entries.fetch_add(count, Ordering::Relaxed);
                    tracing::info!(from = %range.from, count, "damaged entries are replaced by those of another node");
                    return Ok(next);
                }
                Err(NotRepaired::Store(error @ store::Error::Damaged { .. })) => why = error.to_string(),
                Err(error) => return Err(error),
            }
        }
        Err(NotRepaired::NotThere(range.from, LogIndex(range.to.0 - 1), why))
    }

    async fn rebuild(&self, examined: Examined) -> Result<(), NotRepaired> {
        let (log, first) = (self.log.clone(), examined.first);
        // Nothing is copied as long as nobody has what is missing.
        if let Some(bad) = examined.bad.first() {
            let one = EntryRange { from: bad.from, to: bad.from.next() };
            self.is_there(one).await?;
        }
        tracing::info!(segment = %first, reason = examined.reason, "a segment is made anew");
        let mut rebuild = blocking(move || log.rebuild(examined)).await?;
        let mut fetched = 0;
        loop {
            let (advanced, range) = blocking(move || {
                let mut rebuild = rebuild;
                rebuild.advance().map(|range| (rebuild, range))
            })
            .await?;
            rebuild = advanced;
            let Some(range) = range else { break };
            let mut why = NOBODY.to_owned();
            let mut is_put = false;
            for turn in 0..self.peers.count() {
                let Some(records) = self.peers.records(range, turn).await else { continue };
                let count = records.len() as u64;
                let (kept, put) = blocking(move || {
                    let mut rebuild = rebuild;
                    let put = rebuild.put(&records);
                    Ok((rebuild, put))
                })
                .await?;
                rebuild = kept;
                match put {
                    Ok(()) => {
                        (is_put, fetched) = (true, fetched + count);
                        break;
                    }
                    Err(error @ store::Error::Damaged { .. }) => why = error.to_string(),
                    Err(error) => return Err(error.into()),
                }
            }
            if !is_put {
                return Err(NotRepaired::NotThere(range.from, LogIndex(range.to.0 - 1), why));
            }
        }
        blocking(move || rebuild.finish()).await?;
        self.repairs.segments.fetch_add(1, Ordering::Relaxed);
        self.repairs.entries.fetch_add(fetched, Ordering::Relaxed);
        tracing::info!(segment = %first, fetched, "the segment is made anew, with entries of another node");
        Ok(())
    }
}

impl<S: RecordSource> Repair<S> {
    /// Whether a peer gives this now.
    async fn is_there(&self, range: EntryRange) -> Result<(), NotRepaired> {
        for turn in 0..self.peers.count() {
            if self.peers.records(range, turn).await.is_some() {
                return Ok(());
            }
        }
        Err(NotRepaired::NotThere(range.from, LogIndex(range.to.0 - 1), NOBODY.to_owned()))
    }
}

fn report(first: LogIndex, reason: &str, error: &NotRepaired) {
    tracing::error!(
        segment = %first,
        reason,
        %error,
        "a damaged segment of the log is not repaired yet: what is damaged in it is not given out. It is tried again every \
         few seconds; if no node that runs has these entries, put back one that has them, or a backup"
    );
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, store::Error> + Send + 'static,
) -> Result<T, NotRepaired> {
    let done = Pool::Upkeep.run(work).await;
    Ok(done.map_err(io::Error::other)??)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use bytes::Bytes;

    use super::*;
    use crate::env::disk::Disk;
    use crate::env::fault::sim::SimDisk;
    use crate::model::{NodeId, Term};
    use crate::store::log::record::RecordKind;
    use crate::store::log::{FlushMode, LogOwner, Options};

    const ENTRIES: u64 = 100;

    fn record(term: u64, index: u64) -> Record {
        let body = Bytes::from(format!("{index}/").repeat(20));
        Record { term: Term(term), node: NodeId(0), index: LogIndex(index), kind: RecordKind::Batch, body }
    }

    fn open(disk: &SimDisk) -> CommitLog {
        let owner = LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(0) };
        let options = Options {
            segment_bytes: 2048,
            tail_cache_bytes: 512,
            flush: FlushMode::Sync,
            open_files_max: 16,
            has_peers: true,
        };
        CommitLog::open(Arc::new(disk.mount()), Path::new("/log"), &owner, options, Box::new(|_| {})).unwrap()
    }

    fn filled() -> SimDisk {
        let disk = SimDisk::default();
        let log = open(&disk);
        let (sender, done) = std::sync::mpsc::channel();
        let records = (1..=ENTRIES).map(|index| record(2, index)).collect();
        log.append(records, Box::new(move |result| sender.send(result.is_ok()).unwrap())).unwrap();
        assert!(done.recv().unwrap());
        disk
    }

    /// Peers of which the first one has other entries, and the second one none.
    struct Peers;

    impl RecordSource for Peers {
        async fn records(&self, range: EntryRange, turn: usize) -> Option<Vec<Record>> {
            let term = match turn {
                0 => 1,
                1 => return None,
                _ => 2,
            };
            Some((range.from.0..range.to.0.min(range.from.0 + 3)).map(|index| record(term, index)).collect())
        }

        fn count(&self) -> usize {
            3
        }
    }

    struct Nobody;

    impl RecordSource for Nobody {
        async fn records(&self, _range: EntryRange, _turn: usize) -> Option<Vec<Record>> {
            None
        }

        fn count(&self) -> usize {
            2
        }
    }

    fn repair(log: &CommitLog, applied: u64) -> Repair<Peers> {
        let (_, applied) = watch::channel(LogIndex(applied));
        Repair { log: log.clone(), applied, peers: Peers, repairs: Repairs::default() }
    }

    fn segment(log: &CommitLog, position: usize) -> (LogIndex, PathBuf) {
        let first = log.segments()[position].first;
        (first, Path::new("/log").join(format!("{:020}.seg", first.0)))
    }

    fn check(log: &CommitLog) {
        for index in 1..=ENTRIES {
            let read = log.reader().read(LogIndex(index), LogIndex(index + 1), 1).unwrap();
            assert_eq!(read, [record(2, index)]);
        }
    }

    #[tokio::test]
    async fn p19_damaged_entries_and_segments_come_from_the_peer_that_has_the_right_ones() {
        for damage in ["body", "header", "gone"] {
            let disk = filled();
            let log = open(&disk);
            let (first, path) = segment(&log, 1);
            let mut bytes = disk.bytes(&path).unwrap();
            match damage {
                "body" => bytes[64 + 100] ^= 1,
                "header" => bytes[3] ^= 1,
                _ => bytes.clear(),
            }
            match damage {
                "gone" => disk.remove(&path).unwrap(),
                _ => disk.put_bytes(&path, bytes),
            }
            drop(log);
            let log = open(&disk);
            assert!(log.reader().read(first, first.next(), 1).is_err(), "{damage}");
            let repair = repair(&log, ENTRIES);
            for _ in 0..4 {
                for (first, _) in log.damage() {
                    repair.segment(first).await.unwrap_or_else(|error| panic!("{damage}: {error}"));
                }
            }
            assert_eq!(log.damage(), [], "{damage}");
            check(&log);
            let counted = repair.repairs.damage(&log);
            assert!(counted.repaired_entries + counted.rebuilt_segments > 0, "{damage}: {counted:?}");
            assert_eq!(counted.damaged_segments, 0, "{damage}");
        }
    }

    #[tokio::test]
    async fn p19_what_is_not_known_to_be_committed_is_not_taken_from_a_peer() {
        let disk = filled();
        let log = open(&disk);
        let (first, path) = segment(&log, 1);
        let mut bytes = disk.bytes(&path).unwrap();
        bytes[64 + 100] ^= 1;
        disk.put_bytes(&path, bytes);
        drop(log);
        let log = open(&disk);
        assert!(log.reader().read(first, first.next(), 1).is_err());
        let refused = repair(&log, first.0 - 1).segment(first).await;
        assert!(matches!(refused, Err(NotRepaired::NotCommitted)), "{refused:?}");
    }

    #[tokio::test]
    async fn p19_what_is_committed_and_not_applied_yet_is_repaired_because_apply_waits_for_it() {
        let disk = SimDisk::default();
        let log = open(&disk);
        let (sender, done) = std::sync::mpsc::channel();
        let records = (1..=3).map(|index| record(2, index)).collect();
        log.append(records, Box::new(move |result| sender.send(result.is_ok()).unwrap())).unwrap();
        assert!(done.recv().unwrap());
        let (first, path) = segment(&log, 0);
        let mut bytes = disk.bytes(&path).unwrap();
        let starts: Vec<_> = (0..bytes.len() - 4).filter(|at| &bytes[*at..*at + 4] == b"RMQR").collect();
        bytes[starts[1] + 70] ^= 1;
        drop(log);
        disk.put_bytes(&path, bytes);
        let log = open(&disk);
        assert!(log.reader().read(LogIndex(2), LogIndex(3), 1).is_err());
        let repair = repair(&log, 1);
        assert!(matches!(repair.segment(first).await, Err(NotRepaired::NotCommitted)));
        // As Raft notes it before it applies.
        log.set_committed(LogIndex(3));
        repair.segment(first).await.unwrap();
        assert_eq!(log.reader().read(LogIndex(2), LogIndex(3), 1).unwrap(), [record(2, 2)]);
    }

    #[tokio::test]
    async fn p19_a_segment_is_made_anew_where_the_disk_cannot_be_written_in_place_and_never_for_nothing() {
        let disk = filled();
        let log = open(&disk);
        let (first, path) = segment(&log, 1);
        disk.make_unreadable(&path, 500..1012);
        assert!(log.reader().read(first, LogIndex(first.0 + 50), usize::MAX).is_ok_and(|read| read.len() < 10));
        let files = || disk.list(Path::new("/log")).unwrap();
        let before = files();
        let nobody = Repair {
            log: log.clone(),
            applied: repair(&log, ENTRIES).applied,
            peers: Nobody,
            repairs: Repairs::default(),
        };
        assert!(matches!(nobody.segment(first).await, Err(NotRepaired::NotThere(..))));
        // Also one that is given up on the way leaves nothing.
        let examined = nobody.examine(first).await.unwrap().unwrap();
        let mut rebuild = log.rebuild(examined).unwrap();
        assert!(rebuild.advance().unwrap().is_some() && files() != before);
        drop(rebuild);
        assert_eq!(files(), before);
        repair(&log, ENTRIES).segment(first).await.unwrap();
        check(&log);
        assert_eq!((log.damage(), files()), (Vec::new(), before));
    }
}
