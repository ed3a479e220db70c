//! How messages enter queues: a queue and an offset for each, and few runs for all that one entry adds.
//!
//! Hot path. Queues take turns over the whole topic, whichever node and client a message came through: each entry
//! begins with the next queue, and [`TURN_MESSAGES`] of one entry at most go to one queue in a row. Under load,
//! messages that are together in the log are therefore together in a queue: few keys for an entry, and few entries to
//! read for a poll. Offsets are given here, so they are dense and a failed proposal leaves no hole (D8, P5).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;

use crate::machine::state::catalog::TopicRecord;
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::{Origin, QueueHead, Run, RunItem};
use crate::machine::state::references::RunPlace;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, keys, queue, references};
use crate::model::{LogIndex, MessageGroupHash, QueueId, QueueOffset, TopicId};
use crate::store::kv::Space;

/// Messages of one entry that one queue takes before the next queue's turn: as many as a poll takes.
const TURN_MESSAGES: u32 = 32;

/// Messages of one entry that enter queues and are not in the stage yet.
#[derive(Default)]
pub(in crate::machine) struct EnqueueBuffer {
    topics: BTreeMap<TopicId, TopicBuffer>,
}

struct TopicBuffer {
    record: TopicRecord,
    /// Counts the turns of queues; gives the queue of the next message.
    turn: u64,
    /// Messages of this entry in this turn.
    in_turn: u32,
    queues: BTreeMap<QueueId, QueueBuffer>,
}

/// What is added to one queue.
struct QueueBuffer {
    head: QueueHead,
    next: QueueOffset,
    runs: Vec<(QueueOffset, Run)>,
}

/// A message that enters a queue.
pub(in crate::machine) struct EnteringMessage {
    /// The entry that holds its bytes.
    pub index: LogIndex,
    pub item: RunItem,
    /// Where it was before, if it is a dead letter.
    pub origin: Option<Origin>,
    pub choice: QueueChoice,
}

/// Which queue of its topic a message enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) enum QueueChoice {
    /// The one whose turn it is.
    Turn,
    /// That of its message group; the message is in FIFO order.
    MessageGroup(MessageGroupHash),
    /// That of its priority; the last queue for all higher ones.
    Priority(u32),
    /// The one that its producer chose, perhaps in FIFO order there. Queues are only added, so it is there.
    Given(QueueId, Option<MessageGroupHash>),
}

impl EnteringMessage {
    /// A message without order, priority or origin.
    pub fn plain(index: LogIndex, item: RunItem) -> Self {
        Self { index, item, origin: None, choice: QueueChoice::Turn }
    }

    /// One that was deferred: it enters the queue that its producer chose, if it did.
    pub fn deferred(index: LogIndex, item: RunItem, queue: Option<QueueId>) -> Self {
        let choice = queue.map_or(QueueChoice::Turn, |queue| QueueChoice::Given(queue, None));
        Self { choice, ..Self::plain(index, item) }
    }
}

impl TopicBuffer {
    /// The queue whose turn it is.
    fn queue_in_turn(&mut self) -> QueueId {
        if self.in_turn == TURN_MESSAGES {
            self.end_turn();
        }
        self.in_turn += 1;
        let queues = self.record.queues;
        // Each time all queues had a turn, they begin one queue further on: entries that alternate in size favour no
        // queue.
        queue_of(self.turn + self.turn / u64::from(queues), queues)
    }

    /// Goes on to the next queue, if this one got a message.
    fn end_turn(&mut self) {
        self.turn += u64::from(self.in_turn > 0);
        self.in_turn = 0;
    }
}

