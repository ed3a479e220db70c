//! A machine of its own for tests: the real path from commands to state, with a clock that is told.

use std::sync::Arc;

use bytes::Bytes;
use raftmq::machine::command::{Candidate, Command, Grant, Placement};
use raftmq::machine::outcome::{Granted, Outcome};
use raftmq::machine::state::view::View;
use raftmq::machine::{self, Batch, Effects, Proposal, Recent, Stage};
use raftmq::model::filter::tag;
use raftmq::model::{
    GroupId, GroupName, LogIndex, Message, MessageType, Millis, OffsetSet, QueueId, QueueOffset, TagFilter, Timestamp,
    TopicId, TopicName,
};
use raftmq::store::kv::memory::MemoryKv;
use raftmq::store::kv::value_cache::ValueCache;
use raftmq::store::kv::{Kv, Space, WriteBatch};

/// As on a node: writes go through the hot values, and a crash takes what was not flushed.
pub struct Machine {
    pub kv: Arc<MemoryKv>,
    hot: ValueCache,
    recent: Recent,
    pub index: u64,
    pub now: u64,
    /// Every entry so far: the log.
    log: Vec<Bytes>,
    /// The state at the last flush, and the entry it is at.
    flushed: (u64, Vec<Pair>),
}

type Pair = (Space, Bytes, Bytes);

impl Default for Machine {
    fn default() -> Self {
        let kv = Arc::<MemoryKv>::default();
        let hot = ValueCache::new(kv.clone());
        Self { kv, hot, recent: Recent::default(), index: 0, now: 0, log: Vec::new(), flushed: (0, Vec::new()) }
    }
}

/// Everything in a store.
pub fn content(kv: &MemoryKv) -> Vec<Pair> {
    let all = |space| kv.scan(space, &[], &[u8::MAX; 64], usize::MAX).unwrap();
    Space::ALL
        .into_iter()
        .flat_map(|space| all(space).into_iter().map(move |(key, value)| (space, key, value)))
        .collect()
}

pub fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

pub fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

pub fn plain_message(body: &str, tag: Option<&str>) -> Message {
    Message {
        message_id: body.to_owned(),
        message_type: MessageType::Normal,
        body_encoding: raftmq::model::BodyEncoding::Identity,
        body: Bytes::from(body.to_owned()),
        tag: tag.map(str::to_owned),
        keys: Vec::new(),
        properties: Vec::new(),
        born_at: Timestamp(0),
        born_host: String::new(),
        message_group: None,
        delivery_at: None,
        trace_context: None,
        priority: None,
        recovery_after: None,
    }
}

/// A send as `broker/send` makes it.
pub fn send(topic: TopicId, messages: &[Message]) -> Proposal {
    let tag_hashes = messages.iter().map(|message| tag::hash(message.tag.as_deref())).collect();
    let message_type = MessageType::Normal;
    let command = Command::Send(machine::command::Send { topic, message_type, tag_hashes, placement: Placement::Now });
    Proposal { command: command.encode(), messages: messages.iter().map(Message::encode).collect() }
}

/// A plan cut down to what one poll asks for, as the broker's are.
pub fn narrow(plan: &mut Vec<Candidate>, limit: u32) {
    let mut room = limit;
    let mut take = |wanted: &mut OffsetSet| {
        let before = *wanted;
        *wanted = before.lowest(room);
        room -= wanted.len();
        (*wanted != before).then(|| wanted.end() as u8)
    };
    plan.retain_mut(|candidate| match candidate {
        Candidate::Any { count, .. } => {
            let mut wanted = OffsetSet::first((*count).into());
            take(&mut wanted);
            *count = wanted.len() as u8;
            *count != 0
        }
        Candidate::Returned { wanted, .. } => {
            take(wanted);
            !wanted.is_empty()
        }
        Candidate::Fresh { wanted, length, .. } | Candidate::Next { wanted, length, .. } => {
            if let Some(seen) = take(wanted) {
                *length = seen;
            }
            !wanted.is_empty()
        }
        Candidate::Skip { .. } => true,
    });
}

