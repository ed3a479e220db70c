//! Reading a queue at an offset, and group offsets: what consumers that pull need, and resets by operators. Before:
//! `edge/grpc/messaging/offset`; after: `machine/offset`.
//!
//! A pull leases nothing: it reads this node's applied state, after a read barrier where that may be behind.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::receive::bodies::BodyReader;
use crate::broker::receive::filter_check::with_stored;
use crate::broker::settled::settled_below;
use crate::broker::{ActWords, AnswerRoom, Broker, Deadline, Error, InRoom, Operator};
use crate::env::pool::Pool;
use crate::machine::command::{OffsetMove, SetGroupOffsets};
use crate::machine::state::lease::SPAN;
use crate::machine::state::queue::first_stored_at;
use crate::machine::state::view::View;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::limits::RECEIVE_BATCH_MAX;
use crate::model::{
    Filter, GroupId, GroupName, LogIndex, Message, MessageRef, MessageType, Millis, QueueId, QueueOffset, Timestamp,
    TopicId, TopicName,
};

/// However short the pull, it waits so long for the repair of what it is to begin with.
const REPAIRED_WITHIN: Duration = Duration::from_secs(1);
const REPAIR_STEP: Duration = Duration::from_millis(100);
type QueueOffsets = Vec<(QueueId, QueueOffset)>;

/// One pull.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Need not exist.
    pub group: GroupName,
    pub topic: TopicName,
    pub queue: QueueId,
    /// The first to be read.
    pub offset: QueueOffset,
    pub filter: Filter,
    /// Most messages.
    pub batch: u32,
    /// No message is added once there are this many bytes.
    pub bytes_max: u64,
    /// Gives room to what is read.
    pub room: Option<AnswerRoom>,
    /// How long to wait for the first.
    pub wait: Millis,
}

/// One message read.
#[derive(Debug, Clone, PartialEq)]
pub struct PulledMessage {
    pub message: Message,
    pub offset: QueueOffset,
    pub stored_at: Timestamp,
    /// Where it is stored.
    pub at: MessageRef,
}

/// What a pull read.
#[derive(Debug, Default)]
pub struct Pulled {
    /// In order.
    pub messages: Vec<PulledMessage>,
    /// Where the next pull begins.
    pub next: QueueOffset,
    /// The first that the queue has.
    pub min: QueueOffset,
    /// That of its next message.
    pub max: QueueOffset,
    /// The room that the messages have until this is dropped.
    pub room: Option<InRoom>,
}

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// The first that can be read.
    Beginning,
    /// That of the next message.
    End,
    /// The first stored then or later; the end, if there is none.
    At(Timestamp),
    /// This one, or the nearest that the queue has.
    Exactly(QueueOffset),
}

/// Where a group is moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetTo {
    Place(Where),
    /// The first of each queue that it has not settled: what it has at work is delivered again.
    Unsettled,
}

/// A group offset before and after a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    pub queue: QueueId,
    pub from: QueueOffset,
    pub to: QueueOffset,
}

impl Broker {
    /// Reads messages of a queue; waits for the first.
    ///
    /// * Errors: all definite, as nothing is leased; [`Error::IllegalOffset`] outside of what the queue has,
    ///   [`Error::Unreadable`] if the first is damaged on this node, [`Error::NoLeader`] on a node that cannot know whether the
    ///   topic may still be read.
    /// * Source: contract §20.
    pub async fn pull(&self, request: Pull, deadline: Deadline) -> Result<Pulled, Error> {
        self.check_receives()?;
        let until = Instant::now() + request.wait.into();
        let lookup = self.held_until(deadline);
        self.reader.recent(lookup).await?;
        let topic = self.readable(&request.topic, request.queue, lookup).await?;
        let request = match self.group(&request.group)?.and_then(|group| group.settings.filter) {
            Some(condition) => Pull { filter: with_stored(&request.filter, &request.group, &condition)?, ..request },
            None => request,
        };
        let head = self.reader.view().queue_head(topic, request.queue)?;
        if request.offset < head.min || request.offset > head.max {
            // What another node answered a moment ago may not be here yet.
            self.reader.read_barrier(lookup).await?;
            self.is_still(topic, &request, lookup).await?;
            let head = self.reader.view().queue_head(topic, request.queue)?;
            if request.offset < head.min || request.offset > head.max {
                return Err(Error::IllegalOffset { offset: request.offset, min: head.min, max: head.max });
            }
        }
        let repaired_until = lookup.min(Instant::now() + REPAIRED_WITHIN);
        let notifier = self.arrivals.pull_notifier(topic, request.queue);
        let mut next = request.offset;
        loop {
            let mut arrival = std::pin::pin!(notifier.notified());
            arrival.as_mut().enable();
            let pulled = match self.read_on(topic, &request, next).await {
                // It is mostly repaired within a moment.
                Err(Error::Unreadable(_))
                    if Instant::now() + REPAIR_STEP < until.max(repaired_until) && !self.stopping.is_cancelled() =>
                {
                    tokio::time::sleep(REPAIR_STEP).await;
                    continue;
                }
                read => read?,
            };
            let has_moved = pulled.next > next;
            next = pulled.next;
            if !pulled.messages.is_empty() || Instant::now() >= until {
                let lookup = self.held_until(deadline);
                self.reader.recent(lookup).await?;
                self.is_still(topic, &request, lookup).await?;
                return Ok(pulled);
            }
            if has_moved {
                // Much may have been passed over; others have their turn.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = arrival => {}
                () = tokio::time::sleep_until(until) => {}
                () = self.stopping.cancelled() => return Ok(pulled),
            }
        }
    }

