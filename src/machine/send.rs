//! Sends below the log: each message gets a queue and an offset, or is deferred. Before: `broker/send`.
//!
//! Hot path. What the sends of one entry add to a queue is stored together (`machine/state/enqueue`).

use crate::machine::batch::Batch;
use crate::machine::command::{Command, Placement, QueuePlacement, Send, SendToQueue};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::enqueue::{EnqueueBuffer, EnteringMessage, QueueChoice};
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::RunItem;
use crate::machine::state::recent_id;
use crate::machine::state::recent_id::Key;
use crate::machine::state::recent_sends::Recent;
use crate::machine::state::stage::Stage;
use crate::machine::state::stored::Stored;
use crate::machine::{delay, transaction};
use crate::model::MessageRef;
use crate::model::counts::TopicCounts;

/// What the sends of one entry share.
pub(super) struct EntrySends<'e> {
    batch: &'e Batch,
    /// Slot of the next send's first message.
    next_slot: u32,
    /// Of the messages that are looked for, by slot.
    ids: Vec<Option<Key>>,
    recent: &'e mut Recent,
    entering: EnqueueBuffer,
}

impl<'e> EntrySends<'e> {
    /// The ids of all commands are looked for one after the other: that many wait for memory together, and not each alone.
    pub fn new(batch: &'e Batch, commands: &[Command], recent: &'e mut Recent) -> Self {
        let mut ids = Vec::new();
        for command in commands {
            let slots = (0..).skip(ids.len()).take(command.messages());
            match command {
                Command::Send(send) => ids.extend(slots.map(|slot| recent_id::key(send.topic, &batch.message(slot)?))),
                _ => ids.extend(slots.map(|_| None)),
            }
        }
        recent.expect(&ids);
        Self { batch, next_slot: 0, ids, recent, entering: EnqueueBuffer::default() }
    }

    /// Puts what the sends so far stored into the stage, where other commands see it.
    pub fn put_into(&mut self, stage: &mut Stage<'_>) -> Result<(), Failure> {
        self.entering.put_into(stage)
    }

    /// The entry is done.
    pub fn finish(mut self, stage: &mut Stage<'_>) -> Result<(), Failure> {
        self.entering.put_into(stage)?;
        self.recent.end_entry(stage)
    }

    /// Size of the message in a slot.
    pub fn message_bytes(&self, slot: u32) -> u32 {
        self.batch.message_bytes(slot)
    }

    /// The slot of the first of a command's messages; those of the next command follow.
    pub fn take_slots(&mut self, count: usize) -> u32 {
        let first = self.next_slot;
        self.next_slot += u32::try_from(count).expect("a batch holds far fewer than 2^32 messages");
        first
    }
}