impl Machine {
    pub fn view(&self) -> View<'_> {
        View::new(&*self.kv)
    }

    /// Applies one entry of these proposals at the present time.
    pub fn apply_all(&mut self, proposals: &[Proposal]) -> (Vec<Outcome>, Effects) {
        let body = Batch::encode(Timestamp(self.now), proposals.iter());
        self.log.push(body.clone());
        self.apply_entry(body)
    }

    fn apply_entry(&mut self, body: Bytes) -> (Vec<Outcome>, Effects) {
        self.index += 1;
        let mut stage = Stage::new(&self.hot).unwrap();
        let outcomes = machine::apply(&mut stage, &mut self.recent, LogIndex(self.index), body).unwrap();
        let (writes, effects) = stage.finish().unwrap();
        self.hot.write(writes).unwrap();
        (outcomes, effects)
    }

    /// What is applied so far survives a crash.
    pub fn flush(&mut self) {
        self.flushed = (self.index, content(&self.kv));
    }

    /// Loses what was not flushed, and applies it again from the log (D6).
    pub fn crash(&mut self) {
        let (index, pairs) = self.flushed.clone();
        self.kv = Arc::default();
        let writes = pairs.into_iter().map(|(space, key, value)| (space, key, Some(value))).collect();
        self.kv.write(WriteBatch { writes }).unwrap();
        self.hot = ValueCache::new(self.kv.clone());
        self.recent = Recent::load(&*self.kv).unwrap();
        self.index = index;
        for body in self.log.clone().into_iter().skip(index as usize) {
            self.apply_entry(body);
        }
    }

    pub fn apply(&mut self, command: &Command) -> Outcome {
        self.apply_all(&[Proposal { command: command.encode(), messages: Vec::new() }]).0.pop().unwrap()
    }

    /// Sends untagged messages of a type, which consumers see later.
    pub fn send_aside(
        &mut self,
        topic: TopicId,
        message_type: MessageType,
        bodies: &[&str],
        placement: Placement,
    ) -> Outcome {
        let tag_hashes = vec![0; bodies.len()];
        let command = Command::Send(machine::command::Send { topic, message_type, tag_hashes, placement });
        let messages: Vec<_> = bodies.iter().map(|body| plain_message(body, None)).collect();
        let messages = self.named(&messages).iter().map(Message::encode).collect();
        self.apply_all(&[Proposal { command: command.encode(), messages }]).0.pop().unwrap()
    }

    pub fn send(&mut self, topic: TopicId, messages: &[Message]) -> Outcome {
        let messages = self.named(messages);
        self.apply_all(&[send(topic, &messages)]).0.pop().unwrap()
    }

    /// As a producer names its messages: each has an id of its own.
    fn named(&self, messages: &[Message]) -> Vec<Message> {
        let name = |(number, message): (usize, &Message)| {
            let message_id = format!("{}-{number}", self.index);
            Message { message_id, ..message.clone() }
        };
        messages.iter().enumerate().map(name).collect()
    }

    /// A simple plan: everything returned, then every queue in order.
    pub fn plan(&self, topic: TopicId, group: GroupId, filter: &TagFilter) -> Vec<Candidate> {
        let view = self.view();
        let record = view.topic_record(topic).unwrap();
        let orderly = record.as_ref().is_some_and(|record| record.topic_type.is_fifo())
            || view.group_record(group).unwrap().is_some_and(|group| group.orderly);
        let queues = record.map_or(0, |record| record.queues);
        // Bits and bytes.
        let wanted = |queue, first: QueueOffset, to: QueueOffset| {
            let (mut bits, mut bytes) = (OffsetSet::EMPTY, 0u64);
            for (run_first, run) in view.runs(topic, queue, first, to).unwrap() {
                for (offset, item) in (run_first.0..to.0).zip(&run.items) {
                    if offset >= first.0 && filter.may_match(item.tag_hash) {
                        bits.insert(offset - first.0);
                        bytes += u64::from(item.bytes);
                    }
                }
            }
            (bits, bytes)
        };
        let mut plan = Vec::new();
        for (queue, message_group, first) in view.ready(topic, group, 64).unwrap() {
            let (wanted, _) = wanted(queue, first, QueueOffset(first.0 + 64));
            plan.push(Candidate::Next { queue, message_group, first, length: 64, wanted });
        }
        for (at, lease) in view.returned(topic, group, 64).unwrap() {
            let (wanted, _) = wanted(at.queue, lease.first, QueueOffset(lease.first.0 + 64));
            let skipped = lease.held - wanted;
            plan.push(Candidate::Returned { queue: at.queue, lease: at.lease, wanted, skipped });
        }
        for queue in (0..queues).map(QueueId) {
            let first = view.group_offset(topic, group, queue).unwrap();
            let max = view.queue_head(topic, queue).unwrap().max;
            let to = QueueOffset(max.0.min(first.0 + 64));
            if first >= to {
                continue;
            }
            let length = (to.0 - first.0) as u8;
            let (wanted, bytes) = wanted(queue, first, to);
            plan.push(match filter {
                TagFilter::All if !orderly => Candidate::Any { queue, first, count: length, bytes },
                _ if wanted.is_empty() && !orderly => Candidate::Skip { queue, first, length: length.into() },
                _ => Candidate::Fresh { queue, first, length, wanted },
            });
        }
        plan
    }

    pub fn grant(
        &mut self,
        topic: TopicId,
        group: GroupId,
        limit: u32,
        invisible_ms: u64,
        renew_for: Option<String>,
        candidates: Vec<Candidate>,
    ) -> Result<Vec<Granted>, Outcome> {
        let invisible_for = Millis(invisible_ms);
        let grant = Grant {
            group,
            topic,
            limit,
            invisible_for,
            renew: renew_for.is_some(),
            client: renew_for.unwrap_or_default(),
            token: self.index + 1,
            attempt_of: 0,
            candidates,
        };
        match self.apply(&Command::Grant(grant)) {
            Outcome::Granted(granted) => Ok(granted),
            other => Err(other),
        }
    }
}
