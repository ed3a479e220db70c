//! Read-only views of the applied state for those above the log: plans, tables, what is due.

use bytes::Bytes;

use crate::machine::state::catalog::{GroupRecord, TopicRecord};
use crate::machine::state::clock::MachineClock;
use crate::machine::state::due::{DelayedItem, Due};
use crate::machine::state::events::ClusterEvent;
use crate::machine::state::failure::Failure;
use crate::machine::state::fifo_line::FifoLine;
use crate::machine::state::half::Half;
use crate::machine::state::keys::{LeaseKey, LineKey};
use crate::machine::state::lease::Lease;
use crate::machine::state::member_changes::MemberChanges;
use crate::machine::state::queue::{QueueHead, Run};
use crate::machine::state::queue_lock::QueueLock;
use crate::machine::state::references::RunPlace;
use crate::machine::state::stage::CatalogSize;
use crate::machine::state::{catalog, clearing, due, key_values, keys, references, write_permission};
use crate::model::codec::Reader;
use crate::model::{
    GroupId, GroupName, HandleKey, LeaseId, LogIndex, MessageGroupHash, MessageRef, NodeId, QueueId, QueueOffset,
    Timestamp, TopicId, TopicName, Unwritable,
};
use crate::store::kv;
use crate::store::kv::{Kv, Space};

/// Rows read at a time where all have to be read.
const PAGE: usize = 1024;

/// A delayed message with the machine time at which it is due.
type DelayedPlace = (Timestamp, TopicId, MessageRef, DelayedItem);
type HalfPlace = (TopicId, MessageRef, Half);
/// Delayed messages with their delivery times, and where their bytes are.
type Delayed = Vec<(Timestamp, MessageRef, MessageRef)>;

/// The state that this node has applied, read-only.
///
/// * Consistency: of this node, which may be behind others (`broker`'s read barrier waits for what was answered
///   before). Each method reads at least what was applied when it was called, but it is no snapshot: entries may be
///   applied between two reads, also within a method that reads more than one key. Plans are checked again when they
///   are granted; tables for people may be one entry apart.
/// * Cost: one look-up by key unless a method says otherwise. It may block on the disk.
/// * Errors: [`Failure`] of this node's store.
#[derive(Clone, Copy)]
pub struct View<'a> {
    kv: &'a dyn Kv,
}

impl<'a> View<'a> {
    /// Over the store that `raft/state_machine` writes.
    pub fn new(kv: &'a dyn Kv) -> Self {
        Self { kv }
    }

    /// The machine's time: the latest stamp of a leader, not the clock of this node.
    pub fn clock(&self) -> Result<MachineClock, Failure> {
        Ok(MachineClock::decode(self.kv.get(Space::Meta, keys::CLOCK)?)?)
    }

    /// The running digest over all writes (P15). Replicas can be compared only at the same applied entry.
    pub fn digest(&self) -> Result<u64, Failure> {
        self.number(Space::Meta, keys::DIGEST)
    }

    /// Which commands and formats may be in the log (`machine/cluster_version`).
    pub fn cluster_version(&self) -> Result<u32, Failure> {
        Ok(u32::try_from(self.number(Space::Meta, keys::CLUSTER_VERSION)?).unwrap_or(u32::MAX))
    }

    /// Where each node said that it serves clients. One scan, as long as the cluster is large.
    pub fn members(&self) -> Result<Vec<(NodeId, String)>, Failure> {
        let mut members = Vec::new();
        self.each(Space::Meta, keys::MEMBERS, |key, value| {
            let node = NodeId(Reader::new(key.slice(keys::MEMBERS.len()..), "member key").u64()?);
            members.push((node, String::from_utf8_lossy(&value).into_owned()));
            Ok(())
        })?;
        Ok(members)
    }

    /// The change of members that is under way, and the last one before.
    pub fn member_changes(&self) -> Result<MemberChanges, Failure> {
        Ok(MemberChanges::decode(self.kv.get(Space::Meta, keys::MEMBER_CHANGES)?)?)
    }