/// Stores the messages of a command.
pub(super) fn apply(stage: &mut Stage<'_>, sends: &mut EntrySends<'_>, send: &Send) -> Result<Outcome, Failure> {
    let first_slot = sends.take_slots(send.tag_hashes.len());
    let Some(topic) = sends.entering.topic(stage, send.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if !topic.permission.can_write() {
        return Ok(Outcome::Rejected(Rejected::Forbidden));
    }
    if !topic.topic_type.accepts(send.message_type) {
        return Ok(Outcome::Rejected(Rejected::TypeMismatch(topic.topic_type)));
    }
    let index = stage.at();
    let mut stored = Vec::with_capacity(send.tag_hashes.len());
    sends.recent.begin_entry(stage)?;
    let mut counts = TopicCounts::default();
    for (slot, (number, tag_hash)) in (first_slot..).zip(send.tag_hashes.iter().enumerate()) {
        let id = sends.ids.get(slot as usize).copied().flatten();
        if let Some(id) = id
            && let Some(before) = sends.recent.find(stage, id)?
        {
            stored.push(before);
            continue;
        }
        let item = RunItem { slot, bytes: sends.batch.message_bytes(slot), tag_hash: *tag_hash };
        let Some(now) = store(stage, &mut sends.entering, send, number, item)? else {
            return Ok(Outcome::Rejected(Rejected::TopicNotFound));
        };
        if let Some(id) = id {
            sends.recent.note(id, index, now);
        }
        counts.messages += 1;
        counts.bytes += u64::from(item.bytes);
        if let Stored::Deferred(_) = now {
            let is_half = matches!(send.placement, Placement::OnCommit(_));
            *(if is_half { &mut counts.halves } else { &mut counts.delayed }) += 1;
        }
        stored.push(now);
    }
    if counts.messages > 0 {
        *stage.counts().of_topic(send.topic) += &counts;
    }
    Ok(Outcome::Sent(stored))
}

/// Stores the messages of a command for the queue that their producer chose, one after the other; some wait before they
/// enter it. The outcome has offset 0 if the first one waits.
///
/// No earlier message of the same id is looked for: what a classic client sends again is another message, be it a retry of a
/// consumer or a loop of the application (D189).
pub(super) fn to_queue(
    stage: &mut Stage<'_>,
    sends: &mut EntrySends<'_>,
    send: &SendToQueue,
) -> Result<Outcome, Failure> {
    let first_slot = sends.take_slots(send.tag_hashes.len());
    let Some(topic) = sends.entering.topic(stage, send.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if !topic.permission.can_write() {
        return Ok(Outcome::Rejected(Rejected::Forbidden));
    }
    if !topic.topic_type.accepts_in_queue(send.placement.message_type()) {
        return Ok(Outcome::Rejected(Rejected::TypeMismatch(topic.topic_type)));
    }
    let mut first = None;
    let mut counts = TopicCounts::default();
    for (slot, (number, tag_hash)) in (first_slot..).zip(send.tag_hashes.iter().enumerate()) {
        let item = RunItem { slot, bytes: sends.batch.message_bytes(slot), tag_hash: *tag_hash };
        counts.messages += 1;
        counts.bytes += u64::from(item.bytes);
        let message = MessageRef { index: stage.at(), slot };
        let group = match &send.placement {
            QueuePlacement::DeliverAt(times)
                if times.get(number).is_some_and(|at| stage.clock().machine_of(*at) > stage.now()) =>
            {
                delay::defer(stage, send.topic, message, times[number], (item, Some(send.queue)))?;
                counts.delayed += 1;
                continue;
            }
            QueuePlacement::OnCommit(checks) => {
                transaction::begin(stage, send.topic, message, *checks, (item, Some(send.queue)))?;
                counts.halves += 1;
                continue;
            }
            QueuePlacement::Fifo(groups) => groups.get(number).copied(),
            QueuePlacement::Now | QueuePlacement::DeliverAt(_) => None,
        };
        let choice = QueueChoice::Given(send.queue, group);
        let entering = EnteringMessage { choice, ..EnteringMessage::plain(stage.at(), item) };
        let Some((_, offset)) = sends.entering.enqueue(stage, send.topic, entering)? else {
            return Ok(Outcome::Rejected(Rejected::TopicNotFound));
        };
        first.get_or_insert(offset);
    }
    *stage.counts().of_topic(send.topic) += &counts;
    Ok(Outcome::SentToQueue { offset: first.unwrap_or_default(), slot: first_slot })
}

/// Stores the message of a command with this number; `None` if the topic is deleted.
fn store(
    stage: &mut Stage<'_>,
    entering: &mut EnqueueBuffer,
    send: &Send,
    number: usize,
    item: RunItem,
) -> Result<Option<Stored>, Failure> {
    let message = MessageRef { index: stage.at(), slot: item.slot };
    let choice = match &send.placement {
        Placement::DeliverAt(times)
            if times.get(number).is_some_and(|at| stage.clock().machine_of(*at) > stage.now()) =>
        {
            delay::defer(stage, send.topic, message, times[number], (item, None))?;
            return Ok(Some(Stored::Deferred(item.slot)));
        }
        Placement::OnCommit(checks) => {
            transaction::begin(stage, send.topic, message, *checks, (item, None))?;
            return Ok(Some(Stored::Deferred(item.slot)));
        }
        Placement::Fifo(groups) => groups.get(number).map_or(QueueChoice::Turn, |it| QueueChoice::MessageGroup(*it)),
        Placement::Priority(all) => QueueChoice::Priority(all.get(number).copied().unwrap_or(0)),
        Placement::Now | Placement::DeliverAt(_) => QueueChoice::Turn,
    };
    let entering_message = EnteringMessage { choice, ..EnteringMessage::plain(message.index, item) };
    let entered = entering.enqueue(stage, send.topic, entering_message)?;
    Ok(entered.map(|(queue, offset)| Stored::Queue(queue, offset)))
}
