//! Topics and consumer groups: making, deleting, and giving a group its position in a topic.

use bytes::{BufMut, Bytes, BytesMut};

use super::command::{CreateGroup, CreateTopic, Subscribe};
use super::outcome::{Outcome, Rejected};
use super::queue::{self, QueueHead};
use super::send::PERMISSION_READ;
use super::stage::Stage;
use super::{Failure, keys};
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{GroupId, GroupName, MessageType, QueueId, Timestamp, TopicId, TopicName};
use crate::store::kv::Space;

const VERSION: u8 = 1;
const VERSION_ORDERLY: u8 = 2;

/// A topic as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// Name.
    pub name: TopicName,
    /// The only type it accepts.
    pub message_type: MessageType,
    /// Number of queues.
    pub queues: u32,
    /// 2 write, 4 read.
    pub permission: u8,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A consumer group as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Name.
    pub name: GroupName,
    /// Deliveries after the first.
    pub retries_max: u32,
    /// Whether it consumes in order; from FIFO topics every group does.
    pub orderly: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl TopicRecord {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_text(self.name.as_str());
        out.put_u8(self.message_type as u8);
        out.put_u32(self.queues);
        out.put_u8(self.permission);
        out.put_u64(self.created_at.0);
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = versioned(bytes, "topic record")?;
        let name = TopicName::stored(&reader.text()?);
        let message_type = reader.u8()?;
        Ok(Self {
            name,
            message_type: MessageType::from_u8(message_type).ok_or_else(|| reader.unknown(message_type.into()))?,
            queues: reader.u32()?,
            permission: reader.u8()?,
            created_at: Timestamp(reader.u64()?),
        })
    }
}

impl GroupRecord {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(if self.orderly { VERSION_ORDERLY } else { VERSION });
        out.put_text(self.name.as_str());
        out.put_u32(self.retries_max);
        out.put_u64(self.created_at.0);
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "group record");
        let version = reader.u8()?;
        if version != VERSION && version != VERSION_ORDERLY {
            return Err(reader.unknown(version.into()));
        }
        Ok(Self {
            name: GroupName::stored(&reader.text()?),
            retries_max: reader.u32()?,
            orderly: version == VERSION_ORDERLY,
            created_at: Timestamp(reader.u64()?),
        })
    }
}

/// A reader behind the version byte of a stored value.
pub(super) fn versioned(bytes: Bytes, what: &'static str) -> Result<Reader, Malformed> {
    let mut reader = Reader::new(bytes, what);
    match reader.u8()? {
        VERSION => Ok(reader),
        version => Err(reader.unknown(version.into())),
    }
}

pub(super) fn create_topic(stage: &mut Stage<'_>, create: &CreateTopic) -> Result<Outcome, Failure> {
    if stage.get(Space::Catalog, &keys::topic_name(&create.topic))?.is_some() {
        return Ok(Outcome::Rejected(Rejected::TopicExists));
    }
    let topic = TopicId(next_id(stage, keys::TOPIC_IDS)?);
    let record = TopicRecord {
        name: create.topic.clone(),
        message_type: create.message_type,
        queues: create.queues,
        permission: create.permission,
        created_at: stage.now(),
    };
    stage.put_number(Space::Catalog, keys::topic_name(&create.topic), topic.0.into());
    stage.put(Space::Catalog, keys::topic(topic), record.encode());
    for queue in 0..create.queues {
        queue::put_head(stage, topic, QueueId(queue), &QueueHead::default());
    }
    stage.effects().catalog_changed = true;
    Ok(Outcome::TopicCreated(topic))
}

/// The name is free at once; what was stored under the topic is swept in bounded steps by `tick`.
pub(super) fn delete_topic(stage: &mut Stage<'_>, name: &TopicName) -> Result<Outcome, Failure> {
    let Some(topic) = topic_id(stage, name)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    stage.delete(Space::Catalog, keys::topic_name(name));
    stage.delete(Space::Catalog, keys::topic(topic));
    let now = stage.now();
    stage.put_due(now, keys::due_sweep(now, topic));
    stage.effects().catalog_changed = true;
    Ok(Outcome::Done)
}

pub(super) fn create_group(stage: &mut Stage<'_>, create: &CreateGroup) -> Result<Outcome, Failure> {
    if stage.get(Space::Catalog, &keys::group_name(&create.group))?.is_some() {
        return Ok(Outcome::Rejected(Rejected::GroupExists));
    }
    make_group(stage, &create.group, create.retries_max, create.orderly).map(Outcome::GroupCreated)
}

