//! Messages that consumers which pull could not consume, below the log: each is stored anew, as a delayed message of the topic
//! of its group's retries, or as a dead letter. Before: `broker/send_back`.
//!
//! The message is a copy with another count of attempts. A reference, as leases have them (D12), would not do: such a consumer
//! names a message by where its bytes are, and each attempt must be told apart.
//!
//! Not here: dead letters of groups that lease (`machine/dead_letter_topic`).

use crate::machine::command::{BackTo, SendBack};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::send::EntrySends;
use crate::machine::state::enqueue::{EnqueueBuffer, EnteringMessage};
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::machine::state::stored::Stored;
use crate::machine::state::{catalog, keys, queue};
use crate::machine::{dead_letter_topic, delay};
use crate::model::counts::TopicCounts;
use crate::model::{GroupId, MessageRef, QueueId, QueueOffset, Timestamp, TopicId, TopicName};
use crate::store::kv::Space;

pub(super) fn apply(stage: &mut Stage<'_>, sends: &mut EntrySends<'_>, back: SendBack) -> Result<Outcome, Failure> {
    let slot = sends.take_slots(1);
    let item = RunItem { slot, bytes: sends.message_bytes(slot), tag_hash: back.tag_hash };
    let Some(group) = catalog::group(stage, back.group)? else {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    };
    let retries = match TopicName::retries_of(&group.name) {
        Some(name) => catalog::topic_id(stage, &name)?,
        None => None,
    };
    let Some(retries) = retries else { return Ok(Outcome::Rejected(Rejected::TopicNotFound)) };
    match back.to {
        BackTo::Retry(at) => retry(stage, retries, at, item),
        BackTo::DeadLetter => {
            let Some(dead_letters) = dead_letter_topic::of_group(stage, back.group)? else {
                return Ok(Outcome::Rejected(Rejected::GroupNotFound));
            };
            stage.counts().of_group(retries, back.group).dead_letters += 1;
            enter(stage, dead_letters, item)
        }
        BackTo::Redriven(offset) => {
            let is_first = mark(stage, back.group, offset)?;
            if is_first {
                enter(stage, retries, item)?;
            }
            Ok(Outcome::Redriven(vec![is_first]))
        }
    }
}

fn retry(stage: &mut Stage<'_>, topic: TopicId, at: Timestamp, item: RunItem) -> Result<Outcome, Failure> {
    if stage.clock().machine_of(at) <= stage.now() {
        return enter(stage, topic, item);
    }
    let message = MessageRef { index: stage.at(), slot: item.slot };
    delay::defer(stage, topic, message, at, (item, None))?;
    count(stage, topic, item).delayed += 1;
    Ok(Outcome::Sent(vec![Stored::Deferred(item.slot)]))
}

fn enter(stage: &mut Stage<'_>, topic: TopicId, item: RunItem) -> Result<Outcome, Failure> {
    let mut entering = EnqueueBuffer::default();
    let Some((_, offset)) = entering.enqueue(stage, topic, EnteringMessage::plain(stage.at(), item))? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    entering.put_into(stage)?;
    count(stage, topic, item);
    Ok(Outcome::SentToQueue { offset, slot: item.slot })
}

fn count<'s>(stage: &'s mut Stage<'_>, topic: TopicId, item: RunItem) -> &'s mut TopicCounts {
    let counts = stage.counts().of_topic(topic);
    counts.messages += 1;
    counts.bytes += u64::from(item.bytes);
    counts
}

/// Marks a dead letter as redriven; false if it was before, or is none that came back so.
fn mark(stage: &mut Stage<'_>, group: GroupId, offset: QueueOffset) -> Result<bool, Failure> {
    let Some(dead_letters) = dead_letter_topic::of_group(stage, group)? else { return Ok(false) };
    let marker = keys::redriven(dead_letters, offset);
    let is_marked = stage.get(Space::Queue, &marker)?.is_some();
    let found = queue::find(stage, dead_letters, QueueId(0), offset)?;
    if is_marked || found.is_none_or(|(run, _)| run.origin.is_some()) {
        return Ok(false);
    }
    stage.put_number(Space::Queue, marker, stage.wall().0);
    Ok(true)
}
