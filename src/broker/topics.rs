//! Topics and consumer groups above the log: looking them up, making and deleting them, and giving a
//! group its position. After: `machine/catalog`.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{Broker, Deadline, Error};
use crate::machine::catalog::{GroupRecord, TopicRecord};
use crate::machine::command::{CreateGroup, CreateTopic, Subscribe};
use crate::machine::send::{PERMISSION_READ, PERMISSION_WRITE};
use crate::machine::{Command, Outcome, Rejected};
use crate::model::limits::{GROUP_RETRIES_DEFAULT, TOPIC_QUEUES_MAX};
use crate::model::{GroupId, GroupName, MessageType, Timestamp, TopicId, TopicName};

/// A topic as requests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Identity.
    pub id: TopicId,
    /// Name.
    pub name: TopicName,
    /// The only type it takes.
    pub message_type: MessageType,
    /// Number of queues.
    pub queues: u32,
    /// 2 write, 4 read.
    pub permission: u8,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A consumer group as requests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Identity.
    pub id: GroupId,
    /// Name.
    pub name: GroupName,
    /// Deliveries after the first.
    pub retries_max: u32,
    /// FIFO order inside each message group.
    pub orderly: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl TopicView {
    pub(super) fn of(id: TopicId, record: TopicRecord) -> Self {
        Self {
            id,
            name: record.name,
            message_type: record.message_type,
            queues: record.queues,
            permission: record.permission,
            created_at: record.created_at,
        }
    }
}

impl GroupView {
    pub(super) fn of(id: GroupId, record: GroupRecord) -> Self {
        Self {
            id,
            name: record.name,
            retries_max: record.retries_max,
            orderly: record.orderly,
            created_at: record.created_at,
        }
    }
}

impl Broker {
    /// The topic, if this node's applied state has it.
    pub fn topic(&self, name: &TopicName) -> Result<Option<TopicView>, Error> {
        Ok(self.replica.view().topic(name)?.map(|(id, record)| TopicView::of(id, record)))
    }

    /// The topic, also if it was made a moment ago through another node.
    pub async fn find_topic(&self, name: &TopicName, deadline: Deadline) -> Result<TopicView, Error> {
        let (id, record) = self.existing_topic(name, self.held_until(deadline)).await?;
        Ok(TopicView::of(id, record))
    }

    /// The group, if this node's applied state has it.
    pub fn group(&self, name: &GroupName) -> Result<Option<GroupView>, Error> {
        Ok(self.replica.view().group(name)?.map(|(id, record)| GroupView::of(id, record)))
    }

    pub(super) async fn existing_topic(
        &self,
        name: &TopicName,
        until: Instant,
    ) -> Result<(TopicId, TopicRecord), Error> {
        if let Some(found) = self.replica.view().topic(name)? {
            return Ok(found);
        }
        self.see_what_was_answered(until).await?;
        if let Some(found) = self.replica.view().topic(name)? {
            return Ok(found);
        }
        if let Some(group) = name.dead_letter_group()
            && self.group(&group)?.is_some()
        {
            self.make_dead_letter_topic(name, until).await?;
        }
        self.replica.view().topic(name)?.ok_or_else(|| Error::TopicNotFound(name.clone()))
    }

