//! Tables for operators: topics, groups with their positions, the nodes of the group.
//!
//! Read from this node's applied state after it caught up with the leader; nothing here is fast or
//! needs to be.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use crate::broker::sessions::{GroupMember, read_answer};
use crate::broker::{Broker, Deadline, Error, GroupView, Subscription, TopicView};
use crate::machine::state::view::View;
use crate::model::{GroupId, GroupName, NodeId, QueueId, QueueOffset, TagFilter, Timestamp, TopicId, TopicName};
use crate::raft::{OwnFacts, ReplicaStatus};

/// A topic with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    /// The topic.
    pub view: TopicView,
    /// Messages ever stored.
    pub messages: u64,
    /// Groups with a position in it.
    pub groups: u32,
    /// Largest lag of any group; `None` without groups.
    pub lag_max: Option<u64>,
}

/// Both ends of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSummary {
    /// Which.
    pub queue: QueueId,
    /// First readable offset.
    pub min: u64,
    /// Offset of the next message.
    pub max: u64,
    /// When the last message was stored.
    pub last_stored_at: Option<Timestamp>,
}

/// A group's position in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The queue.
    pub queue: QueueId,
    /// Offset of the queue's next message.
    pub max: u64,
    /// Everything below is settled.
    pub group_offset: u64,
    /// Leased and not yet settled.
    pub in_flight: u64,
    /// Not yet settled.
    pub lag: u64,
}

/// A group with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    /// The group.
    pub view: GroupView,
    /// Topics it has a position in.
    pub topics: u32,
    /// Leased and not yet settled.
    pub in_flight: u64,
    /// Not yet settled.
    pub lag: u64,
    /// Its consumers seen by the nodes that answer.
    pub members: u32,
    /// Of the lag, what was delivered before and waits for its next time.
    pub returning: u64,
    /// Dead letters not redriven.
    pub dead: u64,
    /// When the oldest message that is not settled was stored.
    pub oldest_unsettled_at: Option<Timestamp>,
}

/// A group with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Counts.
    pub summary: GroupSummary,
    /// Its positions.
    pub positions: Vec<Position>,
    /// Its consumers, each with the node that saw it last.
    pub members: Vec<(NodeId, GroupMember)>,
    /// Where its consumers want different messages of a topic.
    pub inconsistencies: Vec<String>,
}

/// One node of the group.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSummary {
    /// Which.
    pub id: NodeId,
    /// `n0`, `n1`, …
    pub name: String,
    /// Its marks; `None` if it does not answer.
    pub status: Option<ReplicaStatus>,
}

impl Broker {
    /// All topics by name.
    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>, Error> {
        self.read_barrier(self.held_until(Deadline::NONE)).await?;
        let view = self.replica.view();
        let mut topics = Vec::new();
        for (id, record) in view.topics()? {
            topics.push(self.summary(view, TopicView::of(id, record))?);
        }
        topics.sort_by(|a, b| a.view.name.cmp(&b.view.name));
        Ok(topics)
    }

    /// One topic with its queues and the positions of its groups.
    pub async fn describe_topic(
        &self,
        name: &TopicName,
    ) -> Result<(TopicSummary, Vec<QueueSummary>, Vec<Position>), Error> {
        self.read_barrier(self.held_until(Deadline::NONE)).await?;
        let topic = self.find_topic(name, Deadline::NONE).await?;
        let view = self.replica.view();
        let queues = queues(view, topic.id, topic.queues)?;
        let groups = view.groups()?;
        let mut positions = Vec::new();
        for group in view.subscribed_groups(topic.id)? {
            let Some((_, record)) = groups.iter().find(|(id, _)| *id == group) else { continue };
            positions.extend(positions_of(view, (group, &record.name), &topic)?);
        }
        Ok((self.summary(view, topic)?, queues, positions))
    }

    /// All groups by name.
    pub async fn list_groups(&self) -> Result<Vec<GroupSummary>, Error> {
        self.read_barrier(self.held_until(Deadline::NONE)).await?;
        let known = self.replica.view().groups()?;
        // All at once: a node that does not answer is waited for.
        let members = join_all(known.iter().map(|(_, record)| self.group_members(&record.name))).await;
        let mut groups = Vec::new();
        for ((id, record), members) in known.into_iter().zip(members) {
            groups.push(self.group_summary(GroupView::of(id, record), members.len())?.0);
        }
        groups.sort_by(|a, b| a.view.name.cmp(&b.view.name));
        Ok(groups)
    }

