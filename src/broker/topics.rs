//! Topics and consumer groups above the log: looking them up, making, changing and deleting them, and giving a group its
//! offsets. After: `machine/topics`.
//!
//! Errors of all: [`Error::TimedOut`] is an unknown fate, or something that was done and cannot be read back in time. Every
//! other one is definite. "There is no such topic" (or group) is said only after a read barrier (P14).

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::broker::{ActWords, Broker, Deadline, Error, Operator};
use crate::machine::command::{CreateGroup, CreateTopic, Subscribe, UpdateGroup, UpdateTopic};
use crate::machine::state::catalog::{GroupRecord, TopicRecord};
use crate::machine::state::stage::DEFERRABLE_KEYS_MAX;
use crate::machine::{CatalogSize, Command, Outcome, Rejected};
use crate::model::limits::{GROUP_RETRIES_DEFAULT, GROUP_RETRIES_MAX, KEPT_MAX, KEPT_MIN};
use crate::model::{
    ConsumeFrom, GroupId, GroupName, GroupSettings, LogIndex, MessageType, Millis, Permission, ReceiptHandle,
    Timestamp, TopicId, TopicName, TopicType,
};

/// Queues in which one command gives a group its first offsets: an entry has room for no more.
const SUBSCRIBED_QUEUES_MAX: usize = DEFERRABLE_KEYS_MAX;

/// A topic as requests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    pub id: TopicId,
    pub name: TopicName,
    /// Which messages it takes.
    pub topic_type: TopicType,
    /// Their count.
    pub queues: u32,
    pub permission: Permission,
    pub created_at: Timestamp,
    /// How long its messages are kept; `None` for as long as the log.
    pub retention: Option<Millis>,
}

/// A consumer group as requests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    pub id: GroupId,
    pub name: GroupName,
    /// What can be changed.
    pub settings: GroupSettings,
    /// FIFO order inside each message group.
    pub orderly: bool,
    pub created_at: Timestamp,
}

impl TopicView {
    pub(super) fn of(id: TopicId, record: TopicRecord) -> Self {
        Self {
            id,
            name: record.name,
            topic_type: record.topic_type,
            queues: record.queues,
            permission: record.permission,
            created_at: record.created_at,
            retention: record.retention,
        }
    }
}

impl GroupView {
    pub(super) fn of(id: GroupId, record: GroupRecord) -> Self {
        Self {
            id,
            name: record.name,
            settings: record.settings,
            orderly: record.orderly,
            created_at: record.created_at,
        }
    }
}

impl Broker {
    /// Refuses so many more of each if that would go past a cap. What was deleted through another node counts no more (D77).
    async fn check_caps(&self, more: CatalogSize, until: Instant) -> Result<(), Error> {
        if self.catalog_count.check(more, &self.settings.caps).is_ok() {
            return Ok(());
        }
        Box::pin(self.reader.read_barrier(until)).await?;
        self.catalog_count.check(more, &self.settings.caps)
    }

    /// Refuses no queues, and too many.
    pub(super) fn check_queues(&self, queues: u32) -> Result<(), Error> {
        let most = self.settings.caps.topic_queues;
        if (1..=most).contains(&queues) {
            return Ok(());
        }
        Err(Error::Invalid(format!("{queues} queues are not between 1 and topicQueuesMax={most}")))
    }

    /// All topics that this node has applied.
    pub fn topics(&self) -> Result<Vec<TopicView>, Error> {
        let topics = self.reader.view().topics()?;
        Ok(topics.into_iter().map(|(id, record)| TopicView::of(id, record)).collect())
    }

    /// The topic, also if it was made a moment ago through another node; that of a group's dead letters is made when it
    /// is looked for.
    ///
    /// * Errors: [`Error::TopicNotFound`].
    pub async fn find_topic(&self, name: &TopicName, deadline: Deadline) -> Result<TopicView, Error> {
        let (id, record) = self.existing_topic(name, self.held_until(deadline)).await?;
        Ok(TopicView::of(id, record))
    }

    /// The topic after a read barrier: no other one of the same name was made before.
    ///
    /// * Errors: [`Error::TopicNotFound`].
    pub async fn find_topic_now(&self, name: &TopicName, deadline: Deadline) -> Result<TopicView, Error> {
        let (id, record) = self.topic_now(name, self.held_until(deadline)).await?;
        Ok(TopicView::of(id, record))
    }

