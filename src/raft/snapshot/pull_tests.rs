//! Pulling and installing on simulated disks: broken off, crashed and gone on with at every point; what is damaged is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::env::disk::Disk;
use crate::env::fault::sim::SimDisk;
use crate::env::pool::Pool;
use crate::machine::newest_version;
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::error::StartError;
use crate::raft::foreign_state::{Fit, judge};
use crate::raft::marks::read_marks;
use crate::raft::peer::wire;
use crate::raft::snapshot::failed_installs;
use crate::raft::snapshot::install::{ReleaseReserve, Staged};
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::progress::PullProgress;
use crate::raft::snapshot::pull::{OwnRecords, PullError, pull, while_asked};
use crate::raft::snapshot::source::{NotGiven, SnapshotSource, check_records};
use crate::raft::snapshot::sources::{NotServed, SnapshotSources};
use crate::raft::snapshot::target::StagingError;
use crate::raft::snapshot::test_replica::{TestReplica, record};
use crate::raft::types;
use crate::store::generation::Generation;
use crate::store::kv::Kv;
use crate::store::log::record::{Record, RecordId, RecordKind};
use crate::store::log::{KnownPeer, StartMark, VoteRecord};

const NODE: u64 = 2;
const VOTE: VoteRecord = VoteRecord { term: Term(2), node: NodeId(1), committed: true };
const PEER: KnownPeer =
    KnownPeer { disk: 77, start: Some(StartMark { number: 3, nonce: 9 }), acknowledged: LogIndex(11) };

/// What is done to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// So many calls are answered, then none.
    Ends(u64),
    /// A byte of this part of a file is another one.
    FileByte(u64),
    ShortPart,
    LongPart,
    RecordByte(usize),
    /// Another record than the one that was asked for.
    OtherRecord,
    /// One of another term in its place.
    OtherTerm,
}

/// The sources of another replica, as if over a link.
struct Remote {
    sources: SnapshotSources,
    fault: Option<Fault>,
    calls: AtomicU64,
    /// Bytes of files and records that were given.
    given: AtomicU64,
    /// Of these, bytes of each file.
    of_files: Mutex<BTreeMap<usize, u64>>,
}

impl Remote {
    fn new(sources: &SnapshotSources, fault: Option<Fault>) -> Self {
        let (calls, given, of_files) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
        Self { sources: sources.clone(), fault, calls, given, of_files }
    }

    fn call(&self) -> Result<u64, NotGiven> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Some(Fault::Ends(calls)) if call >= calls => Err(NotGiven::Unreachable("planted".to_owned())),
            _ => Ok(call),
        }
    }
}

impl SnapshotSource for Remote {
    async fn open(&self, at_least: LogIndex) -> Result<Manifest, NotGiven> {
        Ok((*self.sources.open("n2", at_least).await?).clone())
    }

    async fn file_part(&self, source: u64, file: usize, at: u64) -> Result<Bytes, NotGiven> {
        let call = self.call()?;
        let part = self.sources.file_part(source, file, at).await?;
        self.given.fetch_add(part.len() as u64, Ordering::Relaxed);
        *self.of_files.lock().entry(file).or_default() += part.len() as u64;
        let mut part = part.to_vec();
        match self.fault {
            Some(Fault::FileByte(of)) if of == call => part[7] ^= 1,
            Some(Fault::ShortPart) => drop(part.pop()),
            Some(Fault::LongPart) => part.push(0),
            _ => {}
        }
        Ok(part.into())
    }

    async fn records(&self, source: Option<u64>, first: LogIndex, last: LogIndex) -> Result<Vec<Record>, NotGiven> {
        self.call()?;
        // Few at a time, so that there are several answers.
        let mut records = self.sources.records(source, first, last.min(LogIndex(first.0 + 9))).await?;
        if self.fault == Some(Fault::OtherRecord) {
            records.remove(0);
        }
        if self.fault == Some(Fault::OtherTerm) {
            records.last_mut().unwrap().term = Term(1);
        }
        let mut bytes = wire::records(&records).to_vec();
        self.given.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(Fault::RecordByte(at)) = self.fault {
            bytes[at] ^= 1;
        }
        let records = wire::read_records(bytes.into()).map_err(|error| NotGiven::Unusable(error.to_string()))?;
        check_records(records, first, last)
    }

