//! The commands of the log: what a request becomes above it. Settings that influence a result travel
//! in the command, because the machine knows no configuration.
//!
//! Long, but one subject: a closed set, with its writing and its reading side by side.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::filter::tag;
use crate::model::{
    Backoff, ConsumeFrom, GroupId, GroupName, GroupSettings, LeaseId, MessageGroupHash, MessageRef, MessageType,
    Millis, NodeId, OffsetSet, Permission, QueueId, QueueOffset, ReceiptHandle, Timestamp, TopicId, TopicName,
    TopicType, TransactionChecks,
};

const VERSION: u8 = 2;

/// One command. New kinds get new tags; a tag is never used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes a topic.
    CreateTopic(CreateTopic),
    /// Ends a topic and everything stored for it.
    DeleteTopic {
        /// Which.
        topic: TopicName,
    },
    /// Changes a topic.
    UpdateTopic(UpdateTopic),
    /// Makes a consumer group.
    CreateGroup(CreateGroup),
    /// Changes a consumer group.
    UpdateGroup(UpdateGroup),
    /// Ends a consumer group, with its positions and everything it has at work.
    DeleteGroup {
        /// Which.
        group: GroupName,
    },
    /// Gives a group a position in topics, making the group if allowed.
    Subscribe(Subscribe),
    /// Stores messages; they follow in the batch.
    Send(Send),
    /// Leases messages to a consumer.
    Grant(Grant),
    /// Settles leased messages.
    Ack(Ack),
    /// Replaces one message's lease by a new one of another length.
    Change(Change),
    /// Moves the end of whole leases, keeping their handles.
    Prolong(Prolong),
    /// Makes due things happen.
    Tick,
    /// Ends leases soon whose messages never reached a consumer.
    GiveBack(GiveBack),
    /// Tells where a node serves clients.
    Announce(Announce),
    /// Takes back a message that waits for its delivery time.
    Recall(Recall),
    /// Gives a message that waits for its delivery time another one.
    Reschedule(Reschedule),
    /// Delivers dead letters to their group again, from where they died.
    Redrive(Redrive),
    /// Puts a leased message among the group's dead letters.
    DeadLetter {
        /// Which message.
        handle: ReceiptHandle,
    },
    /// Ends a transaction.
    Decide(Decide),
    /// Moves a group in a topic.
    SetPositions(SetPositions),
    /// Gives a poll that is repeated what it was given before.
    Repeat(Repeat),
}

/// See [`Command::CreateTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopic {
    /// Name, unused so far.
    pub topic: TopicName,
    /// What it takes.
    pub topic_type: TopicType,
    /// Number of queues, at least 1.
    pub queues: u32,
    /// 2 write, 4 read.
    pub permission: Permission,
}

/// See [`Command::CreateGroup`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGroup {
    /// Name, unused so far.
    pub group: GroupName,
    /// Whether it consumes each message group in order.
    pub orderly: bool,
    /// What can be changed later.
    pub settings: GroupSettings,
}

/// See [`Command::UpdateTopic`]: what is given changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateTopic {
    /// Which.
    pub topic: TopicName,
    /// What it takes from now on.
    pub topic_type: Option<TopicType>,
    /// Its number of queues.
    pub queues: Option<u32>,
    /// 2 write, 4 read.
    pub permission: Option<Permission>,
}

/// See [`Command::UpdateGroup`]: what is given changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateGroup {
    /// Which.
    pub group: GroupName,
    /// See [`GroupSettings`].
    pub retries_max: Option<u32>,
    /// See [`GroupSettings`].
    pub backoff: Option<Backoff>,
    /// See [`GroupSettings`].
    pub consume_from: Option<ConsumeFrom>,
    /// See [`GroupSettings`]; an empty one takes it away.
    pub filter: Option<String>,
}

/// See [`Command::Reschedule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reschedule {
    /// Its topic.
    pub topic: TopicId,
    /// Its delivery time so far.
    pub at: Timestamp,
    /// Which message.
    pub message: MessageRef,
    /// Its new delivery time.
    pub to: Timestamp,
}