    /// How many events there were; the number of the last one.
    pub fn event_count(&self) -> Result<u64, Failure> {
        self.number(Space::Meta, keys::EVENT_COUNT)
    }

    /// The events that are kept with numbers from one on and below another, with their numbers, ascending. One scan; the
    /// caller bounds the range.
    pub fn events(&self, from: u64, to: u64) -> Result<Vec<(u64, ClusterEvent)>, Failure> {
        let limit = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut events = Vec::new();
        for (key, value) in self.kv.scan(Space::Meta, &keys::event(from), &keys::event(to), limit)? {
            let number = Reader::new(key.slice(keys::EVENT.len()..), "event key").u64()?;
            events.push((number, ClusterEvent::decode(value)?));
        }
        Ok(events)
    }

    /// The key of the cluster's handles, once it has one.
    pub fn handle_key(&self) -> Result<Option<HandleKey>, Failure> {
        let Some(value) = self.kv.get(Space::Meta, keys::HANDLE_KEY)? else { return Ok(None) };
        let mut reader = Reader::versioned(value, "handle key", keys::HANDLE_KEY_VERSION)?;
        Ok(Some(HandleKey::decode(&mut reader)?))
    }

    /// The key-value of a namespace and a key.
    pub fn key_value(&self, namespace: &str, key: &str) -> Result<Option<String>, Failure> {
        let value = self.kv.get(Space::Meta, &keys::key_value(namespace, key))?;
        Ok(value.map(key_values::decode).transpose()?)
    }

    /// All key-values of a namespace. One scan over them.
    pub fn key_values(&self, namespace: &str) -> Result<Vec<(String, String)>, Failure> {
        let prefix = keys::key_values(namespace);
        let mut all = Vec::new();
        self.each(Space::Meta, &prefix, |key, value| {
            let name = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            all.push((name, key_values::decode(value)?));
            Ok(())
        })?;
        Ok(all)
    }

    /// What routes do not offer to producers.
    pub fn unwritable(&self) -> Result<Unwritable, Failure> {
        Ok(write_permission::decode(self.kv.get(Space::Meta, keys::UNWRITABLE)?)?)
    }

    /// The topic of that name. Two look-ups.
    pub fn topic(&self, name: &TopicName) -> Result<Option<(TopicId, TopicRecord)>, Failure> {
        let Some(id) = self.kv.get(Space::Catalog, &keys::topic_name(name))? else { return Ok(None) };
        let topic = TopicId(catalog::id(&id));
        Ok(self.topic_record(topic)?.map(|record| (topic, record)))
    }

    /// The topic of that id; `None` once it is deleted.
    pub fn topic_record(&self, topic: TopicId) -> Result<Option<TopicRecord>, Failure> {
        Ok(self.kv.get(Space::Catalog, &keys::topic(topic))?.map(TopicRecord::decode).transpose()?)
    }

    /// The group of that name. Two look-ups.
    pub fn group(&self, name: &GroupName) -> Result<Option<(GroupId, GroupRecord)>, Failure> {
        let Some(id) = self.kv.get(Space::Catalog, &keys::group_name(name))? else { return Ok(None) };
        let group = GroupId(catalog::id(&id));
        let record = self.kv.get(Space::Catalog, &keys::group(group))?.map(GroupRecord::decode).transpose()?;
        Ok(record.map(|record| (group, record)))
    }

    /// The group of that id; `None` once it is deleted.
    pub fn group_record(&self, group: GroupId) -> Result<Option<GroupRecord>, Failure> {
        Ok(self.kv.get(Space::Catalog, &keys::group(group))?.map(GroupRecord::decode).transpose()?)
    }

    /// All topics, ascending by id. Scans all of them.
    pub fn topics(&self) -> Result<Vec<(TopicId, TopicRecord)>, Failure> {
        let mut topics = Vec::new();
        self.each(Space::Catalog, b"t", |key, value| {
            topics.push((TopicId(number_at(&key, 1)), TopicRecord::decode(value)?));
            Ok(())
        })?;
        Ok(topics)
    }

