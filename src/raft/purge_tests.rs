//! The purge on a real log and RocksDB, alone in its shard: what goes, in which order, and what a start finds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::clock::RealClock;
use crate::env::disk::RealDisk;
use crate::machine::{Batch, Command, Proposal};
use crate::model::{DiskRoom, LogIndex, MemberName, NodeId, RoomState, Timestamp};
use crate::raft::PeerSecurity;
use crate::raft::clock::cluster_clock::ClusterClock;
use crate::raft::digests::Digests;
use crate::raft::flush::StateFlush;
use crate::raft::foreign_state::{Fit, judge};
use crate::raft::log_storage::LogStorage;
use crate::raft::member_needs::MemberNeeds;
use crate::raft::members::MemberTable;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::peers::Peers;
use crate::raft::purge::{Purge, beginning, begins};
use crate::raft::snapshot::handle::Snapshots;
use crate::raft::snapshot::rate::RateLimit;
use crate::raft::snapshot::sources::{LEASE, NotServed, SnapshotSources, SourceParts};
use crate::raft::state_machine::{ShardRaft, StateMachine};
use crate::raft::types;
use crate::store::Error;
use crate::store::folder::StoreFolder;
use crate::store::kv::rocks::RocksKv;
use crate::store::kv::{Kv, Result as KvResult, Space, WriteBatch};
use crate::store::log::{CommitLog, FlushMode, LogOwner, Options, SegmentExtent};

const SEGMENT_BYTES: u64 = 8192;

/// What happened, in order, and how the log was then.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Asked,
    Flushed { purged: LogIndex, begins: LogIndex },
}

/// A store that notes its flushes.
struct Watched {
    kv: RocksKv,
    log: CommitLog,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Kv for Watched {
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
        self.kv.write(batch)
    }

    fn unflushed_bytes(&self) -> u64 {
        self.kv.unflushed_bytes()
    }

    fn checkpoint(&self, folder: &Path) -> KvResult<()> {
        self.kv.checkpoint(folder)
    }

    fn open_copy(&self, folder: &Path) -> KvResult<Box<dyn Kv>> {
        self.kv.open_copy(folder)
    }

    fn flush(&self) -> KvResult<()> {
        let purged = self.log.purged().map_or(LogIndex(0), |purged| purged.index);
        self.events.lock().push(Event::Flushed { purged, begins: begins(&self.log.reader().segments()) });
        self.kv.flush()
    }
}

