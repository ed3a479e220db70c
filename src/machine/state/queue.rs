//! Queues as stored: the head of each, and its messages in runs.
//!
//! Hot path. A *run* is what one entry added to one queue: one key for all of its messages (D7), with the slot, the
//! size and the hash of the tag of each, so that a plan can filter without reading bodies.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::run_sizes::RunSizes;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::filter::tag;
use crate::model::{LogIndex, MessageGroupHash, OffsetSet, QueueId, QueueOffset, Timestamp, TopicId, TopicName};
use crate::store::kv::Space;

const VERSION: u8 = 1;
const VERSION_WITH_ORIGIN: u8 = 2;
const VERSION_IN_ORDER: u8 = 3;

/// Both ends of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueHead {
    /// The first offset that can be read.
    pub min: QueueOffset,
    /// The offset of the next message.
    pub max: QueueOffset,
    /// When the last message was stored.
    pub last_stored_at: Option<Timestamp>,
}

/// One message of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunItem {
    /// Slot in the entry.
    pub slot: u32,
    /// Encoded size in bytes.
    pub bytes: u32,
    /// Hash of the tag, 0 for none.
    pub tag_hash: u64,
}

/// Consecutive messages of one queue from one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The entry that holds the bytes of the messages.
    pub index: LogIndex,
    /// The machine's time when the messages entered the queue.
    pub stored_at: Timestamp,
    pub items: Vec<RunItem>,
    /// Where the message was before, if it is a dead letter; then it is the only one of the run.
    pub origin: Option<Origin>,
    /// The message group of each, if they are in FIFO order; else empty.
    pub message_groups: Vec<MessageGroupHash>,
}

/// Where a dead letter was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub topic: TopicId,
    /// The topic's name, also after the topic is deleted.
    pub name: TopicName,
    pub queue: QueueId,
    pub offset: QueueOffset,
    /// How often it was delivered there.
    pub attempts: u32,
}

impl QueueHead {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(26);
        out.put_u8(VERSION);
        out.put_u64(self.min.0);
        out.put_u64(self.max.0);
        out.put_option(self.last_stored_at, |out, at| out.put_u64(at.0));
        out.freeze()
    }

    pub(in crate::machine) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "queue head", VERSION)?;
        Ok(Self {
            min: QueueOffset(reader.u64()?),
            max: QueueOffset(reader.u64()?),
            last_stored_at: reader.option(|reader| Ok(Timestamp(reader.u64()?)))?,
        })
    }
}

impl Run {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(24 + self.items.len() * 8);
        out.put_u8(match (&self.origin, self.message_groups.is_empty()) {
            (None, true) => VERSION,
            (Some(_), _) => VERSION_WITH_ORIGIN,
            (None, false) => VERSION_IN_ORDER,
        });
        out.put_u64(self.index.0);
        out.put_u64(self.stored_at.0);
        out.put_list(&self.items, |out, item| item.encode(out));
        if let Some(origin) = &self.origin {
            out.put_u32(origin.topic.0);
            out.put_text(origin.name.as_str());
            out.put_u32(origin.queue.0);
            out.put_u64(origin.offset.0);
            out.put_u32(origin.attempts);
        } else if !self.message_groups.is_empty() {
            out.put_list(&self.message_groups, |out, group| out.put_u64(group.0));
        }
        out.freeze()
    }

    pub(in crate::machine) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "run");
        let version = reader.u8()?;
        if !(VERSION..=VERSION_IN_ORDER).contains(&version) {
            return Err(reader.unknown(version.into()));
        }
        Ok(Self {
            index: LogIndex(reader.u64()?),
            stored_at: Timestamp(reader.u64()?),
            items: reader.list(RunItem::decode)?,
            origin: if version == VERSION_WITH_ORIGIN { Some(Origin::decode(&mut reader)?) } else { None },
            message_groups: if version == VERSION_IN_ORDER {
                reader.list(|reader| Ok(MessageGroupHash(reader.u64()?)))?
            } else {
                Vec::new()
            },
        })
    }
}

impl Origin {
    fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            topic: TopicId(reader.u32()?),
            name: TopicName::stored(&reader.text()?),
            queue: QueueId(reader.u32()?),
            offset: QueueOffset(reader.u64()?),
            attempts: reader.u32()?,
        })
    }
}

impl RunItem {
    pub(in crate::machine) fn encode(&self, out: &mut BytesMut) {
        out.put_varint(self.slot.into());
        out.put_varint(self.bytes.into());
        tag::put_hash(out, self.tag_hash);
    }

    pub(in crate::machine) fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { slot: reader.varint_u32()?, bytes: reader.varint_u32()?, tag_hash: tag::read_hash(reader)? })
    }
}

/// The queue's head; a queue without one is empty.
pub(in crate::machine) fn head(stage: &Stage<'_>, topic: TopicId, queue: QueueId) -> Result<QueueHead, Failure> {
    let value = stage.get(Space::Queue, &keys::queue_head(topic, queue))?;
    Ok(value.map(QueueHead::decode).transpose()?.unwrap_or_default())
}

pub(in crate::machine) fn put_head(stage: &mut Stage<'_>, topic: TopicId, queue: QueueId, head: &QueueHead) {
    stage.put(Space::Queue, keys::queue_head(topic, queue), head.encode());
}

pub(in crate::machine) fn put_run(
    stage: &mut Stage<'_>,
    topic: TopicId,
    queue: QueueId,
    first: QueueOffset,
    run: &Run,
) {
    stage.put(Space::Queue, keys::run(topic, queue, first), run.encode());
}

