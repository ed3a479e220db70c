//! Topics, consumer groups and subscriptions as stored. A name leads to an id, an id to the record.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{GroupId, GroupName, GroupSettings, Millis, Permission, Timestamp, TopicId, TopicName, TopicType};
use crate::store::kv::Space;

const VERSION: u8 = 1;
/// Of a topic with a retention of its own.
const VERSION_KEPT: u8 = 2;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    pub name: TopicName,
    /// Which messages it takes.
    pub topic_type: TopicType,
    /// Number of queues, at least 1.
    pub queues: u32,
    pub permission: Permission,
    pub created_at: Timestamp,
    /// How long its messages are kept; `None` for as long as the log.
    pub retention: Option<Millis>,
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    pub name: GroupName,
    pub settings: GroupSettings,
    /// Whether it consumes in order; from FIFO topics every group does.
    pub orderly: bool,
    pub created_at: Timestamp,
}

impl TopicRecord {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(if self.retention.is_some() { VERSION_KEPT } else { VERSION });
        out.put_text(self.name.as_str());
        out.put_u8(self.topic_type.to_u8());
        out.put_u32(self.queues);
        out.put_u8(self.permission.0);
        out.put_u64(self.created_at.0);
        if let Some(retention) = self.retention {
            out.put_u64(retention.0);
        }
        out.freeze()
    }

    pub(in crate::machine) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "topic record");
        let version = reader.u8()?;
        if !(VERSION..=VERSION_KEPT).contains(&version) {
            return Err(reader.unknown(version.into()));
        }
        let name = TopicName::stored(&reader.text()?);
        let topic_type = reader.u8()?;
        Ok(Self {
            name,
            topic_type: TopicType::from_u8(topic_type).ok_or_else(|| reader.unknown(topic_type.into()))?,
            queues: reader.u32()?,
            permission: Permission(reader.u8()?),
            created_at: Timestamp(reader.u64()?),
            retention: if version == VERSION_KEPT { Some(Millis(reader.u64()?)) } else { None },
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

    pub(in crate::machine) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "group record", VERSION)?;
        Ok(Self {
            name: GroupName::stored(&reader.text()?),
            orderly: reader.bool()?,
            created_at: Timestamp(reader.u64()?),
            settings: GroupSettings::decode(&mut reader)?,
        })
    }
}

/// The id of the topic of that name.
pub(in crate::machine) fn topic_id(stage: &Stage<'_>, name: &TopicName) -> Result<Option<TopicId>, Failure> {
    Ok(stage.get(Space::Catalog, &keys::topic_name(name))?.map(|bytes| TopicId(id(&bytes))))
}

/// The topic; `None` once it is deleted.
pub(in crate::machine) fn topic(stage: &Stage<'_>, topic: TopicId) -> Result<Option<TopicRecord>, Failure> {
    Ok(stage.get(Space::Catalog, &keys::topic(topic))?.map(TopicRecord::decode).transpose()?)
}

/// Stores a new or changed topic.
pub(in crate::machine) fn put_topic(stage: &mut Stage<'_>, topic: TopicId, record: &TopicRecord) {
    stage.put(Space::Catalog, keys::topic(topic), record.encode());
    stage.effects().catalog_changed = true;
}

/// The ids of all topics, ascending.
pub(in crate::machine) fn topic_ids(stage: &Stage<'_>) -> Result<Vec<TopicId>, Failure> {
    topic_ids_from(stage, &keys::all_topics(), usize::MAX)
}

/// The first of them from a key on.
pub(in crate::machine) fn topic_ids_from(
    stage: &Stage<'_>,
    from: &[u8],
    limit: usize,
) -> Result<Vec<TopicId>, Failure> {
    let found = stage.scan(Space::Catalog, from, &keys::after_prefix(&keys::all_topics()), limit)?;
    let id = |key: Bytes| Ok(TopicId(Reader::new(key.slice(1..), "topic key").u32()?));
    found.into_iter().map(|(key, _)| id(key)).collect()
}

/// The id of the group of that name.
pub(in crate::machine) fn group_id(stage: &Stage<'_>, name: &GroupName) -> Result<Option<GroupId>, Failure> {
    Ok(stage.get(Space::Catalog, &keys::group_name(name))?.map(|bytes| GroupId(id(&bytes))))
}

/// The group; `None` once it is deleted.
pub(in crate::machine) fn group(stage: &Stage<'_>, group: GroupId) -> Result<Option<GroupRecord>, Failure> {
    Ok(stage.get(Space::Catalog, &keys::group(group))?.map(GroupRecord::decode).transpose()?)
}

/// Stores a new or changed group.
pub(in crate::machine) fn put_group(stage: &mut Stage<'_>, group: GroupId, record: &GroupRecord) {
    stage.put(Space::Catalog, keys::group(group), record.encode());
    stage.effects().catalog_changed = true;
}

/// Whether the group has group offsets in the topic.
pub(in crate::machine) fn is_subscribed(stage: &Stage<'_>, topic: TopicId, group: GroupId) -> Result<bool, Failure> {
    Ok(stage.get(Space::Catalog, &keys::subscription(topic, group))?.is_some())
}

/// Counts an id of `counter`, which is [`keys::TOPIC_IDS`] or [`keys::GROUP_IDS`].
pub(in crate::machine) fn next_id(stage: &mut Stage<'_>, counter: &'static [u8]) -> Result<u32, Failure> {
    let id = stage.number(Space::Meta, counter)? + 1;
    stage.put_number(Space::Meta, Bytes::from_static(counter), id);
    Ok(u32::try_from(id).expect("a cluster makes fewer than 2^32 topics and groups"))
}

/// An id as stored under a name: a number in eight bytes.
pub(super) fn id(bytes: &[u8]) -> u32 {
    let id = u64::from_be_bytes(bytes.try_into().expect("ids are stored in eight bytes"));
    u32::try_from(id).expect("ids are made below 2^32")
}
