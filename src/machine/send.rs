//! Sends below the log: gives each message its queue and offset. Before: `broker/send`.
//!
//! Hot path. Queues take turns over the whole topic, whichever node and client a message came through: each entry
//! begins with the next queue, and [`TURN_MESSAGES`] of one entry at most are one queue's. Under load, what lies
//! together in the log therefore lies together in a queue: few keys for an entry, and few entries to be read for a
//! poll. Offsets are given here, so they are dense and a failed proposal leaves no hole (D8, P5).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::machine::batch::Batch;
use crate::machine::command::{Placement, Send};
use crate::machine::outcome::{Outcome, Rejected, Stored};
use crate::machine::state::keys;
use crate::machine::state::queue;
use crate::machine::state::queue::{Origin, QueueHead, Run, RunItem};
use crate::machine::state::recent_sends;
use crate::machine::state::recent_sends::{Key, Recent};
use crate::machine::state::stage::Stage;
use crate::machine::topics::TopicRecord;
use crate::machine::{Failure, delay, topics, transaction};
use crate::model::{LogIndex, MessageGroupHash, MessageRef, QueueId, QueueOffset, TopicId};
use crate::store::kv::Space;

/// Messages of one entry that one queue takes before it is another one's turn: as many as a poll takes.
const TURN_MESSAGES: u32 = 32;

/// The messages of one entry that enter queues, not yet in the stage: what they add to a queue becomes as
/// few runs as can be.
#[derive(Default)]
pub(super) struct Sends {
    topics: BTreeMap<TopicId, Topic>,
}

struct Topic {
    record: TopicRecord,
    /// Queue of the next message.
    turn: u64,
    /// Messages that it got of this entry.
    in_turn: u32,
    queues: BTreeMap<QueueId, Growth>,
}

/// What a queue gains.
struct Growth {
    head: QueueHead,
    next: QueueOffset,
    runs: Vec<(QueueOffset, Run)>,
}

/// A message that enters a queue: where its bytes lie, and what a run keeps of it.
pub(super) struct Entering {
    /// The entry that holds its bytes.
    pub index: LogIndex,
    /// The rest.
    pub item: RunItem,
    /// Where it was before, if it is a dead letter.
    pub origin: Option<Origin>,
    /// Decides its queue.
    pub into: Into,
}

/// Which queue a message enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    /// The one whose turn it is.
    Turn,
    /// That of its message group, by hash: the message is in order.
    MessageGroup(MessageGroupHash),
    /// That of its priority, the last one for all above.
    Priority(u32),
}

impl Topic {
    /// Goes on to the next queue, if this one got anything.
    fn end_turn(&mut self) {
        self.turn += u64::from(self.in_turn > 0);
        self.in_turn = 0;
    }
}

impl Entering {
    /// A message like any other.
    pub fn plain(index: LogIndex, item: RunItem) -> Self {
        Self { index, item, origin: None, into: Into::Turn }
    }
}

impl Growth {
    fn add(&mut self, entering: Entering, stage: &Stage<'_>) -> QueueOffset {
        let Entering { index, item, origin, into } = entering;
        let message_group = if let Into::MessageGroup(group) = into { Some(group) } else { None };
        let offset = self.next;
        self.next = QueueOffset(offset.0 + 1);
        let is_like = |run: &Run| {
            let are_dead = run.origin.is_some() || origin.is_some();
            run.index == index && !are_dead && run.message_groups.is_empty() == message_group.is_none()
        };
        match self.runs.last_mut().filter(|(_, run)| is_like(run)) {
            Some((_, run)) => {
                run.items.push(item);
                run.message_groups.extend(message_group);
            }
            None => {
                let (items, message_groups) = (vec![item], message_group.into_iter().collect());
                self.runs.push((offset, Run { index, stored_at: stage.now(), items, origin, message_groups }));
            }
        }
        offset
    }
}

