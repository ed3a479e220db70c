//! Plans on a node that cannot read some messages, with the machine between them: what is whole is delivered, and what is not
//! costs no attempt and is left as it was.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker::receive::filter_check::{MessageCheck, Unchecked, Verdict};
use crate::broker::receive::plan::{Plan, Planning};
use crate::broker::receive::plan_tests::message;
use crate::broker::receive::reservations::Reservations;
use crate::broker::receive::target::PollTarget;
use crate::machine::command::{
    Ack, Candidate, Command, CreateTopic, Grant, Placement, Repeat, Send, Subscribe, UpdateGroup,
};
use crate::machine::outcome::{Granted, Outcome, Rejected};
use crate::machine::state::view::View;
use crate::machine::{self, Batch, Proposal, Recent, Stage};
use crate::model::{
    Filter, GroupId, GroupName, LogIndex, MessageGroupHash, MessageRef, MessageType, Millis, OffsetSet, Permission,
    QueueId, QueueOffset, ReceiptHandle, TagFilter, Timestamp, TopicId, TopicName, TopicType,
};
use crate::store::kv::Kv;
use crate::store::kv::memory::MemoryKv;

const TOPIC: TopicId = TopicId(1);
const GROUP: GroupId = GroupId(1);
const QUEUE: QueueId = QueueId(0);
const FILTER: Filter = Filter::Tags(TagFilter::All);
const LEASE_MS: u64 = 30_000;
const LINE: MessageGroupHash = MessageGroupHash(7);
const OTHER_LINE: MessageGroupHash = MessageGroupHash(8);

/// A node that cannot read these slots of the one entry with messages.
struct Unreadable(BTreeSet<u32>);

impl MessageCheck for Unreadable {
    fn verdict(&self, message: MessageRef) -> Result<Verdict, Unchecked> {
        Ok(if self.0.contains(&message.slot) { Verdict::Unreadable } else { Verdict::Wanted })
    }
}

struct Node {
    kv: MemoryKv,
    recent: Recent,
    index: u64,
    now: u64,
    topic_type: TopicType,
    reservations: Reservations,
}

impl Node {
    /// With one entry of messages: normal ones, or those of these lines.
    fn with(count: usize, lines: &[MessageGroupHash]) -> Self {
        let message_type = if lines.is_empty() { MessageType::Normal } else { MessageType::Fifo };
        let topic_type = TopicType::Only(message_type);
        let (kv, recent, reservations) = (MemoryKv::default(), Recent::default(), Reservations::default());
        let mut node = Self { kv, recent, index: 0, now: 0, topic_type, reservations };
        let topic = TopicName::parse("t").unwrap();
        let create = CreateTopic {
            topic: topic.clone(),
            topic_type,
            queues: 1,
            permission: Permission::READ_WRITE,
            retention: None,
        };
        node.apply(&Command::CreateTopic(create), Vec::new());
        let group = GroupName::parse("g").unwrap();
        node.apply(&Command::Subscribe(Subscribe { group, topics: vec![topic], create: Some(16) }), Vec::new());
        let placement = if lines.is_empty() { Placement::Now } else { Placement::Fifo(lines.to_vec()) };
        let send = Send { topic: TOPIC, message_type, tag_hashes: vec![0; count], placement };
        let messages = (0..count).map(|number| message(number.to_string()).encode()).collect();
        let sent = node.apply(&Command::Send(send), messages);
        assert!(matches!(sent, Outcome::Sent(_)), "{sent:?}");
        node
    }

    fn apply(&mut self, command: &Command, messages: Vec<Bytes>) -> Outcome {
        let proposal = Proposal { command: command.encode(), messages };
        let body = Batch::encode(Timestamp(self.now), std::iter::once(&proposal));
        self.index += 1;
        let mut stage = Stage::new(&self.kv).unwrap();
        let outcome = machine::apply(&mut stage, &mut self.recent, LogIndex(self.index), body).unwrap().pop().unwrap();
        self.kv.write(stage.finish().unwrap().0).unwrap();
        outcome
    }

    /// One poll on a node that cannot read these: the offsets that it is granted with their attempts, and whether it lacks some.
    fn poll(&mut self, unreadable: &[u32], leaves_unreadable: bool) -> (Vec<(u64, u32)>, bool) {
        let (granted, lacks_some) = self.grant(unreadable, leaves_unreadable);
        let offsets = |one: &Granted| {
            let attempt = one.attempt;
            one.messages.offsets(one.first).map(move |offset| (offset.0, attempt)).collect::<Vec<_>>()
        };
        (granted.iter().flat_map(offsets).collect(), lacks_some)
    }

    fn grant(&mut self, unreadable: &[u32], leaves_unreadable: bool) -> (Vec<Granted>, bool) {
        let (candidates, lacks_some) = self.plan(unreadable, leaves_unreadable);
        if candidates.is_empty() {
            return (Vec::new(), lacks_some);
        }
        let outcome = self.apply(&grant(self.index, candidates), Vec::new());
        let Outcome::Granted(granted) = outcome else { panic!("a grant is answered: {outcome:?}") };
        assert!(!granted.is_empty(), "a plan without effect would be made over and over");
        (granted, lacks_some)
    }