/// A node alone in its shard, with another member in its configuration unless it is alone there too.
pub(super) struct Node {
    purge: Purge,
    needs: MemberNeeds,
    /// 0: nothing is needed.
    needed: Arc<AtomicU64>,
    room: Arc<Mutex<DiskRoom>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Node {
    pub async fn start(folder: &Path, members: u32) -> Self {
        let owner = LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(0) };
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            tail_cache_bytes: 512,
            flush: FlushMode::Sync,
            open_files_max: 16,
            has_peers: false,
        };
        let open = || {
            let (disk, options) = (Arc::new(RealDisk), options.clone());
            CommitLog::open(disk, &folder.join("log"), &owner, options, Box::new(|_| {}))
        };
        let mut log = open();
        for _ in 0..500 {
            // The node before may not have ended entirely.
            if !matches!(log, Err(Error::Locked(_))) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            log = open();
        }
        let log = log.unwrap();
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let kv = RocksKv::open(&folder.join("state"), 8 * 1024 * 1024, 64).unwrap();
        let kv: Arc<dyn Kv> = Arc::new(Watched { kv, log: log.clone(), events: events.clone() });
        assert!(matches!(judge(&log, &*kv, false), Ok(Fit::Good)));
        let flush = StateFlush::new(kv.clone(), Some(log.clone())).unwrap();
        let (applied_sender, applied) = watch::channel(flush.flushed());
        let (durable_sender, durable) = watch::channel(LogIndex(0));
        log.on_durable(Box::new(move |index| {
            durable_sender.send_replace(index);
        }));
        let snapshots = Snapshots::new(flush.clone(), log.purged());
        let clock = Arc::new(ClusterClock::open(Arc::new(RealClock::start()), &*kv).unwrap());
        let on_effects = Arc::new(|_: &_| {});
        let machine = StateMachine::new(
            kv.clone(),
            durable,
            applied_sender,
            on_effects,
            snapshots.clone(),
            clock,
            Digests::default(),
        )
        .unwrap();
        let addresses = (0..members).map(|name| (MemberName(name), format!("127.0.0.1:{}", name + 1))).collect();
        let names = ("c".to_owned(), "g".to_owned());
        let identity =
            PeerIdentity::new(names, 0, MemberTable::new(addresses), PeerSecurity::default(), log.clone(), false);
        let config = Config {
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        let raft = Raft::new(
            0,
            Arc::new(config),
            Peers::new(identity.clone(), Arc::new(RateLimit::new(0))),
            LogStorage::new(log.clone(), flush.flushed()),
            machine,
        )
        .await
        .unwrap();
        if !raft.is_initialized().await.unwrap() {
            raft.initialize(BTreeMap::from([(0, BasicNode::new("127.0.0.1:1"))])).await.unwrap();
        }
        let leads = |metrics: &openraft::RaftMetrics<types::Types>| metrics.current_leader == Some(0);
        raft.wait(Some(Duration::from_secs(20))).metrics(leads, "leads").await.unwrap();
        let needed = Arc::<AtomicU64>::default();
        let room = Arc::new(Mutex::new(DiskRoom { usable: 1 << 30, ..DiskRoom::default() }));
        let (asking, needing, own_room) = (events.clone(), needed.clone(), room.clone());
        let needed_from = move |_| {
            asking.lock().push(Event::Asked);
            Ok(Some(LogIndex(needing.load(Ordering::Relaxed))).filter(|needed| *needed > LogIndex(0)))
        };
        let sources = SnapshotSources::new(SourceParts {
            cluster: "c".to_owned(),
            group: "g".to_owned(),
            store: StoreFolder { disk: Arc::new(RealDisk), path: folder.to_owned() },
            log: log.clone(),
            kv,
            flush: flush.clone(),
            applied: applied.clone(),
            rate: Arc::new(RateLimit::new(0)),
            lease: LEASE,
            has_room: Arc::new(|| true),
        });
        let purge = Purge {
            raft,
            log,
            flush,
            snapshots,
            sources: sources.unwrap(),
            identity,
            applied,
            needed_from: Arc::new(needed_from),
            room: Arc::new(move || *own_room.lock()),
            log_bytes_max: None,
            member_wait: Duration::from_secs(30),
        };
        Self { purge, needs: MemberNeeds::default(), needed, room, events }
    }

    pub fn raft(&self) -> &ShardRaft {
        &self.purge.raft
    }

    async fn write(&self, count: usize) {
        let tick = Proposal { command: Command::Tick.encode(), messages: vec![vec![7; 1000].into()] };
        for _ in 0..count {
            let body = Batch::encode(Timestamp(1), [&tick].into_iter());
            self.purge.raft.client_write(types::Body(body)).await.unwrap();
        }
    }

    async fn work(&mut self) -> bool {
        self.events.lock().clear();
        self.purge.work(&mut self.needs, true).await.unwrap()
    }

    fn begins(&self) -> LogIndex {
        begins(&self.purge.log.reader().segments())
    }

    fn applied(&self) -> LogIndex {
        *self.purge.applied.borrow()
    }

    /// What is in the log can be read, and nothing before it.
    fn check_log(&self) {
        let (log, begins) = (&self.purge.log, self.begins());
        let last = log.last().unwrap().index;
        let read = log.reader().read(begins, last.next(), usize::MAX).unwrap();
        assert_eq!(read.len() as u64, last.0 + 1 - begins.0);
        assert!(log.reader().read(LogIndex(begins.0 - 1), begins, 1).unwrap().is_empty());
        assert!(log.purged().is_some_and(|purged| purged.index.next() >= begins));
    }