    /// How many topics, groups and subscriptions there are. Scans all of them.
    pub fn catalog_size(&self) -> Result<CatalogSize, Failure> {
        let mut size = CatalogSize::default();
        for kind in [keys::TOPICS, keys::GROUPS, keys::SUBSCRIPTIONS] {
            self.each(Space::Catalog, &[kind], |key, _| {
                size.count(&key, 1);
                Ok(())
            })?;
        }
        Ok(size)
    }

    /// All groups, ascending by id. Scans all of them.
    pub fn groups(&self) -> Result<Vec<(GroupId, GroupRecord)>, Failure> {
        let mut groups = Vec::new();
        self.each(Space::Catalog, b"g", |key, value| {
            groups.push((GroupId(number_at(&key, 1)), GroupRecord::decode(value)?));
            Ok(())
        })?;
        Ok(groups)
    }

    /// The groups that are subscribed to the topic. One scan over them.
    pub fn subscribed_groups(&self, topic: TopicId) -> Result<Vec<GroupId>, Failure> {
        let mut groups = Vec::new();
        self.each(Space::Catalog, &keys::subscriptions(topic), |key, _| {
            groups.push(GroupId(number_at(&key, 5)));
            Ok(())
        })?;
        Ok(groups)
    }

    /// All subscriptions, ascending by topic, then group. One scan over them.
    pub fn subscriptions(&self) -> Result<Vec<(TopicId, GroupId)>, Failure> {
        let mut subscriptions = Vec::new();
        self.each(Space::Catalog, b"s", |key, _| {
            subscriptions.push((TopicId(number_at(&key, 1)), GroupId(number_at(&key, 5))));
            Ok(())
        })?;
        Ok(subscriptions)
    }

    /// Whether the group is subscribed to the topic.
    pub fn is_subscribed(&self, topic: TopicId, group: GroupId) -> Result<bool, Failure> {
        Ok(self.kv.get(Space::Catalog, &keys::subscription(topic, group))?.is_some())
    }

    /// The queues of a topic in which a group's leases are being cleared away: what is left of them counts as gone, and
    /// nothing is leased to the group there.
    pub fn being_cleared(&self, topic: TopicId, group: GroupId) -> Result<Vec<QueueId>, Failure> {
        match self.kv.get(Space::Catalog, &keys::subscription(topic, group))? {
            Some(value) => Ok(clearing::decode(value)?),
            None => Ok(Vec::new()),
        }
    }

    /// Both ends of a queue; an unknown queue is empty.
    pub fn queue_head(&self, topic: TopicId, queue: QueueId) -> Result<QueueHead, Failure> {
        let value = self.kv.get(Space::Queue, &keys::queue_head(topic, queue))?;
        Ok(value.map(QueueHead::decode).transpose()?.unwrap_or_default())
    }

    /// The first offset of the queue that was never leased to the group.
    pub fn group_offset(&self, topic: TopicId, group: GroupId, queue: QueueId) -> Result<QueueOffset, Failure> {
        self.number(Space::Cursor, &keys::group_offset(topic, group, queue)).map(QueueOffset)
    }

    /// The group offsets in a topic, by queue; a queue without one is not there. One scan over them.
    pub fn group_offsets(&self, topic: TopicId, group: GroupId) -> Result<Vec<(QueueId, QueueOffset)>, Failure> {
        let mut offsets = Vec::new();
        self.each(Space::Cursor, &keys::group_offsets(topic, group), |key, value| {
            offsets.push((QueueId(number_at(&key, 9)), QueueOffset(Reader::new(value, "group offset").u64()?)));
            Ok(())
        })?;
        Ok(offsets)
    }

    /// The locks of a group's queues in a topic, those that ended too. One scan over them.
    pub fn queue_locks(&self, topic: TopicId, group: GroupId) -> Result<Vec<(QueueId, QueueLock)>, Failure> {
        let mut locks = Vec::new();
        self.each(Space::Cursor, &keys::queue_locks(topic, group), |key, value| {
            locks.push((QueueId(number_at(&key, 9)), QueueLock::decode(value)?));
            Ok(())
        })?;
        Ok(locks)
    }