    async fn close(&self, source: u64) {
        self.sources.close(source).await;
    }
}

/// A replica with entries up to this one, that refers to those from 70 on.
fn leader(last: u64) -> TestReplica {
    let leader = TestReplica::new(1);
    leader.write_upto(last);
    leader.refer_to(70);
    leader
}

/// The disk of a replica that stayed behind.
fn follower_disk() -> SimDisk {
    let disk = SimDisk::default();
    let follower = TestReplica::open(&disk, NODE);
    follower.write_upto(20);
    follower.log.save_vote(VOTE).unwrap();
    follower.log.know_peer(NodeId(1), PEER).unwrap();
    disk
}

async fn try_pull(remote: &Remote, follower: &TestReplica) -> Result<Staged, PullError> {
    let manifest = remote.open(LogIndex(0)).await?;
    pull_as(remote, manifest, follower).await
}

async fn pull_as(remote: &Remote, manifest: Manifest, follower: &TestReplica) -> Result<Staged, PullError> {
    let own = OwnRecords { reader: follower.log.reader().clone(), applied: *follower.applied.borrow() };
    let progress = watch::Sender::new(PullProgress::default());
    let staged = pull(remote, manifest, follower.target(NODE), own, &progress).await?;
    let said = *progress.borrow();
    assert_eq!((said.percent(), said.applied), (100, staged.manifest().applied.index));
    Ok(staged)
}

fn no_reserve() -> ReleaseReserve {
    Arc::new(|| false)
}

/// What a start finds that comes after `installed`, on a disk that was `disk` before.
fn check_start(disk: &SimDisk, installed: Generation, applied: u64, starts_before: &[StartMark]) {
    let replica = TestReplica::open(disk, NODE);
    assert_eq!(replica.store.generation().unwrap(), installed);
    let log = &replica.log;
    assert_eq!(log.read_vote(), Some(VOTE));
    assert_eq!(log.known_peer(NodeId(1)), Some(PEER));
    let starts = log.starts();
    assert!(starts.len() > starts_before.len() && starts.starts_with(starts_before), "{starts:?} {starts_before:?}");
    let (first, last) = if installed == Generation(0) { (1, 20) } else { (64, applied) };
    assert_eq!((log.first_index(), log.last().map(|last| last.index)), (Some(LogIndex(first)), Some(LogIndex(last))));
    let read = log.reader().read(LogIndex(first), LogIndex(last + 1), usize::MAX).unwrap();
    assert!(read.into_iter().eq((first..=last).map(record)));
    if installed > Generation(0) {
        assert_eq!(log.purged(), Some(record(63).id()));
        let state = replica.kv.open_copy(&replica.store.state_of(installed)).unwrap();
        assert_eq!(read_marks(&*state).unwrap().0.map(|id| types::record_id(&id)), Some(record(applied).id()));
        assert!(matches!(judge(log, &*state, false), Ok(Fit::Good)));
    }
}

fn disk_and_starts(disk: &SimDisk) -> (u64, Vec<StartMark>) {
    let replica = TestReplica::open(disk, NODE);
    (replica.log.disk(), replica.log.starts())
}

#[tokio::test]
async fn what_was_pulled_is_installed_and_the_node_is_who_it_was() {
    let (leader, disk) = (leader(300), follower_disk());
    let remote = Remote::new(&leader.sources(), None);
    let (own_disk, starts) = disk_and_starts(&disk);
    let follower = TestReplica::open(&disk, NODE);
    let staged = try_pull(&remote, &follower).await.unwrap();
    assert_eq!(follower.store.generation().unwrap(), Generation(0), "nothing counts yet");
    staged.install(&follower.log, &no_reserve()).unwrap();
    drop((staged, follower));
    check_start(&disk, Generation(1), 300, &starts);
    assert_eq!(disk_and_starts(&disk).0, own_disk);
    let follower = TestReplica::open(&disk, NODE);
    assert_eq!(follower.store.leftovers(&[Generation(1), Generation(2)]).unwrap().len(), 1, "the log before");
    // Again, from there.
    leader.write_upto(400);
    let staged = try_pull(&Remote::new(&leader.sources(), None), &follower).await.unwrap();
    staged.install(&follower.log, &no_reserve()).unwrap();
    drop((staged, follower));
    check_start(&disk, Generation(2), 400, &starts);
}