    /// One group with its positions and consumers.
    pub async fn describe_group(&self, name: &GroupName) -> Result<GroupDescription, Error> {
        self.read_barrier(self.held_until(Deadline::NONE)).await?;
        let group = self.existing_group(name, self.held_until(Deadline::NONE)).await?;
        let members = self.group_members(name).await;
        let (summary, positions) = self.group_summary(group, members.len())?;
        let inconsistencies = inconsistencies(&members);
        Ok(GroupDescription { summary, positions, members, inconsistencies })
    }

    /// The consumers of a group, as the nodes that answer see them; one that talks to several nodes is told of once.
    async fn group_members(&self, group: &GroupName) -> Vec<(NodeId, GroupMember)> {
        let asked = self.place.members.iter().map(async |node| {
            if node.id == self.place.self_id {
                return (node.id, self.sessions.members(group));
            }
            let answer = self.replica.ask(node.id, group.as_str().to_owned().into()).await;
            (node.id, answer.and_then(|answer| read_answer(answer).ok()).unwrap_or_default())
        });
        let mut by_client: BTreeMap<String, (NodeId, GroupMember)> = BTreeMap::new();
        for (node, members) in join_all(asked).await {
            for member in members {
                let known = by_client.get(&member.client.client_id);
                if known.is_none_or(|(_, known)| known.seen_at < member.seen_at) {
                    by_client.insert(member.client.client_id.clone(), (node, member));
                }
            }
        }
        by_client.into_values().collect()
    }

    fn group_summary(&self, group: GroupView, members: usize) -> Result<(GroupSummary, Vec<Position>), Error> {
        let view = self.replica.view();
        let mut positions = Vec::new();
        let mut topics = 0;
        let (mut returning, mut oldest) = (0, None::<Timestamp>);
        for (id, record) in view.topics()? {
            if !view.is_subscribed(id, group.id)? {
                continue;
            }
            topics += 1;
            let topic = TopicView::of(id, record);
            for queue in (0..topic.queues).map(QueueId) {
                let settled = settled_below(view, id, group.id, queue)?;
                returning += settled.returning;
                let first = view.runs(id, queue, QueueOffset(settled.below), QueueOffset(settled.below + 1))?;
                if let Some((_, run)) = first.first().filter(|_| settled.below < settled.max) {
                    oldest = Some(oldest.map_or(run.stored_at, |oldest| oldest.min(run.stored_at)));
                }
            }
            positions.extend(positions_of(view, (group.id, &group.name), &topic)?);
        }
        let dead = match view.topic(&TopicName::dead_letters_of(&group.name))? {
            Some((dead, _)) => view.queue_head(dead, QueueId(0))?.max.0.saturating_sub(view.redriven_count(dead)?),
            None => 0,
        };
        let summary = GroupSummary {
            topics,
            in_flight: positions.iter().map(|position| position.in_flight).sum(),
            lag: positions.iter().map(|position| position.lag).sum(),
            members: u32::try_from(members).unwrap_or(u32::MAX),
            returning,
            dead,
            oldest_unsettled_at: oldest,
            view: group,
        };
        Ok((summary, positions))
    }

    /// This node's own facts for `cluster status`.
    pub fn own_facts(&self) -> OwnFacts {
        let (in_per_second, out_per_second) = self.traffic.per_second();
        OwnFacts { client_address: self.place.store_host.clone(), in_per_second, out_per_second }
    }

    /// Every node of the group, asked at once.
    pub async fn cluster_status(&self) -> Vec<NodeSummary> {
        join_all(self.place.members.iter().map(|member| async {
            let status = if member.id == self.place.self_id {
                Some(self.replica.status(self.own_facts()))
            } else {
                self.replica.status_of(member.id).await
            };
            NodeSummary { id: member.id, name: member.name.clone(), status }
        }))
        .await
    }

    fn summary(&self, view: View<'_>, topic: TopicView) -> Result<TopicSummary, Error> {
        let messages = queues(view, topic.id, topic.queues)?.iter().map(|queue| queue.max).sum();
        let mut lag_max = None;
        let groups = view.subscribed_groups(topic.id)?;
        for group in &groups {
            let mut lag = 0;
            for queue in (0..topic.queues).map(QueueId) {
                lag += settled_below(view, topic.id, *group, queue)?.lag;
            }
            lag_max = lag_max.max(Some(lag));
        }
        let groups = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        Ok(TopicSummary { view: topic, messages, groups, lag_max })
    }
}