/// See [`Command::Redrive`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// Whose dead letters.
    pub group: GroupId,
    /// Offsets in the topic of dead letters.
    pub offsets: Vec<QueueOffset>,
}

/// See [`Command::Subscribe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The group.
    pub group: GroupName,
    /// The topics; unknown ones are passed over.
    pub topics: Vec<TopicName>,
    /// `autoCreateSubscriptionGroup`: the retries of a group that is made now, or `None` to refuse.
    pub create: Option<u32>,
}

/// See [`Command::Send`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The topic, by identity: a topic made again under the same name is another one.
    pub topic: TopicId,
    /// Type of all the messages.
    pub message_type: MessageType,
    /// Hash of each message's tag, 0 for none. The batch holds as many messages for this command.
    pub tag_hashes: Vec<u64>,
    /// When consumers may see them.
    pub placement: Placement,
}

/// When messages enter their queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// Now.
    Now,
    /// Each at its delivery time.
    DeliverAt(Vec<Timestamp>),
    /// When their transactions are committed.
    OnCommit(TransactionChecks),
    /// Now, each behind those of its message group before: hashes of the message groups.
    Fifo(Vec<MessageGroupHash>),
    /// Now, in the queue of its priority.
    Priority(Vec<u32>),
}

/// See [`Command::Recall`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// Its topic.
    pub topic: TopicId,
    /// Its delivery time.
    pub at: Timestamp,
    /// Which message.
    pub message: MessageRef,
}

/// See [`Command::Decide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decide {
    /// Its topic.
    pub topic: TopicId,
    /// The half message.
    pub message: MessageRef,
    /// Whether consumers may see it.
    pub commit: bool,
}

/// See [`Command::Grant`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub group: GroupId,
    /// From which topic.
    pub topic: TopicId,
    /// Most messages.
    pub limit: u32,
    /// Length of the lease.
    pub invisible_for: Millis,
    /// Who asked.
    pub client: String,
    /// Whether that client's life prolongs the lease.
    pub renew: bool,
    /// Names this grant, so that its leases can be found when the answer was lost with a leader.
    pub token: u64,
    /// Hash of the poll's attempt id; 0 for none. Kept where messages are in order.
    pub attempt_of: u64,
    /// What the plan found, in order of preference.
    pub candidates: Vec<Candidate>,
}

/// Up to 64 consecutive messages of one queue. Bit n of a set stands for the n-th offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// Messages of an ended lease that wait for their next delivery.
    Returned {
        /// Their queue.
        queue: QueueId,
        /// The ended lease.
        lease: LeaseId,
        /// To be leased, as bits of that lease.
        wanted: OffsetSet,
        /// To be settled without delivery: the filter does not want them.
        skipped: OffsetSet,
    },
    /// Messages never leased to the group.
    Fresh {
        /// Their queue.
        queue: QueueId,
        /// Offset of bit 0.
        first: QueueOffset,
        /// How many offsets the plan looked at, at most 64.
        length: u8,
        /// To be leased; the others among `length` are settled without delivery.
        wanted: OffsetSet,
    },
    /// Messages never leased to a group that wants every message, in no order: the next ones of the queue,
    /// wherever its position is by then. A plan that lost a race is given what lies behind.
    Any {
        /// Their queue.
        queue: QueueId,
        /// Where the plan saw the position.
        first: QueueOffset,
        /// How many, 1 to 64.
        count: u8,
        /// What those that the plan saw take together; others take no more, but for a single one.
        bytes: u64,
    },
    /// Messages never leased to the group of which it wants none; as many as the plan looked through.
    Skip {
        /// Their queue.
        queue: QueueId,
        /// The first of them.
        first: QueueOffset,
        /// How many.
        length: u32,
    },
    /// Messages of one message group that waited for those before them to be settled.
    Next {
        /// Their queue.
        queue: QueueId,
        /// Hash of the message group.
        message_group: MessageGroupHash,
        /// The first of them, offset of bit 0.
        first: QueueOffset,
        /// How many offsets the plan looked at, at most 64.
        length: u8,
        /// To be leased; the others of the message group among `length` are settled without delivery.
        wanted: OffsetSet,
    },
}

