//! Log and state of a replica on a simulated disk, without Raft: what snapshots are made of, for tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch;

use crate::env::disk::Disk;
use crate::env::fault::sim::SimDisk;
use crate::model::codec::{Reader, Writer};
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::flush::StateFlush;
use crate::raft::marks::push_marks;
use crate::raft::snapshot::rate::RateLimit;
use crate::raft::snapshot::sources::{LEASE, SnapshotSources, SourceParts};
use crate::raft::snapshot::target::Target;
use crate::raft::types;
use crate::store::folder::StoreFolder;
use crate::store::kv::memory::MemoryKv;
use crate::store::kv::{Error, Kv, Result, Space, WriteBatch};
use crate::store::log::record::{Record, RecordKind};
use crate::store::log::{CommitLog, FlushMode, LogOwner, Options};

/// Bytes of a file of a copied state.
const FILE_BYTES: usize = 3000;

/// A state store in memory whose copies are files on a disk.
pub(in crate::raft) struct DiskKv {
    pub kv: MemoryKv,
    pub disk: Arc<dyn Disk>,
    /// Its copies are found to be damaged when they are read through.
    pub copies_rot: AtomicBool,
    pub is_given_up: AtomicBool,
}

/// A copy of which a part that nobody needs yet is damaged.
struct RottenCopy(MemoryKv);

impl Kv for RottenCopy {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        self.0.get(space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        self.0.scan(space, from, to, limit)
    }

    fn last(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
        self.0.last(space, from, to)
    }

    fn write(&self, _: WriteBatch) -> Result<()> {
        unreachable!("a copy is only read")
    }

    fn flush(&self) -> Result<()> {
        unreachable!("a copy is only read")
    }

    fn verify(&self, _: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        Err(Error::Failed("Corruption: planted".to_owned()))
    }
}

impl Kv for DiskKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        self.kv.get(space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        self.kv.scan(space, from, to, limit)
    }

    fn last(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
        self.kv.last(space, from, to)
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        self.kv.write(batch)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn checkpoint(&self, folder: &Path) -> Result<()> {
        let mut out = BytesMut::new();
        for space in Space::ALL {
            let pairs = self.kv.scan(space, &[], &[0xff; 64], usize::MAX)?;
            out.put_list(&pairs, |out, (key, value)| {
                out.put_bytes_field(key);
                out.put_bytes_field(value);
            });
        }
        let failed = |error: std::io::Error| Error::Failed(error.to_string());
        for (number, part) in out.chunks(FILE_BYTES).enumerate() {
            let file = self.disk.create(&folder.join(format!("{number:04}"))).map_err(failed)?;
            file.write_at(part, 0).and_then(|()| file.sync_data()).map_err(failed)?;
        }
        self.disk.sync_dir(folder).map_err(failed)
    }

    fn open_copy(&self, folder: &Path) -> Result<Box<dyn Kv>> {
        let failed = |error: &dyn std::fmt::Display| Error::Failed(error.to_string());
        let mut whole = BytesMut::new();
        for name in self.disk.list(folder).map_err(|error| failed(&error))? {
            let file = self.disk.open(&folder.join(name)).map_err(|error| failed(&error))?;
            let mut bytes = vec![0; file.len().map_err(|error| failed(&error))? as usize];
            file.read_at(&mut bytes, 0).map_err(|error| failed(&error))?;
            whole.put_slice(&bytes);
        }
        let mut reader = Reader::new(whole.freeze(), "copy");
        let copy = MemoryKv::default();
        for space in Space::ALL {
            let pairs = reader.list(|reader| Ok((reader.bytes()?, reader.bytes()?))).map_err(|error| failed(&error))?;
            let writes = pairs.into_iter().map(|(key, value)| (space, key, Some(value))).collect();
            copy.write(WriteBatch { writes })?;
        }
        if self.copies_rot.load(Ordering::Relaxed) {
            return Ok(Box::new(RottenCopy(copy)));
        }
        Ok(Box::new(copy))
    }

    fn give_up(&self, _: &str) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }
}

/// The entry that every replica of the tests has at an index.
pub(in crate::raft) fn record(index: u64) -> Record {
    let body = vec![(index % 251) as u8; 100 + (index * 37 % 400) as usize];
    Record { term: Term(2), node: NodeId(1), index: LogIndex(index), kind: RecordKind::Batch, body: body.into() }
}