/// The message group of each of `offsets`; `None` for a message that has none.
pub(in crate::machine) fn message_groups(
    stage: &Stage<'_>,
    topic: TopicId,
    queue: QueueId,
    offsets: Range<QueueOffset>,
) -> Result<Vec<Option<MessageGroupHash>>, Failure> {
    let Range { start: from, end: to } = offsets;
    let mut groups = Vec::new();
    while from.0 + (groups.len() as u64) < to.0 {
        let offset = QueueOffset(from.0 + groups.len() as u64);
        let Some((first, run)) = run_of(stage, topic, queue, offset)? else {
            groups.push(None);
            continue;
        };
        // One look-up for all messages of a run.
        for next in offset.0..to.0.min(first.0 + run.items.len() as u64).max(offset.0 + 1) {
            let position = usize::try_from(next - first.0).expect("a run fits in memory");
            groups.push(run.message_groups.get(position).copied());
        }
    }
    Ok(groups)
}

/// How many of `offsets` take `bytes` together, from the first on; one at least.
pub(in crate::machine) fn that_fit(
    stage: &Stage<'_>,
    topic: TopicId,
    queue: QueueId,
    offsets: Range<QueueOffset>,
    mut bytes: u64,
) -> Result<u64, Failure> {
    let (from, count) = (offsets.start, offsets.end.0 - offsets.start.0);
    let mut fit = 0;
    while fit < count {
        let Some((first, run)) = run_of(stage, topic, queue, QueueOffset(from.0 + fit))? else { break };
        let position = usize::try_from(from.0 + fit - first.0).expect("a run fits in memory");
        let items = run.items.get(position..).unwrap_or_default();
        for item in items {
            match bytes.checked_sub(item.bytes.into()) {
                Some(left) if fit < count => bytes = left,
                _ => return Ok(fit.max(1)),
            }
            fit += 1;
        }
        if items.is_empty() {
            break;
        }
    }
    Ok(fit.max(1))
}

/// The encoded size of some messages of a queue, which count from `first`.
pub(in crate::machine) fn bytes_of(
    stage: &mut Stage<'_>,
    topic: TopicId,
    queue: QueueId,
    first: QueueOffset,
    messages: OffsetSet,
) -> Result<u64, Failure> {
    let mut sum = 0;
    for offset in messages.offsets(first) {
        let size = |stage: &Stage<'_>| stage.run_sizes.as_ref().and_then(|sizes| sizes.of(topic, queue, offset));
        if size(stage).is_none()
            && let Some((first, run)) = run_of(stage, topic, queue, offset)?
        {
            let bytes = run.items.iter().map(|item| item.bytes).collect();
            stage.run_sizes = Some(RunSizes { topic, queue, first, bytes });
        }
        // What retention took since is not delivered.
        sum += size(stage).unwrap_or(0);
    }
    Ok(sum)
}

/// The message at an offset, with the run it is in.
pub(in crate::machine) fn find(
    stage: &Stage<'_>,
    topic: TopicId,
    queue: QueueId,
    offset: QueueOffset,
) -> Result<Option<(Run, RunItem)>, Failure> {
    let Some((first, run)) = run_of(stage, topic, queue, offset)? else { return Ok(None) };
    let item = usize::try_from(offset.0 - first.0).ok().and_then(|position| run.items.get(position).copied());
    Ok(item.map(|item| (run, item)))
}

/// Finds messages of one queue one after the other: a run that has several of them is read once.
#[derive(Default)]
pub(in crate::machine) struct RunFinder {
    last: Option<(QueueOffset, Run)>,
}

impl RunFinder {
    /// The message at an offset, with the entry that has its bytes.
    pub fn find(
        &mut self,
        stage: &Stage<'_>,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<(LogIndex, RunItem)>, Failure> {
        let item_of = |(first, run): &(QueueOffset, Run)| {
            let position = usize::try_from(offset.0.checked_sub(first.0)?).ok()?;
            run.items.get(position).map(|item| (run.index, *item))
        };
        if let Some(found) = self.last.as_ref().and_then(item_of) {
            return Ok(Some(found));
        }
        self.last = run_of(stage, topic, queue, offset)?;
        Ok(self.last.as_ref().and_then(item_of))
    }
}

/// The first offset of a queue that was stored at a time or later; the queue's end if there is none. Offsets are in the
/// order of the machine's time, because that never goes backwards.
///
/// * `run_of` finds the run that holds an offset, with the first offset of the run.
pub fn first_stored_at(
    head: &QueueHead,
    at: Timestamp,
    run_of: impl Fn(QueueOffset) -> Result<Option<(QueueOffset, Run)>, Failure>,
) -> Result<QueueOffset, Failure> {
    let (mut low, mut high) = (head.min, head.max);
    while low < high {
        let middle = QueueOffset(low.0 + (high.0 - low.0) / 2);
        let Some((first, run)) = run_of(middle)? else { break };
        if run.stored_at >= at {
            high = QueueOffset(first.0.max(low.0));
        } else {
            low = QueueOffset(first.0 + run.items.len() as u64);
        }
    }
    Ok(low.min(head.max))
}

/// The last run that begins at an offset or before it, with its first offset.
pub(in crate::machine) fn run_of(
    stage: &Stage<'_>,
    topic: TopicId,
    queue: QueueId,
    offset: QueueOffset,
) -> Result<Option<(QueueOffset, Run)>, Failure> {
    let (start, end) = (keys::run(topic, queue, QueueOffset(0)), keys::run(topic, queue, QueueOffset(offset.0 + 1)));
    let Some((key, value)) = stage.last(Space::Queue, &start, &end)? else { return Ok(None) };
    let first = Reader::new(key.slice(key.len() - 8..), "run key").u64()?;
    Ok(Some((QueueOffset(first), Run::decode(value)?)))
}
