//! Sends below the log: gives each message its queue and offset. Before: `broker/send`.
//!
//! Hot path. Queues take turns message by message over the whole topic, whichever node and client a
//! message came through, so queues stay even; offsets are given here, so they are dense and a failed
//! proposal leaves no hole (D8, P5).

use std::collections::BTreeMap;

use super::batch::Batch;
use super::catalog::TopicRecord;
use super::command::Send;
use super::outcome::{Outcome, Rejected};
use super::queue::{self, QueueHead, Run, RunItem};
use super::stage::Stage;
use super::{Failure, catalog, keys};
use crate::model::{QueueId, QueueOffset, TopicId};
use crate::store::kv::Space;

/// RocketMQ's permission bit for writing.
pub const PERMISSION_WRITE: u8 = 2;
/// RocketMQ's permission bit for reading.
pub const PERMISSION_READ: u8 = 4;

/// The sends of one entry so far, not yet in the stage: what they add to a queue becomes one run.
#[derive(Default)]
pub(super) struct Sends {
    topics: BTreeMap<TopicId, Topic>,
}

struct Topic {
    record: TopicRecord,
    /// Queue of the next message.
    turn: u64,
    queues: BTreeMap<QueueId, Growth>,
}

/// What a queue gains.
struct Growth {
    head: QueueHead,
    items: Vec<RunItem>,
}

impl Growth {
    fn next(&self) -> QueueOffset {
        QueueOffset(self.head.max.0 + self.items.len() as u64)
    }
}

impl Sends {
    /// Gives each message of a command its place.
    pub fn add(&mut self, stage: &Stage<'_>, send: &Send, batch: &Batch, first_slot: u32) -> Result<Outcome, Failure> {
        let Some(topic) = self.topic(stage, send.topic)? else {
            return Ok(Outcome::Rejected(Rejected::TopicNotFound));
        };
        if topic.record.permission & PERMISSION_WRITE == 0 {
            return Ok(Outcome::Rejected(Rejected::Forbidden));
        }
        if topic.record.message_type != send.message_type {
            return Ok(Outcome::Rejected(Rejected::TypeMismatch(topic.record.message_type)));
        }
        let mut places = Vec::with_capacity(send.tag_hashes.len());
        for (slot, tag_hash) in (first_slot..).zip(&send.tag_hashes) {
            let queue = queue_of(topic.turn, topic.record.queues);
            topic.turn += 1;
            let growth = match topic.queues.entry(queue) {
                std::collections::btree_map::Entry::Occupied(growth) => growth.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    free.insert(Growth { head: queue::head(stage, send.topic, queue)?, items: Vec::new() })
                }
            };
            places.push((queue, growth.next()));
            growth.items.push(RunItem { slot, bytes: batch.message_bytes(slot), tag_hash: *tag_hash });
        }
        Ok(Outcome::Sent(places))
    }

    fn topic(&mut self, stage: &Stage<'_>, id: TopicId) -> Result<Option<&mut Topic>, Failure> {
        if let std::collections::btree_map::Entry::Vacant(free) = self.topics.entry(id) {
            let Some(record) = catalog::topic_record(stage, id)? else { return Ok(None) };
            let turn = stage.number(Space::Queue, &keys::next_queue(id))?;
            free.insert(Topic { record, turn, queues: BTreeMap::new() });
        }
        Ok(self.topics.get_mut(&id))
    }

    /// Puts the runs into the stage, where other commands see them.
    pub fn settle(&mut self, stage: &mut Stage<'_>) {
        let (stored_at, index) = (stage.now(), stage.at());
        for (id, topic) in std::mem::take(&mut self.topics) {
            if topic.queues.is_empty() {
                continue;
            }
            for (queue, growth) in topic.queues {
                let (first, next) = (growth.head.max, growth.next());
                let head = QueueHead { max: next, last_stored_at: Some(stored_at), ..growth.head };
                queue::put_run(stage, id, queue, first, &Run { index, stored_at, items: growth.items });
                queue::put_head(stage, id, queue, &head);
            }
            let turn = topic.turn % u64::from(topic.record.queues);
            stage.put_number(Space::Queue, keys::next_queue(id), turn);
            stage.effects().grown.insert(id);
        }
    }
}

fn queue_of(turn: u64, queues: u32) -> QueueId {
    QueueId(u32::try_from(turn % u64::from(queues)).expect("the remainder is below a u32"))
}