pub(in crate::raft) fn owner(node: u64) -> LogOwner {
    LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(node) }
}

pub(in crate::raft) fn options() -> Options {
    Options { segment_bytes: 4096, tail_cache_bytes: 512, flush: FlushMode::Sync, open_files_max: 8, has_peers: false }
}

/// One replica.
pub(in crate::raft) struct TestReplica {
    pub disk: SimDisk,
    pub store: StoreFolder,
    pub log: CommitLog,
    pub kv: Arc<DiskKv>,
    pub flush: StateFlush,
    pub applied: watch::Sender<LogIndex>,
    pub has_room: Arc<AtomicBool>,
}

impl TestReplica {
    pub fn new(node: u64) -> Self {
        Self::open(&SimDisk::default(), node)
    }

    /// On a disk with a log, or none.
    pub fn open(disk: &SimDisk, node: u64) -> Self {
        let disk = disk.mount();
        let (on_disk, path): (Arc<dyn Disk>, _) = (Arc::new(disk.clone()), PathBuf::from("/store"));
        let store = StoreFolder { disk: on_disk.clone(), path };
        let folder = store.log_of(store.generation().unwrap());
        let log = CommitLog::open(on_disk.clone(), &folder, &owner(node), options(), Box::new(|_| {}));
        let (copies_rot, is_given_up) = (AtomicBool::new(false), AtomicBool::new(false));
        let kv = Arc::new(DiskKv { kv: MemoryKv::default(), disk: on_disk.clone(), copies_rot, is_given_up });
        let flush = StateFlush::new(kv.clone(), None).unwrap();
        let has_room = Arc::new(AtomicBool::new(true));
        Self { disk, store, log: log.unwrap(), kv, flush, applied: watch::Sender::new(LogIndex(0)), has_room }
    }

    /// What is pulled goes into its next generation.
    pub fn target(&self, node: u64) -> Target {
        let generation = self.store.generation().unwrap();
        let (store, kv) = (self.store.clone(), self.kv.clone());
        let log_options = Options { has_peers: true, ..options() };
        Target { store, owner: owner(node), log_options, kv, generation }
    }

    pub fn sources(&self) -> SnapshotSources {
        self.sources_for(LEASE)
    }

    /// With this lease.
    pub fn sources_for(&self, lease: Duration) -> SnapshotSources {
        let has_room = self.has_room.clone();
        let parts = SourceParts {
            cluster: "c".into(),
            group: "g".into(),
            store: self.store.clone(),
            log: self.log.clone(),
            kv: self.kv.clone(),
            flush: self.flush.clone(),
            applied: self.applied.subscribe(),
            rate: Arc::new(RateLimit::new(0)),
            lease,
            has_room: Arc::new(move || has_room.load(Ordering::Relaxed)),
        };
        SnapshotSources::new(parts).unwrap()
    }

    /// Appends all entries up to this one, and applies them.
    pub fn write_upto(&self, last: u64) {
        let first = self.log.last().map_or(1, |last| last.index.0 + 1);
        let (sender, done) = channel();
        let records = (first..=last).map(record).collect();
        self.log.append(records, Box::new(move |result| sender.send(result.is_ok()).unwrap())).unwrap();
        assert!(done.recv().unwrap());
        let mut batch = WriteBatch::default();
        for index in first..=last {
            let key = Bytes::copy_from_slice(&index.to_be_bytes());
            batch.writes.push((Space::Queue, key, Some(record(index).body.slice(..50))));
        }
        push_marks(&mut batch, &types::log_id(Term(2), NodeId(1), LogIndex(last)), None);
        self.kv.write(batch).unwrap();
        self.applied.send_replace(LogIndex(last));
    }

    /// The state refers to this entry, and to none before it of another bucket of 64.
    pub fn refer_to(&self, index: u64) {
        let key = [&b"n"[..], &(index / 64).to_be_bytes()].concat();
        let old = self.kv.scan(Space::Reference, b"n", b"o", 100).unwrap();
        let mut writes: Vec<_> = old.into_iter().map(|(key, _)| (Space::Reference, key, None)).collect();
        writes.push((Space::Reference, key.into(), Some(Bytes::copy_from_slice(&1u64.to_be_bytes()))));
        self.kv.write(WriteBatch { writes }).unwrap();
    }
}