#[tokio::test]
async fn a_node_with_nothing_comes_by_the_same_way() {
    let (leader, disk) = (leader(300), SimDisk::default());
    let follower = TestReplica::open(&disk, NODE);
    follower.log.save_vote(VOTE).unwrap();
    follower.log.know_peer(NodeId(1), PEER).unwrap();
    let starts = follower.log.starts();
    let staged = try_pull(&Remote::new(&leader.sources(), None), &follower).await.unwrap();
    staged.install(&follower.log, &no_reserve()).unwrap();
    drop((staged, follower));
    check_start(&disk, Generation(1), 300, &starts);
}

#[tokio::test]
async fn committed_records_of_the_own_log_are_not_pulled() {
    let (leader, disk) = (leader(120), SimDisk::default());
    let follower = TestReplica::open(&disk, NODE);
    follower.write_upto(100);
    let remote = Remote::new(&leader.sources(), None);
    let staged = try_pull(&remote, &follower).await.unwrap();
    let state = staged.manifest().state_bytes();
    let log: u64 = (101..=120).map(|index| record(index).wire_bytes() as u64).sum();
    assert_eq!(remote.given.load(Ordering::Relaxed), state + log);
}

#[tokio::test]
async fn p18_a_pull_that_breaks_off_after_any_call_goes_on_with_what_is_there() {
    let leader = leader(200);
    let sources = leader.sources();
    let whole = Remote::new(&sources, None);
    try_pull(&whole, &TestReplica::open(&follower_disk(), NODE)).await.unwrap();
    let (calls, bytes) = (whole.calls.load(Ordering::Relaxed), whole.given.load(Ordering::Relaxed));
    assert!(calls > 15, "{calls}");
    for ends in 0..calls {
        let disk = follower_disk();
        let follower = TestReplica::open(&disk, NODE);
        let broken = Remote::new(&sources, Some(Fault::Ends(ends)));
        let error = try_pull(&broken, &follower).await.err().unwrap();
        assert!(matches!(error, PullError::Source(NotGiven::Unreachable(_))), "{error}");
        let rest = Remote::new(&sources, None);
        let staged = try_pull(&rest, &follower).await.unwrap();
        let given = broken.given.load(Ordering::Relaxed) + rest.given.load(Ordering::Relaxed);
        // At most what was on its way, and one record to compare.
        assert!(given <= bytes + 12_000, "{given} of {bytes} after {ends}");
        staged.install(&follower.log, &no_reserve()).unwrap();
        drop((staged, follower));
        check_start(&disk, Generation(1), 200, &[]);
    }
}

#[tokio::test]
async fn p18_a_crash_at_any_point_of_a_pull_is_gone_on_from() {
    let leader = leader(130);
    let sources = leader.sources();
    let base = follower_disk();
    let (_, starts) = disk_and_starts(&base);
    let whole = base.copy();
    let before = whole.operations();
    try_pull(&Remote::new(&sources, None), &TestReplica::open(&whole, NODE)).await.unwrap();
    let operations = whole.operations() - before;
    assert!(operations > 60, "{operations}");
    for operation in (0..operations).step_by(3) {
        let disk = base.copy();
        let follower = TestReplica::open(&disk, NODE);
        let opened = disk.operations();
        disk.stop_after(operation);
        let pulled = try_pull(&Remote::new(&sources, None), &follower).await;
        drop((pulled, follower));
        assert!(disk.operations() >= opened);
        disk.crash(operation);
        // The source has started again meanwhile, every other time, and gone on.
        if operation % 2 == 0 {
            sources.end_all().await;
        }
        let follower = TestReplica::open(&disk, NODE);
        let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
        staged.install(&follower.log, &no_reserve()).unwrap();
        drop((staged, follower));
        check_start(&disk, Generation(1), 130, &starts);
    }
}

