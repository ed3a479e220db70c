//! The bytes of commands in the log.
//!
//! Long, but one subject: a closed set, with its writing and its reading side by side. New kinds get new tags; a tag is
//! never used again.

use bytes::{BufMut, Bytes, BytesMut};

#[cfg(debug_assertions)]
use crate::machine::cluster_version::CLUSTER_VERSION;
use crate::machine::command::{
    Ack, Announce, BackTo, Candidate, CarriedReference, Carry, Change, Command, CreateGroup, CreateTopic, Decide,
    GiveBack, Grant, LockQueues, NEEDS_EVENTS, OffsetMove, Placement, Prolong, QueuePlacement, RETURN_UNREAD_SINCE,
    Recall, Redrive, Repeat, Reschedule, Send, SendBack, SendToQueue, SetGroupOffsets, SetKeyValue, SetWritePermission,
    Subscribe, Trim, UnlockQueues, UpdateGroup, UpdateTopic,
};
#[cfg(debug_assertions)]
use crate::machine::planted;
use crate::machine::state::events::{Act, NewLeader};
use crate::machine::state::member_changes::{ChangeEnd, MemberChangeKind};
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::filter::tag;
use crate::model::{
    Backoff, ConsumeFrom, GroupId, GroupName, GroupSettings, HandleKey, LeaseId, LogIndex, MemberName,
    MessageGroupHash, MessageRef, MessageType, Millis, NodeId, OffsetSet, Permission, QueueId, QueueOffset,
    ReceiptHandle, Timestamp, TopicId, TopicName, TopicType, TransactionChecks,
};

const VERSION: u8 = 2;
/// The cluster version from which on tools may keep something.
const NEEDS_TOOLS: u32 = 5;
const RAISE_CLUSTER_VERSION: u8 = 35;
/// Tags from here on came with cluster version 1.
const FIRST_OF_VERSION_1: u8 = 32;
const CLOCK: u8 = 33;
const TRIM: u8 = 36;
/// Tags from here on came with cluster version 2.
const FIRST_OF_VERSION_2: u8 = TRIM;
const CARRY: u8 = 37;
const CREATE_TOPIC_KEPT: u8 = 38;
const UPDATE_TOPIC_KEPT: u8 = 39;
const BEGIN_MEMBER_CHANGE: u8 = 40;
/// Tags from here on came with cluster version 3.
const FIRST_OF_VERSION_3: u8 = BEGIN_MEMBER_CHANGE;
const CANCEL_MEMBER_CHANGE: u8 = 41;
const END_MEMBER_CHANGE: u8 = 42;
const OF_OPERATOR: u8 = 43;
/// Tags from here on came with cluster version 4.
const FIRST_OF_VERSION_4: u8 = OF_OPERATOR;
const NOTE_ACT: u8 = 44;
const NOTE_LEADER: u8 = 45;
const SEND_TO_QUEUE: u8 = 46;
const SEND_BACK: u8 = 47;
const LOCK_QUEUES: u8 = 48;
const UNLOCK_QUEUES: u8 = 49;
const SET_KEY_VALUE: u8 = 50;
const SEND_TO_QUEUE_LATER: u8 = 51;
const SEND_TO_QUEUE_HALF: u8 = 52;
const SEND_TO_QUEUE_FIFO: u8 = 53;
const SET_WRITE_PERMISSION: u8 = 54;
const RETURN_UNREAD: u8 = 55;
/// Of [`Command::Send`] and of [`Command::SendToQueue`], by placement, and of [`Command::SendBack`].
const SENDS: [u8; 10] =
    [5, 13, 16, 18, 27, SEND_TO_QUEUE, SEND_TO_QUEUE_LATER, SEND_TO_QUEUE_HALF, SEND_TO_QUEUE_FIFO, SEND_BACK];