    /// Refuses a pull of a topic that was deleted, created again or closed since it was looked up.
    async fn is_still(&self, topic: TopicId, request: &Pull, until: Instant) -> Result<(), Error> {
        match self.readable(&request.topic, request.queue, until).await? {
            now if now == topic => Ok(()),
            _ => Err(Error::Behind),
        }
    }

    /// Up to 64 offsets on from `from`.
    async fn read_on(&self, topic: TopicId, request: &Pull, from: QueueOffset) -> Result<Pulled, Error> {
        let view = self.reader.view();
        let head = view.queue_head(topic, request.queue)?;
        let mut pulled = Pulled { next: from, min: head.min, max: head.max, ..Pulled::default() };
        if from >= head.max {
            return Ok(pulled);
        }
        if let Some(room) = &request.room {
            pulled.room = Some(room.enter().await);
        }
        let to = QueueOffset(head.max.0.min(from.0 + SPAN));
        let mut reader = BodyReader::new(&self.reader);
        let mut bytes = 0;
        let limit = request.batch.clamp(1, RECEIVE_BATCH_MAX) as usize;
        for (first, run) in view.runs(topic, request.queue, from, to)? {
            for (offset, item) in (first.0..to.0).zip(&run.items) {
                if offset < from.0 {
                    continue;
                }
                if pulled.messages.len() == limit || bytes >= request.bytes_max {
                    return Ok(pulled);
                }
                let is_wanted = request.filter.may_match(item.tag_hash);
                let is_first = pulled.messages.is_empty();
                if let Some(room) = pulled.room.as_mut().filter(|_| is_wanted)
                    && !room.try_take(item.bytes.into())
                {
                    if !is_first {
                        return Ok(pulled);
                    }
                    reader.forget();
                    room.take(item.bytes.into()).await?;
                }
                pulled.next = QueueOffset(offset + 1);
                if !is_wanted {
                    continue;
                }
                let at = MessageRef { index: run.index, slot: item.slot };
                let message = match reader.read(at).await {
                    // What is before it is given.
                    Err(Error::Unreadable(_)) if offset > from.0 => {
                        pulled.next = QueueOffset(offset);
                        return Ok(pulled);
                    }
                    read => read?,
                };
                if request.filter.matches(&message) {
                    bytes += u64::from(item.bytes);
                    let (offset, stored_at) = (QueueOffset(offset), self.reader.wall_of(run.stored_at));
                    pulled.messages.push(PulledMessage { message, offset, stored_at, at });
                } else if let Some(room) = &mut pulled.room {
                    room.give_back(item.bytes.into());
                }
            }
        }
        Ok(pulled)
    }

    async fn readable(&self, topic: &TopicName, queue: QueueId, until: Instant) -> Result<TopicId, Error> {
        let (id, record) = self.existing_topic(topic, until).await?;
        if !record.permission.can_read() {
            return Err(Error::Forbidden(topic.clone()));
        }
        if queue.0 >= record.queues {
            let queues = record.queues;
            return Err(Error::Invalid(format!(
                "topic '{topic}' has {queues} queues, counted from 0: no queue {queue}"
            )));
        }
        Ok(id)
    }

    /// An offset of a queue.
    ///
    /// * Errors: all definite, as nothing is proposed.
    pub async fn query_offset(
        &self,
        topic: TopicName,
        queue: QueueId,
        wanted: Where,
        deadline: Deadline,
    ) -> Result<QueueOffset, Error> {
        let until = self.held_until(deadline);
        self.reader.read_barrier(until).await?;
        let topic = self.readable(&topic, queue, until).await?;
        find(self.reader.view(), topic, queue, wanted)
    }