#[tokio::test]
async fn p18_what_a_killed_pull_left_complete_and_not_synced_is_durable_before_it_is_used() {
    let leader = leader(130);
    let sources = leader.sources();
    let base = follower_disk();
    let (_, starts) = disk_and_starts(&base);
    let whole = base.copy();
    let follower = TestReplica::open(&whole, NODE);
    let before = whole.operations();
    let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
    let operations = whole.operations() - before;
    drop((staged, follower));
    for operation in 0..operations {
        let disk = base.copy();
        let follower = TestReplica::open(&disk, NODE);
        disk.stop_after(operation);
        let pulled = try_pull(&Remote::new(&sources, None), &follower).await;
        drop((pulled, follower));
        // The process ended, and the machine did not: what was written is there, and may never have been on the disk.
        disk.stop_after(u64::MAX / 2);
        let follower = TestReplica::open(&disk, NODE);
        let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
        staged.install(&follower.log, &no_reserve()).unwrap();
        drop((staged, follower));
        disk.crash(operation);
        check_start(&disk, Generation(1), 130, &starts);
    }
}

#[tokio::test]
async fn p18_a_file_whose_sync_fails_is_pulled_anew() {
    let leader = leader(130);
    let sources = leader.sources();
    let base = follower_disk();
    let staged = try_pull(&Remote::new(&sources, None), &TestReplica::open(&base.copy(), NODE)).await.unwrap();
    let sizes: Vec<u64> = staged.manifest().files.iter().map(|file| file.bytes).collect();
    drop(staged);
    let mut pulled_anew = vec![0; sizes.len()];
    for sync in 0.. {
        let disk = base.copy();
        let follower = TestReplica::open(&disk, NODE);
        disk.fail_sync(sync);
        let broken = Remote::new(&sources, None);
        if try_pull(&broken, &follower).await.is_ok() {
            break;
        }
        disk.fail_sync(u64::MAX);
        let rest = Remote::new(&sources, None);
        let staged = try_pull(&rest, &follower).await.unwrap();
        for (file, bytes) in sizes.iter().enumerate() {
            let is_whole = |remote: &Remote| remote.of_files.lock().get(&file) == Some(bytes);
            pulled_anew[file] += u32::from(is_whole(&broken) && is_whole(&rest));
        }
        staged.install(&follower.log, &no_reserve()).unwrap();
        drop((staged, follower));
        disk.crash(sync);
        check_start(&disk, Generation(1), 130, &[]);
    }
    // Each is synced when it is complete, and once more before all of it counts.
    assert!(sizes.len() > 2 && pulled_anew.iter().all(|times| *times == 2), "{pulled_anew:?}");
}

#[tokio::test]
async fn p18_a_crash_at_any_point_of_an_installation_leaves_one_or_the_other_also_the_second_time() {
    let leader = leader(130);
    let sources = leader.sources();
    let base = follower_disk();
    let (_, starts) = disk_and_starts(&base);
    let whole = base.copy();
    let follower = TestReplica::open(&whole, NODE);
    let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
    let pulled = whole.operations();
    staged.install(&follower.log, &no_reserve()).unwrap();
    let operations = whole.operations() - pulled;
    drop((staged, follower));
    assert!(operations > 10, "{operations}");
    let mut seen = [0, 0];
    for (first, second) in (0..=operations).map(|first| (first, (first * 7) % (operations + 1))) {
        let disk = base.copy();
        for (round, stop) in [first, second].into_iter().enumerate() {
            let follower = TestReplica::open(&disk, NODE);
            if follower.store.generation().unwrap() == Generation(1) {
                continue;
            }
            let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
            disk.stop_after(stop);
            let installed = staged.install(&follower.log, &no_reserve());
            drop((staged, follower));
            disk.crash(first * 31 + round as u64);
            let generation = TestReplica::open(&disk, NODE).store.generation().unwrap();
            if installed.is_ok() {
                assert_eq!(generation, Generation(1), "an installation that is done stays done");
            }
            seen[usize::try_from(generation.0).unwrap()] += 1;
            check_start(&disk, generation, 130, &starts);
        }
        let follower = TestReplica::open(&disk, NODE);
        if follower.store.generation().unwrap() == Generation(0) {
            let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
            staged.install(&follower.log, &no_reserve()).unwrap();
        }
        drop(follower);
        check_start(&disk, Generation(1), 130, &starts);
    }
    assert!(seen[0] > 5 && seen[1] > 2, "{seen:?}");
}

