//! Message groups and orderly consumer groups.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use raftmq::machine::Stored;
use raftmq::machine::command::{Ack, Change, Command, CreateTopic, Placement, Subscribe};
use raftmq::machine::outcome::{Outcome, Rejected};
use raftmq::model::{
    GroupId, LeaseId, MessageGroupHash, MessageType, Millis, Permission, QueueId, QueueOffset, ReceiptHandle,
    TagFilter, Timestamp, TopicId, TopicType,
};

use super::{GROUPS, QUEUES, RETRIES, machine};
use crate::fixture::machine::{Machine, content, group, narrow, topic};

/// What orderly groups do on a FIFO topic.
#[derive(Debug, Clone)]
enum Ordered {
    Send(Vec<u8>),
    Receive {
        group: u32,
        limit: u32,
        seconds: u64,
    },
    /// The node can read so many messages of each lease, and returns the others.
    ReceiveSome {
        group: u32,
        limit: u32,
        readable: usize,
    },
    Ack(usize),
    Change {
        handle: usize,
        seconds: u64,
    },
    Bury(usize),
    Pass(u64),
    Tick,
    Flush,
    Crash,
}

fn ordered_step() -> impl Strategy<Value = Ordered> {
    prop_oneof![
        4 => prop::collection::vec(0u8..4, 1..6).prop_map(Ordered::Send),
        5 => (1..=GROUPS, 1u32..6, 10u64..30).prop_map(|(group, limit, seconds)| Ordered::Receive { group, limit, seconds }),
        1 => (1..=GROUPS, 1u32..6, 0usize..3).prop_map(|(group, limit, readable)| Ordered::ReceiveSome { group, limit, readable }),
        6 => any::<usize>().prop_map(Ordered::Ack),
        1 => (any::<usize>(), 0u64..30).prop_map(|(handle, seconds)| Ordered::Change { handle, seconds }),
        1 => any::<usize>().prop_map(Ordered::Bury),
        2 => (1u64..20).prop_map(Ordered::Pass),
        2 => Just(Ordered::Tick),
        1 => Just(Ordered::Flush),
        1 => Just(Ordered::Crash),
    ]
}

const STEPS: TopicId = TopicId(2);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Open(ReceiptHandle),
    Settled,
    Dead,
}

/// One message for one consumer group.
#[derive(Debug, Clone, Copy)]
struct Told {
    attempt: u32,
    fate: Fate,
    /// It never left its node, so this delivery counts only if another one of its lease was tried.
    unread: bool,
}

#[derive(Default)]
struct Lines {
    /// Message group of each message, by queue and offset.
    sent: BTreeMap<(QueueId, QueueOffset), u8>,
    told: BTreeMap<(GroupId, QueueId, QueueOffset), Told>,
    handles: Vec<ReceiptHandle>,
}

impl Lines {
    /// A lease was granted: one message group's messages, behind everything of it that is not settled.
    fn grant(
        &mut self,
        machine: &Machine,
        group: GroupId,
        queue: QueueId,
        lease: LeaseId,
        offsets: &[QueueOffset],
        attempt: u32,
    ) {
        let of = self.sent[&(queue, offsets[0])];
        for offset in offsets {
            assert_eq!(self.sent[&(queue, *offset)], of, "one lease, one message group");
        }
        let before = self.sent.range((queue, QueueOffset(0))..(queue, offsets[offsets.len() - 1]));
        for ((_, offset), _) in before.filter(|(_, other)| **other == of) {
            let told = self.told.get(&(group, queue, *offset));
            let is_done = told.is_some_and(|told| !matches!(told.fate, Fate::Open(_)));
            assert!(
                is_done || offsets.contains(offset),
                "P9: delivered before {offset} of its message group was settled"
            );
        }
        for ((_, offset), _) in self.sent.iter().filter(|((at, _), other)| *at == queue && **other == of) {
            if let Some(Told { fate: Fate::Open(handle), .. }) = self.told.get(&(group, queue, *offset)) {
                let lease = machine.view().lease(raftmq::machine::state::lease::key_of(handle)).unwrap();
                let is_open =
                    lease.is_some_and(|lease| !lease.held.is_empty() && lease.is_open(Timestamp(machine.now)));
                assert!(!is_open, "P9: two deliveries of one message group at once");
            }
        }
        let mut has_gap = false;
        for offset in offsets {
            let handle = ReceiptHandle { group, topic: STEPS, queue, offset: *offset, lease };
            let last = self.told.get(&(group, queue, *offset)).copied();
            match last.map(|told| told.fate) {
                None | Some(Fate::Open(_)) => has_gap = true,
                Some(Fate::Settled) => assert!(has_gap, "P7: settled messages come only behind a gap"),
                Some(Fate::Dead) => panic!("P10: delivered after it died"),
            }
            let before = last.map_or(0, |told| told.attempt);
            let is_uncounted = last.is_some_and(|told| told.unread) && attempt == before;
            assert!(is_uncounted || attempt == before + 1, "P10: one attempt for each delivery");
            let fate = match last.map(|told| told.fate) {
                // It was settled, and stays that.
                Some(Fate::Settled) => Fate::Settled,
                _ => Fate::Open(handle),
            };
            self.told.insert((group, queue, *offset), Told { attempt, fate, unread: false });
            self.handles.push(handle);
        }
    }

