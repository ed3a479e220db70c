//! Sends below the log: gives each message its queue and offset. Before: `broker/send`.
//!
//! Hot path. Queues take turns message by message over the whole topic, whichever node and client a
//! message came through, so queues stay even; offsets are given here, so they are dense and a failed
//! proposal leaves no hole (D8, P5).

use std::collections::BTreeMap;

use super::batch::Batch;
use super::command::Send;
use super::outcome::{Outcome, Rejected};
use super::queue::{self, Run, RunItem};
use super::stage::Stage;
use super::{Failure, catalog, keys};
use crate::model::{QueueId, QueueOffset};
use crate::store::kv::Space;

/// RocketMQ's permission bit for writing.
pub const PERMISSION_WRITE: u8 = 2;
/// RocketMQ's permission bit for reading.
pub const PERMISSION_READ: u8 = 4;

pub(super) fn apply(stage: &mut Stage<'_>, send: &Send, batch: &Batch, first_slot: u32) -> Result<Outcome, Failure> {
    let Some(topic) = catalog::topic_record(stage, send.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if topic.permission & PERMISSION_WRITE == 0 {
        return Ok(Outcome::Rejected(Rejected::Forbidden));
    }
    if topic.message_type != send.message_type {
        return Ok(Outcome::Rejected(Rejected::TypeMismatch(topic.message_type)));
    }
    let turn = stage.number(Space::Queue, &keys::next_queue(send.topic))?;
    let mut by_queue: BTreeMap<QueueId, Vec<RunItem>> = BTreeMap::new();
    for (ordinal, tag_hash) in (0u32..).zip(&send.tag_hashes) {
        let slot = first_slot + ordinal;
        let item = RunItem { slot, bytes: batch.message_bytes(slot), tag_hash: *tag_hash };
        by_queue.entry(queue_of(turn, ordinal, topic.queues)).or_default().push(item);
    }
    let mut next: BTreeMap<QueueId, u64> = BTreeMap::new();
    let stored_at = stage.now();
    let index = stage.at();
    for (queue, items) in by_queue {
        let mut head = queue::head(stage, send.topic, queue)?;
        let first = head.max;
        next.insert(queue, first.0);
        head.max = QueueOffset(first.0 + items.len() as u64);
        head.last_stored_at = Some(stored_at);
        queue::put_run(stage, send.topic, queue, first, &Run { index, stored_at, items });
        queue::put_head(stage, send.topic, queue, &head);
    }
    let mut places = Vec::with_capacity(send.tag_hashes.len());
    for ordinal in 0..send.tag_hashes.len() as u32 {
        let queue = queue_of(turn, ordinal, topic.queues);
        let offset = next.get_mut(&queue).expect("every message's queue was counted above");
        places.push((queue, QueueOffset(*offset)));
        *offset += 1;
    }
    let turn = (turn + send.tag_hashes.len() as u64) % u64::from(topic.queues);
    stage.put_number(Space::Queue, keys::next_queue(send.topic), turn);
    stage.effects().grown.insert(send.topic);
    Ok(Outcome::Sent(places))
}

fn queue_of(turn: u64, ordinal: u32, queues: u32) -> QueueId {
    let queue = (turn + u64::from(ordinal)) % u64::from(queues);
    QueueId(u32::try_from(queue).expect("the remainder is below a u32"))
}