    /// The group offset in a queue; `None` if the group has none.
    ///
    /// * Errors: all definite, as nothing is proposed.
    pub async fn position(
        &self,
        group: GroupName,
        topic: TopicName,
        queue: QueueId,
        deadline: Deadline,
    ) -> Result<Option<QueueOffset>, Error> {
        let until = self.held_until(deadline);
        self.reader.read_barrier(until).await?;
        let topic = self.readable(&topic, queue, until).await?;
        let view = self.reader.view();
        let Some((group, _)) = view.group(&group)? else { return Ok(None) };
        if !view.is_subscribed(topic, group)? {
            return Ok(None);
        }
        Ok(Some(view.group_offset(topic, group, queue)?))
    }

    /// Moves the group offset in a queue forward, within what the queue has; an offset that the group has passed
    /// changes nothing (P13). The first one of a group in a topic is where the group begins.
    ///
    /// * Errors: [`Error::TimedOut`] if it may have moved; it is safe to repeat. Others are definite.
    /// * Source: contract §20.
    pub async fn set_position(
        &self,
        group: GroupName,
        topic: TopicName,
        queue: QueueId,
        offset: QueueOffset,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        let topic_id = self.readable(&topic, queue, until).await?;
        // The group alone: if it subscribed to the topic here, it could begin behind this offset.
        self.subscribe_until(group.clone(), &[], until).await?;
        let group_id = self.existing_group(&group, until).await?.id;
        let offsets = vec![(queue, offset)];
        let set = SetGroupOffsets { topic: topic_id, group: group_id, offsets, how: OffsetMove::Advance };
        let outcome = self.propose_repeatable(&Command::SetGroupOffsets(set), until).await?;
        self.positions_set(&topic, outcome, until).await
    }

    /// Sets group offsets in queues of a topic as a client says them, backwards too, within what the queues have; makes the group
    /// if it may. If they are the first of the group in the topic, it begins in the other queues as its settings say.
    ///
    /// * Errors: [`Error::TimedOut`] if they may be set. Others are definite.
    /// * Source: remoting §6.2.
    pub async fn commit_offsets(
        &self,
        group: &GroupName,
        topic: &TopicName,
        offsets: Vec<(QueueId, QueueOffset)>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        let (topic_id, _) = self.existing_topic(topic, until).await?;
        self.subscribe_until(group.clone(), &[], until).await?;
        let group_id = self.existing_group(group, until).await?.id;
        let is_first = !self.reader.view().is_subscribed(topic_id, group_id)?;
        let how = if is_first { OffsetMove::Advance } else { OffsetMove::Set };
        let set = SetGroupOffsets { topic: topic_id, group: group_id, offsets, how };
        // Not tried again when its fate is unknown: the client says its offset again soon.
        let outcome = self.propose(&Command::SetGroupOffsets(set), until).await?;
        self.positions_set(topic, outcome, until).await
    }

    /// Ends all leases and FIFO lines of a group: its offset in a queue becomes that of the first message there which is not
    /// settled.
    ///
    /// * Errors: [`Error::TimedOut`] if offsets may be set. Others are definite.
    pub async fn give_up_leases(&self, group: &GroupName, deadline: Deadline) -> Result<(), Error> {
        let until = self.held_until(deadline);
        self.reader.read_barrier(until).await?;
        let Some((group_id, _)) = self.reader.view().group(group)? else { return Ok(()) };
        let reader = self.reader.clone();
        // Every lease of the group is looked at.
        let found = Pool::Views.run(move || unsettled(reader.view(), group_id)).await;
        for (topic_id, topic, offsets) in found.map_err(|panic| Error::Stopped(panic.to_string()))?? {
            let set = SetGroupOffsets { topic: topic_id, group: group_id, offsets, how: OffsetMove::Set };
            let outcome = self.propose(&Command::SetGroupOffsets(set), until).await?;
            self.positions_set(&topic, outcome, until).await?;
        }
        Ok(())
    }

