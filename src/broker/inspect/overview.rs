//! Tables for operators: topics with their queues, groups with their offsets and consumers.
//!
//! Read from a snapshot of this node's applied state, so that all rows of a table are of one entry; nothing here is fast or
//! needs to be, and none of it runs on a thread that serves clients (`server/operators_thread`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::broker::settled::{heads_of, settled_in};
use crate::broker::{Error, GroupConsumer, GroupView, Inspector, Subscription, TopicView};
use crate::machine::state::queue::QueueHead;
use crate::machine::state::view::View;
use crate::model::{GroupId, GroupName, NodeId, QueueId, QueueOffset, TagFilter, Timestamp, TopicId, TopicName};

/// Clients that are named for one queue.
const CLIENTS_SHOWN: usize = 8;
/// Rows between two turns of others.
const ROWS_AT_ONCE: usize = 16;

/// A topic with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    pub view: TopicView,
    /// Messages ever stored.
    pub messages: u64,
    /// Groups with offsets in it.
    pub groups: u32,
    /// Largest lag of any group; `None` without groups.
    pub lag_max: Option<u64>,
}

/// Both ends of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSummary {
    pub queue: QueueId,
    /// The first that can be read.
    pub min: QueueOffset,
    /// That of the next message.
    pub max: QueueOffset,
    /// When the last message was stored.
    pub last_stored_at: Option<Timestamp>,
    /// When the first that can be read was stored.
    pub oldest_stored_at: Option<Timestamp>,
}

/// A group in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub group: GroupName,
    pub topic: TopicName,
    pub queue: QueueId,
    /// That of the queue's next message.
    pub max: QueueOffset,
    /// Everything below is settled.
    pub group_offset: QueueOffset,
    /// Leased and not yet settled.
    pub in_flight: u64,
    /// Not yet settled.
    pub lag: u64,
    /// What retention and trims took before the group had consumed it.
    pub lost: u64,
    /// When the last message below the group offset was stored.
    pub last_consumed_at: Option<Timestamp>,
    /// Clients for which leases of messages at work are renewed.
    pub clients: Vec<String>,
    /// Most deliveries of a message that is at work or returns; and the first of those messages.
    pub attempts_max: u32,
    pub attempts_offset: Option<QueueOffset>,
}

/// Some of what there is, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamePage {
    /// Whose names contain this.
    pub contains: String,
    pub skip: usize,
    /// 0: all.
    pub limit: usize,
}

impl NamePage {
    /// These rows of all, sorted; and how many have the text in their names.
    fn of<Row>(&self, mut rows: Vec<Row>, name: impl Fn(&Row) -> &str) -> (Vec<Row>, usize) {
        rows.retain(|row| name(row).contains(&self.contains));
        rows.sort_by(|a, b| name(a).cmp(name(b)));
        let total = rows.len();
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        (rows.into_iter().skip(self.skip).take(limit).collect(), total)
    }
}

/// A group with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    pub view: GroupView,
    /// Topics it has offsets in.
    pub topics: u32,
    /// Leased and not yet settled.
    pub in_flight: u64,
    /// Not yet settled.
    pub lag: u64,
    /// Consumers, as the nodes that answer see them.
    pub consumers: u32,
    /// Of the lag, what was delivered before and waits for its next delivery.
    pub returning: u64,
    /// Dead letters not redriven.
    pub dead: u64,
    /// When the oldest message that is not settled was stored.
    pub oldest_unsettled_at: Option<Timestamp>,
}

/// A group with everything that the nodes know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub summary: GroupSummary,
    pub positions: Vec<Position>,
    /// Each with the node that saw it last.
    pub consumers: Vec<(NodeId, GroupConsumer)>,
    /// Where its consumers want different messages of a topic.
    pub inconsistencies: Vec<String>,
}

impl Inspector {
    /// Topics by name, and how many there are in all.
    pub async fn list_topics(&self, page: &NamePage) -> Result<(Vec<TopicSummary>, usize), Error> {
        self.read_barrier().await?;
        let snapshot = self.reader.snapshot()?;
        let view = View::new(&*snapshot);
        let (asked, total) = page.of(view.topics()?, |(_, record)| record.name.as_str());
        let mut topics = Vec::new();
        for (id, record) in asked {
            topics.push(self.summary(view, TopicView::of(id, record))?);
            yield_after(topics.len()).await;
        }
        Ok((topics, total))
    }