    async fn stop(self) {
        self.purge.raft.shutdown().await.unwrap();
    }
}

fn on_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// As a crash leaves it: nothing is flushed any more.
fn copy(from: &Path, to: &Path) {
    std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
}

#[test]
fn p18_what_nothing_needs_is_removed_and_the_node_starts_again_from_the_rest() {
    on_runtime(async {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::start(folder.path(), 1).await;
        node.write(60).await;
        let segments = node.purge.log.reader().segments().len();
        assert!(segments > 6, "{segments}");
        assert!(node.work().await);
        assert_eq!(node.purge.log.reader().segments().len(), 1, "the last applied entry is in the last segment");
        assert!(node.begins() <= node.applied());
        node.check_log();
        node.write(20).await;
        let crash = tempfile::tempdir().unwrap();
        copy(&folder.path().join("log"), crash.path());
        copy(&folder.path().join("state"), crash.path());
        let applied = node.applied();
        node.stop().await;
        for folder in [folder.path(), crash.path()] {
            let mut node = Node::start(folder, 1).await;
            node.write(30).await;
            assert!(node.applied().0 > applied.0 + 30, "what was applied before is again");
            let begins = node.begins();
            assert!(node.work().await);
            assert!(node.begins() > begins);
            node.check_log();
            node.stop().await;
        }
    });
}

#[test]
fn the_state_is_asked_then_flushed_then_raft_forgets_and_then_the_files_go() {
    on_runtime(async {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::start(folder.path(), 1).await;
        node.write(30).await;
        let untouched = Event::Flushed { purged: LogIndex(0), begins: LogIndex(1) };
        assert!(node.work().await);
        assert_eq!(*node.events.lock(), [Event::Asked, untouched]);
        assert!(node.begins() > LogIndex(1));
        node.stop().await;
    });
}

#[test]
fn what_the_state_refers_to_stays_and_less_than_a_segment_is_not_worth_a_purge() {
    on_runtime(async {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::start(folder.path(), 1).await;
        node.write(60).await;
        let starts: Vec<_> = node.purge.log.reader().segments().iter().map(|segment| segment.first.0).collect();
        node.needed.store(starts[1] - 1, Ordering::Relaxed);
        node.work().await;
        assert_eq!((node.begins(), node.purge.log.purged()), (LogIndex(1), None));
        for needed in starts[3]..starts[4] {
            node.needed.store(needed, Ordering::Relaxed);
            node.work().await;
            assert_eq!(node.begins().0, starts[3], "needed from {needed}");
            node.check_log();
        }
        assert_eq!(*node.events.lock(), [Event::Asked], "nothing can go, and nothing was applied");
        node.stop().await;
    });
}

/// Damages a file where it lies, as a disk does.
#[allow(clippy::disallowed_methods, reason = "the test plays the disk")]
fn flip(file: &Path, at: impl FnOnce(&[u8]) -> usize) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = at(&bytes);
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn p17_a_damaged_entry_at_the_end_of_what_is_to_go_ends_no_node() {
    on_runtime(async {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::start(folder.path(), 1).await;
        node.write(60).await;
        let starts: Vec<_> = node.purge.log.reader().segments().iter().map(|segment| segment.first.0).collect();
        let segment = |first: u64| folder.path().join("log").join(format!("{first:020}.seg"));
        let last_head = |bytes: &[u8]| bytes.windows(4).rposition(|bytes| bytes == b"RMQR").unwrap() + 40;
        flip(&segment(starts[0]), last_head);
        node.needed.store(starts[1], Ordering::Relaxed);
        assert!(node.purge.work(&mut node.needs, true).await.is_ok());
        assert_eq!(node.begins().0, starts[1], "its footer knows the entry");
        node.stop().await;
    });
}

