//! What waits, of all groups and topics at once, for metrics: lag, dead letters, delayed and half messages; and what moved.
//!
//! Without a read barrier, and in small steps between which others have their turn: a scrape asks for it again and again,
//! and there may be thousands of topics and groups. A group that has nothing under work in a topic costs three scans.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::broker::settled::{heads_of, settled_in};
use crate::broker::{Error, Inspector};
use crate::machine::state::queue::QueueHead;
use crate::machine::state::view::View;
use crate::model::counts::{GroupCounts, TopicCounts};
use crate::model::{GroupId, GroupName, Millis, QueueId, QueueOffset, Timestamp, TopicId, TopicName, TopicType};

/// Rows, or topics without any, between two turns of others.
const SLICE: usize = 16;
/// Pages of due things, and of half messages, that are looked through.
const PAGES_MAX: usize = 100;

/// A group in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    pub group: GroupName,
    pub topic: TopicName,
    /// Not yet settled.
    pub lag: u64,
    /// Leased and not yet settled.
    pub in_flight: u64,
    /// When the oldest message was stored that is not settled, and of those the oldest that is not leased.
    pub oldest_unsettled_at: Option<Timestamp>,
    pub oldest_ready_at: Option<Timestamp>,
}

/// All that waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlogs {
    pub topics: u64,
    pub groups: u64,
    /// By topic.
    pub rows: Vec<Backlog>,
    /// Groups in topics for which there was no room.
    pub rows_left_out: u64,
    /// Dead letters not redriven, of groups that had any.
    pub dead_letters: Vec<(GroupName, u64)>,
    /// Messages that wait for their delivery time; `None` if there are too many to count.
    pub delayed: Option<Vec<(TopicName, u64)>>,
    /// Transactional messages without a decision; the same.
    pub halves: Option<Vec<(TopicName, u64)>>,
}

/// What moved in a topic since this node began to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTraffic {
    pub topic: TopicName,
    pub topic_type: TopicType,
    pub counts: TopicCounts,
}

/// What moved of a topic to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTraffic {
    pub topic: TopicName,
    pub group: GroupName,
    pub counts: GroupCounts,
}

impl Inspector {
    /// What waits, with at most so many groups in topics.
    ///
    /// * Errors: the state cannot be read.
    pub async fn backlogs(&self, rows_max: usize) -> Result<Backlogs, Error> {
        let snapshot = self.reader.snapshot()?;
        let view = View::new(&*snapshot);
        let groups: BTreeMap<GroupId, GroupName> =
            view.groups()?.into_iter().map(|(id, record)| (id, record.name)).collect();
        let topics = view.topics()?;
        let mut found = Backlogs { topics: topics.len() as u64, groups: groups.len() as u64, ..Backlogs::default() };
        let mut steps = 0;
        for (topic, record) in &topics {
            steps += 1;
            let subscribed = view.subscribed_groups(*topic)?;
            let mut heads = Vec::new();
            for (place, group) in subscribed.iter().enumerate() {
                let Some(name) = groups.get(group) else { continue };
                if found.rows.len() >= rows_max {
                    found.rows_left_out += (subscribed.len() - place) as u64;
                    break;
                }
                if heads.is_empty() {
                    heads = heads_of(view, *topic, record.queues)?;
                }
                found.rows.push(self.backlog(view, (*topic, &record.name), (*group, name), &heads)?);
                steps += 1;
            }
            if steps >= SLICE {
                steps = 0;
                tokio::task::yield_now().await;
            }
        }
        for group in groups.values() {
            if let Some((dead, _)) = view.topic(&TopicName::dead_letters_of(group))? {
                let stored = view.queue_head(dead, QueueId(0))?.max.0;
                found.dead_letters.push((group.clone(), stored.saturating_sub(view.redriven_count(dead)?)));
                tokio::task::yield_now().await;
            }
        }
        let names: BTreeMap<TopicId, TopicName> = topics.into_iter().map(|(id, record)| (id, record.name)).collect();
        found.delayed = self.delayed_by_topic().await?.map(|counts| named(&names, counts));
        found.halves = self.halves_by_topic().await?.map(|counts| named(&names, counts));
        Ok(found)
    }