impl Command {
    /// The bytes for the log.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        match self {
            Self::CreateTopic(create) => {
                out.put_u8(if create.retention.is_some() { CREATE_TOPIC_KEPT } else { 1 });
                out.put_text(create.topic.as_str());
                out.put_u8(create.topic_type.to_u8());
                out.put_u32(create.queues);
                out.put_u8(create.permission.0);
                if let Some(retention) = create.retention {
                    out.put_u64(retention.0);
                }
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
                out.put_u8(match update.retention {
                    Some(_) => UPDATE_TOPIC_KEPT,
                    None if update.keeps_message_groups => 32,
                    None => 23,
                });
                out.put_text(update.topic.as_str());
                out.put_option(update.topic_type, |out, topic_type| out.put_u8(topic_type.to_u8()));
                out.put_option(update.queues, |out, queues| out.put_u32(queues));
                out.put_option(update.permission, |out, permission| out.put_u8(permission.0));
                if let Some(retention) = update.retention {
                    out.put_u64(retention.0);
                    out.put_u8(update.keeps_message_groups.into());
                }
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
            Self::SendToQueue(send) => {
                out.put_u8(match send.placement {
                    QueuePlacement::Now => SEND_TO_QUEUE,
                    QueuePlacement::Fifo(_) => SEND_TO_QUEUE_FIFO,
                    QueuePlacement::DeliverAt(_) => SEND_TO_QUEUE_LATER,
                    QueuePlacement::OnCommit(_) => SEND_TO_QUEUE_HALF,
                });
                out.put_varint(send.topic.0.into());
                out.put_varint(send.queue.0.into());
                out.put_list(&send.tag_hashes, |out, hash| tag::put_hash(out, *hash));
                match &send.placement {
                    QueuePlacement::Now => {}
                    QueuePlacement::Fifo(groups) => out.put_list(groups, |out, group| out.put_u64(group.0)),
                    QueuePlacement::DeliverAt(times) => out.put_list(times, |out, at| out.put_u64(at.0)),
                    QueuePlacement::OnCommit(checks) => checks.encode(&mut out),
                }
            }
            Self::SendBack(back) => {
                out.put_u8(SEND_BACK);
                out.put_u32(back.group.0);
                tag::put_hash(&mut out, back.tag_hash);
                back.to.encode(&mut out);
            }
            Self::LockQueues(lock) => {
                out.put_u8(LOCK_QUEUES);
                out.put_u32(lock.group.0);
                out.put_text(&lock.client);
                put_queues(&mut out, &lock.queues);
                out.put_u64(lock.locked_for.0);
            }
            Self::UnlockQueues(unlock) => {
                out.put_u8(UNLOCK_QUEUES);
                out.put_u32(unlock.group.0);
                out.put_text(&unlock.client);
                put_queues(&mut out, &unlock.queues);
            }
            Self::SetKeyValue(set) => {
                out.put_u8(SET_KEY_VALUE);
                out.put_text(&set.namespace);
                out.put_text(&set.key);
                out.put_option(set.value.as_deref(), |out, value| out.put_text(value));
            }
            Self::SetWritePermission(set) => {
                out.put_u8(SET_WRITE_PERMISSION);
                out.put_option(set.of, |out, member| out.put_u32(member.0));
                out.put_u8(set.may_write.into());
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
            Self::ReturnUnread { handle } => {
                out.put_u8(RETURN_UNREAD);
                handle.encode(&mut out);
            }
            Self::Announce(announce) => {
                out.put_u8(12);
                out.put_u64(announce.node.0);
                out.put_text(&announce.address);
            }
            Self::SetHandleKey(key) => {
                out.put_u8(34);
                key.encode(&mut out);
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
            Self::SetGroupOffsets(set) => {
                out.put_u8(20);
                out.put_u32(set.topic.0);
                out.put_u32(set.group.0);
                out.put_list(&set.offsets, |out, (queue, offset)| {
                    out.put_u32(queue.0);
                    out.put_u64(offset.0);
                });
                out.put_u8(set.how.to_u8());
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
            Self::RaiseClusterVersion { to } => {
                out.put_u8(RAISE_CLUSTER_VERSION);
                out.put_u32(*to);
            }
            Self::Clock { shift } => {
                out.put_u8(CLOCK);
                out.put_u64(shift.0);
            }
            Self::Trim(Trim { topic, queue, before }) => {
                out.put_u8(TRIM);
                out.put_u32(topic.0);
                out.put_u32(queue.0);
                out.put_u64(before.0);
            }
            Self::Carry(carry) => {
                out.put_u8(CARRY);
                out.put_list(&carry.references, |out, reference| reference.encode(out));
            }
            Self::BeginMemberChange(kind) => {
                out.put_u8(BEGIN_MEMBER_CHANGE);
                kind.encode(&mut out);
            }
            Self::CancelMemberChange { number } => {
                out.put_u8(CANCEL_MEMBER_CHANGE);
                out.put_u64(*number);
            }
            Self::EndMemberChange { number, end } => {
                out.put_u8(END_MEMBER_CHANGE);
                out.put_u64(*number);
                end.encode(&mut out);
            }
            Self::OfOperator { act, command } => {
                let command = command.encode();
                out.put_u8(OF_OPERATOR);
                // Its tag in a fixed place: what it needs is known by it.
                out.put_u8(command[1]);
                act.encode(&mut out);
                out.put_bytes_field(&command);
            }
            Self::NoteAct { act, said } => {
                out.put_u8(NOTE_ACT);
                act.encode(&mut out);
                out.put_text(said);
            }
            Self::NoteLeader(new) => {
                out.put_u8(NOTE_LEADER);
                new.encode(&mut out);
            }
        }
        out.freeze()
    }

    /// The cluster version from which on this command may be in the log.
    ///
    /// * Shape: `command` is encoded.
    pub fn required_version(command: &[u8]) -> u32 {
        let of_tag = Self::version_of(command.get(1));
        match command.get(1) {
            Some(&OF_OPERATOR) => of_tag.max(Self::version_of(command.get(2))),
            _ => of_tag,
        }
    }

    fn version_of(tag: Option<&u8>) -> u32 {
        match tag {
            #[cfg(debug_assertions)]
            Some(&planted::TAG) => {
                if planted::is_too_early() {
                    0
                } else {
                    CLUSTER_VERSION + 1
                }
            }
            // It raises the version, so it cannot ask for one.
            Some(&RAISE_CLUSTER_VERSION) => 0,
            // Nodes of version 4 do not know them.
            Some(&(SET_KEY_VALUE | SET_WRITE_PERMISSION)) => NEEDS_TOOLS,
            Some(&RETURN_UNREAD) => RETURN_UNREAD_SINCE,
            Some(tag) if *tag >= FIRST_OF_VERSION_4 => NEEDS_EVENTS,
            Some(tag) if *tag >= FIRST_OF_VERSION_3 => 3,
            Some(tag) if *tag >= FIRST_OF_VERSION_2 => 2,
            Some(tag) if *tag >= FIRST_OF_VERSION_1 => 1,
            Some(_) | None => 0,
        }
    }

    /// Whether encoded bytes are of a [`Command::Clock`], which only a leader may make.
    pub fn is_clock(bytes: &[u8]) -> bool {
        bytes.get(1) == Some(&CLOCK)
    }

    /// Whether encoded bytes are of a command that adds messages.
    pub fn adds_messages(bytes: &[u8]) -> bool {
        bytes.get(1).is_some_and(|tag| SENDS.contains(tag))
    }

    /// What encoded bytes ask for, in a word.
    pub fn kind(bytes: &[u8]) -> &'static str {
        match bytes.get(1) {
            Some(tag) if SENDS.contains(tag) => "send",
            Some(30 | 31) => "receive",
            Some(7) => "ack",
            Some(8) => "change invisible",
            Some(9) => "renewal",
            Some(10) => "tick",
            Some(&RETURN_UNREAD | 11) => "give back",
            Some(4) => "subscription",
            Some(14 | 28) => "change of a delayed message",
            Some(15 | 29) => "dead letter",
            Some(17) => "end of a transaction",
            Some(20) => "offset",
            Some(&LOCK_QUEUES | &UNLOCK_QUEUES) => "lock of queues",
            Some(&TRIM | &CARRY) => "retention",
            Some(_) => "administration",
            None => "nothing",
        }
    }

    /// From the bytes of the log.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "command", VERSION)?;
        Ok(match reader.u8()? {
            tag @ (1 | CREATE_TOPIC_KEPT) => Self::CreateTopic(CreateTopic {
                topic: TopicName::stored(&reader.text()?),
                topic_type: read_topic_type(&mut reader)?,
                queues: reader.u32()?,
                permission: Permission(reader.u8()?),
                retention: if tag == CREATE_TOPIC_KEPT { Some(Millis(reader.u64()?)) } else { None },
            }),
            2 => Self::DeleteTopic { topic: TopicName::stored(&reader.text()?) },
            tag @ (23 | 32 | UPDATE_TOPIC_KEPT) => Self::UpdateTopic(UpdateTopic {
                topic: TopicName::stored(&reader.text()?),
                topic_type: reader.option(read_topic_type)?,
                queues: reader.option(Reader::u32)?,
                permission: reader.option(|reader| Ok(Permission(reader.u8()?)))?,
                retention: if tag == UPDATE_TOPIC_KEPT { Some(Millis(reader.u64()?)) } else { None },
                keeps_message_groups: if tag == UPDATE_TOPIC_KEPT { reader.bool()? } else { tag == 32 },
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
            tag @ (SEND_TO_QUEUE | SEND_TO_QUEUE_FIFO | SEND_TO_QUEUE_LATER | SEND_TO_QUEUE_HALF) => {
                let (topic, queue) = (TopicId(reader.varint_u32()?), QueueId(reader.varint_u32()?));
                let tag_hashes = reader.list(tag::read_hash)?;
                let placement = match tag {
                    SEND_TO_QUEUE => QueuePlacement::Now,
                    SEND_TO_QUEUE_FIFO => {
                        QueuePlacement::Fifo(reader.list(|reader| Ok(MessageGroupHash(reader.u64()?)))?)
                    }
                    SEND_TO_QUEUE_LATER => {
                        QueuePlacement::DeliverAt(reader.list(|reader| Ok(Timestamp(reader.u64()?)))?)
                    }
                    _ => QueuePlacement::OnCommit(TransactionChecks::decode(&mut reader)?),
                };
                Self::SendToQueue(SendToQueue { topic, queue, tag_hashes, placement })
            }
            SEND_BACK => Self::SendBack(SendBack {
                group: GroupId(reader.u32()?),
                tag_hash: tag::read_hash(&mut reader)?,
                to: BackTo::decode(&mut reader)?,
            }),
            LOCK_QUEUES => Self::LockQueues(LockQueues {
                group: GroupId(reader.u32()?),
                client: reader.text()?,
                queues: read_queues(&mut reader)?,
                locked_for: Millis(reader.u64()?),
            }),
            UNLOCK_QUEUES => Self::UnlockQueues(UnlockQueues {
                group: GroupId(reader.u32()?),
                client: reader.text()?,
                queues: read_queues(&mut reader)?,
            }),
            SET_KEY_VALUE => Self::SetKeyValue(SetKeyValue {
                namespace: reader.text()?,
                key: reader.text()?,
                value: reader.option(Reader::text)?,
            }),
            SET_WRITE_PERMISSION => Self::SetWritePermission(SetWritePermission {
                of: reader.option(|reader| Ok(MemberName(reader.u32()?)))?,
                may_write: reader.bool()?,
            }),
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
            RETURN_UNREAD => Self::ReturnUnread { handle: ReceiptHandle::decode(&mut reader)? },
            12 => Self::Announce(Announce { node: NodeId(reader.u64()?), address: reader.text()? }),
            34 => Self::SetHandleKey(HandleKey::decode(&mut reader)?),
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
            20 => Self::SetGroupOffsets(SetGroupOffsets {
                topic: TopicId(reader.u32()?),
                group: GroupId(reader.u32()?),
                offsets: reader.list(|reader| Ok((QueueId(reader.u32()?), QueueOffset(reader.u64()?))))?,
                how: OffsetMove::decode(&mut reader)?,
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
            RAISE_CLUSTER_VERSION => Self::RaiseClusterVersion { to: reader.u32()? },
            // It does nothing: the version never goes down.
            #[cfg(debug_assertions)]
            planted::TAG if planted::is_known() => Self::RaiseClusterVersion { to: 0 },
            CLOCK => Self::Clock { shift: Millis(reader.u64()?) },
            TRIM => Self::Trim(Trim {
                topic: TopicId(reader.u32()?),
                queue: QueueId(reader.u32()?),
                before: Timestamp(reader.u64()?),
            }),
            CARRY => Self::Carry(Carry { references: reader.list(CarriedReference::decode)? }),
            BEGIN_MEMBER_CHANGE => Self::BeginMemberChange(MemberChangeKind::decode(&mut reader)?),
            CANCEL_MEMBER_CHANGE => Self::CancelMemberChange { number: reader.u64()? },
            END_MEMBER_CHANGE => Self::EndMemberChange { number: reader.u64()?, end: ChangeEnd::decode(&mut reader)? },
            OF_OPERATOR => {
                let tag = reader.u8()?;
                let (act, bytes) = (Act::decode(&mut reader)?, reader.bytes()?);
                // One in one would be decoded as deep as somebody likes.
                if tag == OF_OPERATOR || bytes.get(1) != Some(&tag) {
                    return Err(reader.unknown(tag.into()));
                }
                Self::OfOperator { act, command: Box::new(Self::decode(bytes)?) }
            }
            NOTE_ACT => Self::NoteAct { act: Act::decode(&mut reader)?, said: reader.text()? },
            NOTE_LEADER => Self::NoteLeader(NewLeader::decode(&mut reader)?),
            tag => return Err(reader.unknown(tag.into())),
        })
    }
}

impl Candidate {
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

impl CarriedReference {
    fn encode(&self, out: &mut BytesMut) {
        match *self {
            Self::Delayed { topic, due_at, message, index } => {
                out.put_u8(1);
                out.put_u32(topic.0);
                out.put_u64(due_at.0);
                message.encode(out);
                out.put_u64(index.0);
            }
            Self::Half { topic, message, index } => {
                out.put_u8(2);
                out.put_u32(topic.0);
                message.encode(out);
                out.put_u64(index.0);
            }
            Self::Run { topic, queue, first, count, index } => {
                out.put_u8(3);
                out.put_u32(topic.0);
                out.put_u32(queue.0);
                out.put_u64(first.0);
                out.put_u32(count);
                out.put_u64(index.0);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        match reader.u8()? {
            1 => Ok(Self::Delayed {
                topic: TopicId(reader.u32()?),
                due_at: Timestamp(reader.u64()?),
                message: MessageRef::decode(reader)?,
                index: LogIndex(reader.u64()?),
            }),
            2 => Ok(Self::Half {
                topic: TopicId(reader.u32()?),
                message: MessageRef::decode(reader)?,
                index: LogIndex(reader.u64()?),
            }),
            3 => Ok(Self::Run {
                topic: TopicId(reader.u32()?),
                queue: QueueId(reader.u32()?),
                first: QueueOffset(reader.u64()?),
                count: reader.u32()?,
                index: LogIndex(reader.u64()?),
            }),
            tag => Err(reader.unknown(tag.into())),
        }
    }
}

impl BackTo {
    fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Retry(at) => {
                out.put_u8(1);
                out.put_u64(at.0);
            }
            Self::DeadLetter => out.put_u8(2),
            Self::Redriven(offset) => {
                out.put_u8(3);
                out.put_u64(offset.0);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        match reader.u8()? {
            1 => Ok(Self::Retry(Timestamp(reader.u64()?))),
            2 => Ok(Self::DeadLetter),
            3 => Ok(Self::Redriven(QueueOffset(reader.u64()?))),
            tag => Err(reader.unknown(tag.into())),
        }
    }
}

impl OffsetMove {
    fn to_u8(self) -> u8 {
        match self {
            Self::Set => 0,
            Self::Reset => 1,
            Self::Advance => 2,
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        match reader.u8()? {
            0 => Ok(Self::Set),
            1 => Ok(Self::Reset),
            2 => Ok(Self::Advance),
            value => Err(reader.unknown(value.into())),
        }
    }
}

fn put_queues(out: &mut BytesMut, queues: &[(TopicId, QueueId)]) {
    out.put_list(queues, |out, (topic, queue)| {
        out.put_u32(topic.0);
        out.put_u32(queue.0);
    });
}

fn read_queues(reader: &mut Reader) -> Result<Vec<(TopicId, QueueId)>, Malformed> {
    reader.list(|reader| Ok((TopicId(reader.u32()?), QueueId(reader.u32()?))))
}

fn read_topic_type(reader: &mut Reader) -> Result<TopicType, Malformed> {
    let value = reader.u8()?;
    TopicType::from_u8(value).ok_or_else(|| reader.unknown(value.into()))
}

fn read_type(reader: &mut Reader) -> Result<MessageType, Malformed> {
    let value = reader.u8()?;
    MessageType::from_u8(value).ok_or_else(|| reader.unknown(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::state::events::Operator;
    use crate::model::Term;

    #[test]
    fn a_clock_command_is_known_by_its_bytes() {
        let command = Command::Clock { shift: Millis(7) };
        assert!(Command::is_clock(&command.encode()));
        assert_eq!(Command::decode(command.encode()), Ok(command));
        assert!(!Command::is_clock(&Command::Tick.encode()));
        assert!(!Command::is_clock(b""));
    }

    #[test]
    fn what_retention_brought_waits_for_its_cluster_version() {
        let topic = TopicName::parse("t").unwrap();
        let create = |retention| {
            Command::CreateTopic(CreateTopic {
                topic: topic.clone(),
                topic_type: TopicType::Mixed,
                queues: 1,
                permission: Permission::READ_WRITE,
                retention,
            })
        };
        let update = |retention| {
            let (topic_type, queues, permission, keeps_message_groups) = (None, None, None, true);
            Command::UpdateTopic(UpdateTopic {
                topic: topic.clone(),
                topic_type,
                queues,
                permission,
                retention,
                keeps_message_groups,
            })
        };
        for (command, version) in [
            (create(None), 0),
            (create(Some(Millis(5))), 2),
            (update(None), 1),
            (update(Some(Millis(0))), 2),
            (Command::Trim(Trim { topic: TopicId(1), queue: QueueId(0), before: Timestamp(3) }), 2),
            (Command::Carry(Carry { references: Vec::new() }), 2),
            (Command::Clock { shift: Millis(1) }, 1),
            (Command::RaiseClusterVersion { to: 2 }, 0),
        ] {
            assert_eq!(Command::required_version(&command.encode()), version, "{command:?}");
            assert_eq!(Command::decode(command.encode()), Ok(command));
        }
    }

    #[test]
    fn changes_of_members_wait_for_their_cluster_version() {
        let name = MemberName(3);
        for command in [
            Command::BeginMemberChange(MemberChangeKind::Add { name, address: "h:1".into() }),
            Command::BeginMemberChange(MemberChangeKind::Replace { old: NodeId(2), address: "h:1".into() }),
            Command::BeginMemberChange(MemberChangeKind::Remove { node: NodeId(2) }),
            Command::CancelMemberChange { number: 7 },
            Command::EndMemberChange { number: 7, end: ChangeEnd::Refused("why".into()) },
        ] {
            assert_eq!(Command::required_version(&command.encode()), 3, "{command:?}");
            assert_eq!(Command::decode(command.encode()), Ok(command));
        }
    }

    #[test]
    fn events_wait_for_their_cluster_version_and_so_does_what_is_in_one() {
        let act = || Act {
            by: Operator { address: "10.0.0.9".into(), tool: "raftmq/0.1.0".into() },
            node: NodeId(2),
            what: "topic-delete".into(),
            on: "t".into(),
            detail: String::new(),
        };
        let of = |command| Command::OfOperator { act: act(), command: Box::new(command) };
        let delete = || Command::DeleteTopic { topic: TopicName::parse("t").unwrap() };
        let new = NewLeader { term: Term(3), leader: NodeId(1), gap: Some(Millis(5)) };
        for command in [of(delete()), Command::NoteAct { act: act(), said: "ok".into() }, Command::NoteLeader(new)] {
            assert_eq!(Command::required_version(&command.encode()), NEEDS_EVENTS, "{command:?}");
            assert_eq!(Command::decode(command.encode()), Ok(command));
        }
        // What a later build puts into one needs that build, though the outer tag is known.
        assert_eq!(Command::required_version(&[VERSION, OF_OPERATOR, planted::TAG]), CLUSTER_VERSION + 1);
        assert!(Command::decode(of(of(delete())).encode()).is_err(), "one in another");
        let mut bytes = of(delete()).encode().to_vec();
        bytes[2] = 26;
        assert!(Command::decode(bytes.into()).is_err(), "another tag than that of the command");
    }

    #[test]
    fn a_send_to_a_queue_waits_for_its_cluster_version_and_adds_messages() {
        let (topic, queue) = (TopicId(300), QueueId(1023));
        let checks = TransactionChecks { after: Millis(1), every: Millis(2), most: 3 };
        for (tag, placement) in [
            (46, QueuePlacement::Now),
            (51, QueuePlacement::DeliverAt(vec![Timestamp(7), Timestamp(u64::MAX)])),
            (52, QueuePlacement::OnCommit(checks)),
            (53, QueuePlacement::Fifo(vec![MessageGroupHash(0), MessageGroupHash(u64::MAX)])),
        ] {
            let tag_hashes = vec![0, u64::MAX];
            let command = Command::SendToQueue(SendToQueue { topic, queue, tag_hashes, placement });
            let bytes = command.encode();
            assert_eq!((bytes[1], Command::required_version(&bytes)), (tag, 4));
            assert_eq!((Command::adds_messages(&bytes), Command::kind(&bytes)), (true, "send"));
            assert_eq!(Command::decode(bytes), Ok(command));
        }
    }

    #[test]
    fn a_message_that_comes_back_waits_for_its_cluster_version_and_is_a_send() {
        for to in [BackTo::Retry(Timestamp(7)), BackTo::DeadLetter, BackTo::Redriven(QueueOffset(9))] {
            let command = Command::SendBack(SendBack { group: GroupId(300), tag_hash: u64::MAX, to });
            let bytes = command.encode();
            assert_eq!((bytes[1], Command::required_version(&bytes)), (47, 4));
            assert_eq!((Command::adds_messages(&bytes), Command::kind(&bytes)), (true, "send"));
            assert_eq!(Command::decode(bytes), Ok(command));
        }
    }

    #[test]
    fn locks_of_queues_wait_for_their_cluster_version() {
        let (group, client, queues) = (GroupId(7), "c@1".to_owned(), vec![(TopicId(3), QueueId(1023))]);
        let unlock = UnlockQueues { group, client: client.clone(), queues: queues.clone() };
        let lock = LockQueues { group, client, queues, locked_for: Millis(40_000) };
        for (command, tag) in [(Command::LockQueues(lock), 48), (Command::UnlockQueues(unlock), 49)] {
            let bytes = command.encode();
            assert_eq!((bytes[1], Command::required_version(&bytes)), (tag, 4));
            assert_eq!((Command::adds_messages(&bytes), Command::kind(&bytes)), (false, "lock of queues"));
            assert_eq!(Command::decode(bytes), Ok(command));
        }
    }

    #[test]
    fn what_tools_keep_waits_for_its_cluster_version_and_may_be_of_an_operator() {
        let set = |value: Option<&str>| {
            let (namespace, key) = ("ORDER_TOPIC_CONFIG".to_owned(), "t".to_owned());
            Command::SetKeyValue(SetKeyValue { namespace, key, value: value.map(str::to_owned) })
        };
        let permission = |of| Command::SetWritePermission(SetWritePermission { of, may_write: of.is_none() });
        for (command, tag) in [
            (set(Some("b:4")), 50),
            (set(None), 50),
            (permission(None), 54),
            (permission(Some(MemberName(u32::MAX))), 54),
        ] {
            let bytes = command.encode();
            assert_eq!((bytes[1], Command::required_version(&bytes)), (tag, 5));
            assert_eq!(Command::required_version(&[VERSION, OF_OPERATOR, tag]), 5);
            assert_eq!((Command::adds_messages(&bytes), Command::kind(&bytes)), (false, "administration"));
            assert!(command.may_be_of_operator());
            assert_eq!(Command::decode(bytes), Ok(command));
        }
    }

    #[test]
    fn what_was_not_read_waits_for_its_cluster_version() {
        let (group, topic, queue, offset, lease) = (GroupId(1), TopicId(2), QueueId(3), QueueOffset(4), LeaseId(5));
        let command = Command::ReturnUnread { handle: ReceiptHandle { group, topic, queue, offset, lease } };
        let bytes = command.encode();
        assert_eq!((bytes[1], Command::required_version(&bytes), Command::kind(&bytes)), (55, 5, "give back"));
        assert_eq!(Command::decode(bytes), Ok(command));
    }

    #[test]
    fn entries_of_older_builds_mean_what_they_meant() {
        for (tag, keeps_message_groups) in [(23, false), (32, true)] {
            let topic = TopicName::parse("t").unwrap();
            let update = UpdateTopic {
                topic,
                topic_type: None,
                queues: Some(3),
                permission: None,
                retention: None,
                keeps_message_groups,
            };
            let command = Command::UpdateTopic(update);
            let bytes = command.encode();
            assert_eq!(bytes[1], tag);
            assert_eq!(Command::decode(bytes), Ok(command));
        }
        for (flag, how) in [(0, OffsetMove::Set), (1, OffsetMove::Reset), (2, OffsetMove::Advance)] {
            let offsets = vec![(QueueId(1), QueueOffset(9))];
            let set = SetGroupOffsets { topic: TopicId(1), group: GroupId(2), offsets, how };
            let command = Command::SetGroupOffsets(set);
            let bytes = command.encode();
            assert_eq!((bytes[1], bytes.last()), (20, Some(&flag)));
            assert_eq!(Command::decode(bytes), Ok(command));
        }
    }
}
