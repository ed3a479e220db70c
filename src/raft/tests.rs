//! openraft's own storage suite on our log and state machine, on a real and on a simulated disk: all of it but the last step
//! of its last test, `transfer_snapshot`. And what applying leaves to others on Raft's thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use openraft::entry::RaftPayload;
use openraft::storage::RaftStateMachine;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::env::clock::RealClock;
use crate::env::disk::{Disk, RealDisk};
use crate::env::fault::sim::SimDisk;
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::clock::cluster_clock::ClusterClock;
use crate::raft::digests::Digests;
use crate::raft::flush::StateFlush;
use crate::raft::log_storage::LogStorage;
use crate::raft::snapshot::handle::{Snapshots, not_installed};
use crate::raft::state_machine::StateMachine;
use crate::raft::types;
use crate::raft::types::{Entry, Types};
use crate::store::kv::memory::MemoryKv;
use crate::store::kv::rocks::RocksKv;
use crate::store::kv::{Error, Kv, Result as KvResult, Space, WriteBatch};
use crate::store::log::{CommitLog, FlushMode, LogOwner, Options};

struct Builder {
    on_real_disk: bool,
}

/// What has to live as long as a store.
type Guard = (Option<tempfile::TempDir>, watch::Sender<LogIndex>);

fn build(disk: Arc<dyn Disk>, folder: &Path, kv: Arc<dyn Kv>) -> (watch::Sender<LogIndex>, LogStorage, StateMachine) {
    let owner = LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(0) };
    let options = Options {
        segment_bytes: 2048,
        tail_cache_bytes: 1024,
        flush: FlushMode::Sync,
        open_files_max: 8,
        has_peers: false,
    };
    let log_folder = folder.join("log");
    let log = CommitLog::open(disk, &log_folder, &owner, options, Box::new(|_| {})).unwrap();
    // The suite applies entries that are in no log, so nothing waits for the log here.
    let (durable, durable_seen) = watch::channel(LogIndex(u64::MAX));
    let (applied, _) = watch::channel(LogIndex(0));
    let clock = Arc::new(ClusterClock::open(Arc::new(RealClock::start()), &*kv).unwrap());
    let snapshots = Snapshots::new(StateFlush::new(kv.clone(), Some(log.clone())).unwrap(), None);
    let machine =
        StateMachine::new(kv, durable_seen, applied, Arc::new(|_| {}), snapshots, clock, Digests::default()).unwrap();
    (durable, LogStorage::new(log, LogIndex(0)), machine)
}

impl StoreBuilder<Types, LogStorage, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStorage, StateMachine), StorageError<Types>> {
        if self.on_real_disk {
            let folder = tempfile::tempdir().unwrap();
            let kv = RocksKv::open(&folder.path().join("state"), 8 * 1024 * 1024, 64).unwrap();
            let (durable, log, machine) = build(Arc::new(RealDisk), folder.path(), Arc::new(kv));
            return Ok(((Some(folder), durable), log, machine));
        }
        let (durable, log, machine) =
            build(Arc::new(SimDisk::default()), &PathBuf::from("/sim"), Arc::new(MemoryKv::default()));
        Ok(((None, durable), log, machine))
    }
}

fn run(on_real_disk: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(Suite::test_all(Builder { on_real_disk }));
    // Its last test installs the snapshot of one node on another one, which is never done that way; all others came before it.
    let error = outcome.expect_err("the suite ends with a snapshot that is installed").to_string();
    assert!(error.contains(&not_installed().to_string()), "{error}");
}

#[test]
fn openraft_s_storage_suite_passes_on_a_simulated_disk() {
    run(false);
}

#[test]
fn openraft_s_storage_suite_passes_on_a_real_disk_with_rocksdb() {
    run(true);
}

/// A store whose writes take a while, and if it stalls, until the test lets them go on.
#[derive(Default)]
struct SlowKv {
    kv: MemoryKv,
    /// Lets a write go on once the store stalls; without it writes take a moment.
    may_write: Option<Mutex<std::sync::mpsc::Receiver<()>>>,
    is_stalled: AtomicBool,
}

const WRITE: Duration = Duration::from_millis(1);
/// Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

impl Kv for SlowKv {
    fn get(&self, space: Space, key: &[u8]) -> KvResult<Option<Bytes>> {
        self.kv.get(space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> KvResult<Vec<(Bytes, Bytes)>> {
        self.kv.scan(space, from, to, limit)
    }

    fn last(&self, space: Space, from: &[u8], to: &[u8]) -> KvResult<Option<(Bytes, Bytes)>> {
        self.kv.last(space, from, to)
    }

    fn write(&self, batch: WriteBatch) -> KvResult<()> {
        match &self.may_write {
            Some(may) if self.is_stalled.load(Ordering::Relaxed) => {
                may.lock().recv_timeout(PATIENCE).expect("others have their turn meanwhile");
            }
            Some(_) => {}
            None => std::thread::sleep(WRITE),
        }
        self.kv.write(batch)
    }

    fn write_at_once(&self, batch: WriteBatch) -> KvResult<()> {
        if self.may_write.is_none() {
            return self.write(batch);
        }
        self.is_stalled.store(true, Ordering::Relaxed);
        Err(Error::Stalled { batch })
    }

    fn flush(&self) -> KvResult<()> {
        Ok(())
    }
}

/// Applies so many entries, and counts the turns that a task of Raft's had beside it.
async fn turns_beside(kv: SlowKv, entries: u64, mut each_turn: impl FnMut(usize) + Send + 'static) -> usize {
    let (_durable, _, mut machine) = build(Arc::new(SimDisk::default()), &PathBuf::from("/sim"), Arc::new(kv));
    let entry = |index| {
        let log_id = types::log_id(Term(1), NodeId(0), LogIndex(index)).unwrap();
        Ok((Entry { log_id, payload: EntryPayload::blank() }, None))
    };
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = turns.clone();
    let beating = tokio::spawn(async move {
        loop {
            each_turn(counted.fetch_add(1, Ordering::Relaxed) + 1);
            tokio::task::yield_now().await;
        }
    });
    machine.apply(stream::iter((1..=entries).map(entry))).await.unwrap();
    beating.abort();
    turns.load(Ordering::Relaxed)
}

#[tokio::test]
async fn others_have_turns_while_many_entries_are_applied() {
    let turns = turns_beside(SlowKv::default(), 40, |_| {}).await;
    assert!(turns >= 10, "{turns} turns beside 40 entries of {WRITE:?}");
}

#[tokio::test]
async fn others_have_turns_while_the_state_store_stalls() {
    let (go_on, may_write) = std::sync::mpsc::channel();
    let kv = SlowKv { may_write: Some(Mutex::new(may_write)), ..SlowKv::default() };
    let go_on_after_some = move |turns| {
        if turns == 100 {
            go_on.send(()).unwrap();
        }
    };
    assert!(turns_beside(kv, 1, go_on_after_some).await >= 100);
}