    fn pick(&self, pick: usize) -> Option<ReceiptHandle> {
        if self.handles.is_empty() { None } else { Some(self.handles[pick % self.handles.len()]) }
    }

    fn set(&mut self, handle: ReceiptHandle, fate: Fate) {
        let told = self.told.get_mut(&(handle.group, handle.queue, handle.offset)).unwrap();
        // An older handle of a settled one says OK again.
        if told.fate == Fate::Open(handle) {
            told.fate = fate;
        }
    }
}

fn receive_in_order(
    machine: &mut Machine,
    lines: &mut Lines,
    group: GroupId,
    limit: u32,
    seconds: u64,
) -> Vec<ReceiptHandle> {
    let mut plan = machine.plan(STEPS, group, &TagFilter::All);
    if limit.is_multiple_of(2) {
        narrow(&mut plan, limit);
    }
    let granted = machine.grant(STEPS, group, limit, seconds * 1000, None, plan).unwrap();
    assert!(granted.iter().map(|lease| lease.messages.len()).sum::<u32>() <= limit);
    let from = lines.handles.len();
    for lease in granted {
        let bits = (0..64).filter(|bit| lease.messages.0 >> bit & 1 == 1);
        let offsets: Vec<_> = bits.map(|bit| QueueOffset(lease.first.0 + bit)).collect();
        lines.grant(machine, group, lease.queue, lease.lease, &offsets, lease.attempt);
    }
    lines.handles[from..].to_vec()
}

fn ack_in_order(machine: &mut Machine, lines: &mut Lines, handle: ReceiptHandle) {
    if machine.apply(&Command::Ack(Ack { handles: vec![handle] })) == Outcome::Acked(vec![true]) {
        lines.set(handle, Fate::Settled);
    }
}

/// What the dead-letter topics hold is dead.
fn note_dead(machine: &Machine, lines: &mut Lines) {
    for number in 1..=GROUPS {
        let name = topic(&format!("%DLQ%f{number}"));
        let Some((dead, _)) = machine.view().topic(&name).unwrap() else { continue };
        let group = machine.view().group(&group(&format!("f{number}"))).unwrap().unwrap().0;
        let max = machine.view().queue_head(dead, QueueId(0)).unwrap().max;
        let mut seen = BTreeSet::new();
        for (_, run) in machine.view().runs(dead, QueueId(0), QueueOffset(0), max).unwrap() {
            let origin = run.origin.unwrap();
            assert!(seen.insert((origin.queue, origin.offset)), "P10: dead once");
            let told = lines.told.get_mut(&(group, origin.queue, origin.offset)).unwrap();
            assert_ne!(told.fate, Fate::Settled, "P7: dead after it was settled");
            told.fate = Fate::Dead;
        }
    }
}

