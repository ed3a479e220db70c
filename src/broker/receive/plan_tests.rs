//! Plans of a PRIORITY topic against a plain list, with the machine between them: whatever happened before, a poll
//! brings the most urgent of what is there.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::sync::Notify;

use crate::broker::receive::plan::{Plan, Planning};
use crate::broker::receive::reservations::Reservations;
use crate::broker::receive::target::PollTarget;
use crate::machine::command::{Ack, Change, Command, CreateTopic, Grant, Placement, Send, Subscribe};
use crate::machine::outcome::Outcome;
use crate::machine::state::view::View;
use crate::machine::{self, Batch, Proposal, Recent, Stage, Stored};
use crate::model::limits::RECEIVE_BATCH_MAX;
use crate::model::{
    BodyEncoding, Filter, GroupId, GroupName, LogIndex, Message, MessageType, Millis, Permission, QueueId, QueueOffset,
    ReceiptHandle, TagFilter, Timestamp, TopicId, TopicName, TopicType,
};
use crate::store::kv::Kv;
use crate::store::kv::memory::MemoryKv;

const QUEUES: u32 = 4;
const TOPIC: TopicId = TopicId(1);
const GROUP: GroupId = GroupId(1);
const FILTER: Filter = Filter::Tags(TagFilter::All);
const LEASE_MS: u64 = 30_000;
/// More than anything is delivered here.
const RETRIES: u32 = 1000;

#[derive(Default)]
pub(super) struct Node {
    pub kv: MemoryKv,
    recent: Recent,
    pub index: u64,
    pub now: u64,
}

impl Node {
    pub fn apply(&mut self, command: &Command, messages: Vec<Bytes>) -> Outcome {
        let proposal = Proposal { command: command.encode(), messages };
        let body = Batch::encode(Timestamp(self.now), std::iter::once(&proposal));
        self.index += 1;
        let mut stage = Stage::new(&self.kv).unwrap();
        let outcome = machine::apply(&mut stage, &mut self.recent, LogIndex(self.index), body).unwrap().pop().unwrap();
        self.kv.write(stage.finish().unwrap().0).unwrap();
        outcome
    }

    fn send(&mut self, priorities: &[u32]) -> Vec<(QueueId, QueueOffset)> {
        let message = |number: usize| message(format!("{}-{number}", self.index)).encode();
        let messages = (0..priorities.len()).map(message).collect();
        let command = Command::Send(Send {
            topic: TOPIC,
            message_type: MessageType::Priority,
            tag_hashes: vec![0; priorities.len()],
            placement: Placement::Priority(priorities.to_vec()),
        });
        let Outcome::Sent(places) = self.apply(&command, messages) else { panic!("a send is taken") };
        let place = |place| match place {
            Stored::Queue(queue, offset) => (queue, offset),
            Stored::Deferred(_) | Stored::DeferredBefore(_) => panic!("it waits for nothing"),
        };
        places.into_iter().map(place).collect()
    }

    fn plan<'a>(&self, reservations: &Reservations, limit: u32, notifier: &'a Notify) -> Plan<'a> {
        let target = PollTarget {
            topic: TOPIC,
            queues: QUEUES,
            group: GROUP,
            orderly: false,
            by_priority: true,
            filter: &FILTER,
            check: None,
            leaves_unreadable: true,
            limit,
        };
        let planning = Plan::make(reservations, View::new(&self.kv), target, reservations.turn(), notifier);
        let Ok(Planning::Ready(plan)) = planning else { panic!("nothing is on a disk") };
        plan
    }

    /// A poll as `broker/receive/poll` makes it: its deliveries, in order.
    fn receive(&mut self, reservations: &Reservations, limit: u32) -> Vec<ReceiptHandle> {
        let candidates = self.plan(reservations, limit, &Notify::new()).candidates();
        let grant = Command::Grant(Grant {
            group: GROUP,
            topic: TOPIC,
            limit,
            invisible_for: Millis(LEASE_MS),
            client: String::new(),
            renew: false,
            token: self.index + 1,
            attempt_of: 0,
            candidates,
        });
        let Outcome::Granted(granted) = self.apply(&grant, Vec::new()) else { panic!("a grant is answered") };
        let handle = |queue, offset, lease| ReceiptHandle { group: GROUP, topic: TOPIC, queue, offset, lease };
        let of = |one: machine::outcome::Granted| {
            one.messages.offsets(one.first).map(move |offset| handle(one.queue, offset, one.lease))
        };
        granted.into_iter().flat_map(of).collect()
    }
}

pub(super) fn message(message_id: String) -> Message {
    Message {
        message_id,
        message_type: MessageType::Priority,
        body_encoding: BodyEncoding::Identity,
        body: Bytes::from_static(b"b"),
        tag: None,
        keys: Vec::new(),
        properties: Vec::new(),
        born_at: Timestamp(0),
        born_host: String::new(),
        message_group: None,
        delivery_at: None,
        trace_context: None,
        priority: None,
        recovery_after: None,
        classic: None,
        body_md5: None,
    }
}

