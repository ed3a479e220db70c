//! What a command came to: an answer all nodes agree on, also when it is a refusal.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{GroupId, LeaseId, MessageRef, OffsetSet, QueueId, QueueOffset, TopicId, TopicType};

const VERSION: u8 = 1;

/// A refusal every node agrees on. It is an answer, not a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// No such topic, or it was made anew since the request was planned.
    #[error("the topic does not exist")]
    TopicNotFound,
    /// The name is taken.
    #[error("the topic exists")]
    TopicExists,
    /// No such group and it may not be made by itself.
    #[error("the consumer group does not exist")]
    GroupNotFound,
    /// The name is taken.
    #[error("the consumer group exists")]
    GroupExists,
    /// The topic takes another type of message.
    #[error("the topic accepts {} messages", .0.name())]
    TypeMismatch(TopicType),
    /// The topic's type is not changed into that one.
    #[error("a topic's type only changes between NORMAL, DELAY, TRANSACTION and MIXED")]
    TypeIsFixed,
    /// The topic does not get that number of queues.
    #[error("queues are only added, and not to FIFO topics: a message group would change its queue")]
    QueuesAreFixed,
    /// The topic may not be written or read.
    #[error("the topic's permission forbids it")]
    Forbidden,
    /// The lease behind the handle has ended.
    #[error("the lease behind this receipt handle has ended")]
    LeaseEnded,
    /// The message was delivered or recalled before, or never waited.
    #[error("no such message waits for its delivery time")]
    NotWaiting,
    /// The transaction ended long ago, or never began.
    #[error("no such transaction is open")]
    TransactionNotFound,
    /// The transaction was decided the other way; the first decision is final.
    #[error("the transaction was decided otherwise before")]
    DecidedOtherwise,
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Refused; nothing changed.
    Rejected(Rejected),
    /// Done, nothing to say.
    Done,
    /// The topic is there.
    TopicCreated(TopicId),
    /// The group is there.
    GroupCreated(GroupId),
    /// Where each message was stored, in order.
    Sent(Vec<Stored>),
    /// The leases made, in order of the candidates they came from.
    Granted(Vec<Granted>),
    /// Per handle: settled (now or before), or its lease had ended.
    Acked(Vec<bool>),
    /// The new lease.
    Changed(LeaseId),
    /// Whether more was due than one tick does.
    Ticked {
        /// Another tick should follow.
        more: bool,
    },
    /// Per dead letter: on its way to the group again, or not any more.
    Redriven(Vec<bool>),
}

/// Where a message was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// In a queue.
    Queue(QueueId, QueueOffset),
    /// Deferred until its delivery time or the end of its transaction: its slot in the entry.
    Deferred(u32),
    /// Deferred by an entry before: it was sent again.
    DeferredBefore(MessageRef),
}

/// A lease made by a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The queue of its messages.
    pub queue: QueueId,
    /// The new lease.
    pub lease: LeaseId,
    /// Offset of bit 0.
    pub first: QueueOffset,
    /// Its messages, from `first` on.
    pub messages: OffsetSet,
    /// Deliveries so far including this one.
    pub attempt: u32,
}

