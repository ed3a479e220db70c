//! Sends above the log. Before: `edge/grpc/messaging/send`, `edge/remoting/send`; after: `machine/send`.
//!
//! Hot path. The queue and the offset are chosen below the log, so nothing here takes a lock or a
//! number: the messages are encoded once and wait for their entry.

use tokio::time::Instant;

#[cfg(debug_assertions)]
use crate::broker::planted;
use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Broker, Deadline, Error};
use crate::machine::command::{Placement, QueuePlacement, Send, SendToQueue};
use crate::machine::{Command, Outcome, Proposal, Rejected, Stored};
use crate::model::filter::tag;
use crate::model::{
    LogIndex, Message, MessageGroupHash, MessageRef, MessageType, QueueId, QueueOffset, Term, Timestamp, TopicId,
    TopicName, TopicType, TransactionChecks,
};
use crate::raft::CommandPlace;

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Durable on a majority and visible to consumers.
    Stored {
        /// Its queue.
        queue: QueueId,
        /// Its offset.
        offset: QueueOffset,
    },
    /// Durable on a majority; consumers see it at its delivery time.
    Delayed {
        /// Where it is stored.
        message: MessageRef,
        /// Of the message that is stored: if it was sent again, that of the first.
        delivery_at: Timestamp,
    },
    /// Durable on a majority; consumers see it when its transaction is committed.
    Half(MessageRef),
}

/// What an OK to a send means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendReceipt {
    /// The entry of the send, and its term (0 if the leader is of an older build). A message that had been stored before is
    /// in an earlier one.
    pub index: LogIndex,
    pub term: Term,
    /// Synced on a majority; otherwise a node has ASYNC_FLUSH, and the entry may only be in page caches.
    pub is_synced: bool,
}

/// What became of messages that were sent to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentToQueue {
    /// Their topic, whose name may be another one's by now.
    pub topic: TopicId,
    /// Of the first one; the others follow. 0 if it enters the queue later.
    pub offset: QueueOffset,
    /// Where the first one is stored; the others are in the next slots.
    pub message: MessageRef,
}

impl Sent {
    /// A message that is in no queue yet; without a delivery time it waits for its transaction.
    fn deferred(message: MessageRef, delivery_at: Option<Timestamp>) -> Self {
        match delivery_at {
            Some(delivery_at) => Self::Delayed { message, delivery_at },
            None => Self::Half(message),
        }
    }
}

impl Broker {
    /// Whether this node's configuration lets clients send messages of this type here.
    fn check_sends(&self, message_type: MessageType) -> Result<(), Error> {
        if !self.settings.permission.can_write() {
            return Err(Error::ForbiddenHere("takes no messages: its brokerPermission forbids it"));
        }
        if message_type == MessageType::Transaction && !self.settings.takes_transactions {
            return Err(Error::ForbiddenHere("takes no transactions: its rejectTransactionMessage forbids it"));
        }
        Ok(())
    }

    /// Whether this node's configuration lets clients receive messages here.
    pub(super) fn check_receives(&self) -> Result<(), Error> {
        if self.settings.permission.can_read() {
            return Ok(());
        }
        Err(Error::ForbiddenHere("gives out no messages: its brokerPermission forbids it"))
    }

    fn placement(&self, message_type: MessageType, messages: &[Message]) -> Placement {
        match message_type {
            MessageType::Delay => Placement::DeliverAt(delivery_times(messages)),
            MessageType::Transaction => Placement::OnCommit(self.checks(messages)),
            MessageType::Fifo => Placement::Fifo(
                messages
                    .iter()
                    .map(|message| MessageGroupHash::of(message.message_group.as_deref().unwrap_or_default()))
                    .collect(),
            ),
            MessageType::Priority => {
                Placement::Priority(messages.iter().map(|message| message.priority.unwrap_or(0)).collect())
            }
            MessageType::Normal | MessageType::Lite => Placement::Now,
        }
    }