fn queues(view: View<'_>, topic: TopicId, count: u32) -> Result<Vec<QueueSummary>, Error> {
    (0..count)
        .map(QueueId)
        .map(|queue| {
            let head = view.queue_head(topic, queue)?;
            Ok(QueueSummary { queue, min: head.min.0, max: head.max.0, last_stored_at: head.last_stored_at })
        })
        .collect()
}

fn positions_of(view: View<'_>, group: (GroupId, &GroupName), topic: &TopicView) -> Result<Vec<Position>, Error> {
    let mut positions = Vec::new();
    for queue in (0..topic.queues).map(QueueId) {
        let settled = settled_below(view, topic.id, group.0, queue)?;
        positions.push(Position {
            group: group.1.clone(),
            topic: topic.name.clone(),
            queue,
            max: settled.max,
            group_offset: settled.below,
            in_flight: settled.in_flight,
            lag: settled.lag,
        });
    }
    Ok(positions)
}

struct Settled {
    max: u64,
    below: u64,
    in_flight: u64,
    returning: u64,
    lag: u64,
}

/// A message is settled when the position is behind it, no lease holds it, and it waits in no line.
fn settled_below(view: View<'_>, topic: TopicId, group: GroupId, queue: QueueId) -> Result<Settled, Error> {
    let head = view.queue_head(topic, queue)?;
    let cursor = view.group_offset(topic, group, queue)?.0;
    let leases = view.leases(topic, group, queue)?;
    let held = |is_meant: fn(&crate::machine::state::lease::Lease) -> bool| -> u64 {
        leases.iter().filter(|(_, lease)| is_meant(lease)).map(|(_, lease)| u64::from(lease.held.len())).sum()
    };
    let first_held = leases.iter().filter_map(|(_, lease)| lease.offsets(lease.held).next()).min();
    let (waiting, first_waiting) = view.waiting_in_lines(topic, group, queue)?;
    let first = first_held.into_iter().chain(first_waiting).min();
    Ok(Settled {
        max: head.max.0,
        below: first.map_or(cursor, |offset| offset.0.min(cursor)),
        in_flight: held(|lease| !lease.returned),
        returning: held(|lease| lease.returned),
        lag: head.max.0.saturating_sub(cursor) + held(|_| true) + waiting,
    })
}

/// Consumers of one group that want different messages of a topic: each message goes to one of them, and if that one
/// does not want it, it is passed over for all.
fn inconsistencies(members: &[(NodeId, GroupMember)]) -> Vec<String> {
    let topics: BTreeSet<&TopicName> =
        members.iter().flat_map(|(_, member)| &member.subscriptions).map(|subscription| &subscription.topic).collect();
    let mut found = Vec::new();
    for topic in topics {
        let mut wanted: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        // A simple consumer may name its topics only when it receives.
        for (_, member) in members.iter().filter(|(_, member)| !member.subscriptions.is_empty()) {
            let of = member.subscriptions.iter().find(|subscription| subscription.topic == *topic);
            wanted.entry(of.map_or("nothing".to_owned(), wants)).or_default().push(&member.client.client_id);
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

    fn member(id: &str, wanted: &[(&str, bool, &str)]) -> (NodeId, GroupMember) {
        let subscription = |(topic, is_sql, expression): &(&str, bool, &str)| Subscription {
            topic: TopicName::parse(topic).unwrap(),
            is_sql: *is_sql,
            expression: (*expression).to_owned(),
        };
        let client = ClientInfo { client_id: id.to_owned(), ..ClientInfo::default() };
        let subscriptions = wanted.iter().map(subscription).collect();
        (NodeId(0), GroupMember { client, seen_at: Timestamp(0), subscriptions })
    }

    #[test]
    fn consumers_of_one_group_that_want_different_things_are_told_of() {
        let alike =
            [member("a", &[("t", false, "x || y")]), member("b", &[("t", false, "y||x")]), member("simple", &[])];
        assert_eq!(inconsistencies(&alike), Vec::<String>::new());
        let odd = [
            member("a", &[("t", false, "*"), ("u", false, "*")]),
            member("b", &[("t", true, "p > 1"), ("u", false, "")]),
            member("c", &[("u", false, "*")]),
        ];
        assert_eq!(inconsistencies(&odd), ["topic 't': SQL92 p > 1 (b) against everything (a) against nothing (c)"]);
    }
}