    fn plan(&self, unreadable: &[u32], leaves_unreadable: bool) -> (Vec<Candidate>, bool) {
        let check = Unreadable(unreadable.iter().copied().collect());
        let target = PollTarget {
            topic: TOPIC,
            queues: 1,
            group: GROUP,
            orderly: self.topic_type.is_fifo(),
            by_priority: false,
            filter: &FILTER,
            check: Some(&check),
            leaves_unreadable,
            limit: 32,
        };
        let notifier = Notify::new();
        let planning = Plan::make(&self.reservations, View::new(&self.kv), target, 0, &notifier);
        let Ok(Planning::Ready(plan)) = planning else { panic!("nothing is on a disk") };
        (plan.candidates(), plan.lacks_some)
    }

    /// A poll that finds all lines at work.
    fn pass_over(&mut self, first: u64) {
        let candidates = self.plan(&[], true).0;
        let passes = Candidate::Fresh { queue: QUEUE, first: QueueOffset(first), length: 2, wanted: OffsetSet(0b11) };
        assert_eq!(candidates, [passes]);
        let granted = self.apply(&grant(self.index, candidates), Vec::new());
        assert_eq!(granted, Outcome::Granted(Vec::new()));
    }

    fn expire(&mut self) {
        self.now += LEASE_MS;
        self.apply(&Command::Tick, Vec::new());
    }
}

fn grant(token: u64, candidates: Vec<Candidate>) -> Command {
    Command::Grant(Grant {
        group: GROUP,
        topic: TOPIC,
        limit: 32,
        invisible_for: Millis(LEASE_MS),
        client: String::new(),
        renew: false,
        token,
        attempt_of: 0,
        candidates,
    })
}

#[test]
fn what_is_whole_is_delivered_and_the_rest_is_left_to_other_nodes_without_an_attempt() {
    let mut node = Node::with(6, &[]);
    assert_eq!(node.poll(&[2, 4], true), (vec![(0, 1), (1, 1)], true), "those before the first that is bad");
    assert_eq!(node.poll(&[2, 4], true), (vec![], true), "the bad one is not leased");
    // Another node has it.
    assert_eq!(node.poll(&[4], true), (vec![(2, 1), (3, 1)], true));
    // Repaired.
    assert_eq!(node.poll(&[], true), (vec![(4, 1), (5, 1)], false));
    node.expire();
    let again: Vec<_> = [0, 1, 2, 3, 5].into_iter().map(|offset| (offset, 2)).collect();
    assert_eq!(node.poll(&[4], true), (again, true), "of an ended lease the others are delivered");
    assert_eq!(node.poll(&[4], true), (vec![], true));
    assert_eq!(node.poll(&[], true), (vec![(4, 2)], false));
}

#[test]
fn nothing_of_a_message_group_overtakes_what_cannot_be_read() {
    let mut node = Node::with(5, &[LINE, OTHER_LINE, LINE, OTHER_LINE, LINE]);
    assert_eq!(node.poll(&[2], true), (vec![(0, 1), (1, 1)], true));
    node.expire();
    assert_eq!(node.poll(&[], true).0, [(0, 2), (1, 2)]);
    node.expire();
    assert_eq!(node.poll(&[0], true), (vec![(1, 3)], true), "the other line goes on");

    // Of a line at work the group passes over what comes later, and the line finds it again.
    let mut node = Node::with(4, &[LINE, OTHER_LINE, LINE, LINE]);
    let (granted, _) = node.grant(&[2], true);
    let Granted { first: offset, lease, .. } = granted[0];
    assert_eq!((offset.0, granted.len()), (0, 2));
    node.pass_over(2);
    let handle = ReceiptHandle { group: GROUP, topic: TOPIC, queue: QUEUE, offset, lease };
    node.apply(&Command::Ack(Ack { handles: vec![handle] }), Vec::new());
    assert_eq!(node.poll(&[2], true), (vec![], true));
    assert_eq!(node.poll(&[3], true), (vec![(2, 1)], true));
}

#[test]
fn without_other_nodes_a_message_that_cannot_be_read_holds_up_nothing_but_itself() {
    let mut node = Node::with(3, &[]);
    assert_eq!(node.poll(&[0], false), (vec![(0, 1)], true), "it is leased alone");
    assert_eq!(node.poll(&[0], false), (vec![(1, 1), (2, 1)], false));
    node.expire();
    for _ in 0..3 {
        assert_eq!(node.poll(&[0, 1, 2], false), (vec![], true), "and then left as it is: it uses up no attempts");
    }
    assert_eq!(node.poll(&[0], false), (vec![(1, 2), (2, 2)], true));
    assert_eq!(node.poll(&[], false), (vec![(0, 2)], false), "should it be put back, it is there");
}

