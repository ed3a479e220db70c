//! Topics and consumer groups above the log: looking them up, making and deleting them, and giving a
//! group its position. After: `machine/catalog`.

use super::{Broker, Error};
use crate::machine::catalog::TopicRecord;
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

impl Broker {
    /// The topic, if this node's applied state has it.
    pub fn topic(&self, name: &TopicName) -> Result<Option<TopicView>, Error> {
        Ok(self.replica.view().topic(name)?.map(|(id, record)| TopicView::of(id, record)))
    }

    /// The topic, also if it was made a moment ago through another node.
    pub async fn find_topic(&self, name: &TopicName) -> Result<TopicView, Error> {
        let (id, record) = self.existing_topic(name).await?;
        Ok(TopicView::of(id, record))
    }

    /// The group, if this node's applied state has it.
    pub fn group(&self, name: &GroupName) -> Result<Option<GroupView>, Error> {
        Ok(self.replica.view().group(name)?.map(|(id, record)| GroupView {
            id,
            name: record.name,
            retries_max: record.retries_max,
            orderly: false,
            created_at: record.created_at,
        }))
    }

    pub(super) async fn existing_topic(&self, name: &TopicName) -> Result<(TopicId, TopicRecord), Error> {
        if let Some(found) = self.replica.view().topic(name)? {
            return Ok(found);
        }
        self.see_what_the_leader_saw().await;
        self.replica.view().topic(name)?.ok_or_else(|| Error::TopicNotFound(name.clone()))
    }

    pub(super) async fn existing_group(&self, name: &GroupName) -> Result<GroupView, Error> {
        if let Some(found) = self.group(name)? {
            return Ok(found);
        }
        self.see_what_the_leader_saw().await;
        self.group(name)?.ok_or_else(|| Error::GroupNotFound(name.clone()))
    }

    /// Before this node says that something is missing it catches up with what the leader has committed:
    /// a topic made through another node a moment ago is then there (P14).
    async fn see_what_the_leader_saw(&self) {
        let leadership = *self.replica.leadership().borrow();
        let Some(leader) = leadership.leader.filter(|_| !leadership.is_self) else { return };
        if let Some(status) = self.replica.status_of(leader).await {
            self.caught_up(status.committed, self.settings.leader_wait).await;
        }
    }

    /// Makes a topic.
    pub async fn create_topic(
        &self,
        name: TopicName,
        message_type: MessageType,
        queues: Option<u32>,
    ) -> Result<TopicView, Error> {
        if message_type != MessageType::Normal {
            let name = message_type.name();
            return Err(Error::Invalid(format!("topics of type {name} are not served yet; use type NORMAL")));
        }
        let queues = queues.unwrap_or(self.settings.topic_queues);
        if !(1..=TOPIC_QUEUES_MAX).contains(&queues) {
            return Err(Error::Invalid(format!("{queues} queues are not between 1 and {TOPIC_QUEUES_MAX}")));
        }
        let permission = PERMISSION_READ | PERMISSION_WRITE;
        let command = Command::CreateTopic(CreateTopic { topic: name.clone(), message_type, queues, permission });
        let wait = self.settings.leader_wait;
        match self.propose(&command, wait).await? {
            (index, Outcome::TopicCreated(_)) => {
                self.caught_up(index, wait).await;
                self.find_topic(&name).await
            }
            (_, Outcome::Rejected(rejected)) => Err(Error::of_topic(rejected, &name, message_type)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Ends a topic and everything stored for it.
    pub async fn delete_topic(&self, name: TopicName) -> Result<(), Error> {
        let command = Command::DeleteTopic { topic: name.clone() };
        let wait = self.settings.leader_wait;
        match self.propose(&command, wait).await? {
            (index, Outcome::Done) => {
                self.caught_up(index, wait).await;
                Ok(())
            }
            (_, Outcome::Rejected(rejected)) => Err(Error::of_topic(rejected, &name, MessageType::Normal)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Makes a consumer group.
    pub async fn create_group(&self, name: GroupName, retries_max: Option<u32>) -> Result<GroupView, Error> {
        let retries_max = retries_max.unwrap_or(GROUP_RETRIES_DEFAULT);
        let command = Command::CreateGroup(CreateGroup { group: name.clone(), retries_max });
        let wait = self.settings.leader_wait;
        match self.propose(&command, wait).await? {
            (index, Outcome::GroupCreated(_)) => {
                self.caught_up(index, wait).await;
                self.existing_group(&name).await
            }
            (_, Outcome::Rejected(Rejected::GroupExists)) => Err(Error::GroupExists(name)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Gives the group a position in those of the topics that exist, making the group if it may.
    pub async fn subscribe(&self, group: GroupName, topics: Vec<TopicName>) -> Result<(), Error> {
        if self.is_subscribed(&group, &topics)? {
            return Ok(());
        }
        let create = self.settings.creates_groups.then_some(GROUP_RETRIES_DEFAULT);
        let command = Command::Subscribe(Subscribe { group: group.clone(), topics, create });
        let wait = self.settings.leader_wait;
        match self.propose_repeatable(&command, wait).await? {
            (index, Outcome::GroupCreated(_)) => {
                self.caught_up(index, wait).await;
                Ok(())
            }
            (_, Outcome::Rejected(Rejected::GroupNotFound)) => Err(Error::GroupNotFound(group)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    fn is_subscribed(&self, group: &GroupName, topics: &[TopicName]) -> Result<bool, Error> {
        let view = self.replica.view();
        let Some((group, _)) = view.group(group)? else { return Ok(false) };
        for topic in topics {
            if let Some((topic, _)) = view.topic(topic)?
                && !view.is_subscribed(topic, group)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