#[test]
fn what_a_member_lacks_stays_unless_room_is_short_and_it_stands_still() {
    on_runtime(async {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::start(folder.path(), 2).await;
        node.write(60).await;
        let starts: Vec<_> = node.purge.log.reader().segments().iter().map(|segment| segment.first).collect();
        let long_ago = Instant::now() - Duration::from_secs(60);
        for _ in 0..3 {
            node.work().await;
        }
        assert_eq!(node.begins(), LogIndex(1), "nothing is known of the member");
        node.purge.identity.note_acknowledged(&[(NodeId(1), starts[2])]);
        node.work().await;
        assert_eq!(node.begins(), LogIndex(1), "it was told a moment ago");
        node.work().await;
        assert_eq!(node.begins(), starts[2]);
        node.room.lock().state = RoomState::Soft;
        node.work().await;
        assert_eq!(node.begins(), starts[2], "it moved a moment ago");
        node.needs = MemberNeeds::default();
        for _ in 0..2 {
            node.needs.look(&[(1, starts[2])], starts[2], long_ago);
        }
        node.work().await;
        assert_eq!(node.begins(), starts[3], "one segment, and it is left behind");
        node.room.lock().state = RoomState::Enough;
        node.work().await;
        assert_eq!(node.purge.log.reader().segments().len(), 1, "nothing is kept for it any more");
        node.stop().await;
    });
}

#[test]
fn what_a_snapshot_refers_to_stays_while_it_is_pulled_unless_room_is_short() {
    on_runtime(async {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::start(folder.path(), 1).await;
        node.write(60).await;
        let sources = node.purge.sources.clone();
        let manifest = sources.open("n1", LogIndex(0)).await.unwrap();
        assert_eq!(manifest.applied.index, node.applied());
        let mut state = 0;
        for (number, file) in manifest.files.iter().enumerate() {
            let part = sources.file_part(manifest.source, number, 0).await.unwrap();
            assert_eq!((part.len() as u64, crc32c::crc32c(&part)), (file.bytes, file.crc32c), "{}", file.name);
            state += file.bytes;
        }
        assert_eq!(state, manifest.state_bytes());
        node.write(60).await;
        node.work().await;
        assert!(node.begins() > LogIndex(1) && node.begins() <= manifest.first, "{}", node.begins());
        let last = manifest.applied.index;
        assert_eq!(sources.records(Some(manifest.source), last, last).await.unwrap().len(), 1);
        sources.close(manifest.source).await;
        node.work().await;
        assert!(node.begins() > manifest.first);

        let manifest = sources.open("n1", LogIndex(0)).await.unwrap();
        node.write(60).await;
        node.room.lock().state = RoomState::Hard;
        node.work().await;
        assert!(node.begins() > manifest.first);
        assert_eq!(sources.file_part(manifest.source, 0, 0).await, Err(NotServed::Ended));
        node.stop().await;
    });
}

#[test]
fn p20_without_room_for_a_flush_all_of_the_log_stays_and_the_node_goes_on() {
    on_runtime(async {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::start(folder.path(), 1).await;
        node.write(30).await;
        for state in [RoomState::Full, RoomState::Hard] {
            *node.room.lock() = DiskRoom { state, usable: 0, ..DiskRoom::default() };
            assert!(!node.work().await);
            assert_eq!((node.begins(), node.purge.log.purged()), (LogIndex(1), None), "{state:?}");
            node.write(1).await;
        }
        *node.room.lock() = DiskRoom { state: RoomState::Full, usable: 1 << 30, ..DiskRoom::default() };
        assert!(node.work().await);
        assert!(node.begins() > LogIndex(1));
        node.stop().await;
    });
}

#[test]
fn a_log_begins_where_the_first_segment_does_that_is_needed() {
    let segments: Vec<_> = [1, 10, 20].map(|first| SegmentExtent { first: LogIndex(first), bytes: 1 }).into();
    let begins_at = |first| beginning(&segments, LogIndex(first)).map(|begins| begins.0);
    assert_eq!([0, 1, 9].map(begins_at), [None; 3]);
    assert_eq!([10, 19, 20, 1000].map(begins_at), [Some(10), Some(10), Some(20), Some(20)]);
    assert!(beginning(&[], LogIndex(5)).is_none());
}