    /// Moves the offsets of a group in a topic, and ends its leases and FIFO lines there; `dry` only says what it would
    /// do.
    ///
    /// * Errors: [`Error::TimedOut`] if they may have moved. Others are definite.
    pub async fn reset_group(
        &self,
        by: &Operator,
        group: GroupName,
        topic: TopicName,
        wanted: ResetTo,
        dry: bool,
    ) -> Result<Vec<Moved>, Error> {
        let until = self.held_until(Deadline::NONE);
        self.reader.read_barrier(until).await?;
        let (topic_id, record) = self.existing_topic(&topic, until).await?;
        let group_id = self.existing_group(&group, until).await?.id;
        let view = self.reader.view();
        if !view.is_subscribed(topic_id, group_id)? {
            return Err(Error::Invalid(format!("consumer group '{group}' has no position in topic '{topic}'")));
        }
        let mut moved = Vec::new();
        for queue in (0..record.queues).map(QueueId) {
            let from = view.group_offset(topic_id, group_id, queue)?;
            let to = match wanted {
                ResetTo::Place(place) => find(view, topic_id, queue, place)?,
                ResetTo::Unsettled => settled_below(view, topic_id, group_id, queue)?.below,
            };
            moved.push(Moved { queue, from, to });
        }
        if !dry {
            let offsets = moved.iter().map(|moved| (moved.queue, moved.to)).collect();
            let set = SetGroupOffsets { topic: topic_id, group: group_id, offsets, how: OffsetMove::Reset };
            let words = ActWords::new("offset-reset", &group, reset_words(&topic, wanted, &moved));
            let command = self.of_operator(by, words, Command::SetGroupOffsets(set))?;
            // Not tried again when its fate is unknown: a second try could undo what came between.
            let outcome = self.propose(&command, until).await?;
            self.positions_set(&topic, outcome, until).await?;
        }
        Ok(moved)
    }

    async fn positions_set(
        &self,
        topic: &TopicName,
        outcome: (LogIndex, Outcome),
        until: Instant,
    ) -> Result<(), Error> {
        match outcome {
            (index, Outcome::Done) => {
                self.reader.caught_up(index, until).await;
                Ok(())
            }
            (_, Outcome::Rejected(Rejected::GroupNotFound)) => {
                Err(Error::Invalid(format!("the consumer group has no position in topic '{topic}'")))
            }
            (_, Outcome::Rejected(Rejected::TopicNotFound)) => Err(self.topic_gone(topic, until).await),
            (_, Outcome::Rejected(rejected)) => Err(Error::of_topic(rejected, topic, MessageType::Normal)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }
}

/// The queues in which a group has leased what it has not settled, by topic, with the first of that.
fn unsettled(view: View<'_>, group: GroupId) -> Result<Vec<(TopicId, TopicName, QueueOffsets)>, Error> {
    let mut found = Vec::new();
    for (topic, record) in view.topics()? {
        if !view.is_subscribed(topic, group)? || !view.is_at_work(topic, group)? {
            continue;
        }
        let mut offsets = Vec::new();
        for queue in (0..record.queues).map(QueueId) {
            let below = settled_below(view, topic, group, queue)?.below;
            if below < view.group_offset(topic, group, queue)? {
                offsets.push((queue, below));
            }
        }
        if !offsets.is_empty() {
            found.push((topic, record.name, offsets));
        }
    }
    Ok(found)
}

/// What a reset does, for the events.
fn reset_words(topic: &TopicName, wanted: ResetTo, moved: &[Moved]) -> String {
    let to = match wanted {
        ResetTo::Place(Where::Beginning) => "earliest".to_owned(),
        ResetTo::Place(Where::End) => "latest".to_owned(),
        ResetTo::Place(Where::Exactly(offset)) => format!("offset {offset}"),
        ResetTo::Place(Where::At(at)) => at.utc(),
        ResetTo::Unsettled => "the first that is not settled".to_owned(),
    };
    let back: u64 = moved.iter().map(|moved| moved.from.0.saturating_sub(moved.to.0)).sum();
    let forward: u64 = moved.iter().map(|moved| moved.to.0.saturating_sub(moved.from.0)).sum();
    format!("topic {topic} to {to}: {back} messages back, {forward} forward")
}

pub(super) fn find(view: View<'_>, topic: TopicId, queue: QueueId, wanted: Where) -> Result<QueueOffset, Error> {
    let head = view.queue_head(topic, queue)?;
    let at = match wanted {
        Where::Beginning => return Ok(head.min),
        Where::End => return Ok(head.max),
        Where::Exactly(offset) => return Ok(offset.clamp(head.min, head.max)),
        Where::At(at) => view.clock()?.earliest_of(at),
    };
    let run_of =
        |offset: QueueOffset| Ok(view.runs(topic, queue, offset, QueueOffset(offset.0 + 1))?.into_iter().next());
    Ok(first_stored_at(&head, at, run_of)?)
}
