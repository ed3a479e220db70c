//! FIFO lines as stored: one for each message group that a consumer group works on.
//!
//! While a line has a lease, no other message of its message group is delivered to the consumer group (P9); other
//! message groups go on. The group offset passes over messages of a line. When the lease is settled, an index over
//! message groups finds them, and they are delivered next. A message without message group is in the line
//! [`MessageGroupHash::NONE`] of its queue, over which no group offset passes (contract §18).
//!
//! Not here: what a line delivers next (`machine/fifo_advance`).

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::keys::{LeaseKey, LineKey, after_prefix};
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{LeaseId, MessageGroupHash, OffsetSet, QueueOffset};
use crate::store::kv::Space;

const VERSION: u8 = 1;
/// One FIFO line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FifoLine {
    /// The lease that is being delivered or waits for redelivery; `None` while messages from `next` on can be
    /// delivered.
    pub current: Option<LeaseId>,
    /// Ended leases whose messages are delivered after those of `current`.
    pub parked: Vec<LeaseId>,
    /// Messages of the message group from this offset on were never delivered.
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

/// The key of the line of a lease in FIFO order.
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
    Reader::new(key.slice(key.len() - 8..), "key of the index over message groups").u64()
}

/// The first message of a line's message group among `offsets`.
pub(in crate::machine) fn first_member(
    stage: &Stage<'_>,
    at: LineKey,
    offsets: Range<QueueOffset>,
) -> Result<Option<QueueOffset>, Failure> {
    if at.message_group == MessageGroupHash::NONE || offsets.is_empty() {
        return Ok(None);
    }
    let key = |offset| keys::message_of_group(at.topic, at.queue, at.message_group, offset);
    let start = key(offsets.start);
    let end = key(offsets.end).min(after_prefix(&start[..start.len() - 8]));
    let found = stage.scan(Space::Queue, &start, &end, 1)?;
    Ok(found.first().map(|(key, _)| offset_in(key)).transpose()?.map(QueueOffset))
}
