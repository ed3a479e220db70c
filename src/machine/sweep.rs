//! Removing much: what is stored for a deleted topic or group, and the leases and FIFO lines that a reset of offsets took from a
//! group. Used by `machine/offset` and `machine/tick`.
//!
//! Bounded: an entry removes what it has room for (`Stage::keys_left`), and says in the value of a due key where the next tick
//! goes on. From there, and not from the beginning: the store passes over what was removed one by one.
//!
//! * Shape of that value: a version byte, the number u8 of the space, the key; empty at the beginning.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::due::Due;
use crate::machine::state::failure::Failure;
use crate::machine::state::stage::Stage;
use crate::machine::state::{clearing, due, keys, lease, references};
use crate::model::codec::{Malformed, Reader};
use crate::model::{GroupId, QueueId, TopicId};
use crate::store::kv::Space;

const VERSION: u8 = 1;
/// Keys read at a time.
const PAGE: usize = 1024;
/// Keys of a deleted topic or group that an entry of an older cluster removes for it.
const UNBOUNDED_PAGE: usize = 1024;
/// A value counts as one more key for each so many bytes: those of queues are read.
const BYTES_OF_A_KEY: usize = 512;

/// Where a sweep goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SweepPlace {
    space: Space,
    key: Bytes,
}

impl SweepPlace {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(2 + self.key.len());
        out.put_u8(VERSION);
        out.put_u8(self.space as u8);
        out.put_slice(&self.key);
        out.freeze()
    }

    /// `None` at the beginning.
    pub fn decode(value: Bytes) -> Result<Option<Self>, Malformed> {
        if value.is_empty() {
            return Ok(None);
        }
        let mut reader = Reader::versioned(value.clone(), "place of a sweep", VERSION)?;
        let number = reader.u8()?;
        let space = Space::ALL.into_iter().find(|space| *space as u8 == number);
        let space = space.ok_or_else(|| reader.unknown(number.into()))?;
        Ok(Some(Self { space, key: value.slice(2..) }))
    }
}

/// Removes everything under some prefixes, from a place on, while the entry has room; where to go on, `None` at the end.
pub(super) fn sweep(
    stage: &mut Stage<'_>,
    prefixes: &[(Space, Bytes)],
    from: Option<SweepPlace>,
) -> Result<Option<SweepPlace>, Failure> {
    let is_in =
        |place: &SweepPlace, (space, prefix): &(Space, Bytes)| place.space == *space && place.key.starts_with(prefix);
    let first = from.as_ref().and_then(|place| prefixes.iter().position(|prefix| is_in(place, prefix)));
    let mut from = from.filter(|_| first.is_some()).map(|place| place.key);
    for (space, prefix) in prefixes.iter().skip(first.unwrap_or(0)) {
        let mut start = from.take().unwrap_or_else(|| prefix.clone());
        loop {
            let room = stage.keys_left()?.min(PAGE);
            if room == 0 {
                return Ok(Some(SweepPlace { space: *space, key: start }));
            }
            let found = stage.scan(*space, &start, &keys::after_prefix(prefix), room)?;
            let is_last = found.len() < room;
            for (key, value) in found {
                start = keys::after(&key);
                let before = stage.written();
                remove(stage, *space, key, value.clone())?;
                stage.spend(stage.written() - before + value.len() / BYTES_OF_A_KEY);
            }
            if is_last {
                break;
            }
        }
    }
    Ok(None)
}

fn remove(stage: &mut Stage<'_>, space: Space, key: Bytes, value: Bytes) -> Result<(), Failure> {
    match space {
        Space::Queue => references::release_stored(stage, &key, value)?,
        Space::Lease => lease::release_stored(stage, &key, value)?,
        Space::Meta | Space::Catalog | Space::Cursor | Space::Due | Space::Reference | Space::RecentSend => {}
    }
    stage.delete(space, key);
    Ok(())
}

/// Removes a part of what is stored for a deleted topic or group, and has a tick go on with the rest; whether nothing is left.
pub(super) fn deleted(
    stage: &mut Stage<'_>,
    of: Due,
    prefixes: &[(Space, Bytes)],
    value: Bytes,
) -> Result<bool, Failure> {
    let now = stage.now();
    if !stage.is_bounded()? {
        let is_done = page_as_before(stage, prefixes)?;
        if !is_done {
            due::put(stage, now, of);
        }
        return Ok(is_done);
    }
    let rest = sweep(stage, prefixes, SweepPlace::decode(value)?)?;
    if let Some(place) = &rest {
        due::put_with(stage, now, of, place.encode());
    }
    Ok(rest.is_none())
}

/// As builds did that knew no bound of an entry: one page for each of what was deleted, from the beginning on.
fn page_as_before(stage: &mut Stage<'_>, prefixes: &[(Space, Bytes)]) -> Result<bool, Failure> {
    let mut room = UNBOUNDED_PAGE;
    for (space, prefix) in prefixes {
        let found = stage.scan(*space, prefix, &keys::after_prefix(prefix), room)?;
        room -= found.len();
        for (key, value) in found {
            remove(stage, *space, key, value)?;
        }
        if room == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes all leases and FIFO lines of a group in queues of a topic. What the entry has no room for counts as gone, and a
/// tick goes on with it.
pub(super) fn clear(stage: &mut Stage<'_>, topic: TopicId, group: GroupId, queues: &[QueueId]) -> Result<(), Failure> {
    let mut waiting = clearing::of(stage, topic, group)?;
    if !waiting.is_empty() {
        let before = waiting.len();
        waiting.extend(queues.iter().filter(|queue| !waiting[..before].contains(queue)).copied().collect::<Vec<_>>());
        clearing::set(stage, topic, group, &waiting);
        return Ok(());
    }
    let mut left = queues;
    while let [queue, others @ ..] = left {
        if let Some(place) = sweep(stage, &at_work(topic, group, *queue), None)? {
            clearing::begin(stage, topic, group, left)?;
            let now = stage.now();
            due::put_with(stage, now, Due::Clear { topic, group }, place.encode());
            return Ok(());
        }
        left = others;
    }
    Ok(())
}

/// Goes on with it; whether nothing is left.
pub(super) fn clear_on(stage: &mut Stage<'_>, topic: TopicId, group: GroupId, value: Bytes) -> Result<bool, Failure> {
    let queues = clearing::of(stage, topic, group)?;
    let mut from = SweepPlace::decode(value)?;
    let mut left = queues.as_slice();
    while let [queue, others @ ..] = left {
        if let Some(place) = sweep(stage, &at_work(topic, group, *queue), from.take())? {
            if left.len() < queues.len() {
                clearing::set(stage, topic, group, left);
            }
            let now = stage.now();
            due::put_with(stage, now, Due::Clear { topic, group }, place.encode());
            return Ok(false);
        }
        left = others;
    }
    clearing::end(stage, topic, group)?;
    Ok(true)
}

fn at_work(topic: TopicId, group: GroupId, queue: QueueId) -> [(Space, Bytes); 4] {
    keys::all_at_work(topic, group, queue).map(|prefix| (Space::Lease, prefix))
}