fn node() -> Node {
    let mut node = Node::default();
    let topic = TopicName::parse("alarms").unwrap();
    let topic_type = TopicType::Only(MessageType::Priority);
    let create = CreateTopic {
        topic: topic.clone(),
        topic_type,
        queues: QUEUES,
        permission: Permission::READ_WRITE,
        retention: None,
    };
    node.apply(&Command::CreateTopic(create), Vec::new());
    let group = GroupName::parse("g").unwrap();
    let subscribe = Subscribe { group, topics: vec![topic], create: Some(RETRIES) };
    assert_eq!(node.apply(&Command::Subscribe(subscribe), Vec::new()), Outcome::GroupCreated(GROUP));
    node
}

#[test]
fn a_poll_that_must_retry_is_woken_by_the_one_that_reserved_and_not_by_itself() {
    let (mut node, reservations, notifier) = (node(), Reservations::default(), Notify::new());
    node.send(&[0, 1, 2]);
    let holds = node.plan(&reservations, RECEIVE_BATCH_MAX, &notifier);
    assert_eq!(holds.planned.len(), 3);
    let mut arrival = std::pin::pin!(notifier.notified());
    arrival.as_mut().enable();
    let must_retry = node.plan(&reservations, RECEIVE_BATCH_MAX, &notifier);
    assert!(must_retry.planned.is_empty());
    drop(must_retry);
    assert!(arrival.as_mut().now_or_never().is_none(), "it would plan again and again until the other is done");
    drop(holds);
    assert!(arrival.now_or_never().is_some());
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u32>),
    Receive(u32),
    Ack(usize),
    /// Gives one up: it is there again at once.
    GiveUp(usize),
    /// Every lease ends.
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..QUEUES + 3, 1..12).prop_map(Step::Send),
        4 => (1..=RECEIVE_BATCH_MAX).prop_map(Step::Receive),
        3 => any::<usize>().prop_map(Step::Ack),
        2 => any::<usize>().prop_map(Step::GiveUp),
        1 => Just(Step::Expire),
    ]
}

/// What is there to be had, and who has what.
#[derive(Default)]
struct Model {
    there: BTreeSet<(QueueId, QueueOffset)>,
    leased: Vec<ReceiptHandle>,
}

impl Model {
    fn take(&mut self, pick: usize) -> Option<ReceiptHandle> {
        (!self.leased.is_empty()).then(|| self.leased.swap_remove(pick % self.leased.len()))
    }

    fn is_there(&mut self, handle: ReceiptHandle) {
        self.there.insert((handle.queue, handle.offset));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_poll_brings_the_most_urgent_of_what_is_there(steps in prop::collection::vec(step(), 1..60)) {
        let (mut node, reservations, mut model) = (node(), Reservations::default(), Model::default());
        for step in steps {
            match step {
                Step::Send(priorities) => {
                    let places = node.send(&priorities);
                    for (priority, place) in priorities.iter().zip(places) {
                        prop_assert_eq!(place.0, QueueId((*priority).min(QUEUES - 1)), "a priority is a queue");
                        model.there.insert(place);
                    }
                }
                Step::Receive(limit) => {
                    let handles = node.receive(&reservations, limit);
                    let mut wanted: Vec<QueueId> = model.there.iter().map(|(queue, _)| *queue).collect();
                    wanted.sort_unstable_by(|one, other| other.cmp(one));
                    wanted.truncate(limit as usize);
                    let got: Vec<QueueId> = handles.iter().map(|handle| handle.queue).collect();
                    prop_assert_eq!(got, wanted, "the highest first, none left behind");
                    for handle in handles {
                        let was_there = model.there.remove(&(handle.queue, handle.offset));
                        prop_assert!(was_there, "P7, P8: {:?}", handle);
                        model.leased.push(handle);
                    }
                }
                Step::Ack(pick) => {
                    let Some(handle) = model.take(pick) else { continue };
                    let ack = Command::Ack(Ack { handles: vec![handle] });
                    prop_assert_eq!(node.apply(&ack, Vec::new()), Outcome::Acked(vec![true]));
                }
                Step::GiveUp(pick) => {
                    let Some(handle) = model.take(pick) else { continue };
                    let change = Command::Change(Change { handle, invisible_for: Millis(0) });
                    let outcome = node.apply(&change, Vec::new());
                    prop_assert!(matches!(outcome, Outcome::Changed(_)), "{:?}", outcome);
                    node.apply(&Command::Tick, Vec::new());
                    model.is_there(handle);
                }
                Step::Expire => {
                    node.now += LEASE_MS;
                    node.apply(&Command::Tick, Vec::new());
                    for handle in std::mem::take(&mut model.leased) {
                        model.is_there(handle);
                    }
                }
            }
        }
    }
}