impl Node {
    /// What a node does with messages that it was granted and finds that it cannot read.
    fn return_unread(&mut self, granted: &Granted, offsets: impl IntoIterator<Item = u64>) {
        for offset in offsets.into_iter().map(QueueOffset) {
            let handle = ReceiptHandle { group: GROUP, topic: TOPIC, queue: QUEUE, offset, lease: granted.lease };
            let outcome = self.apply(&Command::ReturnUnread { handle }, Vec::new());
            assert!(matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
            let again = self.apply(&Command::ReturnUnread { handle }, Vec::new());
            let is_in_lease = granted.messages.len() > 1 && self.topic_type.is_fifo();
            assert!(is_in_lease || again == Outcome::Rejected(Rejected::LeaseEnded), "{again:?}");
        }
    }
}

#[test]
fn p10_what_its_node_found_damaged_only_after_it_was_leased_costs_no_attempt() {
    let mut node = Node::with(3, &[]);
    for attempt in 1..=2 {
        let (granted, _) = node.grant(&[], true);
        let delivered: BTreeSet<_> = granted.iter().flat_map(|one| one.messages.offsets(one.first)).collect();
        assert_eq!(delivered, [0, 1, 2].map(QueueOffset).into());
        assert!(granted.iter().all(|one| one.attempt == attempt));
        let of_1 = granted.iter().find(|one| one.messages.offsets(one.first).any(|offset| offset.0 == 1)).unwrap();
        node.return_unread(of_1, [1]);
        assert_eq!(node.poll(&[1], true), (vec![], true), "it is left to others");
        assert_eq!(node.poll(&[], true).0, [(1, attempt)], "another node has it at once");
        node.expire();
    }
}

#[test]
fn p10_the_last_attempt_is_not_used_up_by_a_node_that_cannot_read_the_message() {
    let mut node = Node::with(1, &[]);
    let update = UpdateGroup {
        group: GroupName::parse("g").unwrap(),
        retries_max: Some(0),
        backoff: None,
        consume_from: None,
        filter: None,
    };
    assert_eq!(node.apply(&Command::UpdateGroup(update), Vec::new()), Outcome::Done);
    for _ in 0..3 {
        let (granted, _) = node.grant(&[], true);
        node.return_unread(&granted[0], [0]);
    }
    assert_eq!(node.poll(&[], true).0, [(0, 1)], "it did not become a dead letter");
}

#[test]
fn p10_of_a_message_group_it_costs_none_if_all_that_is_left_never_came() {
    let mut node = Node::with(3, &[LINE, LINE, LINE]);
    let (granted, _) = node.grant(&[], true);
    node.return_unread(&granted[0], 0..3);
    let (granted, _) = node.grant(&[], true);
    assert_eq!((granted[0].attempt, granted[0].messages.len()), (1, 3));
    // The first one is delivered, and settled before what comes after it goes back.
    node.return_unread(&granted[0], [1, 2]);
    assert_eq!(node.poll(&[], true), (vec![], false), "its consumer is at work on the first");
    let handle =
        ReceiptHandle { group: GROUP, topic: TOPIC, queue: QUEUE, offset: QueueOffset(0), lease: granted[0].lease };
    node.apply(&Command::Ack(Ack { handles: vec![handle] }), Vec::new());
    let (granted, _) = node.grant(&[], true);
    assert_eq!((granted[0].first, granted[0].attempt), (QueueOffset(0), 1));
    assert_eq!(granted[0].messages, OffsetSet(0b110));
    // Delivered, not settled, and then what comes after it cannot be read: all of it was tried.
    node.return_unread(&granted[0], [2]);
    node.expire();
    assert_eq!(node.poll(&[], true).0, [(1, 2), (2, 2)]);
}

#[test]
fn p10_what_a_repeated_poll_was_given_counts_although_another_node_could_not_read_it() {
    let mut node = Node::with(2, &[LINE, LINE]);
    let (granted, _) = node.grant(&[], true);
    node.return_unread(&granted[0], [1]);
    let repeat = Repeat {
        group: GROUP,
        topic: TOPIC,
        attempt_of: 0,
        invisible_for: Millis(LEASE_MS),
        client: String::new(),
        renew: false,
        token: 9,
        leases: vec![(QUEUE, granted[0].lease)],
    };
    let Outcome::Granted(again) = node.apply(&Command::Repeat(repeat), Vec::new()) else { panic!("it is answered") };
    assert_eq!((again[0].attempt, again[0].messages), (1, OffsetSet(0b11)));
    let handle =
        ReceiptHandle { group: GROUP, topic: TOPIC, queue: QUEUE, offset: QueueOffset(0), lease: again[0].lease };
    node.apply(&Command::Ack(Ack { handles: vec![handle] }), Vec::new());
    node.expire();
    assert_eq!(node.poll(&[], true).0, [(1, 2)], "it was delivered once");
}
