//! Topics and consumer groups: making, changing, deleting, and giving a group its position in a topic.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::Failure;
use crate::machine::command::{CreateGroup, CreateTopic, Subscribe, UpdateGroup, UpdateTopic};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::keys;
use crate::machine::state::queue;
use crate::machine::state::queue::QueueHead;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{
    ConsumeFrom, GroupId, GroupName, GroupSettings, MessageType, Permission, QueueId, QueueOffset, Timestamp, TopicId,
    TopicName, TopicType,
};
use crate::store::kv::Space;

const VERSION: u8 = 1;

/// A topic as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// Name.
    pub name: TopicName,
    /// What it takes.
    pub topic_type: TopicType,
    /// Number of queues.
    pub queues: u32,
    pub permission: Permission,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A consumer group as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Name.
    pub name: GroupName,
    /// What can be changed.
    pub settings: GroupSettings,
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
        out.put_u8(self.topic_type.to_u8());
        out.put_u32(self.queues);
        out.put_u8(self.permission.0);
        out.put_u64(self.created_at.0);
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "topic record", VERSION)?;
        let name = TopicName::stored(&reader.text()?);
        let topic_type = reader.u8()?;
        Ok(Self {
            name,
            topic_type: TopicType::from_u8(topic_type).ok_or_else(|| reader.unknown(topic_type.into()))?,
            queues: reader.u32()?,
            permission: Permission(reader.u8()?),
            created_at: Timestamp(reader.u64()?),
        })
    }
}

impl GroupRecord {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_text(self.name.as_str());
        out.put_u8(self.orderly.into());
        out.put_u64(self.created_at.0);
        self.settings.encode(&mut out);
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "group record", VERSION)?;
        Ok(Self {
            name: GroupName::stored(&reader.text()?),
            orderly: reader.bool()?,
            created_at: Timestamp(reader.u64()?),
            settings: GroupSettings::decode(&mut reader)?,
        })
    }
}