/// See [`Command::Ack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Which leases and messages.
    pub handles: Vec<ReceiptHandle>,
}

/// See [`Command::Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which message.
    pub handle: ReceiptHandle,
    /// New length of the lease from now; 0 makes the message visible at once.
    pub invisible_for: Millis,
}

/// See [`Command::Prolong`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prolong {
    /// The leases, by any handle of each.
    pub leases: Vec<ReceiptHandle>,
    /// They end this long from now.
    pub invisible_for: Millis,
}

/// See [`Command::GiveBack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveBack {
    /// The leases, by any handle of each.
    pub leases: Vec<ReceiptHandle>,
    /// They end this long from now, if they would not end before.
    pub after: Millis,
}

/// See [`Command::Announce`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// Which node.
    pub node: NodeId,
    /// `host:port` for clients.
    pub address: String,
}

/// See [`Command::Repeat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// To whom.
    pub group: GroupId,
    /// From which topic.
    pub topic: TopicId,
    /// Hash of the poll's attempt id.
    pub attempt_of: u64,
    /// Length of the new leases.
    pub invisible_for: Millis,
    /// As in a grant.
    pub client: String,
    /// As in a grant.
    pub renew: bool,
    /// As in a grant.
    pub token: u64,
    /// The leases that the poll was given, as far as the caller knows.
    pub leases: Vec<(QueueId, LeaseId)>,
}

/// See [`Command::SetPositions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPositions {
    /// Which topic.
    pub topic: TopicId,
    /// Which group; it has a position there.
    pub group: GroupId,
    /// The new positions.
    pub positions: Vec<(QueueId, QueueOffset)>,
    /// Whether what the group has at work there is forgotten also where it does not move back.
    pub forget: bool,
}