    /// One topic with its queues and its groups.
    ///
    /// * Errors: [`Error::TopicNotFound`].
    pub async fn describe_topic(
        &self,
        name: &TopicName,
    ) -> Result<(TopicSummary, Vec<QueueSummary>, Vec<Position>), Error> {
        self.read_barrier().await?;
        let snapshot = self.reader.snapshot()?;
        let view = View::new(&*snapshot);
        let (id, record) = view.topic(name)?.ok_or_else(|| Error::TopicNotFound(name.clone()))?;
        let topic = TopicView::of(id, record);
        let mut queues = queues(view, topic.id, topic.queues)?;
        for queue in &mut queues {
            queue.last_stored_at = queue.last_stored_at.map(|at| self.reader.wall_of(at));
            queue.oldest_stored_at = queue.oldest_stored_at.map(|at| self.reader.wall_of(at));
        }
        let groups = view.groups()?;
        let mut positions = Vec::new();
        for group in view.subscribed_groups(topic.id)? {
            let Some((_, record)) = groups.iter().find(|(id, _)| *id == group) else { continue };
            positions.extend(self.positions_of(view, (group, &record.name), &topic)?);
        }
        Ok((self.summary(view, topic)?, queues, positions))
    }

    /// Groups by name, and how many there are in all.
    pub async fn list_groups(&self, page: &NamePage) -> Result<(Vec<GroupSummary>, usize), Error> {
        self.read_barrier().await?;
        // One question to each node, however many groups there are.
        let consumers = self.clients.consumer_counts().await;
        let snapshot = self.reader.snapshot()?;
        let view = View::new(&*snapshot);
        let (asked, total) = page.of(view.groups()?, |(_, record)| record.name.as_str());
        let mut topics = topics_of(view, &asked.iter().map(|(id, _)| *id).collect()).await?;
        let mut groups = Vec::new();
        for (id, record) in asked {
            let topics = topics.remove(&id).unwrap_or_default();
            let consumers = consumers.get(&record.name).copied().unwrap_or(0);
            groups.push(self.group_summary(view, GroupView::of(id, record), &topics, consumers)?);
            yield_after(groups.len()).await;
        }
        Ok((groups, total))
    }

    /// One group with its offsets and consumers.
    ///
    /// * Errors: [`Error::GroupNotFound`].
    pub async fn describe_group(&self, name: &GroupName) -> Result<GroupDescription, Error> {
        self.read_barrier().await?;
        self.reader.view().group(name)?.ok_or_else(|| Error::GroupNotFound(name.clone()))?;
        let consumers = self.clients.consumers_of(name).await;
        let snapshot = self.reader.snapshot()?;
        let view = View::new(&*snapshot);
        let (id, record) = view.group(name)?.ok_or_else(|| Error::GroupNotFound(name.clone()))?;
        let topics = topics_of(view, &BTreeSet::from([id])).await?.remove(&id).unwrap_or_default();
        let consumer_count = u32::try_from(consumers.len()).unwrap_or(u32::MAX);
        let summary = self.group_summary(view, GroupView::of(id, record), &topics, consumer_count)?;
        let mut positions = Vec::new();
        for topic in &topics {
            positions.extend(self.positions_of(view, (id, name), topic)?);
        }
        let inconsistencies = inconsistencies(&consumers);
        Ok(GroupDescription { summary, positions, consumers, inconsistencies })
    }

    /// What a group has not settled in a topic, as this node has applied it; `None` if either is deleted.
    pub fn lag(&self, topic: &TopicName, group: &GroupName) -> Result<Option<u64>, Error> {
        let view = self.reader.view();
        let (Some((topic, record)), Some((group, _))) = (view.topic(topic)?, view.group(group)?) else {
            return Ok(None);
        };
        let heads = heads_of(view, topic, record.queues)?;
        Ok(Some(settled_in(view, topic, group, &heads)?.iter().map(|settled| settled.lag).sum()))
    }

