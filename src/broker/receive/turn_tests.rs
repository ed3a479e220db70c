//! What waits for redelivery, or in FIFO lines, takes turns: whoever consumes slowly holds up only itself (A18).

use std::collections::BTreeMap;

use tokio::sync::Notify;

use crate::broker::receive::plan::{Plan, Planning};
use crate::broker::receive::plan_tests::{Node, message};
use crate::broker::receive::reservations::Reservations;
use crate::broker::receive::target::PollTarget;
use crate::machine::command::{Ack, Command, CreateTopic, Grant, Placement, Send, Subscribe};
use crate::machine::outcome::{Granted, Outcome};
use crate::machine::state::view::View;
use crate::model::{
    Filter, GroupId, GroupName, MessageGroupHash, MessageType, Millis, Permission, QueueId, ReceiptHandle, TagFilter,
    TopicId, TopicName, TopicType,
};

const TOPIC: TopicId = TopicId(1);
const GROUP: GroupId = GroupId(1);
const FILTER: Filter = Filter::Tags(TagFilter::All);
const LEASE_MS: u64 = 1000;

struct Polls {
    node: Node,
    reservations: Reservations,
    queues: u32,
    orderly: bool,
}

impl Polls {
    fn of(message_type: MessageType, queues: u32) -> Self {
        let mut node = Node::default();
        let (topic, group) = (TopicName::parse("t").unwrap(), GroupName::parse("g").unwrap());
        let (topic_type, permission) = (TopicType::Only(message_type), Permission::READ_WRITE);
        let create = CreateTopic { topic: topic.clone(), topic_type, queues, permission, retention: None };
        node.apply(&Command::CreateTopic(create), Vec::new());
        node.apply(&Command::Subscribe(Subscribe { group, topics: vec![topic], create: Some(1000) }), Vec::new());
        Self { node, reservations: Reservations::default(), queues, orderly: message_type == MessageType::Fifo }
    }

    fn send(&mut self, message_type: MessageType, placement: Placement, count: usize) {
        let messages = (0..count).map(|number| message(format!("{}-{number}", self.node.index)).encode()).collect();
        let command = Command::Send(Send { topic: TOPIC, message_type, tag_hashes: vec![0; count], placement });
        assert!(matches!(self.node.apply(&command, messages), Outcome::Sent(_)));
    }

    /// A poll as `broker/receive/poll` makes it.
    fn poll(&mut self, limit: u32) -> Vec<Granted> {
        let notifier = Notify::new();
        let target = PollTarget {
            topic: TOPIC,
            queues: self.queues,
            group: GROUP,
            orderly: self.orderly,
            by_priority: false,
            filter: &FILTER,
            check: None,
            leaves_unreadable: false,
            limit,
        };
        let turn = self.reservations.turn();
        let planning = Plan::make(&self.reservations, View::new(&self.node.kv), target, turn, &notifier);
        let Ok(Planning::Ready(plan)) = planning else { panic!("nothing is on a disk") };
        let candidates = plan.candidates();
        drop(plan);
        let grant = Command::Grant(Grant {
            group: GROUP,
            topic: TOPIC,
            limit,
            invisible_for: Millis(LEASE_MS),
            client: String::new(),
            renew: false,
            token: self.node.index + 1,
            attempt_of: 0,
            candidates,
        });
        let Outcome::Granted(granted) = self.node.apply(&grant, Vec::new()) else { panic!("a grant is answered") };
        granted
    }

    fn ack(&mut self, granted: &[Granted]) {
        let of = |one: &Granted| {
            let (queue, lease) = (one.queue, one.lease);
            let handle = move |offset| ReceiptHandle { group: GROUP, topic: TOPIC, queue, offset, lease };
            one.messages.offsets(one.first).map(handle).collect::<Vec<_>>()
        };
        let handles = granted.iter().flat_map(of).collect();
        self.node.apply(&Command::Ack(Ack { handles }), Vec::new());
    }
}

#[test]
fn fifo_lines_take_turns() {
    const LINES: u64 = 8;
    let mut polls = Polls::of(MessageType::Fifo, 1);
    let groups: Vec<_> = (0..6).flat_map(|_| (1..=LINES).map(MessageGroupHash)).collect();
    polls.send(MessageType::Fifo, Placement::Fifo(groups.clone()), groups.len());
    let first = polls.poll(LINES as u32);
    assert_eq!(first.len() as u64, LINES, "every line is at work");
    assert_eq!(polls.poll(32), [], "and their other messages wait in them");
    polls.ack(&first);
    let mut served: BTreeMap<u64, u32> = BTreeMap::new();
    for _ in 0..2 * LINES {
        let granted = polls.poll(1);
        *served.entry(granted[0].first.0 % LINES).or_default() += 1;
        // Its line is ready again at once.
        polls.ack(&granted);
    }
    assert_eq!(served, (0..LINES).map(|line| (line, 2)).collect());
}

#[test]
fn what_waits_for_redelivery_takes_turns() {
    const QUEUES: u32 = 4;
    let mut polls = Polls::of(MessageType::Normal, QUEUES);
    for _ in 0..QUEUES {
        polls.send(MessageType::Normal, Placement::Now, 8);
    }
    polls.poll(32);
    let mut served: BTreeMap<QueueId, u32> = BTreeMap::new();
    for round in 1..=2 * QUEUES {
        // Nobody settles anything: what was delivered waits again, in its queue.
        polls.node.now = u64::from(round) * LEASE_MS;
        polls.node.apply(&Command::Tick, Vec::new());
        *served.entry(polls.poll(1)[0].queue).or_default() += 1;
    }
    assert_eq!(served, (0..QUEUES).map(|queue| (QueueId(queue), 2)).collect());
}