    /// Stores messages of one topic and type, all or none, in order; answers in the same order.
    ///
    /// * Errors: [`Error::TimedOut`] when they may or may not be stored; every other error means they
    ///   are not and will never be. [`Error::Behind`] is not answered by another try here: to keep the messages for one
    ///   would keep the memory of every send longer.
    /// * Source: contract §9.
    pub async fn send(
        &self,
        topic: TopicName,
        message_type: MessageType,
        messages: Vec<Message>,
        deadline: Deadline,
    ) -> Result<(Vec<Sent>, SendReceipt), Error> {
        self.check_sends(message_type)?;
        let until = self.held_until(deadline);
        let (mut id, mut record) = self.topic_to_send_to(&topic, until).await?;
        if !record.topic_type.accepts(message_type) {
            // It may be another topic by now, or take other messages.
            (id, record) = self.topic_now(&topic, until).await?;
        }
        if !record.topic_type.accepts(message_type) {
            return Err(Error::TypeMismatch { topic, accepts: record.topic_type, got: message_type });
        }
        let tag_hashes = messages.iter().map(|message| tag::hash(message.tag.as_deref())).collect();
        let placement = self.placement(message_type, &messages);
        #[cfg(debug_assertions)]
        let placement = planted::placement(placement);
        let times = if let Placement::DeliverAt(times) = &placement { times.clone() } else { Vec::new() };
        let command = Command::Send(Send { topic: id, message_type, tag_hashes, placement });
        let count = messages.len();
        let proposal = Proposal {
            command: command.encode(),
            messages: messages.into_iter().map(|message| message.encode()).collect(),
        };
        let left = until.saturating_duration_since(Instant::now());
        let (CommandPlace { index, term }, outcome) = self.replica.propose(proposal, left).await?;
        match outcome {
            Outcome::Sent(places) if places.len() == count => {
                self.traffic.count_in(count);
                #[cfg(debug_assertions)]
                let places = planted::expected_offsets(places);
                let mut sent = Vec::with_capacity(count);
                for (number, stored) in places.into_iter().enumerate() {
                    sent.push(match stored {
                        Stored::Queue(queue, offset) => Sent::Stored { queue, offset },
                        Stored::Deferred(slot) => {
                            Sent::deferred(MessageRef { index, slot }, times.get(number).copied())
                        }
                        // Boxed: it is rare, and would make the future of every send larger.
                        Stored::DeferredBefore(first) => {
                            let at = times.get(number).copied();
                            Box::pin(self.sent_before(first, at, until)).await?
                        }
                    });
                }
                Ok((sent, SendReceipt { index, term, is_synced: self.replica.all_sync() }))
            }
            Outcome::Rejected(Rejected::TopicNotFound) => Err(Box::pin(self.topic_gone(&topic, until)).await),
            Outcome::Rejected(rejected) => Err(Error::of_topic(rejected, &topic, message_type)),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// Stores messages of one type for a queue of a topic, all or none, one after the other; delayed ones and half messages
    /// enter it later. What is sent again is stored again. The topic's type does not matter, unless the order of its queues
    /// depends on it: classic topics have none.
    ///
    /// * Errors: as [`Self::send`]; [`Error::Invalid`] for a queue that the topic does not have.
    /// * Source: remoting §4.
    pub async fn send_to_queue(
        &self,
        topic: &TopicName,
        queue: QueueId,
        messages: &[Message],
        deadline: Deadline,
    ) -> Result<SentToQueue, Error> {
        self.check_sends(messages.first().map_or(MessageType::Normal, |message| message.message_type))?;
        let until = self.held_until(deadline);
        let (id, record) = self.existing_topic(topic, until).await?;
        let placement = self.queue_placement(record.topic_type, queue, messages);
        let (accepts, got) = (record.topic_type, placement.message_type());
        if !accepts.accepts_in_queue(got) {
            return Err(Error::TypeMismatch { topic: topic.clone(), accepts, got });
        }
        if queue.0 >= record.queues {
            let queues = record.queues;
            return Err(Error::Invalid(format!(
                "topic '{topic}' has {queues} queues, counted from 0: no queue {queue}"
            )));
        }
        let tag_hashes = messages.iter().map(|message| tag::hash(message.tag.as_deref())).collect();
        let proposal = Proposal {
            command: Command::SendToQueue(SendToQueue { topic: id, queue, tag_hashes, placement }).encode(),
            messages: messages.iter().map(Message::encode).collect(),
        };
        let left = until.saturating_duration_since(Instant::now());
        let (CommandPlace { index, .. }, outcome) = self.replica.propose(proposal, left).await?;
        match outcome {
            Outcome::SentToQueue { offset, slot } => {
                self.traffic.count_in(messages.len());
                Ok(SentToQueue { topic: id, offset, message: MessageRef { index, slot } })
            }
            Outcome::Rejected(Rejected::TopicNotFound) => Err(Box::pin(self.topic_gone(topic, until)).await),
            Outcome::Rejected(rejected) => Err(Error::of_topic(rejected, topic, got)),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// When messages of one type enter the queue that was chosen. Where order is kept inside message groups, a message
    /// without one is in that of its queue.
    fn queue_placement(&self, topic_type: TopicType, queue: QueueId, messages: &[Message]) -> QueuePlacement {
        match messages.first().map(|message| message.message_type) {
            Some(MessageType::Delay) => QueuePlacement::DeliverAt(delivery_times(messages)),
            Some(MessageType::Transaction) => QueuePlacement::OnCommit(self.checks(messages)),
            _ => {
                let is_in_order = match topic_type {
                    TopicType::Only(MessageType::Fifo) => true,
                    TopicType::Mixed => messages.iter().any(|message| message.message_group.is_some()),
                    TopicType::Only(_) => false,
                };
                if !is_in_order {
                    return QueuePlacement::Now;
                }
                let of_queue = format!("q{queue}");
                let group =
                    |message: &Message| MessageGroupHash::of(message.message_group.as_deref().unwrap_or(&of_queue));
                QueuePlacement::Fifo(messages.iter().map(group).collect())
            }
        }
    }

    /// How often and when the producer of half messages is asked. Clients put one message into a transaction; the most patient
    /// of several speaks for all.
    fn checks(&self, messages: &[Message]) -> TransactionChecks {
        let after = messages.iter().filter_map(|message| message.recovery_after).max();
        let checks = self.settings.checks;
        TransactionChecks { after: after.unwrap_or(checks.after), ..checks }
    }

    /// The answer for a message that was sent again while the first one is deferred: what is stored decides it, and the
    /// first one may have another delivery time, or be a half message.
    ///
    /// * `at`: the delivery time that is asked for now; it stands for that of the first one, if that cannot be read any more.
    /// * Errors: [`Error::TimedOut`] if this node does not have the first one in time; it is stored, so a repeated send finds it.
    async fn sent_before(&self, first: MessageRef, at: Option<Timestamp>, until: Instant) -> Result<Sent, Error> {
        // A node that forwards its sends may not have the entry of the first one yet.
        if !self.reader.caught_up(first.index, until).await {
            return Err(Error::TimedOut);
        }
        let message = match BodyReader::new(&self.reader).read(first).await {
            Ok(message) => message,
            Err(error) => {
                // Its entry is forgotten, if it was carried since or has been consumed.
                tracing::debug!(%error, "the first of two sends with one message id cannot be read");
                return Ok(Sent::deferred(first, at));
            }
        };
        let is_half = message.message_type == MessageType::Transaction;
        Ok(Sent::deferred(first, message.delivery_at.filter(|_| !is_half)))
    }
}

fn delivery_times(messages: &[Message]) -> Vec<Timestamp> {
    messages.iter().map(|message| message.delivery_at.unwrap_or(Timestamp(0))).collect()
}