impl Sends {
    /// Stores the messages of a command.
    pub fn add(
        &mut self,
        stage: &mut Stage<'_>,
        recent: &mut Recent,
        send: &Send,
        batch: &Batch,
        first_slot: u32,
    ) -> Result<Outcome, Failure> {
        let Some(topic) = self.topic(stage, send.topic)? else {
            return Ok(Outcome::Rejected(Rejected::TopicNotFound));
        };
        if !topic.record.permission.can_write() {
            return Ok(Outcome::Rejected(Rejected::Forbidden));
        }
        if !topic.record.topic_type.accepts(send.message_type) {
            return Ok(Outcome::Rejected(Rejected::TypeMismatch(topic.record.topic_type)));
        }
        let index = stage.at();
        let mut places = Vec::with_capacity(send.tag_hashes.len());
        let key = |(slot, _)| recent_sends::key(send.topic, &batch.message(slot).unwrap_or_default());
        let ids: Vec<Option<Key>> = (first_slot..).zip(&send.tag_hashes).map(key).collect();
        recent.expect(&ids);
        for (slot, (number, (tag_hash, id))) in (first_slot..).zip(send.tag_hashes.iter().zip(ids).enumerate()) {
            let item = RunItem { slot, bytes: batch.message_bytes(slot), tag_hash: *tag_hash };
            let message = MessageRef { index, slot };
            if let Some(before) = id.and_then(|id| recent.find(id)) {
                places.push(before);
                continue;
            }
            let place = match &send.placement {
                Placement::DeliverAt(times) if times.get(number).is_some_and(|at| *at > stage.now()) => {
                    delay::wait(stage, send.topic, message, times[number], item);
                    Stored::Deferred(slot)
                }
                Placement::OnCommit(checks) => {
                    transaction::begin(stage, send.topic, message, *checks, item);
                    Stored::Deferred(slot)
                }
                Placement::Now | Placement::DeliverAt(_) | Placement::Fifo(_) | Placement::Priority(_) => {
                    let into = match &send.placement {
                        Placement::Fifo(groups) => {
                            groups.get(number).map_or(Into::Turn, |group| Into::MessageGroup(*group))
                        }
                        Placement::Priority(all) => Into::Priority(all.get(number).copied().unwrap_or(0)),
                        _ => Into::Turn,
                    };
                    match self.enter(stage, send.topic, Entering { into, ..Entering::plain(index, item) })? {
                        Some((queue, offset)) => Stored::Queue(queue, offset),
                        None => return Ok(Outcome::Rejected(Rejected::TopicNotFound)),
                    }
                }
            };
            if let Some(id) = id {
                recent.note(id, index, place);
            }
            places.push(place);
        }
        Ok(Outcome::Sent(places))
    }

    /// Gives a message its place; `None` if its topic is gone.
    pub fn enter(
        &mut self,
        stage: &Stage<'_>,
        topic: TopicId,
        entering: Entering,
    ) -> Result<Option<(QueueId, QueueOffset)>, Failure> {
        let Some(entered) = self.topic(stage, topic)? else { return Ok(None) };
        let queue = match entering.into {
            Into::MessageGroup(group) => queue_of(group.0, entered.record.queues),
            Into::Priority(priority) => QueueId(priority.min(entered.record.queues - 1)),
            Into::Turn => {
                if entered.in_turn == TURN_MESSAGES {
                    entered.end_turn();
                }
                entered.in_turn += 1;
                // Each round begins one queue further on: entries that alternate in size favour no queue.
                queue_of(entered.turn + entered.turn / u64::from(entered.record.queues), entered.record.queues)
            }
        };
        let growth = match entered.queues.entry(queue) {
            std::collections::btree_map::Entry::Occupied(growth) => growth.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let head = queue::head(stage, topic, queue)?;
                free.insert(Growth { head, next: head.max, runs: Vec::new() })
            }
        };
        Ok(Some((queue, growth.add(entering, stage))))
    }

    fn topic(&mut self, stage: &Stage<'_>, id: TopicId) -> Result<Option<&mut Topic>, Failure> {
        if let std::collections::btree_map::Entry::Vacant(free) = self.topics.entry(id) {
            let Some(record) = topics::topic_record(stage, id)? else { return Ok(None) };
            let turn = stage.number(Space::Queue, &keys::next_queue(id))?;
            free.insert(Topic { record, turn, in_turn: 0, queues: BTreeMap::new() });
        }
        Ok(self.topics.get_mut(&id))
    }

    /// Puts the runs into the stage, where other commands see them.
    pub fn settle(&mut self, stage: &mut Stage<'_>) {
        let stored_at = stage.now();
        for (id, mut topic) in std::mem::take(&mut self.topics) {
            if topic.queues.is_empty() {
                continue;
            }
            topic.end_turn();
            for (queue, growth) in topic.queues {
                let head = QueueHead { max: growth.next, last_stored_at: Some(stored_at), ..growth.head };
                for (first, run) in &growth.runs {
                    queue::put_run(stage, id, queue, *first, run);
                    for (offset, group) in (first.0..).zip(&run.message_groups) {
                        let key = keys::message_of_group(id, queue, *group, QueueOffset(offset));
                        stage.put(Space::Queue, key, Bytes::new());
                    }
                }
                queue::put_head(stage, id, queue, &head);
            }
            let turn = topic.turn % u64::from(topic.record.queues).pow(2);
            stage.put_number(Space::Queue, keys::next_queue(id), turn);
            stage.effects().grown.insert(id);
        }
    }
}

fn queue_of(turn: u64, queues: u32) -> QueueId {
    QueueId(u32::try_from(turn % u64::from(queues)).expect("the remainder is below a u32"))
}