impl Command {
    /// The bytes for the log.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        match self {
            Self::CreateTopic(create) => {
                out.put_u8(1);
                out.put_text(create.topic.as_str());
                out.put_u8(create.topic_type.to_u8());
                out.put_u32(create.queues);
                out.put_u8(create.permission.0);
            }
            Self::DeleteTopic { topic } => {
                out.put_u8(2);
                out.put_text(topic.as_str());
            }
            Self::CreateGroup(create) => {
                out.put_u8(24);
                out.put_text(create.group.as_str());
                out.put_u8(create.orderly.into());
                create.settings.encode(&mut out);
            }
            Self::UpdateTopic(update) => {
                out.put_u8(23);
                out.put_text(update.topic.as_str());
                out.put_option(update.topic_type, |out, topic_type| out.put_u8(topic_type.to_u8()));
                out.put_option(update.queues, |out, queues| out.put_u32(queues));
                out.put_option(update.permission, |out, permission| out.put_u8(permission.0));
            }
            Self::UpdateGroup(update) => {
                out.put_u8(25);
                out.put_text(update.group.as_str());
                out.put_option(update.retries_max, |out, retries| out.put_u32(retries));
                out.put_option(update.backoff.as_ref(), |out, backoff| backoff.encode(out));
                out.put_option(update.consume_from, |out, from| from.encode(out));
                out.put_option(update.filter.as_deref(), |out, filter| out.put_text(filter));
            }
            Self::DeleteGroup { group } => {
                out.put_u8(26);
                out.put_text(group.as_str());
            }
            Self::Subscribe(subscribe) => {
                out.put_u8(4);
                out.put_text(subscribe.group.as_str());
                out.put_list(&subscribe.topics, |out, topic| out.put_text(topic.as_str()));
                out.put_option(subscribe.create, |out, retries| out.put_u32(retries));
            }
            Self::Send(send) => {
                out.put_u8(match send.placement {
                    Placement::Now => 5,
                    Placement::DeliverAt(_) => 13,
                    Placement::OnCommit(_) => 16,
                    Placement::Fifo(_) => 18,
                    Placement::Priority(_) => 27,
                });
                out.put_varint(send.topic.0.into());
                out.put_u8(send.message_type as u8);
                out.put_list(&send.tag_hashes, |out, hash| tag::put_hash(out, *hash));
                match &send.placement {
                    Placement::Now => {}
                    Placement::DeliverAt(times) => out.put_list(times, |out, at| out.put_u64(at.0)),
                    Placement::Fifo(groups) => out.put_list(groups, |out, group| out.put_u64(group.0)),
                    Placement::Priority(priorities) => out.put_list(priorities, |out, priority| out.put_u32(*priority)),
                    Placement::OnCommit(checks) => checks.encode(&mut out),
                }
            }
            Self::Grant(grant) => {
                out.put_u8(30);
                out.put_u32(grant.group.0);
                out.put_u32(grant.topic.0);
                out.put_u32(grant.limit);
                out.put_u64(grant.invisible_for.0);
                out.put_text(&grant.client);
                out.put_u8(grant.renew.into());
                out.put_u64(grant.token);
                out.put_u64(grant.attempt_of);
                out.put_list(&grant.candidates, |out, candidate| candidate.encode(out));
            }
            Self::Ack(ack) => {
                out.put_u8(7);
                out.put_list(&ack.handles, |out, handle| handle.encode(out));
            }
            Self::Change(change) => {
                out.put_u8(8);
                change.handle.encode(&mut out);
                out.put_u64(change.invisible_for.0);
            }
            Self::Prolong(prolong) => {
                out.put_u8(9);
                out.put_list(&prolong.leases, |out, handle| handle.encode(out));
                out.put_u64(prolong.invisible_for.0);
            }
            Self::Tick => out.put_u8(10),
            Self::GiveBack(give_back) => {
                out.put_u8(11);
                out.put_list(&give_back.leases, |out, handle| handle.encode(out));
                out.put_u64(give_back.after.0);
            }
            Self::Announce(announce) => {
                out.put_u8(12);
                out.put_u64(announce.node.0);
                out.put_text(&announce.address);
            }
            Self::Recall(recall) => {
                out.put_u8(14);
                out.put_u32(recall.topic.0);
                out.put_u64(recall.at.0);
                recall.message.encode(&mut out);
            }
            Self::Reschedule(change) => {
                out.put_u8(28);
                out.put_u32(change.topic.0);
                out.put_u64(change.at.0);
                change.message.encode(&mut out);
                out.put_u64(change.to.0);
            }
            Self::Redrive(redrive) => {
                out.put_u8(29);
                out.put_u32(redrive.group.0);
                out.put_list(&redrive.offsets, |out, offset| out.put_u64(offset.0));
            }
            Self::DeadLetter { handle } => {
                out.put_u8(15);
                handle.encode(&mut out);
            }
            Self::Decide(decide) => {
                out.put_u8(17);
                out.put_u32(decide.topic.0);
                decide.message.encode(&mut out);
                out.put_u8(decide.commit.into());
            }
            Self::SetPositions(set) => {
                out.put_u8(20);
                out.put_u32(set.topic.0);
                out.put_u32(set.group.0);
                out.put_list(&set.positions, |out, (queue, offset)| {
                    out.put_u32(queue.0);
                    out.put_u64(offset.0);
                });
                out.put_u8(set.forget.into());
            }
            Self::Repeat(repeat) => {
                out.put_u8(31);
                out.put_u32(repeat.group.0);
                out.put_u32(repeat.topic.0);
                out.put_u64(repeat.attempt_of);
                out.put_u64(repeat.invisible_for.0);
                out.put_text(&repeat.client);
                out.put_u8(repeat.renew.into());
                out.put_u64(repeat.token);
                out.put_list(&repeat.leases, |out, (queue, lease)| {
                    out.put_u32(queue.0);
                    out.put_u64(lease.0);
                });
            }
        }
        out.freeze()
    }

    /// From the bytes of the log.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "command", VERSION)?;
        Ok(match reader.u8()? {
            1 => Self::CreateTopic(CreateTopic {
                topic: TopicName::stored(&reader.text()?),
                topic_type: read_topic_type(&mut reader)?,
                queues: reader.u32()?,
                permission: Permission(reader.u8()?),
            }),
            2 => Self::DeleteTopic { topic: TopicName::stored(&reader.text()?) },
            23 => Self::UpdateTopic(UpdateTopic {
                topic: TopicName::stored(&reader.text()?),
                topic_type: reader.option(read_topic_type)?,
                queues: reader.option(Reader::u32)?,
                permission: reader.option(|reader| Ok(Permission(reader.u8()?)))?,
            }),
            24 => Self::CreateGroup(CreateGroup {
                group: GroupName::stored(&reader.text()?),
                orderly: reader.bool()?,
                settings: GroupSettings::decode(&mut reader)?,
            }),
            25 => Self::UpdateGroup(UpdateGroup {
                group: GroupName::stored(&reader.text()?),
                retries_max: reader.option(Reader::u32)?,
                backoff: reader.option(Backoff::decode)?,
                consume_from: reader.option(ConsumeFrom::decode)?,
                filter: reader.option(Reader::text)?,
            }),
            26 => Self::DeleteGroup { group: GroupName::stored(&reader.text()?) },
            4 => Self::Subscribe(Subscribe {
                group: GroupName::stored(&reader.text()?),
                topics: reader.list(|reader| Ok(TopicName::stored(&reader.text()?)))?,
                create: reader.option(Reader::u32)?,
            }),
            tag @ (5 | 13 | 16 | 18 | 27) => {
                let (topic, message_type) = (TopicId(reader.varint_u32()?), read_type(&mut reader)?);
                let tag_hashes = reader.list(tag::read_hash)?;
                let placement = match tag {
                    5 => Placement::Now,
                    13 => Placement::DeliverAt(reader.list(|reader| Ok(Timestamp(reader.u64()?)))?),
                    18 => Placement::Fifo(reader.list(|reader| Ok(MessageGroupHash(reader.u64()?)))?),
                    27 => Placement::Priority(reader.list(Reader::u32)?),
                    _ => Placement::OnCommit(TransactionChecks::decode(&mut reader)?),
                };
                Self::Send(Send { topic, message_type, tag_hashes, placement })
            }
            30 => Self::Grant(Grant {
                group: GroupId(reader.u32()?),
                topic: TopicId(reader.u32()?),
                limit: reader.u32()?,
                invisible_for: Millis(reader.u64()?),
                client: reader.text()?,
                renew: reader.bool()?,
                token: reader.u64()?,
                attempt_of: reader.u64()?,
                candidates: reader.list(Candidate::decode)?,
            }),
            7 => Self::Ack(Ack { handles: reader.list(ReceiptHandle::decode)? }),
            8 => Self::Change(Change {
                handle: ReceiptHandle::decode(&mut reader)?,
                invisible_for: Millis(reader.u64()?),
            }),
            9 => Self::Prolong(Prolong {
                leases: reader.list(ReceiptHandle::decode)?,
                invisible_for: Millis(reader.u64()?),
            }),
            10 => Self::Tick,
            11 => {
                Self::GiveBack(GiveBack { leases: reader.list(ReceiptHandle::decode)?, after: Millis(reader.u64()?) })
            }
            12 => Self::Announce(Announce { node: NodeId(reader.u64()?), address: reader.text()? }),
            14 => Self::Recall(Recall {
                topic: TopicId(reader.u32()?),
                at: Timestamp(reader.u64()?),
                message: MessageRef::decode(&mut reader)?,
            }),
            28 => Self::Reschedule(Reschedule {
                topic: TopicId(reader.u32()?),
                at: Timestamp(reader.u64()?),
                message: MessageRef::decode(&mut reader)?,
                to: Timestamp(reader.u64()?),
            }),
            29 => Self::Redrive(Redrive {
                group: GroupId(reader.u32()?),
                offsets: reader.list(|reader| Ok(QueueOffset(reader.u64()?)))?,
            }),
            15 => Self::DeadLetter { handle: ReceiptHandle::decode(&mut reader)? },
            17 => Self::Decide(Decide {
                topic: TopicId(reader.u32()?),
                message: MessageRef::decode(&mut reader)?,
                commit: reader.bool()?,
            }),
            20 => Self::SetPositions(SetPositions {
                topic: TopicId(reader.u32()?),
                group: GroupId(reader.u32()?),
                positions: reader.list(|reader| Ok((QueueId(reader.u32()?), QueueOffset(reader.u64()?))))?,
                forget: reader.bool()?,
            }),
            31 => Self::Repeat(Repeat {
                group: GroupId(reader.u32()?),
                topic: TopicId(reader.u32()?),
                attempt_of: reader.u64()?,
                invisible_for: Millis(reader.u64()?),
                client: reader.text()?,
                renew: reader.bool()?,
                token: reader.u64()?,
                leases: reader.list(|reader| Ok((QueueId(reader.u32()?), LeaseId(reader.u64()?))))?,
            }),
            tag => return Err(reader.unknown(tag.into())),
        })
    }
}