    fn backlog(
        &self,
        view: View<'_>,
        (topic, topic_name): (TopicId, &TopicName),
        (group, group_name): (GroupId, &GroupName),
        heads: &[QueueHead],
    ) -> Result<Backlog, Error> {
        let settled = settled_in(view, topic, group, heads)?;
        // Of each queue, the first that is not settled, and the first that is ready.
        let firsts = settled.iter().zip((0..).map(QueueId)).map(|(settled, queue)| {
            let unsettled = Some(settled.below).filter(|below| *below < settled.max);
            (queue, unsettled, settled.ready_from)
        });
        let firsts: Vec<_> = firsts.collect();
        let oldest = |firsts: &mut dyn Iterator<Item = (QueueId, Option<QueueOffset>)>| {
            let mut oldest = None::<Timestamp>;
            for (queue, first) in firsts.filter_map(|(queue, first)| Some((queue, first?))) {
                let runs = view.runs(topic, queue, first, QueueOffset(first.0 + 1))?;
                let Some((_, run)) = runs.first() else { continue };
                oldest = Some(oldest.map_or(run.stored_at, |oldest| oldest.min(run.stored_at)));
            }
            Ok::<_, Error>(oldest.map(|at| self.reader.wall_of(at)))
        };
        Ok(Backlog {
            group: group_name.clone(),
            topic: topic_name.clone(),
            lag: settled.iter().map(|settled| settled.lag).sum(),
            in_flight: settled.iter().map(|settled| settled.in_flight).sum(),
            oldest_unsettled_at: oldest(&mut firsts.iter().map(|(queue, unsettled, _)| (*queue, *unsettled)))?,
            oldest_ready_at: oldest(&mut firsts.iter().map(|(queue, _, ready)| (*queue, *ready)))?,
        })
    }

    async fn delayed_by_topic(&self) -> Result<Option<BTreeMap<TopicId, u64>>, Error> {
        let (mut counts, mut from) = (BTreeMap::new(), Bytes::new());
        for _ in 0..PAGES_MAX {
            let (page, next) = self.reader.view().delayed_page(&from)?;
            page.iter().for_each(|(_, topic, ..)| *counts.entry(*topic).or_insert(0) += 1);
            match next {
                Some(next) => from = next,
                None => return Ok(Some(counts)),
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }

    async fn halves_by_topic(&self) -> Result<Option<BTreeMap<TopicId, u64>>, Error> {
        let (mut counts, mut from) = (BTreeMap::new(), Bytes::new());
        for _ in 0..PAGES_MAX {
            let (page, next) = self.reader.view().halves_page(&from)?;
            let open = page.iter().filter(|(_, _, half)| half.decided.is_none());
            open.for_each(|(topic, ..)| *counts.entry(*topic).or_insert(0) += 1);
            match next {
                Some(next) => from = next,
                None => return Ok(Some(counts)),
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }

    /// What moved, in at most so many topics and groups in topics. Without a read barrier, as all statistics.
    ///
    /// * Errors: the state cannot be read.
    pub fn traffic(&self, rows_max: usize) -> Result<(Vec<TopicTraffic>, Vec<GroupTraffic>), Error> {
        let view = self.reader.view();
        let mut topics = Vec::new();
        for (id, periods) in self.statistics.topics((Bound::Unbounded, Bound::Unbounded), rows_max) {
            let Some(record) = view.topic_record(id)? else { continue };
            let (topic, topic_type) = (record.name, record.topic_type);
            topics.push(TopicTraffic { topic, topic_type, counts: periods.total });
        }
        let mut groups = Vec::new();
        for ((topic, group), periods) in self.statistics.groups((Bound::Unbounded, Bound::Unbounded), rows_max) {
            let (Some(topic), Some(group)) = (view.topic_record(topic)?, view.group_record(group)?) else { continue };
            groups.push(GroupTraffic { topic: topic.name, group: group.name, counts: periods.total });
        }
        Ok((topics, groups))
    }

    /// How long ago something should have happened that has not: a delivery time, the end of a lease. One scan.
    ///
    /// * Errors: the state cannot be read.
    pub fn due_late_by(&self) -> Result<Millis, Error> {
        let due = self.reader.view().next_due()?;
        Ok(due.map_or(Millis(0), |due| self.reader.machine_now().since(due)))
    }
}

fn named(names: &BTreeMap<TopicId, TopicName>, counts: BTreeMap<TopicId, u64>) -> Vec<(TopicName, u64)> {
    counts.into_iter().filter_map(|(topic, count)| Some((names.get(&topic)?.clone(), count))).collect()
}