    fn group_summary(
        &self,
        view: View<'_>,
        group: GroupView,
        topics: &[TopicView],
        consumers: u32,
    ) -> Result<GroupSummary, Error> {
        let (mut in_flight, mut lag, mut returning, mut oldest) = (0, 0, 0, None::<Timestamp>);
        for topic in topics {
            let heads = heads_of(view, topic.id, topic.queues)?;
            let settled = settled_in(view, topic.id, group.id, &heads)?;
            for (queue, settled) in (0..).map(QueueId).zip(settled) {
                in_flight += settled.in_flight;
                lag += settled.lag;
                returning += settled.returning;
                if settled.below < settled.max {
                    let first = view.runs(topic.id, queue, settled.below, QueueOffset(settled.below.0 + 1))?;
                    let stored_at = first.first().map(|(_, run)| run.stored_at);
                    oldest = oldest.into_iter().chain(stored_at).min();
                }
            }
        }
        let dead = match view.topic(&TopicName::dead_letters_of(&group.name))? {
            Some((dead, _)) => view.queue_head(dead, QueueId(0))?.max.0.saturating_sub(view.redriven_count(dead)?),
            None => 0,
        };
        Ok(GroupSummary {
            topics: u32::try_from(topics.len()).unwrap_or(u32::MAX),
            in_flight,
            lag,
            consumers,
            returning,
            dead,
            oldest_unsettled_at: oldest.map(|at| self.reader.wall_of(at)),
            view: group,
        })
    }

    fn positions_of(
        &self,
        view: View<'_>,
        group: (GroupId, &GroupName),
        topic: &TopicView,
    ) -> Result<Vec<Position>, Error> {
        let mut positions = Vec::new();
        let settled = settled_in(view, topic.id, group.0, &heads_of(view, topic.id, topic.queues)?)?;
        for (queue, settled) in (0..).map(QueueId).zip(settled) {
            let last = match settled.below.0.checked_sub(1) {
                Some(last) => view.runs(topic.id, queue, QueueOffset(last), settled.below)?,
                None => Vec::new(),
            };
            let leases = view.leases(topic.id, group.0, queue)?;
            let at_work = leases.iter().filter(|(_, lease)| !lease.held.is_empty());
            let clients: BTreeSet<&String> =
                at_work.clone().filter_map(|(_, lease)| lease.renew_for.as_ref().filter(|_| !lease.returned)).collect();
            let firsts =
                at_work.filter_map(|(_, lease)| Some((lease.attempt, Reverse(lease.offsets(lease.held).next()?))));
            let most = firsts.max();
            positions.push(Position {
                group: group.1.clone(),
                topic: topic.name.clone(),
                queue,
                max: settled.max,
                group_offset: settled.below,
                in_flight: settled.in_flight,
                lag: settled.lag,
                lost: view.lost(topic.id, group.0, queue)?,
                last_consumed_at: last.first().map(|(_, run)| self.reader.wall_of(run.stored_at)),
                clients: clients.into_iter().take(CLIENTS_SHOWN).cloned().collect(),
                attempts_max: most.map_or(0, |(attempts, _)| attempts),
                attempts_offset: most.map(|(_, Reverse(offset))| offset),
            });
        }
        Ok(positions)
    }

    fn summary(&self, view: View<'_>, topic: TopicView) -> Result<TopicSummary, Error> {
        let heads = heads_of(view, topic.id, topic.queues)?;
        let messages = heads.iter().map(|head| head.max.0).sum();
        let mut lag_max = None;
        let groups = view.subscribed_groups(topic.id)?;
        for group in &groups {
            let settled = settled_in(view, topic.id, *group, &heads)?;
            lag_max = lag_max.max(Some(settled.iter().map(|settled| settled.lag).sum()));
        }
        let groups = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        Ok(TopicSummary { view: topic, messages, groups, lag_max })
    }
}