    /// The dead letters of a group can be read before there are any.
    async fn make_dead_letter_topic(&self, name: &TopicName, until: Instant) -> Result<(), Error> {
        let (message_type, queues, permission) = (MessageType::Normal, 1, PERMISSION_READ);
        let command = Command::CreateTopic(CreateTopic { topic: name.clone(), message_type, queues, permission });
        match self.propose_repeatable(&command, until).await? {
            (index, Outcome::TopicCreated(_) | Outcome::Rejected(Rejected::TopicExists)) => {
                self.caught_up(index, until).await;
                Ok(())
            }
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    pub(super) async fn existing_group(&self, name: &GroupName, until: Instant) -> Result<GroupView, Error> {
        if let Some(found) = self.group(name)? {
            return Ok(found);
        }
        self.see_what_was_answered(until).await?;
        self.group(name)?.ok_or_else(|| Error::GroupNotFound(name.clone()))
    }

    /// Makes a topic.
    pub async fn create_topic(
        &self,
        name: TopicName,
        message_type: MessageType,
        queues: Option<u32>,
    ) -> Result<TopicView, Error> {
        if !matches!(
            message_type,
            MessageType::Normal | MessageType::Fifo | MessageType::Delay | MessageType::Transaction
        ) {
            let name = message_type.name();
            let text = format!("topics of type {name} are not served yet; use NORMAL, FIFO, DELAY or TRANSACTION");
            return Err(Error::Invalid(text));
        }
        let queues = queues.unwrap_or(self.settings.topic_queues);
        if !(1..=TOPIC_QUEUES_MAX).contains(&queues) {
            return Err(Error::Invalid(format!("{queues} queues are not between 1 and {TOPIC_QUEUES_MAX}")));
        }
        let permission = PERMISSION_READ | PERMISSION_WRITE;
        let command = Command::CreateTopic(CreateTopic { topic: name.clone(), message_type, queues, permission });
        let until = self.held_until(Deadline::NONE);
        match self.propose(&command, until).await? {
            (index, Outcome::TopicCreated(_)) => {
                self.caught_up(index, until).await;
                self.find_topic(&name, Deadline::NONE).await
            }
            (_, Outcome::Rejected(rejected)) => Err(Error::of_topic(rejected, &name, message_type)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Ends a topic and everything stored for it.
    pub async fn delete_topic(&self, name: TopicName) -> Result<(), Error> {
        let command = Command::DeleteTopic { topic: name.clone() };
        let until = self.held_until(Deadline::NONE);
        match self.propose(&command, until).await? {
            (index, Outcome::Done) => {
                self.caught_up(index, until).await;
                Ok(())
            }
            (_, Outcome::Rejected(rejected)) => Err(Error::of_topic(rejected, &name, MessageType::Normal)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Makes a consumer group.
    pub async fn create_group(
        &self,
        name: GroupName,
        retries_max: Option<u32>,
        orderly: bool,
    ) -> Result<GroupView, Error> {
        let retries_max = retries_max.unwrap_or(GROUP_RETRIES_DEFAULT);
        let command = Command::CreateGroup(CreateGroup { group: name.clone(), retries_max, orderly });
        let until = self.held_until(Deadline::NONE);
        match self.propose(&command, until).await? {
            (index, Outcome::GroupCreated(_)) => {
                self.caught_up(index, until).await;
                self.existing_group(&name, until).await
            }
            (_, Outcome::Rejected(Rejected::GroupExists)) => Err(Error::GroupExists(name)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Gives the group a position in those of the topics that exist, making the group if it may.
    pub async fn subscribe(&self, group: GroupName, topics: &[TopicName], deadline: Deadline) -> Result<(), Error> {
        self.subscribe_until(group, topics, self.held_until(deadline)).await
    }

    pub(super) async fn subscribe_until(
        &self,
        group: GroupName,
        topics: &[TopicName],
        until: Instant,
    ) -> Result<(), Error> {
        let Some(topics) = self.not_subscribed(&group, topics)? else { return Ok(()) };
        let create = self.settings.creates_groups.then_some(GROUP_RETRIES_DEFAULT);
        let command = Command::Subscribe(Subscribe { group: group.clone(), topics, create });
        match self.propose_repeatable(&command, until).await? {
            (index, Outcome::GroupCreated(_)) => {
                self.caught_up(index, until).await;
                Ok(())
            }
            (_, Outcome::Rejected(Rejected::GroupNotFound)) => Err(Error::GroupNotFound(group)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// The topics in which the group has no position yet; `None` if there is nothing to do.
    fn not_subscribed(&self, group: &GroupName, topics: &[TopicName]) -> Result<Option<Vec<TopicName>>, Error> {
        let view = self.replica.view();
        let group = view.group(group)?.map(|(group, _)| group);
        let mut missing = BTreeSet::new();
        for name in topics {
            let Some((topic, _)) = view.topic(name)? else { continue };
            let is_subscribed = match group {
                Some(group) => view.is_subscribed(topic, group)?,
                None => false,
            };
            if !is_subscribed {
                missing.insert(name.clone());
            }
        }
        let nothing_to_do = group.is_some() && missing.is_empty();
        Ok((!nothing_to_do).then(|| missing.into_iter().collect()))
    }
}