#[tokio::test]
async fn p19_what_a_source_sends_damaged_is_refused_and_nothing_is_installed() {
    let leader = leader(200);
    let sources = leader.sources();
    let disk = follower_disk();
    let follower = TestReplica::open(&disk, NODE);
    for fault in [
        Fault::FileByte(0),
        Fault::FileByte(3),
        Fault::ShortPart,
        Fault::LongPart,
        Fault::RecordByte(3),
        Fault::RecordByte(60),
        Fault::OtherRecord,
        Fault::OtherTerm,
    ] {
        let error = try_pull(&Remote::new(&sources, Some(fault)), &follower).await.err();
        let error = error.unwrap_or_else(|| panic!("{fault:?} was not noticed"));
        let is_refusal =
            matches!(error, PullError::Source(NotGiven::Unusable(_)) | PullError::Staging(StagingError::Unusable(_)));
        assert!(is_refusal, "{fault:?}: {error}");
        assert_eq!(follower.store.generation().unwrap(), Generation(0));
    }
    // Nothing of it stays in the way.
    let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
    staged.install(&follower.log, &no_reserve()).unwrap();
    drop((staged, follower));
    check_start(&disk, Generation(1), 200, &[]);
}

#[tokio::test]
async fn p19_a_manifest_that_does_not_fit_what_comes_is_refused() {
    let leader = leader(200);
    let sources = leader.sources();
    let disk = follower_disk();
    let follower = TestReplica::open(&disk, NODE);
    let right = (*sources.open("n2", LogIndex(0)).await.unwrap()).clone();
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = right.clone();
        change(&mut manifest);
        manifest
    };
    let other_applied = RecordId { index: LogIndex(199), ..right.applied };
    for (what, wrong) in [
        ("of another cluster", with(&|it| it.cluster = "other".into())),
        ("of another group", with(&|it| it.group = "other".into())),
        ("of a newer build", with(&|it| it.cluster_version = newest_version() + 1)),
        ("a checksum", with(&|it| it.files[1].crc32c ^= 1)),
        ("a shorter file", with(&|it| it.files[1].bytes -= 1)),
        ("a longer file", with(&|it| it.files[1].bytes += 1)),
        ("a file less", with(&|it| drop(it.files.pop()))),
        (
            "two files, one for the other",
            with(&|it| {
                let name = it.files[0].name.clone();
                it.files[0].name = std::mem::replace(&mut it.files[1].name, name);
            }),
        ),
        ("an earlier end", with(&|it| it.applied = other_applied)),
        ("an end of another term", with(&|it| it.applied.term = Term(1))),
        ("a later beginning", with(&|it| (it.first, it.before) = (LogIndex(130), Some(record(129).id())))),
    ] {
        let error = pull_as(&Remote::new(&sources, None), wrong, &follower).await.err();
        let error = error.unwrap_or_else(|| panic!("{what}: was not noticed"));
        let is_refusal = matches!(
            error,
            PullError::Source(NotGiven::Unusable(_) | NotGiven::NotServed(_))
                | PullError::Staging(StagingError::Unusable(_))
        );
        assert!(is_refusal, "{what}: {error}");
        assert_eq!(follower.store.generation().unwrap(), Generation(0));
    }
    let staged = pull_as(&Remote::new(&sources, None), right, &follower).await.unwrap();
    staged.install(&follower.log, &no_reserve()).unwrap();
    drop((staged, follower));
    check_start(&disk, Generation(1), 200, &[]);
}