/// The topics that groups have offsets in, ascending by id: one scan over all subscriptions, however many groups there are.
async fn topics_of(view: View<'_>, groups: &BTreeSet<GroupId>) -> Result<BTreeMap<GroupId, Vec<TopicView>>, Error> {
    let mut found = BTreeMap::<GroupId, Vec<TopicView>>::new();
    let subscriptions = view.subscriptions()?.into_iter().filter(|(_, group)| groups.contains(group));
    for (place, (id, group)) in subscriptions.enumerate() {
        if let Some(record) = view.topic_record(id)? {
            found.entry(group).or_default().push(TopicView::of(id, record));
        }
        yield_after(place).await;
    }
    Ok(found)
}

fn queues(view: View<'_>, topic: TopicId, count: u32) -> Result<Vec<QueueSummary>, Error> {
    (0..count)
        .map(QueueId)
        .map(|queue| {
            let head = view.queue_head(topic, queue)?;
            let oldest_stored_at = view.oldest_run(topic, queue)?.map(|run| run.stored_at);
            let QueueHead { min, max, last_stored_at } = head;
            Ok(QueueSummary { queue, min, max, last_stored_at, oldest_stored_at })
        })
        .collect()
}

/// Lets others have their turn after so many rows.
async fn yield_after(rows: usize) {
    if rows.is_multiple_of(ROWS_AT_ONCE) {
        tokio::task::yield_now().await;
    }
}

/// Consumers of one group that want different messages of a topic: each message goes to one of them, and if that one
/// does not want it, it is passed over for all.
fn inconsistencies(consumers: &[(NodeId, GroupConsumer)]) -> Vec<String> {
    let topics: BTreeSet<&TopicName> = consumers
        .iter()
        .flat_map(|(_, consumer)| &consumer.subscriptions)
        .map(|subscription| &subscription.topic)
        .collect();
    let mut found = Vec::new();
    for topic in topics {
        let mut wanted: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        // A simple consumer may name its topics only when it receives.
        for (_, consumer) in consumers.iter().filter(|(_, consumer)| !consumer.subscriptions.is_empty()) {
            let of = consumer.subscriptions.iter().find(|subscription| subscription.topic == *topic);
            wanted.entry(of.map_or("nothing".to_owned(), wants)).or_default().push(&consumer.client.client_id);
        }
        if wanted.len() > 1 {
            let sides: Vec<String> =
                wanted.iter().map(|(what, clients)| format!("{what} ({})", clients.join(", "))).collect();
            found.push(format!("topic '{topic}': {}", sides.join(" against ")));
        }
    }
    found
}

/// An expression without what makes no difference.
fn wants(subscription: &Subscription) -> String {
    if subscription.is_sql {
        return format!("SQL92 {}", subscription.expression.trim());
    }
    match TagFilter::parse(&subscription.expression) {
        TagFilter::All => "everything".to_owned(),
        TagFilter::AnyOf(tags) => {
            let tags: BTreeSet<&str> = tags.iter().map(|(_, tag)| tag.as_str()).collect();
            format!("tags {}", tags.into_iter().collect::<Vec<_>>().join(" || "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::ClientInfo;

    fn consumer(id: &str, wanted: &[(&str, bool, &str)]) -> (NodeId, GroupConsumer) {
        let subscription = |(topic, is_sql, expression): &(&str, bool, &str)| Subscription {
            topic: TopicName::parse(topic).unwrap(),
            is_sql: *is_sql,
            expression: (*expression).to_owned(),
        };
        let client = ClientInfo { client_id: id.to_owned(), ..ClientInfo::default() };
        let subscriptions = wanted.iter().map(subscription).collect();
        (NodeId(0), GroupConsumer { client, seen_at: Timestamp(0), subscriptions })
    }

    #[test]
    fn consumers_of_one_group_that_want_different_things_are_named() {
        let alike =
            [consumer("a", &[("t", false, "x || y")]), consumer("b", &[("t", false, "y||x")]), consumer("simple", &[])];
        assert_eq!(inconsistencies(&alike), Vec::<String>::new());
        let odd = [
            consumer("a", &[("t", false, "*"), ("u", false, "*")]),
            consumer("b", &[("t", true, "p > 1"), ("u", false, "")]),
            consumer("c", &[("u", false, "*")]),
        ];
        assert_eq!(inconsistencies(&odd), ["topic 't': SQL92 p > 1 (b) against everything (a) against nothing (c)"]);
    }
}