pub(super) fn create_topic(stage: &mut Stage<'_>, create: &CreateTopic) -> Result<Outcome, Failure> {
    if stage.get(Space::Catalog, &keys::topic_name(&create.topic))?.is_some() {
        return Ok(Outcome::Rejected(Rejected::TopicExists));
    }
    let topic = TopicId(next_id(stage, keys::TOPIC_IDS)?);
    let record = TopicRecord {
        name: create.topic.clone(),
        topic_type: create.topic_type,
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

/// Changes what is given. A change that would break order or lose what waits is refused.
pub(super) fn update_topic(stage: &mut Stage<'_>, update: &UpdateTopic) -> Result<Outcome, Failure> {
    let refused = |rejected| Ok(Outcome::Rejected(rejected));
    let Some(topic) = topic_id(stage, &update.topic)? else { return refused(Rejected::TopicNotFound) };
    let Some(mut record) = topic_record(stage, topic)? else { return refused(Rejected::TopicNotFound) };
    if let Some(new) = update.topic_type.filter(|new| *new != record.topic_type) {
        // Lines of message groups, and queues by priority, belong to the type.
        if [record.topic_type, new].iter().any(|of| of.is_fifo() || of.is_priority()) {
            return refused(Rejected::TypeIsFixed);
        }
        record.topic_type = new;
    }
    let before = record.queues;
    if let Some(queues) = update.queues.filter(|queues| *queues != before) {
        if queues < before || record.topic_type.is_fifo() {
            return refused(Rejected::QueuesAreFixed);
        }
        record.queues = queues;
    }
    record.permission = update.permission.unwrap_or(record.permission);
    stage.put(Space::Catalog, keys::topic(topic), record.encode());
    for queue in before..record.queues {
        queue::put_head(stage, topic, QueueId(queue), &QueueHead::default());
    }
    stage.effects().catalog_changed = true;
    Ok(Outcome::Done)
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
    make_group(stage, &create.group, create.settings.clone(), create.orderly).map(Outcome::GroupCreated)
}

/// Changes what is given.
pub(super) fn update_group(stage: &mut Stage<'_>, update: &UpdateGroup) -> Result<Outcome, Failure> {
    let refused = Ok(Outcome::Rejected(Rejected::GroupNotFound));
    let Some(group) = group_id(stage, &update.group)? else { return refused };
    let Some(mut record) = group_record(stage, group)? else { return refused };
    let settings = &mut record.settings;
    settings.retries_max = update.retries_max.unwrap_or(settings.retries_max);
    settings.consume_from = update.consume_from.unwrap_or(settings.consume_from);
    if let Some(backoff) = &update.backoff {
        settings.backoff.clone_from(backoff);
    }
    if let Some(filter) = &update.filter {
        settings.filter = Some(filter.clone()).filter(|filter| !filter.is_empty());
    }
    stage.put(Space::Catalog, keys::group(group), record.encode());
    stage.effects().catalog_changed = true;
    Ok(Outcome::Done)
}

/// The name is free at once; positions and leases are swept in bounded steps by `tick`. Its dead letters stay.
pub(super) fn delete_group(stage: &mut Stage<'_>, name: &GroupName) -> Result<Outcome, Failure> {
    let Some(group) = group_id(stage, name)? else { return Ok(Outcome::Rejected(Rejected::GroupNotFound)) };
    stage.delete(Space::Catalog, keys::group_name(name));
    stage.delete(Space::Catalog, keys::group(group));
    let now = stage.now();
    let all = keys::all_topics();
    for (key, _) in stage.scan(Space::Catalog, &all, &keys::after_prefix(&all), usize::MAX)? {
        let topic = TopicId(Reader::new(key.slice(1..), "topic key").u32()?);
        let subscription = keys::subscription(topic, group);
        if stage.get(Space::Catalog, &subscription)?.is_some() {
            stage.delete(Space::Catalog, subscription);
            stage.put_due(now, keys::due_sweep_group(now, topic, group));
        }
    }
    stage.effects().catalog_changed = true;
    Ok(Outcome::Done)
}

/// Makes the group if it is missing and may be made, and gives it a position in each topic where it
/// has none: where the group is to start, by itself at the first message of a queue that never lost one, else
/// at the queue's end.
///
/// * Source: contract §17, contract §26: a late group on a young topic gets everything from offset 0.
pub(super) fn subscribe(stage: &mut Stage<'_>, subscribe: &Subscribe) -> Result<Outcome, Failure> {
    let group = match (group_id(stage, &subscribe.group)?, subscribe.create) {
        (Some(group), _) => group,
        (None, Some(retries_max)) => make_group(stage, &subscribe.group, GroupSettings::standard(retries_max), false)?,
        (None, None) => return Ok(Outcome::Rejected(Rejected::GroupNotFound)),
    };
    let consume_from = group_record(stage, group)?.map_or(ConsumeFrom::Standard, |group| group.settings.consume_from);
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
            let from = start(stage, topic, queue, &head, consume_from)?;
            stage.put_number(Space::Cursor, keys::cursor(topic, group, queue), from.0);
        }
        stage.effects().catalog_changed = true;
    }
    Ok(Outcome::GroupCreated(group))
}

fn start(
    stage: &Stage<'_>,
    topic: TopicId,
    queue: QueueId,
    head: &QueueHead,
    from: ConsumeFrom,
) -> Result<QueueOffset, Failure> {
    match from {
        ConsumeFrom::Standard if head.min.0 != 0 => Ok(head.max),
        ConsumeFrom::Standard | ConsumeFrom::First => Ok(head.min),
        ConsumeFrom::Last => Ok(head.max),
        ConsumeFrom::At(at) => queue::first_stored_at(head, at, |offset| queue::run_of(stage, topic, queue, offset)),
    }
}

/// The topic of a group's dead letters, made if it is missing; `None` if there is no such group.
pub(super) fn dead_letter_topic(stage: &mut Stage<'_>, group: GroupId) -> Result<Option<TopicId>, Failure> {
    let Some(record) = group_record(stage, group)? else { return Ok(None) };
    let topic = TopicName::dead_letters_of(&record.name);
    if let Some(topic) = topic_id(stage, &topic)? {
        return Ok(Some(topic));
    }
    let (topic_type, queues, permission) = (TopicType::Only(MessageType::Normal), 1, Permission::READ);
    match create_topic(stage, &CreateTopic { topic, topic_type, queues, permission })? {
        Outcome::TopicCreated(topic) => Ok(Some(topic)),
        _ => Ok(None),
    }
}

fn make_group(
    stage: &mut Stage<'_>,
    name: &GroupName,
    settings: GroupSettings,
    orderly: bool,
) -> Result<GroupId, Failure> {
    let group = GroupId(next_id(stage, keys::GROUP_IDS)?);
    let record = GroupRecord { name: name.clone(), settings, orderly, created_at: stage.now() };
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
