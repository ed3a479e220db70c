//! What in the state refers to the bytes of which entries: the log may forget an entry once nothing does (D99).
//!
//! Hot path. Every run, delayed message and undecided half message refers to the entry that has its bytes. References are
//! counted for each 64 entries. A *foreign* run, whose bytes came with an earlier entry than the one that
//! stored it, has a row of its own that says where it is: it may outlive all others of that entry.
//!
//! * `n` bucket u64 → count u64, while it is not 0
//! * `f` entry u64, topic u32, queue u32, first offset u64 → nothing
//! * `v` → the version of these rows
//!
//! The rows follow from the other spaces, so the running digest does not cover them, and [`rebuild`] makes them for a
//! state that an older build wrote. It cannot tell which runs are foreign, but for dead letters, so replicas may differ
//! in the kind of a row and never in what is needed.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::due::{DelayedItem, Due};
use crate::machine::state::failure::Failure;
use crate::machine::state::half::Half;
use crate::machine::state::keys;
use crate::machine::state::queue::Run;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader};
use crate::model::{LogIndex, QueueId, QueueOffset, TopicId};
use crate::store::kv::{self, Kv, Space, WriteBatch};

/// Entries whose references are counted together: one small row for the entries of about a second.
const BUCKET: u64 = 64;
const VERSION: u8 = 1;
const VERSION_KEY: &[u8] = b"v";
/// Rows written at a time by [`rebuild`].
const PAGE: usize = 4096;

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunPlace {
    pub topic: TopicId,
    pub queue: QueueId,
    /// Its first offset.
    pub first: QueueOffset,
}

impl RunPlace {
    /// From the key of a run.
    pub(in crate::machine) fn of_key(key: &Bytes) -> Result<Self, Malformed> {
        Self::read(&mut Reader::new(key.slice(1..), "run key"))
    }

    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        let (topic, queue) = (TopicId(reader.u32()?), QueueId(reader.u32()?));
        Ok(Self { topic, queue, first: QueueOffset(reader.u64()?) })
    }
}

fn counter(index: LogIndex) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(b'n');
    out.put_u64(index.0 / BUCKET);
    out.freeze()
}

fn foreign(index: LogIndex, place: RunPlace) -> Bytes {
    let mut out = BytesMut::with_capacity(25);
    out.put_u8(b'f');
    out.put_u64(index.0);
    out.put_u32(place.topic.0);
    out.put_u32(place.queue.0);
    out.put_u64(place.first.0);
    out.freeze()
}

/// As many more references to bytes in an entry, other than foreign runs.
pub(in crate::machine) fn retain(stage: &mut Stage<'_>, index: LogIndex, count: u64) -> Result<(), Failure> {
    let key = counter(index);
    let before = stage.number(Space::Reference, &key)?;
    stage.put_number(Space::Reference, key, before + count);
    Ok(())
}

/// One reference less.
pub(in crate::machine) fn release(stage: &mut Stage<'_>, index: LogIndex) -> Result<(), Failure> {
    let key = counter(index);
    // It is never 0 here; if it were, what is left would be kept too long, not lost.
    match stage.number(Space::Reference, &key)? {
        0 => tracing::error!(entry = index.0, "a reference was released that was never counted"),
        1 => stage.delete(Space::Reference, key),
        count => stage.put_number(Space::Reference, key, count - 1),
    }
    Ok(())
}

/// A run whose bytes are in an earlier entry, or are carried.
pub(in crate::machine) fn retain_foreign(stage: &mut Stage<'_>, index: LogIndex, place: RunPlace) {
    stage.put(Space::Reference, foreign(index, place), Bytes::new());
}

/// A run goes, or its bytes are elsewhere from now on.
pub(in crate::machine) fn release_run(stage: &mut Stage<'_>, index: LogIndex, place: RunPlace) -> Result<(), Failure> {
    let key = foreign(index, place);
    if stage.get(Space::Reference, &key)?.is_none() {
        return release(stage, index);
    }
    stage.delete(Space::Reference, key);
    Ok(())
}

