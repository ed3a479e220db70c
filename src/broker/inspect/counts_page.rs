//! Statistics with names, some rows at a time: what people and other nodes are shown of them.

use std::ops::Bound;

use crate::broker::inspect::counted::Periods;
use crate::broker::inspect::statistics::{MinuteFlows, ShardCounts};
use crate::broker::{Error, Inspector};
use crate::model::counts::{GroupCounts, TopicCounts};
use crate::model::{GroupId, GroupName, TopicId, TopicName};

/// Which rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountsQuery {
    /// Of this topic only.
    pub topic: Option<TopicName>,
    /// Of this group only; no rows of topics then.
    pub group: Option<GroupName>,
    /// After this one.
    pub after: Option<CountsKey>,
    /// Rows that are looked at; those of other groups count too.
    pub limit: usize,
}

/// Where a row is in the order of all: topics first, then groups in topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountsKey {
    Topic(TopicId),
    Group(TopicId, GroupId),
}

/// The counts of a topic, or of a group in it.
#[derive(Debug, Clone, PartialEq)]
pub struct CountsRow {
    pub topic: TopicName,
    pub of: CountsOf,
}

/// Whose counts.
#[derive(Debug, Clone, PartialEq)]
pub enum CountsOf {
    Topic(Periods<TopicCounts>),
    Group(GroupName, Periods<GroupCounts>),
}

/// Some rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CountsPage {
    pub rows: Vec<CountsRow>,
    /// Where to read on; `None` at the end.
    pub next: Option<CountsKey>,
}

impl Inspector {
    /// What this node counted of the whole shard. Without a read barrier, as all statistics.
    pub fn shard_counts(&self) -> ShardCounts {
        self.statistics.shard()
    }

    /// The flow of the last hour over all topics and groups.
    pub fn minutes(&self) -> MinuteFlows {
        self.statistics.minutes()
    }

    /// The topics with the most messages per second, and of those that are alike, in the last hour.
    ///
    /// * Errors: the state cannot be read.
    pub fn busiest(&self, limit: usize) -> Result<Vec<(TopicName, Periods<TopicCounts>)>, Error> {
        let mut rows = self.statistics.topics((Bound::Unbounded, Bound::Unbounded), usize::MAX);
        rows.sort_by(|(a_id, a), (b_id, b)| {
            let by_rate = b.per_second.total_cmp(&a.per_second);
            by_rate.then(b.hour.messages.cmp(&a.hour.messages)).then(a_id.cmp(b_id))
        });
        let view = self.reader.view();
        let mut topics = Vec::new();
        for (id, periods) in rows {
            if topics.len() >= limit {
                break;
            }
            // One that was deleted a moment ago has no name any more.
            if let Some(record) = view.topic_record(id)? {
                topics.push((record.name, periods));
            }
        }
        Ok(topics)
    }

    /// A group by name.
    ///
    /// * Errors: [`Error::GroupNotFound`].
    pub async fn find_group(&self, name: &GroupName) -> Result<GroupId, Error> {
        let find = || Ok::<_, Error>(self.reader.view().group(name)?.map(|(id, _)| id));
        if let Some(id) = find()? {
            return Ok(id);
        }
        // It may have been created a moment ago.
        self.read_barrier().await?;
        find()?.ok_or_else(|| Error::GroupNotFound(name.clone()))
    }

    /// What this node counted, by topic and by group. There are no rows for what did not move, nor for what is deleted.
    ///
    /// * Errors: the state cannot be read.
    pub fn counts(&self, query: &CountsQuery) -> Result<CountsPage, Error> {
        let view = self.reader.view();
        let topic = match &query.topic {
            Some(name) => match view.topic(name)? {
                Some((id, _)) => Some(id),
                None => return Ok(CountsPage::default()),
            },
            None => None,
        };
        let group = match &query.group {
            Some(name) => match view.group(name)? {
                Some((id, _)) => Some(id),
                None => return Ok(CountsPage::default()),
            },
            None => None,
        };
        let mut page = CountsPage::default();
        let mut room = query.limit;
        if group.is_none() && !matches!(query.after, Some(CountsKey::Group(..))) {
            let first = topic.map_or(Bound::Unbounded, Bound::Included);
            let from = if let Some(CountsKey::Topic(after)) = query.after { Bound::Excluded(after) } else { first };
            let last = topic.map_or(Bound::Unbounded, Bound::Included);
            let rows = if is_empty(from, last) { Vec::new() } else { self.statistics.topics((from, last), room) };
            room -= rows.len();
            page.next = rows.last().map(|(id, _)| CountsKey::Topic(*id)).filter(|_| room == 0);
            for (id, periods) in rows {
                let Some(record) = view.topic_record(id)? else { continue };
                page.rows.push(CountsRow { topic: record.name, of: CountsOf::Topic(periods) });
            }
        }
        if room > 0 {
            let first = topic.map_or(Bound::Unbounded, |topic| Bound::Included((topic, GroupId(0))));
            let after = query.after.and_then(CountsKey::group);
            let from = after.map_or(first, Bound::Excluded);
            let last = topic.map_or(Bound::Unbounded, |topic| Bound::Included((topic, GroupId(u32::MAX))));
            let rows = if is_empty(from, last) { Vec::new() } else { self.statistics.groups((from, last), room) };
            let next = rows.last().map(|((topic, group), _)| CountsKey::Group(*topic, *group));
            page.next = next.filter(|_| rows.len() == room);
            for ((topic, of), periods) in rows {
                if group.is_some_and(|group| group != of) {
                    continue;
                }
                let (Some(topic), Some(group)) = (view.topic_record(topic)?, view.group_record(of)?) else { continue };
                page.rows.push(CountsRow { topic: topic.name, of: CountsOf::Group(group.name, periods) });
            }
        }
        Ok(page)
    }
}

impl CountsKey {
    fn group(self) -> Option<(TopicId, GroupId)> {
        if let Self::Group(topic, group) = self { Some((topic, group)) } else { None }
    }
}

/// Whether nothing can be between the ends; a map refuses such ranges.
fn is_empty<Key: Ord>(from: Bound<Key>, to: Bound<Key>) -> bool {
    match (from, to) {
        (Bound::Excluded(from), Bound::Included(to)) => from >= to,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        _ => false,
    }
}
