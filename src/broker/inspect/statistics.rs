//! Statistics: what entered topics and left them, by topic and by group in a topic.
//!
//! Every node counts what it applies, so a new leader's counts are as whole as the old one's. They live in memory: an
//! entry counts if it came into this node's log after the start, under the time that it was stored at, so a node that
//! catches up counts it where the others did.
//!
//! Hot path. [`Statistics::note`] is called after every entry that is applied; readers take a few rows at a time, so it
//! never waits long. Bounded: there are rows for what moved only, at most [`ROWS_MAX`].

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::inspect::counted::{Counted, Counts, Moment, Periods};
use crate::env::clock::Clock;
use crate::machine::Effects;
use crate::machine::state::failure::Failure;
use crate::machine::state::view::View;
use crate::model::counts::{GroupCounts, TopicCounts};
use crate::model::{GroupId, LogIndex, Timestamp, TopicId};

/// Most topics with counts, and most groups in topics. What would be more is counted in the sums only.
const ROWS_MAX: usize = 32 * 1024;
/// Rows that are read or looked at while [`Statistics::note`] waits.
const ROWS_AT_ONCE: usize = 256;

/// Keys from one end to another.
type Span<Key> = (Bound<Key>, Bound<Key>);

/// All counts of this node. Shared by the shard, which counts, and those who read.
pub struct Statistics {
    clock: Arc<dyn Clock>,
    started_at: Timestamp,
    /// The last entry in the log at the start: it was there before this node began to count.
    counted_after: LogIndex,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    topics: BTreeMap<TopicId, Counted<TopicCounts>>,
    groups: BTreeMap<(TopicId, GroupId), Counted<GroupCounts>>,
    all: (Counted<TopicCounts>, Counted<GroupCounts>),
    /// When the first entry was stored that was counted.
    since: Option<Timestamp>,
    now: Moment,
    /// A topic or a group may be gone.
    catalog_changed: bool,
}

/// The counts of the whole shard, and which they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardCounts {
    /// From then on.
    pub since: Timestamp,
    /// The last entry that is not in them.
    pub counted_after: LogIndex,
    pub taken_in: Periods<TopicCounts>,
    pub given_out: Periods<GroupCounts>,
}

/// Messages by minute, of the minutes of the last hour that had some; the last one goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MinuteFlows {
    pub taken_in: Vec<(Timestamp, u64)>,
    pub given_out: Vec<(Timestamp, u64)>,
}

impl Statistics {
    /// Counts entries after `last_log`, the last one that is in the log now.
    pub fn new(clock: Arc<dyn Clock>, last_log: LogIndex) -> Self {
        Self { started_at: clock.wall(), clock, counted_after: last_log, table: Mutex::default() }
    }

    /// Counts what an applied entry did.
    pub fn note(&self, effects: &Effects) {
        if effects.catalog_changed {
            self.table.lock().catalog_changed = true;
        }
        if effects.counts.is_empty() || effects.entry <= self.counted_after {
            return;
        }
        let mut table = self.table.lock();
        let table = &mut *table;
        if !table.now.has(effects.at) {
            table.now = Moment::of(effects.at);
        }
        table.since.get_or_insert(effects.at);
        for (topic, counts) in effects.counts.topics() {
            table.all.0.add(&table.now, counts);
            add(&mut table.topics, *topic, &table.now, counts);
        }
        for (key, counts) in effects.counts.groups() {
            table.all.1.add(&table.now, counts);
            add(&mut table.groups, *key, &table.now, counts);
        }
    }

    /// The sums over all topics and groups.
    pub fn shard(&self) -> ShardCounts {
        let time = self.clock.wall();
        let now = Moment::of(time);
        let table = self.table.lock();
        ShardCounts {
            since: table.since.unwrap_or(self.started_at),
            counted_after: self.counted_after,
            taken_in: table.all.0.at(&now, time),
            given_out: table.all.1.at(&now, time),
        }
    }

    /// The flow of the last hour over all topics and groups.
    pub fn minutes(&self) -> MinuteFlows {
        let now = Moment::of(self.clock.wall());
        let table = self.table.lock();
        MinuteFlows { taken_in: table.all.0.minutes(&now), given_out: table.all.1.minutes(&now) }
    }

    /// Up to `limit` topics, in the order of their ids.
    pub(super) fn topics(&self, range: Span<TopicId>, limit: usize) -> Vec<(TopicId, Periods<TopicCounts>)> {
        self.rows(|table| &table.topics, range, limit)
    }

    /// Up to `limit` groups in topics, in the order of their ids.
    pub(super) fn groups(
        &self,
        range: Span<(TopicId, GroupId)>,
        limit: usize,
    ) -> Vec<((TopicId, GroupId), Periods<GroupCounts>)> {
        self.rows(|table| &table.groups, range, limit)
    }

    fn rows<Key: Ord + Copy, Of: Counts>(
        &self,
        map: impl Fn(&Table) -> &BTreeMap<Key, Counted<Of>>,
        (mut from, to): Span<Key>,
        limit: usize,
    ) -> Vec<(Key, Periods<Of>)> {
        let time = self.clock.wall();
        let now = Moment::of(time);
        let mut rows = Vec::new();
        while rows.len() < limit {
            let count = ROWS_AT_ONCE.min(limit - rows.len());
            let before = rows.len();
            let table = self.table.lock();
            let found = map(&table).range((from, to)).take(count);
            rows.extend(found.map(|(key, counted)| (*key, counted.at(&now, time))));
            drop(table);
            if rows.len() < before + count {
                break;
            }
            from = rows.last().map_or(from, |(key, _)| Bound::Excluded(*key));
        }
        rows
    }

