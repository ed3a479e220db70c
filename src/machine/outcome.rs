//! Outcomes of commands: answers that all nodes agree on, refusals too.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::stored::Stored;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::limits::KEY_VALUES_MAX;
use crate::model::{GroupId, LeaseId, OffsetSet, QueueId, QueueOffset, TopicId, TopicType};

const VERSION: u8 = 1;

/// A refusal that every node agrees on. It is an answer, not a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Or it was created again since the request was planned.
    #[error("the topic does not exist")]
    TopicNotFound,
    #[error("the topic exists")]
    TopicExists,
    /// And it may not be created by a subscription.
    #[error("the consumer group does not exist")]
    GroupNotFound,
    #[error("the consumer group exists")]
    GroupExists,
    #[error("the topic accepts {} messages", .0.name())]
    TypeMismatch(TopicType),
    #[error("a topic's type only changes between NORMAL, DELAY, TRANSACTION and MIXED")]
    TypeIsFixed,
    #[error("queues are only added, and not to topics with message groups (FIFO, MIXED), which would change queues")]
    QueuesAreFixed,
    #[error("the topic's permission forbids it")]
    Forbidden,
    #[error("the lease behind this receipt handle has ended")]
    LeaseEnded,
    /// The message is in its queue, was recalled, or was never delayed.
    #[error("no such message waits for its delivery time")]
    NotWaiting,
    /// The transaction was decided long ago, or never begun.
    #[error("no such transaction is open")]
    TransactionNotFound,
    /// The other way; the first decision is final.
    #[error("the transaction was decided otherwise before")]
    DecidedOtherwise,
    #[error("there are {KEY_VALUES_MAX} key-values, which is the most that are kept; delete some that nobody needs")]
    KeyValuesFull,
    /// Nothing was done: the entry had enough to do by then. It is to be proposed again.
    #[error("the entry of the log had no room for it")]
    EntryIsFull,
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Refused; nothing changed.
    Rejected(Rejected),
    /// Done; there is no more to say.
    Done,
    TopicCreated(TopicId),
    /// Or it existed: a subscription is answered with the group.
    GroupCreated(GroupId),
    /// Where each message was stored, in order.
    Sent(Vec<Stored>),
    /// Where the first message was stored in the queue that was chosen, and its slot in the entry; the others follow.
    SentToQueue {
        offset: QueueOffset,
        slot: u32,
    },
    /// The leases, in the order of the candidates that they are for.
    Granted(Vec<Granted>),
    /// For each handle: settled, now or before; else its lease had ended.
    Acked(Vec<bool>),
    /// For each queue: locked for the client now; else another one has it, or it is not there.
    Locked(Vec<bool>),
    /// The new lease.
    Changed(LeaseId),
    Ticked {
        /// More is due than one tick does: another one should follow.
        more: bool,
    },
    WritePermissionSet {
        /// It was otherwise before.
        is_new: bool,
    },
    /// For each dead letter: waits for redelivery, or stays.
    Redriven(Vec<bool>),
    Trimmed {
        /// Messages that went.
        count: u64,
        /// There is more to go than one trim takes: another one should follow.
        more: bool,
    },
}

/// A lease that a grant started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    pub queue: QueueId,
    pub lease: LeaseId,
    pub first: QueueOffset,
    /// Its messages, from `first` on.
    pub messages: OffsetSet,
    /// Deliveries so far, this one included.
    pub attempt: u32,
}

impl Rejected {
    pub(in crate::machine) fn code(self) -> (u8, u8) {
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
            Self::KeyValuesFull => (13, 0),
            Self::EntryIsFull => (14, 0),
        }
    }

    /// The refusal of a code, as an event has it; `None` if a newer build noted it.
    pub fn of_code(code: u8, detail: u8) -> Option<Self> {
        Self::decode(&mut Reader::new(Bytes::copy_from_slice(&[code, detail]), "refusal")).ok()
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
            13 => Self::KeyValuesFull,
            14 => Self::EntryIsFull,
            value => return Err(reader.unknown(value.into())),
        })
    }
}

impl Outcome {
    /// The bytes for the follower that forwarded the command.
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
            Self::Sent(stored) => {
                out.put_u8(5);
                out.put_list(stored, |out, stored| stored.encode(out));
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
            Self::Redriven(redriven) => {
                out.put_u8(10);
                out.put_list(redriven, |out, redriven| out.put_u8((*redriven).into()));
            }
            Self::Trimmed { count, more } => {
                out.put_u8(11);
                out.put_u64(*count);
                out.put_u8((*more).into());
            }
            Self::Locked(locked) => {
                out.put_u8(13);
                out.put_list(locked, |out, locked| out.put_u8((*locked).into()));
            }
            Self::WritePermissionSet { is_new } => out.put_slice(&[14, (*is_new).into()]),
            Self::SentToQueue { offset, slot } => {
                out.put_u8(12);
                out.put_u64(offset.0);
                out.put_u32(*slot);
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
            5 => Self::Sent(reader.list(Stored::decode)?),
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
            11 => Self::Trimmed { count: reader.u64()?, more: reader.bool()? },
            12 => Self::SentToQueue { offset: QueueOffset(reader.u64()?), slot: reader.u32()? },
            13 => Self::Locked(reader.list(Reader::bool)?),
            14 => Self::WritePermissionSet { is_new: reader.bool()? },
            tag => return Err(reader.unknown(tag.into())),
        })
    }
}
