//! Snapshots of the state: the whole key-value store as one file.
//!
//! Nothing triggers them yet: no log is purged, so a follower always catches up from the log, and a
//! snapshot is never sent. What openraft may ask of the state machine works all the same.
//! TODO: checkpoints with a segment manifest, once retention purges the log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::storage::RaftSnapshotBuilder;

use crate::env::disk::Disk;
use crate::model::codec::{Reader, Writer};
use crate::raft::marks::{push_marks, read_marks};
use crate::raft::types::Types;
use crate::store::kv::{Kv, Space, WriteBatch};

type Meta = openraft::type_config::alias::SnapshotMetaOf<Types>;
type Whole = openraft::type_config::alias::SnapshotOf<Types, Snapshot>;

const VERSION: u8 = 1;
const FILE: &str = "snapshot";
const STAGING: &str = "snapshot.new";
/// Pairs read from the store at a time.
const PAGE: usize = 4096;

/// The encoded state.
///
/// * Shape: `version, crc32c of the rest, pairs (space u8, key, value)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(pub Bytes);

/// The folder of the last snapshot. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

/// Freezes and writes one snapshot.
pub struct SnapshotBuilder {
    snapshots: Snapshots,
    kv: Arc<dyn Kv>,
}

impl Snapshots {
    /// In a folder that exists.
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self { disk, folder }
    }

    pub(super) fn builder(&self, kv: Arc<dyn Kv>) -> SnapshotBuilder {
        SnapshotBuilder { snapshots: self.clone(), kv }
    }

    /// The last snapshot written, if any.
    pub(super) fn current(&self) -> io::Result<Option<Whole>> {
        let path = self.folder.join(FILE);
        if !self.disk.exists(&path)? {
            return Ok(None);
        }
        let file = self.disk.open(&path)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_at(&mut bytes, 0)?;
        let snapshot = Snapshot(bytes.into());
        let meta = meta_of(&pairs(&snapshot)?)?;
        Ok(Some(Whole { meta, snapshot }))
    }

    /// Durable on return: written beside the old one, synced, then put in its place.
    fn store(&self, snapshot: &Snapshot) -> io::Result<()> {
        let staging = self.folder.join(STAGING);
        let file = self.disk.create(&staging)?;
        file.set_len(0)?;
        file.write_at(&snapshot.0, 0)?;
        file.sync_data()?;
        self.disk.rename(&staging, &self.folder.join(FILE))?;
        self.disk.sync_dir(&self.folder)
    }

    /// Replaces the whole state in one batch.
    pub(super) fn install(&self, kv: &dyn Kv, meta: &Meta, snapshot: Snapshot) -> io::Result<()> {
        let new = pairs(&snapshot)?;
        let mut batch = deletes(kv)?;
        batch.writes.extend(new.into_iter().map(|(space, key, value)| (space, key, Some(value))));
        push_marks(&mut batch, &meta.last_log_id, Some(&meta.last_membership));
        kv.write(batch).map_err(io::Error::other)?;
        kv.flush().map_err(io::Error::other)?;
        self.store(&snapshot)
    }
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> io::Result<Whole> {
        let mut body = BytesMut::new();
        for space in Space::ALL {
            each(&*self.kv, space, |key, value| {
                body.put_u8(space as u8);
                body.put_bytes_field(&key);
                body.put_bytes_field(&value);
                Ok(())
            })?;
        }
        let mut out = BytesMut::with_capacity(body.len() + 5);
        out.put_u8(VERSION);
        out.put_u32(crc32c::crc32c(&body));
        out.put(body);
        let snapshot = Snapshot(out.freeze());
        self.snapshots.store(&snapshot)?;
        let (last_log_id, last_membership) = read_marks(&*self.kv)?;
        Ok(Whole { meta: Meta { last_log_id, last_membership }, snapshot })
    }
}

/// Empties a store, durably.
pub(super) fn clear(kv: &dyn Kv) -> io::Result<()> {
    kv.write(deletes(kv)?).map_err(io::Error::other)?;
    kv.flush().map_err(io::Error::other)
}

fn deletes(kv: &dyn Kv) -> io::Result<WriteBatch> {
    let mut batch = WriteBatch { writes: Vec::new() };
    for space in Space::ALL {
        each(kv, space, |key, _| {
            batch.writes.push((space, key, None));
            Ok(())
        })?;
    }
    Ok(batch)
}

type Pair = (Space, Bytes, Bytes);

fn pairs(snapshot: &Snapshot) -> io::Result<Vec<Pair>> {
    let mut reader = Reader::new(snapshot.0.clone(), "snapshot");
    let read = |reader: &mut Reader| {
        let version = reader.u8()?;
        if version != VERSION {
            return Err(reader.unknown(version.into()));
        }
        let sum = reader.u32()?;
        if sum != crc32c::crc32c(&snapshot.0[5..]) {
            return Err(reader.unknown(sum.into()));
        }
        let mut pairs = Vec::new();
        while reader.remaining() > 0 {
            let space = reader.u8()?;
            let space = *Space::ALL.get(usize::from(space)).ok_or_else(|| reader.unknown(space.into()))?;
            pairs.push((space, reader.bytes()?, reader.bytes()?));
        }
        Ok(pairs)
    };
    read(&mut reader).map_err(io::Error::other)
}

/// The marks inside a snapshot: they are of the same view as its data.
fn meta_of(pairs: &[Pair]) -> io::Result<Meta> {
    let marks = crate::store::kv::memory::MemoryKv::default();
    let writes = pairs
        .iter()
        .filter(|(space, ..)| *space == Space::Meta)
        .map(|(space, key, value)| (*space, key.clone(), Some(value.clone())))
        .collect();
    marks.write(WriteBatch { writes }).map_err(io::Error::other)?;
    let (last_log_id, last_membership) = read_marks(&marks)?;
    Ok(Meta { last_log_id, last_membership })
}

/// Every pair of a space, ascending; ends with the first error of `pair`.
pub(super) fn each(kv: &dyn Kv, space: Space, mut pair: impl FnMut(Bytes, Bytes) -> io::Result<()>) -> io::Result<()> {
    let mut from = Bytes::new();
    loop {
        let page = kv.scan(space, &from, &[u8::MAX; 64], PAGE).map_err(io::Error::other)?;
        let is_last = page.len() < PAGE;
        if let Some((key, _)) = page.last() {
            from = [key.as_ref(), &[0]].concat().into();
        }
        for (key, value) in page {
            pair(key, value)?;
        }
        if is_last {
            return Ok(());
        }
    }
}