    /// Gives up what is too old to be shown, and the rows of what was deleted; to be called once a minute.
    pub(in crate::broker) async fn shrink(&self, view: View<'_>) {
        let now = Moment::of(self.clock.wall());
        let catalog_changed = std::mem::take(&mut self.table.lock().catalog_changed);
        let is_topic = |topic| exists(view.topic_record(topic));
        let is_group = |group| exists(view.group_record(group));
        let is_gone = |topic: &TopicId| catalog_changed && !is_topic(*topic);
        self.shrink_rows(|table| &mut table.topics, &now, is_gone).await;
        let is_gone = |(topic, group): &(TopicId, GroupId)| catalog_changed && !(is_topic(*topic) && is_group(*group));
        self.shrink_rows(|table| &mut table.groups, &now, is_gone).await;
    }

    async fn shrink_rows<Key: Ord + Copy, Of: Counts>(
        &self,
        map: impl Fn(&mut Table) -> &mut BTreeMap<Key, Counted<Of>>,
        now: &Moment,
        is_gone: impl Fn(&Key) -> bool,
    ) {
        let mut after = None;
        loop {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let keys: Vec<Key> = {
                let mut table = self.table.lock();
                let rows = map(&mut table).range_mut((from, Bound::Unbounded)).take(ROWS_AT_ONCE);
                rows.map(|(key, counted)| (*key, counted.shrink(now)).0).collect()
            };
            for key in keys.iter().filter(|key| is_gone(key)) {
                map(&mut self.table.lock()).remove(key);
            }
            if keys.len() < ROWS_AT_ONCE {
                return;
            }
            after = keys.last().copied();
            tokio::task::yield_now().await;
        }
    }
}

fn add<Key: Ord, Of: Counts>(rows: &mut BTreeMap<Key, Counted<Of>>, key: Key, now: &Moment, counts: &Of) {
    let is_full = rows.len() >= ROWS_MAX;
    match rows.entry(key) {
        btree_map::Entry::Occupied(row) => row.into_mut().add(now, counts),
        btree_map::Entry::Vacant(free) if !is_full => free.insert(Counted::default()).add(now, counts),
        btree_map::Entry::Vacant(_) => {}
    }
}

/// What cannot be read is not taken for deleted.
fn exists<Record>(found: Result<Option<Record>, Failure>) -> bool {
    !matches!(found, Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::clock::ManualClock;
    use crate::machine::state::entry_counts::EntryCounts;
    use crate::store::kv::memory::MemoryKv;

    fn entry(index: u64, counts: EntryCounts) -> Effects {
        Effects { entry: LogIndex(index), at: Timestamp(1_000_000), counts, ..Effects::default() }
    }

    fn sent(topic: u32, messages: u64) -> EntryCounts {
        EntryCounts::of(TopicId(topic), TopicCounts { messages, ..TopicCounts::default() })
    }

    fn statistics(last_log: u64) -> Statistics {
        Statistics::new(Arc::new(ManualClock::new(Timestamp(1_030_000))), LogIndex(last_log))
    }

    const ALL: Span<TopicId> = (Bound::Unbounded, Bound::Unbounded);

    #[test]
    fn what_was_in_the_log_at_the_start_is_not_counted_again() {
        let statistics = statistics(5);
        statistics.note(&entry(5, sent(1, 3)));
        assert_eq!(statistics.shard().since, Timestamp(1_030_000));
        statistics.note(&entry(6, sent(1, 4)));
        let shard = statistics.shard();
        assert_eq!((shard.since, shard.counted_after), (Timestamp(1_000_000), LogIndex(5)));
        assert_eq!(shard.taken_in.total.messages, 4);
    }

    #[test]
    fn rows_are_read_in_order_and_their_number_is_bounded() {
        let statistics = statistics(0);
        let topics = u32::try_from(ROWS_MAX).unwrap() + 10;
        for topic in 0..topics {
            statistics.note(&entry(1, sent(topic, 1)));
        }
        assert_eq!(statistics.topics(ALL, usize::MAX).len(), ROWS_MAX);
        assert_eq!(statistics.shard().taken_in.total.messages, u64::from(topics), "the sums have all");
        let some = statistics.topics((Bound::Excluded(TopicId(6)), Bound::Unbounded), 1000);
        let ids: Vec<u32> = some.iter().map(|(topic, _)| topic.0).collect();
        assert_eq!(ids, (7..1007).collect::<Vec<u32>>());
        assert!(statistics.topics((Bound::Unbounded, Bound::Excluded(TopicId(0))), 9).is_empty());
    }

    #[tokio::test]
    async fn rows_of_deleted_topics_go() {
        let (statistics, state) = (statistics(0), MemoryKv::default());
        statistics.note(&entry(1, sent(7, 1)));
        statistics.shrink(View::new(&state)).await;
        assert_eq!(statistics.topics(ALL, 9).len(), 1, "nothing was deleted");
        statistics.note(&Effects { catalog_changed: true, ..Effects::default() });
        statistics.shrink(View::new(&state)).await;
        assert!(statistics.topics(ALL, 9).is_empty());
    }
}