fn run_ordered(steps: &[Ordered], crashes: bool) -> Machine {
    let mut machine = machine();
    let create = CreateTopic {
        topic: topic("steps"),
        topic_type: TopicType::Only(MessageType::Fifo),
        queues: QUEUES,
        permission: Permission::READ_WRITE,
        retention: None,
    };
    machine.apply(&Command::CreateTopic(create));
    let mut groups = Vec::new();
    for number in 1..=GROUPS {
        let subscribe =
            Subscribe { group: group(&format!("f{number}")), topics: vec![topic("steps")], create: Some(RETRIES) };
        let Outcome::GroupCreated(id) = machine.apply(&Command::Subscribe(subscribe)) else { panic!("it is made") };
        groups.push(id);
    }
    let mut lines = Lines::default();
    for step in steps {
        match step {
            Ordered::Send(of) => {
                let hashes = of.iter().map(|of| MessageGroupHash::of(&of.to_string())).collect();
                let bodies: Vec<_> = of.iter().map(ToString::to_string).collect();
                let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
                let outcome = machine.send_aside(STEPS, MessageType::Fifo, &bodies, Placement::Fifo(hashes));
                let Outcome::Sent(places) = outcome else { panic!("a send is taken") };
                for (of, place) in of.iter().zip(places) {
                    let Stored::Queue(queue, offset) = place else { panic!("it waits for nothing") };
                    let elsewhere = lines.sent.iter().any(|((at, _), other)| other == of && *at != queue);
                    assert!(!elsewhere, "one message group, one queue");
                    lines.sent.insert((queue, offset), *of);
                }
            }
            Ordered::Receive { group, limit, seconds } => {
                receive_in_order(&mut machine, &mut lines, groups[*group as usize - 1], *limit, *seconds);
            }
            Ordered::ReceiveSome { group, limit, readable } => {
                let group = groups[*group as usize - 1];
                let handles = receive_in_order(&mut machine, &mut lines, group, *limit, 20);
                let leases: BTreeSet<_> = handles.iter().map(|handle| (handle.queue, handle.lease)).collect();
                for of in leases {
                    let of_lease = handles.iter().filter(|handle| (handle.queue, handle.lease) == of);
                    for handle in of_lease.skip(*readable) {
                        let outcome = machine.apply(&Command::ReturnUnread { handle: *handle });
                        // Once all is returned that was not settled before, the lease is over.
                        let is_over = outcome == Outcome::Rejected(Rejected::LeaseEnded);
                        assert!(is_over || matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
                        lines.told.get_mut(&(handle.group, handle.queue, handle.offset)).unwrap().unread = true;
                    }
                }
            }
            Ordered::Ack(pick) => {
                if let Some(handle) = lines.pick(*pick) {
                    ack_in_order(&mut machine, &mut lines, handle);
                }
            }
            Ordered::Change { handle, seconds } => {
                let Some(handle) = lines.pick(*handle) else { continue };
                machine.apply(&Command::Change(Change { handle, invisible_for: Millis(seconds * 1000) }));
            }
            Ordered::Bury(pick) => {
                let Some(handle) = lines.pick(*pick) else { continue };
                machine.apply(&Command::DeadLetter { handle });
            }
            Ordered::Pass(seconds) => machine.now += seconds * 1000,
            Ordered::Tick => drop(machine.apply(&Command::Tick)),
            Ordered::Flush => machine.flush(),
            Ordered::Crash if crashes => machine.crash(),
            Ordered::Crash => {}
        }
        note_dead(&machine, &mut lines);
    }
    // P6: whatever happened, everything comes in the end.
    for group in groups {
        for _ in 0..1000 {
            machine.now += 30_000;
            machine.apply(&Command::Tick);
            note_dead(&machine, &mut lines);
            let handles = receive_in_order(&mut machine, &mut lines, group, 32, 10);
            if handles.is_empty() {
                break;
            }
            for handle in handles {
                ack_in_order(&mut machine, &mut lines, handle);
            }
        }
        for (queue, offset) in lines.sent.keys() {
            let told = lines.told.get(&(group, *queue, *offset));
            let is_done = told.is_some_and(|told| !matches!(told.fate, Fate::Open(_)));
            assert!(is_done, "P6: {queue}/{offset} was left behind: {told:?}");
        }
    }
    machine
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn p6_p9_message_groups_are_delivered_in_order_and_to_the_end(steps in prop::collection::vec(ordered_step(), 1..80)) {
        run_ordered(&steps, false);
    }

    #[test]
    fn p15_a_restarted_machine_keeps_the_same_order(steps in prop::collection::vec(ordered_step(), 1..60)) {
        let (straight, restarted) = (run_ordered(&steps, false), run_ordered(&steps, true));
        prop_assert_eq!(straight.view().digest().unwrap(), restarted.view().digest().unwrap());
        prop_assert_eq!(content(&straight.kv), content(&restarted.kv));
    }
}