/// Appends entries of another term to a log, after its last one.
fn append_other(replica: &TestReplica, upto: u64, term: u64) {
    let first = replica.log.last().map_or(1, |last| last.index.0 + 1);
    let other = |index| Record {
        term: Term(term),
        node: NodeId(0),
        index: LogIndex(index),
        kind: RecordKind::Blank,
        body: Bytes::new(),
    };
    let (sender, done) = std::sync::mpsc::channel();
    let records = (first..=upto).map(other).collect();
    replica.log.append(records, Box::new(move |result| sender.send(result.is_ok()).unwrap())).unwrap();
    assert!(done.recv().unwrap());
}

#[tokio::test]
async fn p18_what_the_own_log_has_after_the_snapshot_stays_if_it_follows_it() {
    for (what, own_upto, other_upto, other_term, last) in
        [("it follows", 130, 140, 3, 140), ("it ends with it", 130, 130, 3, 130), ("it conflicts", 120, 140, 1, 130)]
    {
        let (leader, disk) = (leader(130), SimDisk::default());
        let sources = leader.sources();
        let follower = TestReplica::open(&disk, NODE);
        follower.write_upto(own_upto);
        append_other(&follower, other_upto, other_term);
        follower.applied.send_replace(LogIndex(100));
        let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
        // Twice, as after a crash before the flip.
        staged.install(&follower.log, &no_reserve()).unwrap();
        follower.store.flip_to(Generation(0)).unwrap();
        staged.install(&follower.log, &no_reserve()).unwrap();
        drop((staged, follower));
        let installed = TestReplica::open(&disk, NODE);
        assert_eq!(installed.log.last().map(|last| last.index), Some(LogIndex(last)), "{what}");
        let read = installed.log.reader().read(LogIndex(64), LogIndex(131), usize::MAX).unwrap();
        assert!(read.into_iter().eq((64..=130).map(record)), "{what}");
    }
}

/// A loss of power damaged the states of two of three, and the third one lacks what only those two have.
#[tokio::test]
async fn p18_a_state_that_is_gone_comes_from_a_peer_and_all_of_the_own_log_stays() {
    let (leader, disk) = (leader(130), SimDisk::default());
    let sources = leader.sources();
    {
        let follower = TestReplica::open(&disk, NODE);
        follower.write_upto(140);
        follower.log.save_vote(VOTE).unwrap();
        follower.log.purge(record(100).id()).unwrap();
    }
    // Its state was in memory.
    let follower = TestReplica::open(&disk, NODE);
    let found = judge(&follower.log, &*follower.kv, false);
    assert!(matches!(found, Err(StartError::StateBehindLog { purged: LogIndex(100), .. })), "{found:?}");
    follower.applied.send_replace(LogIndex(100));
    let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
    assert_eq!(staged.manifest().applied, record(130).id());
    staged.install(&follower.log, &no_reserve()).unwrap();
    drop((staged, follower));
    let installed = TestReplica::open(&disk, NODE);
    let read = installed.log.reader().read(LogIndex(64), LogIndex(200), usize::MAX).unwrap();
    assert!(read.into_iter().eq((64..=140).map(record)));
    assert_eq!((installed.log.read_vote(), installed.log.lost_from()), (Some(VOTE), None), "it votes as before");
    let state = installed.kv.open_copy(&installed.store.state_of(Generation(1))).unwrap();
    assert!(matches!(judge(&installed.log, &*state, false), Ok(Fit::Good)));
}

#[tokio::test]
async fn p18_acknowledged_entries_after_the_snapshot_that_cannot_be_read_are_not_lost_with_it() {
    let (leader, disk) = (leader(130), SimDisk::default());
    let sources = leader.sources();
    let follower = TestReplica::open(&disk, NODE);
    follower.write_upto(200);
    let last = follower.log.segments().last().unwrap().first.0;
    assert!(last > 140, "{last}");
    let damaged = format!("/store/log/{:020}.seg", follower.log.segments()[follower.log.segments().len() - 2].first.0);
    let mut bytes = disk.bytes(damaged.as_ref()).unwrap();
    bytes[100] ^= 1;
    disk.put_bytes(damaged.as_ref(), bytes);
    let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
    let error = staged.install(&follower.log, &no_reserve()).unwrap_err();
    assert!(matches!(error, StagingError::Failed(_)), "{error}");
    assert_eq!(follower.store.generation().unwrap(), Generation(0));
}

