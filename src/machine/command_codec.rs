//! The bytes of commands in the log.
//!
//! Long, but one subject: a closed set, with its writing and its reading side by side. New kinds get new tags; a tag is
//! never used again.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::command::{
    Ack, Announce, Candidate, CarriedReference, Carry, Change, Command, CreateGroup, CreateTopic, Decide, GiveBack,
    Grant, OffsetMove, Placement, Prolong, Recall, Redrive, Repeat, Reschedule, Send, SetGroupOffsets, Subscribe, Trim,
    UpdateGroup, UpdateTopic,
};
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::filter::tag;
use crate::model::{
    Backoff, ConsumeFrom, GroupId, GroupName, GroupSettings, HandleKey, LeaseId, LogIndex, MessageGroupHash,
    MessageRef, MessageType, Millis, NodeId, OffsetSet, Permission, QueueId, QueueOffset, ReceiptHandle, Timestamp,
    TopicId, TopicName, TopicType, TransactionChecks,
};

const VERSION: u8 = 2;
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
/// Of [`Command::Send`], by placement.
const SENDS: [u8; 5] = [5, 13, 16, 18, 27];

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
        }
        out.freeze()
    }

    /// The cluster version from which on this command may be in the log.
    ///
    /// * Shape: `command` is encoded.
    pub fn required_version(command: &[u8]) -> u32 {
        match command.get(1) {
            // It raises the version, so it cannot ask for one.
            Some(&RAISE_CLUSTER_VERSION) => 0,
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
            CLOCK => Self::Clock { shift: Millis(reader.u64()?) },
            TRIM => Self::Trim(Trim {
                topic: TopicId(reader.u32()?),
                queue: QueueId(reader.u32()?),
                before: Timestamp(reader.u64()?),
            }),
            CARRY => Self::Carry(Carry { references: reader.list(CarriedReference::decode)? }),
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