    pub(super) async fn topic_now(&self, name: &TopicName, until: Instant) -> Result<(TopicId, TopicRecord), Error> {
        Box::pin(self.reader.read_barrier(until)).await?;
        self.existing_topic(name, until).await
    }

    /// Why a command was refused whose topic is gone: this node may have looked at one that was deleted and created again.
    pub(super) async fn topic_gone(&self, name: &TopicName, until: Instant) -> Error {
        self.topic_now(name, until).await.map_or_else(|error| error, |_| Error::Behind)
    }

    /// The same for a group.
    pub(super) async fn group_gone(&self, name: &GroupName, until: Instant) -> Error {
        let barrier = Box::pin(self.reader.read_barrier(until)).await;
        match barrier.and_then(|()| self.group(name)) {
            Ok(Some(_)) => Error::Behind,
            Ok(None) => Error::GroupNotFound(name.clone()),
            Err(error) => error,
        }
    }

    /// As [`Self::find_topic`]; with `autoCreateTopicEnable` a missing one is made.
    pub async fn find_or_make_topic(&self, name: &TopicName, deadline: Deadline) -> Result<TopicView, Error> {
        let (id, record) = self.topic_to_send_to(name, self.held_until(deadline)).await?;
        Ok(TopicView::of(id, record))
    }

    /// The topic; a missing one is made with so many queues.
    pub async fn find_or_make_topic_with(
        &self,
        name: &TopicName,
        queues: u32,
        deadline: Deadline,
    ) -> Result<TopicView, Error> {
        let until = self.held_until(deadline);
        let (id, record) = match self.existing_topic(name, until).await {
            Err(Error::TopicNotFound(_)) => {
                self.check_queues(queues)?;
                Box::pin(self.make_topic(name, queues, Permission::READ_WRITE, until)).await?;
                self.existing_topic(name, until).await?
            }
            found => found?,
        };
        Ok(TopicView::of(id, record))
    }

    pub(super) async fn topic_to_send_to(
        &self,
        name: &TopicName,
        until: Instant,
    ) -> Result<(TopicId, TopicRecord), Error> {
        match self.existing_topic(name, until).await {
            Err(Error::TopicNotFound(_)) if self.settings.creates_topics && name.dead_letter_group().is_none() => {
                let permission = Permission::READ_WRITE;
                Box::pin(self.make_topic(name, self.settings.topic_queues, permission, until)).await?;
                self.existing_topic(name, until).await
            }
            found => found,
        }
    }

    /// The group, if this node's applied state has it; no read barrier.
    pub fn group(&self, name: &GroupName) -> Result<Option<GroupView>, Error> {
        Ok(self.reader.view().group(name)?.map(|(id, record)| GroupView::of(id, record)))
    }

    pub(super) async fn existing_topic(
        &self,
        name: &TopicName,
        until: Instant,
    ) -> Result<(TopicId, TopicRecord), Error> {
        if let Some(found) = self.reader.view().topic(name)? {
            return Ok(found);
        }
        // Boxed: what is rarely waited for would make the future of every request four times as large.
        Box::pin(self.reader.read_barrier(until)).await?;
        if let Some(found) = self.reader.view().topic(name)? {
            return Ok(found);
        }
        if let Some(group) = name.dead_letter_group()
            && self.group(&group)?.is_some()
        {
            // The dead letters of a group can be read before there are any.
            Box::pin(self.make_topic(name, 1, Permission::READ, until)).await?;
        }
        self.reader.view().topic(name)?.ok_or_else(|| Error::TopicNotFound(name.clone()))
    }