#[tokio::test]
async fn p19_records_that_rot_after_they_were_pulled_are_not_installed_and_are_pulled_anew() {
    let leader = leader(130);
    let sources = leader.sources();
    for from_the_end in [1, 300, 700] {
        let disk = follower_disk();
        let follower = TestReplica::open(&disk, NODE);
        let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
        let folder = Path::new("/store/generation-1/log");
        let names = disk.list(folder).unwrap();
        let last = folder.join(names.iter().rfind(|name| name.ends_with(".seg")).unwrap());
        let mut bytes = disk.bytes(&last).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end - from_the_end] ^= 1;
        disk.put_bytes(&last, bytes);
        let error = staged.install(&follower.log, &no_reserve()).unwrap_err();
        assert!(matches!(error, StagingError::Failed(_)), "{error}");
        assert_eq!(follower.store.generation().unwrap(), Generation(0));
        drop(staged);
        let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
        staged.install(&follower.log, &no_reserve()).unwrap();
        drop((staged, follower));
        check_start(&disk, Generation(1), 130, &[]);
        assert_eq!(TestReplica::open(&disk, NODE).log.lost_from(), None);
    }
}

#[tokio::test]
async fn p19_a_state_that_cannot_be_read_through_is_not_installed() {
    let leader = leader(130);
    let sources = leader.sources();
    let disk = follower_disk();
    let follower = TestReplica::open(&disk, NODE);
    follower.kv.copies_rot.store(true, Ordering::Relaxed);
    let error = try_pull(&Remote::new(&sources, None), &follower).await.err().unwrap();
    assert!(matches!(error, PullError::Staging(StagingError::Unusable(_))), "{error}");
    assert!(!follower.kv.is_given_up.load(Ordering::Relaxed), "the state in use is another one");
    follower.kv.copies_rot.store(false, Ordering::Relaxed);
    let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
    staged.install(&follower.log, &no_reserve()).unwrap();
}

#[tokio::test]
async fn p19_a_note_of_damage_that_an_earlier_pull_left_is_not_one_of_the_state_that_is_installed() {
    let leader = leader(130);
    let disk = follower_disk();
    let mark = Path::new("/store/generation-1/state.damaged");
    disk.put_bytes(mark, b"Corruption".to_vec());
    let follower = TestReplica::open(&disk, NODE);
    let staged = try_pull(&Remote::new(&leader.sources(), None), &follower).await.unwrap();
    staged.install(&follower.log, &no_reserve()).unwrap();
    assert_eq!(disk.bytes(mark), None);
}

#[tokio::test]
async fn p18_records_that_an_installation_left_and_that_were_never_committed_are_pulled_anew() {
    let (leader, disk) = (leader(130), SimDisk::default());
    let sources = leader.sources();
    let follower = TestReplica::open(&disk, NODE);
    follower.write_upto(130);
    append_other(&follower, 140, 3);
    let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
    staged.install(&follower.log, &no_reserve()).unwrap();
    follower.store.flip_to(Generation(0)).unwrap();
    drop(staged);
    // The entries 131 to 140 became others.
    sources.end_all().await;
    leader.write_upto(160);
    let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
    assert_eq!(staged.manifest().applied, record(160).id());
    follower.log.truncate_after(Some(LogIndex(130))).unwrap();
    staged.install(&follower.log, &no_reserve()).unwrap();
    drop((staged, follower));
    let installed = TestReplica::open(&disk, NODE);
    let read = installed.log.reader().read(LogIndex(64), LogIndex(200), usize::MAX).unwrap();
    assert!(read.into_iter().eq((64..=160).map(record)));
}