/// What is stored under a key that is removed with its topic refers to nothing any more.
pub(in crate::machine) fn release_stored(stage: &mut Stage<'_>, key: &Bytes, value: Bytes) -> Result<(), Failure> {
    match key.first() {
        Some(b'r') => release_run(stage, Run::decode(value)?.index, RunPlace::of_key(key)?),
        Some(b'p') => match Half::decode(value)?.bytes_in(keys::half_message(key)?) {
            Some(index) => release(stage, index),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The first entry that anything may refer to, rounded down to its bucket, if nothing refers to one before `at_least`; `None`
/// if nothing refers to any. Two look-ups.
pub(super) fn needed_from(kv: &dyn Kv, at_least: LogIndex) -> Result<Option<LogIndex>, Failure> {
    let first = |tag: u8, from: u64| -> Result<Option<u64>, Failure> {
        let start = [&[tag][..], &from.to_be_bytes()].concat();
        let found = kv.scan(Space::Reference, &start, &[tag + 1], 1)?;
        Ok(found.first().map(|(key, _)| Reader::new(key.slice(1..), "reference").u64()).transpose()?)
    };
    let bucket = at_least.0 / BUCKET;
    let counted = first(b'n', bucket)?.map(|bucket| bucket * BUCKET);
    let foreign = first(b'f', bucket * BUCKET)?.map(|index| index / BUCKET * BUCKET);
    Ok([counted, foreign].into_iter().flatten().min().map(LogIndex))
}

pub(super) fn is_foreign(kv: &dyn Kv, index: LogIndex, place: RunPlace) -> Result<bool, Failure> {
    Ok(kv.get(Space::Reference, &foreign(index, place))?.is_some())
}

/// The first `limit` foreign runs after one, by entry, whose bytes are in entries below `end`. One scan.
pub(super) fn foreign_runs(
    kv: &dyn Kv,
    after: Option<(LogIndex, RunPlace)>,
    end: LogIndex,
    limit: usize,
) -> Result<Vec<(LogIndex, RunPlace)>, Failure> {
    let from = after.map_or(Bytes::from_static(b"f"), |(index, place)| keys::after(&foreign(index, place)));
    let mut to = BytesMut::from(&b"f"[..]);
    to.put_u64(end.0);
    let read = |(key, _): (Bytes, Bytes)| {
        let mut reader = Reader::new(key.slice(1..), "reference");
        Ok((LogIndex(reader.u64()?), RunPlace::read(&mut reader)?))
    };
    kv.scan(Space::Reference, &from, &to, limit)?.into_iter().map(read).collect()
}

/// Makes the rows of a state that has none; the store is not used by anything else meanwhile. Reads all runs, delayed and
/// half messages once. May be ended and begun anew. Whether there was anything to do.
pub fn rebuild(kv: &dyn Kv) -> Result<bool, Failure> {
    if kv.get(Space::Reference, VERSION_KEY)?.is_some_and(|version| version[..] == [VERSION]) {
        return Ok(false);
    }
    kv::each(kv, Space::Reference, &[], &[u8::MAX; 64], |key, _| kv.write(one(key, None)))?;
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut foreign_rows = Vec::new();
    kv::each::<Failure>(kv, Space::Queue, b"r", b"s", |key, value| {
        let run = Run::decode(value)?;
        if run.origin.is_none() {
            *counts.entry(run.index.0 / BUCKET).or_default() += 1;
            return Ok(());
        }
        foreign_rows.push((Space::Reference, foreign(run.index, RunPlace::of_key(&key)?), Some(Bytes::new())));
        if foreign_rows.len() == PAGE {
            kv.write(WriteBatch { writes: std::mem::take(&mut foreign_rows) })?;
        }
        Ok(())
    })?;
    kv::each::<Failure>(kv, Space::Queue, b"p", b"q", |key, value| {
        if let Some(index) = Half::decode(value)?.bytes_in(keys::half_message(&key)?) {
            *counts.entry(index.0 / BUCKET).or_default() += 1;
        }
        Ok(())
    })?;
    kv::each::<Failure>(kv, Space::Due, &[], &[u8::MAX; 64], |key, value| {
        if let Due::Message { message, .. } = Due::decode(key)? {
            let index = DelayedItem::decode(value)?.bytes_in(message);
            *counts.entry(index.0 / BUCKET).or_default() += 1;
        }
        Ok(())
    })?;
    kv.write(WriteBatch { writes: foreign_rows })?;
    for (bucket, count) in counts {
        let value = Bytes::copy_from_slice(&count.to_be_bytes());
        kv.write(one(counter(LogIndex(bucket * BUCKET)), Some(value)))?;
    }
    // Last: rows without it are made anew.
    kv.write(one(Bytes::from_static(VERSION_KEY), Some(Bytes::from_static(&[VERSION]))))?;
    Ok(true)
}

fn one(key: Bytes, value: Option<Bytes>) -> WriteBatch {
    WriteBatch { writes: vec![(Space::Reference, key, value)] }
}