impl Candidate {
    /// Whether it makes one lease at most; a window of an orderly group makes one for each message group.
    pub fn makes_one(&self) -> bool {
        match self {
            Self::Returned { wanted, .. } | Self::Next { wanted, .. } => !wanted.is_empty(),
            Self::Any { .. } => true,
            Self::Fresh { .. } | Self::Skip { .. } => false,
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match *self {
            Self::Returned { queue, lease, wanted, skipped } => {
                out.put_u8(1);
                out.put_u32(queue.0);
                out.put_u64(lease.0);
                out.put_u64(wanted.0);
                out.put_u64(skipped.0);
            }
            Self::Fresh { queue, first, length, wanted } => {
                out.put_u8(2);
                out.put_u32(queue.0);
                out.put_u64(first.0);
                out.put_u8(length);
                out.put_u64(wanted.0);
            }
            Self::Any { queue, first, count, bytes } => {
                out.put_u8(5);
                out.put_u32(queue.0);
                out.put_u64(first.0);
                out.put_u8(count);
                out.put_varint(bytes);
            }
            Self::Skip { queue, first, length } => {
                out.put_u8(4);
                out.put_u32(queue.0);
                out.put_u64(first.0);
                out.put_u32(length);
            }
            Self::Next { queue, message_group, first, length, wanted } => {
                out.put_u8(3);
                out.put_u32(queue.0);
                out.put_u64(message_group.0);
                out.put_u64(first.0);
                out.put_u8(length);
                out.put_u64(wanted.0);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        match reader.u8()? {
            1 => Ok(Self::Returned {
                queue: QueueId(reader.u32()?),
                lease: LeaseId(reader.u64()?),
                wanted: OffsetSet(reader.u64()?),
                skipped: OffsetSet(reader.u64()?),
            }),
            2 => Ok(Self::Fresh {
                queue: QueueId(reader.u32()?),
                first: QueueOffset(reader.u64()?),
                length: reader.u8()?,
                wanted: OffsetSet(reader.u64()?),
            }),
            5 => Ok(Self::Any {
                queue: QueueId(reader.u32()?),
                first: QueueOffset(reader.u64()?),
                count: reader.u8()?,
                bytes: reader.varint()?,
            }),
            4 => Ok(Self::Skip {
                queue: QueueId(reader.u32()?),
                first: QueueOffset(reader.u64()?),
                length: reader.u32()?,
            }),
            3 => Ok(Self::Next {
                queue: QueueId(reader.u32()?),
                message_group: MessageGroupHash(reader.u64()?),
                first: QueueOffset(reader.u64()?),
                length: reader.u8()?,
                wanted: OffsetSet(reader.u64()?),
            }),
            tag => Err(reader.unknown(tag.into())),
        }
    }
}

fn read_topic_type(reader: &mut Reader) -> Result<TopicType, Malformed> {
    let value = reader.u8()?;
    TopicType::from_u8(value).ok_or_else(|| reader.unknown(value.into()))
}

fn read_type(reader: &mut Reader) -> Result<MessageType, Malformed> {
    let value = reader.u8()?;
    MessageType::from_u8(value).ok_or_else(|| reader.unknown(value.into()))
}