    /// Whether a group has leases or FIFO lines in a topic. Two scans that end at their first keys.
    pub fn is_at_work(&self, topic: TopicId, group: GroupId) -> Result<bool, Failure> {
        for prefix in keys::leases_and_lines(topic, group) {
            if !self.kv.scan(Space::Lease, &prefix, &keys::after_prefix(&prefix), 1)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A half message, or what is remembered of a decided one.
    pub fn half(&self, topic: TopicId, message: MessageRef) -> Result<Option<Half>, Failure> {
        Ok(self.kv.get(Space::Queue, &keys::half(topic, message))?.map(Half::decode).transpose()?)
    }

    /// The runs that hold the offsets `[from, to)` of a queue, with their first offsets; the first run may end before `from`,
    /// if that is below the queue's beginning. One scan over them; the caller bounds the range.
    pub fn runs(
        &self,
        topic: TopicId,
        queue: QueueId,
        from: QueueOffset,
        to: QueueOffset,
    ) -> Result<Vec<(QueueOffset, Run)>, Failure> {
        if from >= to {
            return Ok(Vec::new());
        }
        let start = keys::run(topic, queue, QueueOffset(0));
        let after_first = keys::run(topic, queue, QueueOffset(from.0 + 1));
        // There is none if retention took the first of these messages; those after them are there all the same.
        let mut runs = Vec::new();
        if let Some((first_key, first_run)) = self.kv.last(Space::Queue, &start, &after_first)? {
            runs.push((run_offset(&first_key), Run::decode(first_run)?));
        }
        let end = keys::run(topic, queue, to);
        // Every run holds at least one message, so this limit cuts nothing off.
        let limit = usize::try_from(to.0 - from.0).unwrap_or(usize::MAX);
        for (key, value) in self.kv.scan(Space::Queue, &after_first, &end, limit)? {
            runs.push((run_offset(&key), Run::decode(value)?));
        }
        Ok(runs)
    }

    /// `limit` leases of the group with messages for redelivery: those in the queues after one, then from the first one on.
    /// In a queue the one that was granted first comes first. Two scans at most, and a look-up for each.
    pub fn returned(
        &self,
        topic: TopicId,
        group: GroupId,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<(LeaseKey, Lease)>, Failure> {
        let after = after.map(|queue| keys::after_prefix(&keys::returned_in(topic, group, queue)));
        let found = self.in_turn(&keys::all_returned(topic, group), after, limit)?;
        self.returned_of(found, topic, group)
    }

    /// As [`Self::returned`], of one queue.
    pub fn returned_in(
        &self,
        topic: TopicId,
        group: GroupId,
        queue: QueueId,
        limit: usize,
    ) -> Result<Vec<(LeaseKey, Lease)>, Failure> {
        let found = self.in_turn(&keys::returned_in(topic, group, queue), None, limit)?;
        self.returned_of(found, topic, group)
    }

    fn returned_of(
        &self,
        found: Vec<(Bytes, Bytes)>,
        topic: TopicId,
        group: GroupId,
    ) -> Result<Vec<(LeaseKey, Lease)>, Failure> {
        let mut leases = Vec::new();
        for (key, _) in found {
            let mut reader = Reader::new(key.slice(9..), "returned key");
            let at = LeaseKey { topic, group, queue: QueueId(reader.u32()?), lease: LeaseId(reader.u64()?) };
            if let Some(lease) = self.lease(at)? {
                leases.push((at, lease));
            }
        }
        Ok(leases)
    }

    /// `limit` FIFO lines of the group with messages to deliver next, with the first of those: the lines after one, then from
    /// the first one on. Two scans at most.
    pub fn ready(
        &self,
        topic: TopicId,
        group: GroupId,
        after: Option<LineKey>,
        limit: usize,
    ) -> Result<Vec<(QueueId, MessageGroupHash, QueueOffset)>, Failure> {
        let mut lines = Vec::new();
        for (key, value) in self.in_turn(&keys::all_ready(topic, group), after.map(keys::ready), limit)? {
            let mut reader = Reader::new(key.slice(9..), "ready key");
            let (queue, message_group) = (QueueId(reader.u32()?), MessageGroupHash(reader.u64()?));
            lines.push((queue, message_group, QueueOffset(Reader::new(value, "ready line").u64()?)));
        }
        Ok(lines)
    }

    /// `limit` pairs under a prefix of the Lease space: those after a key, then from the first one on. Mostly all there are
    /// come with the first scan.
    fn in_turn(&self, prefix: &[u8], after: Option<Bytes>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Failure> {
        let end = keys::after_prefix(prefix);
        let mut first = self.kv.scan(Space::Lease, prefix, &end, limit)?;
        let Some(after) = after else { return Ok(first) };
        if first.len() < limit {
            let next = first.partition_point(|(key, _)| *key <= after);
            first.rotate_left(next);
            return Ok(first);
        }
        let mut found = self.kv.scan(Space::Lease, &keys::after(&after), &end, limit)?;
        let room = limit - found.len();
        found.extend(first.into_iter().take_while(|(key, _)| *key <= after).take(room));
        Ok(found)
    }

    /// The FIFO line of a message group, if the consumer group works on it.
    pub fn line(&self, at: LineKey) -> Result<Option<FifoLine>, Failure> {
        Ok(self.kv.get(Space::Lease, &keys::line(at))?.map(FifoLine::decode).transpose()?)
    }

    /// Messages of a queue that the group offset has passed and that wait for earlier messages of their FIFO lines: how
    /// many, and the first. Scans all lines of the group in the queue and all those messages.
    pub fn waiting_in_lines(
        &self,
        topic: TopicId,
        group: GroupId,
        queue: QueueId,
    ) -> Result<(u64, Option<QueueOffset>), Failure> {
        let group_offset = self.group_offset(topic, group, queue)?;
        let mut lines = Vec::new();
        self.each(Space::Lease, &keys::lines(topic, group, queue), |key, value| {
            let message_group = MessageGroupHash(Reader::new(key.slice(13..), "line key").u64()?);
            lines.push((message_group, FifoLine::decode(value)?.next));
            Ok(())
        })?;
        let (mut count, mut first) = (0, None);
        for (message_group, next) in lines {
            let mut from = keys::message_of_group(topic, queue, message_group, next);
            let end = keys::message_of_group(topic, queue, message_group, group_offset.max(next));
            loop {
                let page = self.kv.scan(Space::Queue, &from, &end, PAGE)?;
                if let Some((key, _)) = page.first()
                    && first.is_none_or(|first| run_offset(key) < first)
                {
                    first = Some(run_offset(key));
                }
                count += page.len() as u64;
                match page.last() {
                    Some((key, _)) if page.len() == PAGE => from = keys::after(key),
                    _ => break,
                }
            }
        }
        Ok((count, first))
    }

    /// A lease.
    pub fn lease(&self, at: LeaseKey) -> Result<Option<Lease>, Failure> {
        Ok(self.kv.get(Space::Lease, &keys::lease(at))?.map(Lease::decode).transpose()?)
    }

    /// Leases of polls with an attempt id, by its hash; `limit` at most. One scan.
    pub fn leases_of_attempt(
        &self,
        topic: TopicId,
        group: GroupId,
        attempt_of: u64,
        limit: usize,
    ) -> Result<Vec<LeaseKey>, Failure> {
        let prefix = keys::all_of_attempt(topic, group, attempt_of);
        let found = self.kv.scan(Space::Lease, &prefix, &keys::after_prefix(&prefix), limit)?;
        let lease = |(key, _): (Bytes, Bytes)| {
            let mut reader = Reader::new(key.slice(prefix.len()..), "attempt key");
            Ok(LeaseKey { topic, group, queue: QueueId(reader.u32()?), lease: LeaseId(reader.u64()?) })
        };
        found.into_iter().map(lease).collect()
    }

    /// All leases of a group in a queue. Scans them, in any number.
    pub fn leases(&self, topic: TopicId, group: GroupId, queue: QueueId) -> Result<Vec<(LeaseKey, Lease)>, Failure> {
        let mut leases = Vec::new();
        self.each(Space::Lease, &keys::leases(topic, group, queue), |key, value| {
            let lease = LeaseId(Reader::new(key.slice(13..), "lease key").u64()?);
            leases.push((LeaseKey { topic, group, queue, lease }, Lease::decode(value)?));
            Ok(())
        })?;
        Ok(leases)
    }

    /// Delayed messages of a topic, earliest first: those in one page of due things from a key on, and the key of the
    /// next page, which is `None` after the last. One scan of bounded length.
    pub fn waiting(&self, topic: TopicId, from: &Bytes) -> Result<(Delayed, Option<Bytes>), Failure> {
        let page = self.kv.scan(Space::Due, from, &[u8::MAX; 16], PAGE)?;
        let last = page.last().filter(|_| page.len() == PAGE);
        let next = last.map(|(key, _)| keys::after(key));
        let mut delayed = Vec::new();
        for (key, value) in page {
            let at = due::time_of(&key)?;
            if let Due::Message { topic: of, message } = Due::decode(key)?
                && of == topic
            {
                let item = DelayedItem::decode(value)?;
                delayed.push((item.wall_of(at), message, item.bytes_at(message)));
            }
        }
        Ok((delayed, next))
    }

    /// How many dead letters of a topic were redriven. Scans all of them.
    pub fn redriven_count(&self, topic: TopicId) -> Result<u64, Failure> {
        let mut count = 0;
        self.each(Space::Queue, &keys::all_redriven(topic), |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// When a dead letter was redriven, if it was.
    pub fn redriven(&self, topic: TopicId, offset: QueueOffset) -> Result<Option<Timestamp>, Failure> {
        let at = self.number(Space::Queue, &keys::redriven(topic, offset))?;
        Ok((at != 0).then_some(Timestamp(at)))
    }

    /// When the next due thing is due. One scan that ends at its first key.
    pub fn next_due(&self) -> Result<Option<Timestamp>, Failure> {
        let first = self.kv.scan(Space::Due, &self.due_start()?, &[u8::MAX], 1)?;
        Ok(first.first().map(|(key, _)| due::time_of(key)).transpose()?)
    }

    /// The open leases that end at `until` or before, that the broker renews for a client, and that are wanted; `limit` at
    /// most. Scans all that is due until then, with a look-up for each lease.
    pub fn renewable_ending(
        &self,
        until: Timestamp,
        limit: usize,
        is_wanted: impl Fn(&Lease) -> bool,
    ) -> Result<Vec<(LeaseKey, Lease)>, Failure> {
        let end = due::end(until);
        let mut leases = Vec::new();
        let mut from = self.due_start()?;
        loop {
            let page = self.kv.scan(Space::Due, &from, &end, PAGE)?;
            let is_last = page.len() < PAGE;
            if let Some((key, _)) = page.last() {
                from = keys::after(key);
            }
            for (key, _) in page {
                let Due::Lease(at) = Due::decode(key)? else { continue };
                let Some(lease) = self.lease(at)? else { continue };
                if !lease.held.is_empty() && !lease.returned && lease.renew_for.is_some() && is_wanted(&lease) {
                    leases.push((at, lease));
                }
            }
            if is_last || leases.len() >= limit {
                leases.truncate(limit);
                return Ok(leases);
            }
        }
    }

    /// The first entry whose bytes anything may refer to, rounded down; `None` if nothing refers to any
    /// (`references`). Two scans that end at their first keys.
    ///
    /// * `at_least`: what was answered before. It never falls, and a scan from the start would pass over all that was
    ///   deleted since.
    pub fn needed_from(&self, at_least: LogIndex) -> Result<Option<LogIndex>, Failure> {
        references::needed_from(self.kv, at_least)
    }

    /// The first `limit` runs whose bytes came with an earlier entry, or were carried, and are in entries below `end`; those
    /// that follow the last one of a page, if `after` is that. One scan.
    pub fn foreign_runs(
        &self,
        after: Option<(LogIndex, RunPlace)>,
        end: LogIndex,
        limit: usize,
    ) -> Result<Vec<(LogIndex, RunPlace)>, Failure> {
        references::foreign_runs(self.kv, after, end, limit)
    }

    /// Whether the bytes of a run came with an earlier entry, or were carried.
    pub fn is_foreign(&self, index: LogIndex, place: RunPlace) -> Result<bool, Failure> {
        references::is_foreign(self.kv, index, place)
    }

    /// The first run of a queue. Two look-ups.
    pub fn oldest_run(&self, topic: TopicId, queue: QueueId) -> Result<Option<Run>, Failure> {
        let head = self.queue_head(topic, queue)?;
        if head.min >= head.max {
            return Ok(None);
        }
        self.run_at(RunPlace { topic, queue, first: head.min })
    }

    /// The run that begins at an offset.
    pub fn run_at(&self, place: RunPlace) -> Result<Option<Run>, Failure> {
        let key = keys::run(place.topic, place.queue, place.first);
        Ok(self.kv.get(Space::Queue, &key)?.map(Run::decode).transpose()?)
    }

    /// Delayed messages of all topics in one page of due things from a key on, with the machine times at which they are
    /// due; and the key of the next page, which is `None` after the last; the first page is that of an empty key. One scan
    /// of bounded length.
    pub fn delayed_page(&self, from: &Bytes) -> Result<(Vec<DelayedPlace>, Option<Bytes>), Failure> {
        let from = if from.is_empty() { self.due_start()? } else { from.clone() };
        let page = self.kv.scan(Space::Due, &from, &[u8::MAX; 16], PAGE)?;
        let next = page.last().filter(|_| page.len() == PAGE).map(|(key, _)| keys::after(key));
        let mut delayed = Vec::new();
        for (key, value) in page {
            let at = due::time_of(&key)?;
            if let Due::Message { topic, message } = Due::decode(key)? {
                delayed.push((at, topic, message, DelayedItem::decode(value)?));
            }
        }
        Ok((delayed, next))
    }

    /// Half messages of all topics, decided ones too, in one page from a key on, and the key of the next page; the first
    /// page is that of an empty key. One scan of bounded length.
    pub fn halves_page(&self, from: &Bytes) -> Result<(Vec<HalfPlace>, Option<Bytes>), Failure> {
        let all = keys::all_halves();
        let from = if from.is_empty() { all.clone() } else { from.clone() };
        let page = self.kv.scan(Space::Queue, &from, &keys::after_prefix(&all), PAGE)?;
        let next = page.last().filter(|_| page.len() == PAGE).map(|(key, _)| keys::after(key));
        let half = |(key, value): (Bytes, Bytes)| {
            Ok((TopicId(number_at(&key, 1)), keys::half_message(&key)?, Half::decode(value)?))
        };
        Ok((page.into_iter().map(half).collect::<Result<_, Failure>>()?, next))
    }

    /// How many messages of a queue retention took before the group had consumed them, those that the group has not come
    /// to yet included. Three look-ups.
    pub fn lost(&self, topic: TopicId, group: GroupId, queue: QueueId) -> Result<u64, Failure> {
        let passed = self.number(Space::Cursor, &keys::lost(topic, group, queue))?;
        let (min, offset) = (self.queue_head(topic, queue)?.min, self.group_offset(topic, group, queue)?);
        Ok(passed + min.0.saturating_sub(offset.0))
    }

    fn due_start(&self) -> Result<Bytes, Failure> {
        Ok(due::start(Timestamp(self.number(Space::Meta, keys::DUE_FROM)?)))
    }

    fn number(&self, space: Space, key: &[u8]) -> Result<u64, Failure> {
        match self.kv.get(space, key)? {
            Some(value) => Ok(Reader::new(value, "number").u64()?),
            None => Ok(0),
        }
    }

    fn each(
        &self,
        space: Space,
        prefix: &[u8],
        row: impl FnMut(Bytes, Bytes) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        kv::each(self.kv, space, prefix, &keys::after_prefix(prefix), row)
    }
}

fn number_at(key: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(key[at..at + 4].try_into().expect("four bytes were cut"))
}

fn run_offset(key: &[u8]) -> QueueOffset {
    let at = key.len() - 8;
    QueueOffset(u64::from_be_bytes(key[at..].try_into().expect("eight bytes were cut")))
}