    /// Makes a topic of plain messages that nobody made on purpose, unless another request was faster.
    async fn make_topic(
        &self,
        name: &TopicName,
        queues: u32,
        permission: Permission,
        until: Instant,
    ) -> Result<(), Error> {
        self.check_caps(CatalogSize { topics: 1, ..CatalogSize::default() }, until).await?;
        let topic_type = TopicType::Only(MessageType::Normal);
        let command =
            Command::CreateTopic(CreateTopic { topic: name.clone(), topic_type, queues, permission, retention: None });
        match self.propose_repeatable(&command, until).await? {
            (index, Outcome::TopicCreated(_) | Outcome::Rejected(Rejected::TopicExists)) => {
                self.reader.caught_up(index, until).await;
                Ok(())
            }
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    pub(super) async fn existing_group(&self, name: &GroupName, until: Instant) -> Result<GroupView, Error> {
        if let Some(found) = self.group(name)? {
            return Ok(found);
        }
        Box::pin(self.reader.read_barrier(until)).await?;
        self.group(name)?.ok_or_else(|| Error::GroupNotFound(name.clone()))
    }

    /// The topic and the group that receipt handles are used with. If a handle is of others, this node may be behind one
    /// that was deleted and created again, so they are looked up anew after a read barrier (P14).
    pub(super) async fn owners_of(
        &self,
        handles: &[ReceiptHandle],
        topic: &TopicName,
        group: &GroupName,
        until: Instant,
    ) -> Result<(TopicId, GroupId), Error> {
        let topic_id = self.existing_topic(topic, until).await?.0;
        let group_id = self.existing_group(group, until).await?.id;
        if handles.iter().all(|handle| handle.topic == topic_id && handle.group == group_id) {
            return Ok((topic_id, group_id));
        }
        Box::pin(self.reader.read_barrier(until)).await?;
        Ok((self.existing_topic(topic, until).await?.0, self.existing_group(group, until).await?.id))
    }

    /// Makes a topic; `queues` counts them, by default `defaultTopicQueueNums`; messages are kept for `retention`, by default
    /// as long as the log.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be made; a retry then hears [`Error::TopicExists`].
    pub async fn create_topic(
        &self,
        by: &Operator,
        name: TopicName,
        topic_type: TopicType,
        queues: Option<u32>,
        retention: Option<Millis>,
    ) -> Result<TopicView, Error> {
        let queues = queues.unwrap_or(self.settings.topic_queues);
        self.check_queues(queues)?;
        check_retention(retention)?;
        if self.reader.view().topic(&name)?.is_none() {
            let until = self.held_until(Deadline::NONE);
            self.check_caps(CatalogSize { topics: 1, ..CatalogSize::default() }, until).await?;
        }
        let permission = Permission::READ_WRITE;
        let command =
            Command::CreateTopic(CreateTopic { topic: name.clone(), topic_type, queues, permission, retention });
        let until = self.held_until(Deadline::NONE);
        let kept = retention.map_or_else(String::new, |kept_for| format!(", kept for {}", kept_for.in_one_unit()));
        let words = ActWords::new("topic-create", &name, format!("{}, {queues} queues{kept}", topic_type.name()));
        match self.propose_act(by, words, command, until).await? {
            (index, Outcome::TopicCreated(_)) => self.read_back_topic(&name, index, until).await,
            (_, Outcome::Rejected(rejected)) => Err(Error::of_topic(rejected, &name, MessageType::Normal)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Changes what is given.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be changed.
    pub async fn update_topic(&self, by: &Operator, update: UpdateTopic) -> Result<TopicView, Error> {
        if let Some(queues) = update.queues {
            self.check_queues(queues)?;
            if queues > 1 && update.topic.dead_letter_group().is_some() {
                let text =
                    "a topic of dead letters has one queue, in which group dlq redrive finds them; it gets no more";
                return Err(Error::Invalid(text.to_owned()));
            }
        }
        // 0 takes it away.
        check_retention(update.retention.filter(|kept_for| *kept_for != Millis(0)))?;
        let name = update.topic.clone();
        let until = self.held_until(Deadline::NONE);
        if name.dead_letter_group().is_some() {
            // It can be changed before there are dead letters.
            self.existing_topic(&name, until).await?;
        }
        // Not tried again when its fate is unknown: a second try could undo what another operator did since.
        let words = ActWords::new("topic-update", &name, changed_topic(&update));
        match self.propose_act(by, words, Command::UpdateTopic(update), until).await? {
            (index, Outcome::Done) => self.read_back_topic(&name, index, until).await,
            (_, Outcome::Rejected(rejected)) => Err(Error::of_topic(rejected, &name, MessageType::Normal)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// The topic after the entry that made or changed it; it may be another one by then, or gone.
    async fn read_back_topic(&self, name: &TopicName, index: LogIndex, until: Instant) -> Result<TopicView, Error> {
        if !self.reader.caught_up(index, until).await {
            return Err(Error::TimedOut);
        }
        let found = self.reader.view().topic(name)?;
        found.map(|(id, record)| TopicView::of(id, record)).ok_or_else(|| Error::TopicNotFound(name.clone()))
    }

    /// The same of a group.
    async fn read_back_group(&self, name: GroupName, index: LogIndex, until: Instant) -> Result<GroupView, Error> {
        if !self.reader.caught_up(index, until).await {
            return Err(Error::TimedOut);
        }
        self.group(&name)?.ok_or(Error::GroupNotFound(name))
    }

    /// Ends a topic and everything stored for it.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be deleted; a retry then hears [`Error::TopicNotFound`].
    pub async fn delete_topic(&self, by: &Operator, name: TopicName) -> Result<(), Error> {
        let command = Command::DeleteTopic { topic: name.clone() };
        let until = self.held_until(Deadline::NONE);
        match self.propose_act(by, ActWords::new("topic-delete", &name, ""), command, until).await? {
            (index, Outcome::Done) => {
                self.reader.caught_up(index, until).await;
                Ok(())
            }
            (_, Outcome::Rejected(rejected)) => Err(Error::of_topic(rejected, &name, MessageType::Normal)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Makes a consumer group.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be made; a retry then hears [`Error::GroupExists`].
    pub async fn create_group(
        &self,
        by: &Operator,
        name: GroupName,
        settings: GroupSettings,
        orderly: bool,
    ) -> Result<GroupView, Error> {
        check_retries(settings.retries_max)?;
        if self.group(&name)?.is_none() {
            let until = self.held_until(Deadline::NONE);
            self.check_caps(CatalogSize { groups: 1, ..CatalogSize::default() }, until).await?;
        }
        let order = if orderly { ", in order" } else { "" };
        let words = ActWords::new("group-create", &name, format!("{} retries{order}", settings.retries_max));
        let command = Command::CreateGroup(CreateGroup { group: name.clone(), orderly, settings });
        let until = self.held_until(Deadline::NONE);
        match self.propose_act(by, words, command, until).await? {
            (index, Outcome::GroupCreated(_)) => self.read_back_group(name, index, until).await,
            (_, Outcome::Rejected(Rejected::GroupExists)) => Err(Error::GroupExists(name)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Changes what is given.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be changed.
    pub async fn update_group(&self, by: &Operator, update: UpdateGroup) -> Result<GroupView, Error> {
        check_retries(update.retries_max.unwrap_or(0))?;
        let name = update.group.clone();
        let until = self.held_until(Deadline::NONE);
        // As an update of a topic.
        let words = ActWords::new("group-update", &name, changed_group(&update));
        match self.propose_act(by, words, Command::UpdateGroup(update), until).await? {
            (index, Outcome::Done) => self.read_back_group(name, index, until).await,
            (_, Outcome::Rejected(Rejected::GroupNotFound)) => Err(Error::GroupNotFound(name)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Ends a group, its offsets, leases and FIFO lines; its dead letters stay.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be deleted; a retry then hears [`Error::GroupNotFound`].
    pub async fn delete_group(&self, by: &Operator, name: GroupName) -> Result<(), Error> {
        let command = Command::DeleteGroup { group: name.clone() };
        let until = self.held_until(Deadline::NONE);
        match self.propose_act(by, ActWords::new("group-delete", &name, ""), command, until).await? {
            (index, Outcome::Done) => {
                self.reader.caught_up(index, until).await;
                Ok(())
            }
            (_, Outcome::Rejected(Rejected::GroupNotFound)) => Err(Error::GroupNotFound(name)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Gives the group offsets in those of the topics that exist, making the group if it may; safe to repeat.
    ///
    /// * Errors: [`Error::GroupNotFound`] without `autoCreateSubscriptionGroup`.
    pub async fn subscribe(&self, group: GroupName, topics: &[TopicName], deadline: Deadline) -> Result<(), Error> {
        self.subscribe_until(group, topics, self.held_until(deadline)).await
    }

    /// Finds a group, or makes it if it may be made at first use; then it begins in topics as `consume_from` says.
    ///
    /// * Errors: [`Error::GroupNotFound`] without `autoCreateSubscriptionGroup`.
    pub async fn find_or_make_group(
        &self,
        name: &GroupName,
        consume_from: ConsumeFrom,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        match self.existing_group(name, until).await {
            Err(Error::GroupNotFound(_)) => {}
            found => return found.map(drop),
        }
        self.subscribe_until(name.clone(), &[], until).await?;
        let update = UpdateGroup {
            group: name.clone(),
            retries_max: None,
            backoff: None,
            consume_from: Some(consume_from),
            filter: None,
        };
        match self.propose_repeatable(&Command::UpdateGroup(update), until).await? {
            (index, Outcome::Done) => {
                self.reader.caught_up(index, until).await;
                Ok(())
            }
            (_, Outcome::Rejected(Rejected::GroupNotFound)) => Err(Error::GroupNotFound(name.clone())),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    pub(super) async fn subscribe_until(
        &self,
        group: GroupName,
        topics: &[TopicName],
        until: Instant,
    ) -> Result<(), Error> {
        let mut is_current = false;
        loop {
            let Some(topics) = self.not_subscribed(&group, topics)? else { return Ok(()) };
            let is_new = self.group(&group)?.is_none() && self.settings.creates_groups;
            let subscriptions = i64::try_from(topics.len()).unwrap_or(i64::MAX);
            let more = CatalogSize { groups: is_new.into(), subscriptions, ..CatalogSize::default() };
            if !is_current && self.catalog_count.check(more, &self.settings.caps).is_err() {
                // Others may have made or deleted some by now.
                Box::pin(self.reader.read_barrier(until)).await?;
                is_current = true;
                continue;
            }
            self.catalog_count.check(more, &self.settings.caps)?;
            let create = self.settings.creates_groups.then_some(GROUP_RETRIES_DEFAULT);
            let command = Command::Subscribe(Subscribe { group: group.clone(), topics, create });
            match self.propose_repeatable(&command, until).await? {
                // An entry may have had no room for all of them.
                (index, Outcome::GroupCreated(_)) if self.reader.caught_up(index, until).await => {}
                (_, Outcome::GroupCreated(_)) => return Err(Error::TimedOut),
                (_, Outcome::Rejected(Rejected::GroupNotFound)) => return Err(Error::GroupNotFound(group)),
                (_, other) => return Err(Error::unexpected(&other)),
            }
        }
    }

    /// Topics in which the group has no offsets yet, as many as one command should subscribe to; `None` if there is nothing
    /// to do.
    fn not_subscribed(&self, group: &GroupName, topics: &[TopicName]) -> Result<Option<Vec<TopicName>>, Error> {
        let view = self.reader.view();
        let group = view.group(group)?.map(|(group, _)| group);
        let mut missing = BTreeSet::new();
        let mut queues = 0;
        for name in topics {
            if queues >= SUBSCRIBED_QUEUES_MAX {
                break;
            }
            let Some((topic, record)) = view.topic(name)? else { continue };
            let is_subscribed = match group {
                Some(group) => view.is_subscribed(topic, group)?,
                None => false,
            };
            if !is_subscribed {
                missing.insert(name.clone());
                queues += record.queues as usize;
            }
        }
        let nothing_to_do = group.is_some() && missing.is_empty();
        Ok((!nothing_to_do).then(|| missing.into_iter().collect()))
    }
}

/// What changes, for the events.
fn changed_topic(update: &UpdateTopic) -> String {
    let changes = [
        update.topic_type.map(|topic_type| format!("type {}", topic_type.name())),
        update.queues.map(|queues| format!("{queues} queues")),
        update.permission.map(|permission| format!("permission {}", permission.0)),
        update.retention.map(|kept_for| match kept_for {
            Millis(0) => "kept as long as the log".to_owned(),
            kept_for => format!("kept for {}", kept_for.in_one_unit()),
        }),
    ];
    changes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn changed_group(update: &UpdateGroup) -> String {
    let from = |from: ConsumeFrom| match from {
        ConsumeFrom::Standard => "consumes from default".to_owned(),
        ConsumeFrom::First => "consumes from first".to_owned(),
        ConsumeFrom::Last => "consumes from last".to_owned(),
        ConsumeFrom::At(at) => format!("consumes from {}", at.utc()),
    };
    let changes = [
        update.retries_max.map(|retries| format!("{retries} retries")),
        update.backoff.as_ref().map(|backoff| format!("backoff {}", backoff.to_text())),
        update.consume_from.map(from),
        update.filter.as_ref().map(|filter| format!("filter '{filter}'")),
    ];
    changes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn check_retention(kept_for: Option<Millis>) -> Result<(), Error> {
    match kept_for {
        Some(kept_for) if !(KEPT_MIN..=KEPT_MAX).contains(&kept_for) => Err(Error::Invalid(format!(
            "a retention of {} is not between {} and {}",
            kept_for.in_one_unit(),
            KEPT_MIN.in_one_unit(),
            KEPT_MAX.in_one_unit()
        ))),
        _ => Ok(()),
    }
}

fn check_retries(retries: u32) -> Result<(), Error> {
    if retries <= GROUP_RETRIES_MAX {
        return Ok(());
    }
    Err(Error::Invalid(format!("{retries} retries are more than {GROUP_RETRIES_MAX}")))
}