impl Rejected {
    fn code(self) -> (u8, u8) {
        match self {
            Self::TopicNotFound => (1, 0),
            Self::TopicExists => (2, 0),
            Self::GroupNotFound => (3, 0),
            Self::GroupExists => (4, 0),
            Self::TypeMismatch(accepts) => (5, accepts.to_u8()),
            Self::Forbidden => (6, 0),
            Self::LeaseEnded => (7, 0),
            Self::NotWaiting => (8, 0),
            Self::TransactionNotFound => (9, 0),
            Self::DecidedOtherwise => (10, 0),
            Self::TypeIsFixed => (11, 0),
            Self::QueuesAreFixed => (12, 0),
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        let code = reader.u8()?;
        let detail = reader.u8()?;
        Ok(match code {
            1 => Self::TopicNotFound,
            2 => Self::TopicExists,
            3 => Self::GroupNotFound,
            4 => Self::GroupExists,
            5 => Self::TypeMismatch(TopicType::from_u8(detail).ok_or_else(|| reader.unknown(detail.into()))?),
            6 => Self::Forbidden,
            7 => Self::LeaseEnded,
            8 => Self::NotWaiting,
            9 => Self::TransactionNotFound,
            10 => Self::DecidedOtherwise,
            11 => Self::TypeIsFixed,
            12 => Self::QueuesAreFixed,
            value => return Err(reader.unknown(value.into())),
        })
    }
}

impl Outcome {
    /// For the way back to the follower that asked.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        out.put_u8(VERSION);
        match self {
            Self::Rejected(rejected) => {
                let (code, detail) = rejected.code();
                out.put_slice(&[1, code, detail]);
            }
            Self::Done => out.put_u8(2),
            Self::TopicCreated(topic) => {
                out.put_u8(3);
                out.put_u32(topic.0);
            }
            Self::GroupCreated(group) => {
                out.put_u8(4);
                out.put_u32(group.0);
            }
            Self::Sent(places) => {
                out.put_u8(5);
                out.put_list(places, |out, place| match place {
                    Stored::Queue(queue, offset) => {
                        out.put_u8(1);
                        out.put_u32(queue.0);
                        out.put_u64(offset.0);
                    }
                    Stored::Deferred(slot) => {
                        out.put_u8(2);
                        out.put_u32(*slot);
                    }
                    Stored::DeferredBefore(message) => {
                        out.put_u8(3);
                        message.encode(out);
                    }
                });
            }
            Self::Granted(leases) => {
                out.put_u8(6);
                out.put_list(leases, |out, granted| {
                    out.put_u32(granted.queue.0);
                    out.put_u64(granted.lease.0);
                    out.put_u64(granted.first.0);
                    out.put_u64(granted.messages.0);
                    out.put_u32(granted.attempt);
                });
            }
            Self::Acked(settled) => {
                out.put_u8(7);
                out.put_list(settled, |out, settled| out.put_u8((*settled).into()));
            }
            Self::Changed(lease) => {
                out.put_u8(8);
                out.put_u64(lease.0);
            }
            Self::Ticked { more } => out.put_slice(&[9, (*more).into()]),
            Self::Redriven(on_their_way) => {
                out.put_u8(10);
                out.put_list(on_their_way, |out, is| out.put_u8((*is).into()));
            }
        }
        out.freeze()
    }

    /// From [`Self::encode`].
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "outcome", VERSION)?;
        Ok(match reader.u8()? {
            1 => Self::Rejected(Rejected::decode(&mut reader)?),
            2 => Self::Done,
            3 => Self::TopicCreated(TopicId(reader.u32()?)),
            4 => Self::GroupCreated(GroupId(reader.u32()?)),
            5 => Self::Sent(reader.list(|reader| match reader.u8()? {
                1 => Ok(Stored::Queue(QueueId(reader.u32()?), QueueOffset(reader.u64()?))),
                2 => Ok(Stored::Deferred(reader.u32()?)),
                3 => Ok(Stored::DeferredBefore(MessageRef::decode(reader)?)),
                tag => Err(reader.unknown(tag.into())),
            })?),
            6 => Self::Granted(reader.list(|reader| {
                Ok(Granted {
                    queue: QueueId(reader.u32()?),
                    lease: LeaseId(reader.u64()?),
                    first: QueueOffset(reader.u64()?),
                    messages: OffsetSet(reader.u64()?),
                    attempt: reader.u32()?,
                })
            })?),
            7 => Self::Acked(reader.list(Reader::bool)?),
            8 => Self::Changed(LeaseId(reader.u64()?)),
            9 => Self::Ticked { more: reader.bool()? },
            10 => Self::Redriven(reader.list(Reader::bool)?),
            tag => return Err(reader.unknown(tag.into())),
        })
    }
}