/// Makes the group if it is missing and may be made, and gives it a position in each topic where it
/// has none: the first message of a queue that never lost one, else the queue's end.
///
/// * Source: contract §17 and §26: a late group on a young topic gets everything from offset 0.
pub(super) fn subscribe(stage: &mut Stage<'_>, subscribe: &Subscribe) -> Result<Outcome, Failure> {
    let group = match (group_id(stage, &subscribe.group)?, subscribe.create) {
        (Some(group), _) => group,
        (None, Some(retries_max)) => make_group(stage, &subscribe.group, retries_max, false)?,
        (None, None) => return Ok(Outcome::Rejected(Rejected::GroupNotFound)),
    };
    for name in &subscribe.topics {
        let Some(topic) = topic_id(stage, name)? else { continue };
        let Some(record) = topic_record(stage, topic)? else { continue };
        let key = keys::subscription(topic, group);
        if stage.get(Space::Catalog, &key)?.is_some() {
            continue;
        }
        stage.put(Space::Catalog, key, Bytes::new());
        for queue in (0..record.queues).map(QueueId) {
            let head = queue::head(stage, topic, queue)?;
            let from = if head.min.0 == 0 { 0 } else { head.max.0 };
            stage.put_number(Space::Cursor, keys::cursor(topic, group, queue), from);
        }
        stage.effects().catalog_changed = true;
    }
    Ok(Outcome::GroupCreated(group))
}

/// The topic of a group's dead letters, made if it is missing; `None` if there is no such group.
pub(super) fn dead_letter_topic(stage: &mut Stage<'_>, group: GroupId) -> Result<Option<TopicId>, Failure> {
    let Some(record) = group_record(stage, group)? else { return Ok(None) };
    let topic = TopicName::dead_letters_of(&record.name);
    if let Some(topic) = topic_id(stage, &topic)? {
        return Ok(Some(topic));
    }
    let (message_type, queues, permission) = (MessageType::Normal, 1, PERMISSION_READ);
    match create_topic(stage, &CreateTopic { topic, message_type, queues, permission })? {
        Outcome::TopicCreated(topic) => Ok(Some(topic)),
        _ => Ok(None),
    }
}

fn make_group(stage: &mut Stage<'_>, name: &GroupName, retries_max: u32, orderly: bool) -> Result<GroupId, Failure> {
    let group = GroupId(next_id(stage, keys::GROUP_IDS)?);
    let record = GroupRecord { name: name.clone(), retries_max, orderly, created_at: stage.now() };
    stage.put_number(Space::Catalog, keys::group_name(name), group.0.into());
    stage.put(Space::Catalog, keys::group(group), record.encode());
    stage.effects().catalog_changed = true;
    Ok(group)
}

fn next_id(stage: &mut Stage<'_>, counter: &'static [u8]) -> Result<u32, Failure> {
    let id = stage.number(Space::Meta, counter)? + 1;
    stage.put_number(Space::Meta, Bytes::from_static(counter), id);
    Ok(u32::try_from(id).expect("a cluster makes fewer than 2^32 topics and groups"))
}

fn topic_id(stage: &Stage<'_>, name: &TopicName) -> Result<Option<TopicId>, Failure> {
    Ok(stage.get(Space::Catalog, &keys::topic_name(name))?.map(|bytes| TopicId(id(&bytes))))
}

fn group_id(stage: &Stage<'_>, name: &GroupName) -> Result<Option<GroupId>, Failure> {
    Ok(stage.get(Space::Catalog, &keys::group_name(name))?.map(|bytes| GroupId(id(&bytes))))
}

/// An id as stored under a name: a number in eight bytes.
pub(super) fn id(bytes: &[u8]) -> u32 {
    let id = u64::from_be_bytes(bytes.try_into().expect("ids are stored in eight bytes"));
    u32::try_from(id).expect("ids are made below 2^32")
}

/// The group, if it exists.
pub(super) fn group_record(stage: &Stage<'_>, group: GroupId) -> Result<Option<GroupRecord>, Failure> {
    Ok(stage.get(Space::Catalog, &keys::group(group))?.map(GroupRecord::decode).transpose()?)
}

/// The topic, if it still exists.
pub(super) fn topic_record(stage: &Stage<'_>, topic: TopicId) -> Result<Option<TopicRecord>, Failure> {
    Ok(stage.get(Space::Catalog, &keys::topic(topic))?.map(TopicRecord::decode).transpose()?)
}