impl QueueBuffer {
    fn add(&mut self, entering: EnteringMessage, stage: &Stage<'_>) -> QueueOffset {
        let EnteringMessage { index, item, origin, choice } = entering;
        let message_group = match choice {
            QueueChoice::MessageGroup(group) => Some(group),
            QueueChoice::Given(_, group) => group,
            QueueChoice::Turn | QueueChoice::Priority(_) => None,
        };
        let offset = self.next;
        self.next = QueueOffset(offset.0 + 1);
        let fits = |run: &Run| {
            let has_origin = run.origin.is_some() || origin.is_some();
            run.index == index && !has_origin && run.message_groups.is_empty() == message_group.is_none()
        };
        match self.runs.last_mut().filter(|(_, run)| fits(run)) {
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

impl EnqueueBuffer {
    /// The topic as it is for this entry; `None` if it is deleted.
    pub fn topic(&mut self, stage: &Stage<'_>, topic: TopicId) -> Result<Option<&TopicRecord>, Failure> {
        Ok(self.buffer_of(stage, topic)?.map(|buffer| &buffer.record))
    }

    /// Gives a message its queue and its offset; `None` if its topic is deleted.
    pub fn enqueue(
        &mut self,
        stage: &Stage<'_>,
        topic: TopicId,
        entering: EnteringMessage,
    ) -> Result<Option<(QueueId, QueueOffset)>, Failure> {
        let Some(buffer) = self.buffer_of(stage, topic)? else { return Ok(None) };
        let queue = match entering.choice {
            QueueChoice::MessageGroup(group) => queue_of(group.0, buffer.record.queues),
            QueueChoice::Priority(priority) => QueueId(priority.min(buffer.record.queues - 1)),
            QueueChoice::Given(queue, _) => queue_of(queue.0.into(), buffer.record.queues),
            QueueChoice::Turn => buffer.queue_in_turn(),
        };
        let added = match buffer.queues.entry(queue) {
            Entry::Occupied(added) => added.into_mut(),
            Entry::Vacant(free) => {
                let head = queue::head(stage, topic, queue)?;
                free.insert(QueueBuffer { head, next: head.max, runs: Vec::new() })
            }
        };
        Ok(Some((queue, added.add(entering, stage))))
    }

    fn buffer_of(&mut self, stage: &Stage<'_>, topic: TopicId) -> Result<Option<&mut TopicBuffer>, Failure> {
        match self.topics.entry(topic) {
            Entry::Occupied(known) => Ok(Some(known.into_mut())),
            Entry::Vacant(free) => {
                let Some(record) = catalog::topic(stage, topic)? else { return Ok(None) };
                let turn = stage.number(Space::Queue, &keys::next_queue(topic))?;
                Ok(Some(free.insert(TopicBuffer { record, turn, in_turn: 0, queues: BTreeMap::new() })))
            }
        }
    }

    /// Puts what was added into the stage, where other commands see it, and empties the buffer.
    pub fn put_into(&mut self, stage: &mut Stage<'_>) -> Result<(), Failure> {
        let stored_at = stage.now();
        let mut own_runs = 0;
        for (id, mut topic) in std::mem::take(&mut self.topics) {
            if topic.queues.is_empty() {
                continue;
            }
            topic.end_turn();
            for (queue, added) in topic.queues {
                let head = QueueHead { max: added.next, last_stored_at: Some(stored_at), ..added.head };
                for (first, run) in &added.runs {
                    if run.index == stage.at() {
                        own_runs += 1;
                    } else {
                        references::retain_foreign(stage, run.index, RunPlace { topic: id, queue, first: *first });
                    }
                    queue::put_run(stage, id, queue, *first, run);
                    for (offset, group) in (first.0..).zip(&run.message_groups) {
                        let key = keys::message_of_group(id, queue, *group, QueueOffset(offset));
                        stage.put(Space::Queue, key, Bytes::new());
                    }
                }
                queue::put_head(stage, id, queue, &head);
                stage.effects().grown_queues.insert((id, queue));
            }
            let turn = topic.turn % u64::from(topic.record.queues).pow(2);
            stage.put_number(Space::Queue, keys::next_queue(id), turn);
            stage.effects().grown.insert(id);
        }
        if own_runs > 0 {
            references::retain(stage, stage.at(), own_runs)?;
        }
        Ok(())
    }
}

fn queue_of(turn: u64, queues: u32) -> QueueId {
    QueueId(u32::try_from(turn % u64::from(queues)).expect("the remainder is below a u32"))
}