#[tokio::test]
async fn p18_a_source_is_kept_while_nothing_is_asked_of_it_for_longer_than_its_lease() {
    let leader = leader(200);
    let sources = leader.sources_for(Duration::from_millis(300));
    let remote = Remote::new(&sources, None);
    let manifest = remote.open(LogIndex(0)).await.unwrap();
    let checks = || async {
        tokio::time::sleep(Duration::from_millis(1000)).await;
        // As a purge does.
        sources.pinned_from().await;
        Ok(())
    };
    while_asked(&remote, &manifest, Duration::from_millis(50), checks()).await.unwrap();
    remote.file_part(manifest.source, 0, 0).await.unwrap();
    checks().await.unwrap();
    assert_eq!(remote.file_part(manifest.source, 0, 0).await, Err(NotGiven::NotServed(NotServed::Ended)));
    // One that ended all the same ends the pull.
    let never = std::future::pending::<Result<(), PullError>>();
    let error = while_asked(&remote, &manifest, Duration::from_millis(50), never).await.unwrap_err();
    assert!(matches!(error, PullError::Source(NotGiven::NotServed(NotServed::Ended))), "{error}");
}

#[tokio::test]
async fn p18_a_pull_that_is_dropped_closes_its_log_and_what_is_discarded_waits_for_that() {
    let leader = leader(200);
    let sources = leader.sources();
    let disk = follower_disk();
    let follower = TestReplica::open(&disk, NODE);
    for steps in 0..40 {
        let remote = Remote::new(&sources, None);
        let pulling = try_pull(&remote, &follower);
        drop(tokio::time::timeout(Duration::from_micros(steps * 100), pulling).await);
        let target = follower.target(NODE);
        Pool::Upkeep.run(move || target.discard()).await.unwrap().unwrap();
    }
    let staged = loop {
        match try_pull(&Remote::new(&sources, None), &follower).await {
            // The last one is being closed.
            Err(PullError::Staging(StagingError::Failed(_))) => tokio::time::sleep(Duration::from_millis(5)).await,
            pulled => break pulled.unwrap(),
        }
    };
    staged.install(&follower.log, &no_reserve()).unwrap();
    drop((staged, follower));
    check_start(&disk, Generation(1), 200, &[]);
}

#[tokio::test]
async fn p20_an_installation_on_a_full_disk_takes_the_reserve_and_fails_without_waiting() {
    let (leader, disk) = (leader(130), SimDisk::default());
    let sources = leader.sources();
    let follower = TestReplica::open(&disk, NODE);
    follower.write_upto(400);
    let staged = try_pull(&Remote::new(&sources, None), &follower).await.unwrap();
    disk.resize(Some(disk.used() + 500));
    let error = staged.install(&follower.log, &no_reserve()).unwrap_err();
    assert!(matches!(error, StagingError::Full(_) | StagingError::Failed(_)), "{error}");
    assert_eq!(follower.store.generation().unwrap(), Generation(0));
    assert_eq!(failed_installs::pause(&follower.store), Duration::from_secs(10), "the next one is not tried at once");
    let (growing, parts) = (disk.clone(), AtomicU64::new(1000));
    let reserve: ReleaseReserve = Arc::new(move || {
        growing.resize(Some(growing.used() + 600));
        parts.fetch_sub(1, Ordering::Relaxed) > 1
    });
    staged.install(&follower.log, &reserve).unwrap();
    assert_eq!(failed_installs::pause(&follower.store), Duration::ZERO);
    drop((staged, follower));
    let installed = TestReplica::open(&disk, NODE);
    assert_eq!(installed.log.last().map(|last| last.index), Some(LogIndex(400)));
}

#[tokio::test]
async fn a_full_disk_keeps_what_is_there_until_there_is_room() {
    let leader = leader(300);
    let sources = leader.sources();
    let disk = follower_disk();
    let follower = TestReplica::open(&disk, NODE);
    disk.resize(Some(disk.used() + 9_000));
    let error = try_pull(&Remote::new(&sources, None), &follower).await.err().unwrap();
    assert!(matches!(error, PullError::Staging(StagingError::Full(_))), "{error}");
    disk.resize(None);
    let staged = Arc::new(try_pull(&Remote::new(&sources, None), &follower).await.unwrap());
    staged.install(&follower.log, &no_reserve()).unwrap();
    drop((staged, follower));
    check_start(&disk, Generation(1), 300, &[]);
}
