//! Order below the log: one line for each message group that a consumer group is at work on.
//!
//! While a line has a lease, nothing else of its message group is delivered to the consumer group (P9); other
//! message groups go on. The queue's position passes over messages of a line at work; they are found again
//! by an index over message groups when the lease is settled, and then wait to be delivered next. A message
//! without message group is in the line of its queue, which no position passes over (contract §18).

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::Failure;
use crate::machine::state::keys;
use crate::machine::state::keys::after_prefix;
use crate::machine::state::keys::{LeaseKey, LineKey};
use crate::machine::state::lease;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{LeaseId, MessageGroupHash, OffsetSet, QueueOffset};
use crate::store::kv::Space;

const VERSION: u8 = 1;
/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FifoLine {
    /// What is being delivered; `None` while the next messages wait for it.
    pub current: Option<LeaseId>,
    /// Ended leases whose messages come after those of `current`.
    pub parked: Vec<LeaseId>,
    /// Messages of the message group from here on were never delivered.
    pub next: QueueOffset,
}

impl FifoLine {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        out.put_u8(VERSION);
        out.put_option(self.current, |out, lease| out.put_u64(lease.0));
        out.put_list(&self.parked, |out, lease| out.put_u64(lease.0));
        out.put_u64(self.next.0);
        out.freeze()
    }

    pub(in crate::machine) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "line", VERSION)?;
        Ok(Self {
            current: reader.option(|reader| Ok(LeaseId(reader.u64()?)))?,
            parked: reader.list(|reader| Ok(LeaseId(reader.u64()?)))?,
            next: QueueOffset(reader.u64()?),
        })
    }
}

pub(in crate::machine) fn get(stage: &Stage<'_>, at: LineKey) -> Result<Option<FifoLine>, Failure> {
    Ok(stage.get(Space::Lease, &keys::line(at))?.map(FifoLine::decode).transpose()?)
}

pub(in crate::machine) fn put(stage: &mut Stage<'_>, at: LineKey, line: &FifoLine) {
    stage.put(Space::Lease, keys::line(at), line.encode());
}

/// The line of an ordered lease.
pub(in crate::machine) fn line_of(at: LeaseKey, message_group: MessageGroupHash) -> LineKey {
    LineKey { topic: at.topic, group: at.group, queue: at.queue, message_group }
}

/// The messages of a line's message group among `offsets`, from the first of these on; one span at most.
pub(in crate::machine) fn members(
    stage: &Stage<'_>,
    at: LineKey,
    offsets: Range<QueueOffset>,
) -> Result<OffsetSet, Failure> {
    let first = offsets.start;
    let to = QueueOffset(offsets.end.0.min(first.0 + OffsetSet::SPAN));
    let mut members = OffsetSet::EMPTY;
    if first >= to {
        return Ok(members);
    }
    let key = |offset| keys::message_of_group(at.topic, at.queue, at.message_group, offset);
    for (key, _) in stage.scan(Space::Queue, &key(first), &key(to), OffsetSet::SPAN as usize)? {
        members.insert(offset_in(&key)? - first.0);
    }
    Ok(members)
}

/// The offset at the end of a key of the index over message groups.
fn offset_in(key: &Bytes) -> Result<u64, Malformed> {
    Reader::new(key.slice(key.len() - 8..), "key of an ordered message").u64()
}

/// Nothing of an ordered lease is held any more: the line goes on, or is done.
pub(in crate::machine) fn settled(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease) -> Result<(), Failure> {
    let Some(message_group) = lease.message_group else { return Ok(()) };
    let line_at = line_of(at, message_group);
    let Some(line) = get(stage, line_at)?.filter(|line| line.current == Some(at.lease)) else { return Ok(()) };
    advance(stage, line_at, line)
}

/// Finds what a line delivers next.
pub(in crate::machine) fn advance(stage: &mut Stage<'_>, at: LineKey, mut line: FifoLine) -> Result<(), Failure> {
    stage.effects().returned.insert((at.topic, at.group));
    line.current = None;
    while !line.parked.is_empty() {
        let parked = LeaseKey { topic: at.topic, group: at.group, queue: at.queue, lease: line.parked.remove(0) };
        if lease::get(stage, parked)?.is_some() {
            stage.put(Space::Lease, keys::returned(parked), Bytes::new());
            line.current = Some(parked.lease);
            put(stage, at, &line);
            return Ok(());
        }
    }
    let cursor = stage.number(Space::Cursor, &keys::cursor(at.topic, at.group, at.queue))?;
    match first_member(stage, at, line.next, QueueOffset(cursor))? {
        Some(first) => {
            line.next = first;
            put(stage, at, &line);
            stage.put_number(Space::Lease, keys::ready(at), first.0);
        }
        None => stage.delete(Space::Lease, keys::line(at)),
    }
    Ok(())
}

fn first_member(
    stage: &Stage<'_>,
    at: LineKey,
    from: QueueOffset,
    to: QueueOffset,
) -> Result<Option<QueueOffset>, Failure> {
    if at.message_group == MessageGroupHash::NONE || from >= to {
        return Ok(None);
    }
    let start = keys::message_of_group(at.topic, at.queue, at.message_group, from);
    let end =
        keys::message_of_group(at.topic, at.queue, at.message_group, to).min(after_prefix(&start[..start.len() - 8]));
    let found = stage.scan(Space::Queue, &start, &end, 1)?;
    Ok(found.first().map(|(key, _)| offset_in(key)).transpose()?.map(QueueOffset))
}
