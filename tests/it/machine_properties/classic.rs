//! What classic clients and their tools have in the machine: locks of queues, messages that come back, queues that were chosen,
//! committed offsets, key-values and write permissions. All of it at once, against plain models.
//!
//! Delays and transactions of classic clients are among those of others (`waiting`).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use raftmq::machine::command::{
    BackTo, Command, CreateTopic, LockQueues, OffsetMove, QueuePlacement, SendBack, SendToQueue, SetGroupOffsets,
    SetKeyValue, SetWritePermission, UnlockQueues,
};
use raftmq::machine::outcome::{Outcome, Rejected};
use raftmq::machine::state::queue_lock::QueueLock;
use raftmq::machine::{Proposal, Stored};
use raftmq::model::limits::KEY_VALUES_MAX;
use raftmq::model::{
    GroupId, LogIndex, MemberName, MessageGroupHash, MessageRef, MessageType, Millis, Permission, QueueId, QueueOffset,
    Timestamp, TopicId, TopicName, TopicType, Unwritable,
};

use super::{GROUPS, QUEUES, TOPIC, machine};
use crate::fixture::machine::{Machine, content, group, plain_message, topic};

const RETRIES: TopicId = TopicId(2);
const ORDERS: TopicId = TopicId(3);
/// Made by the first dead letter.
const DEAD: TopicId = TopicId(4);
/// The group whose messages come back, and whose offsets move.
const GROUP: GroupId = GroupId(1);
const CLIENTS: usize = 3;

#[derive(Debug, Clone)]
enum Classic {
    Lock { group: u32, client: usize, queues: Vec<u32>, seconds: u64 },
    Unlock { group: u32, client: usize, queues: Vec<u32> },
    Retry(u64),
    Die,
    Redrive(u64),
    Send { queue: u32, count: usize },
    SendInOrder { queue: u32, groups: Vec<u64> },
    Move { queue: u32, offset: u64, how: OffsetMove },
    Put { namespace: usize, key: usize, value: Option<u8> },
    Permit { of: Option<u32>, may_write: bool },
    Pass(u64),
    Tick,
    Flush,
    Crash,
}

fn queues() -> impl Strategy<Value = Vec<u32>> {
    // One more than there are.
    prop::collection::vec(0..=QUEUES, 1..4)
}

fn step() -> impl Strategy<Value = Classic> {
    use Classic::{Crash, Die, Flush, Lock, Move, Pass, Permit, Put, Redrive, Retry, Send, SendInOrder, Tick, Unlock};
    let how = prop_oneof![4 => Just(OffsetMove::Advance), 1 => Just(OffsetMove::Reset), 1 => Just(OffsetMove::Set)];
    prop_oneof![
        5 => (1..=GROUPS, 0..CLIENTS, queues(), 1u64..60)
            .prop_map(|(group, client, queues, seconds)| Lock { group, client, queues, seconds }),
        2 => (1..=GROUPS, 0..CLIENTS, queues()).prop_map(|(group, client, queues)| Unlock { group, client, queues }),
        4 => (0u64..40).prop_map(Retry),
        2 => Just(Die),
        2 => (0u64..4).prop_map(Redrive),
        2 => (0..QUEUES, 1usize..4).prop_map(|(queue, count)| Send { queue, count }),
        2 => (0..QUEUES, prop::collection::vec(0u64..3, 1..4)).prop_map(|(queue, groups)| SendInOrder { queue, groups }),
        4 => (0..QUEUES, 0u64..12, how).prop_map(|(queue, offset, how)| Move { queue, offset, how }),
        3 => (0usize..2, 0usize..3, prop::option::of(any::<u8>()))
            .prop_map(|(namespace, key, value)| Put { namespace, key, value }),
        2 => (prop::option::of(0u32..3), any::<bool>()).prop_map(|(of, may_write)| Permit { of, may_write }),
        4 => (1u64..25).prop_map(Pass),
        3 => Just(Tick),
        1 => Just(Flush),
        1 => Just(Crash),
    ]
}

/// What there is, as a reader of the contract knows it.
#[derive(Default)]
struct Plain {
    /// Who has a queue, and until when; an end that has come means nothing.
    locks: BTreeMap<(GroupId, QueueId), (usize, u64)>,
    /// Messages that come back later, each with its time.
    waiting: Vec<(u64, MessageRef)>,
    came: Vec<MessageRef>,
    dead: Vec<MessageRef>,
    redriven: BTreeSet<u64>,
    /// Of the topics without and with message groups: how many messages are in each queue.
    sent: BTreeMap<(TopicId, QueueId), u64>,
    offsets: BTreeMap<QueueId, u64>,
    key_values: BTreeMap<(usize, usize), u8>,
    unwritable: Unwritable,
}

fn client(number: usize) -> String {
    format!("c{number}@1")
}

fn namespace(number: usize) -> &'static str {
    // One begins as the other does.
    ["ORDER", "ORDERED"][number]
}

fn run(steps: &[Classic], crashes: bool) -> Machine {
    let mut machine = machine();
    for (name, topic_type, queues) in [
        (TopicName::retries_of(&group("g1")).unwrap(), TopicType::Only(MessageType::Normal), 1),
        (topic("orders"), TopicType::Only(MessageType::Fifo), QUEUES),
    ] {
        let (permission, retention) = (Permission::READ_WRITE, None);
        let create = CreateTopic { topic: name, topic_type, queues, permission, retention };
        assert!(matches!(machine.apply(&Command::CreateTopic(create)), Outcome::TopicCreated(_)));
    }
    let mut plain = Plain::default();
    for step in steps {
        match step {
            Classic::Pass(seconds) => machine.now += seconds * 1000,
            Classic::Flush => machine.flush(),
            Classic::Crash if crashes => machine.crash(),
            Classic::Crash => {}
            Classic::Tick => plain.tick(&mut machine),
            Classic::Lock { .. } | Classic::Unlock { .. } => plain.lock(&mut machine, step),
            Classic::Retry(_) | Classic::Die | Classic::Redrive(_) => plain.give_back(&mut machine, step),
            Classic::Send { queue, count } => plain.send(&mut machine, TOPIC, *queue, *count, QueuePlacement::Now),
            Classic::SendInOrder { queue, groups } => {
                let all = groups.iter().map(|group| MessageGroupHash(*group)).collect();
                plain.send(&mut machine, ORDERS, *queue, groups.len(), QueuePlacement::Fifo(all));
            }
            Classic::Move { queue, offset, how } => plain.set_offset(&mut machine, QueueId(*queue), *offset, *how),
            Classic::Put { namespace: of, key, value } => plain.put(&mut machine, (*of, *key), *value),
            Classic::Permit { of, may_write } => plain.permit(&mut machine, of.map(MemberName), *may_write),
        }
        plain.check(&machine);
    }
    machine
}

impl Plain {
    fn lock(&mut self, machine: &mut Machine, step: &Classic) {
        let now = machine.now;
        match step {
            Classic::Lock { group, client: number, queues, seconds } => {
                let until = now + seconds * 1000;
                let mut expected = Vec::new();
                for queue in queues {
                    let at = (GroupId(*group), QueueId(*queue));
                    let is_another_s = self.locks.get(&at).is_some_and(|(owner, end)| owner != number && *end > now);
                    let is_locked = *queue < QUEUES && !is_another_s;
                    if is_locked {
                        self.locks.insert(at, (*number, until));
                    }
                    expected.push(is_locked);
                }
                let lock = LockQueues {
                    group: GroupId(*group),
                    client: client(*number),
                    queues: queues.iter().map(|queue| (TOPIC, QueueId(*queue))).collect(),
                    locked_for: Millis(seconds * 1000),
                };
                let outcome = machine.apply(&Command::LockQueues(lock));
                assert_eq!(outcome, Outcome::Locked(expected), "one owner at a time, until the lock ends");
            }
            Classic::Unlock { group, client: number, queues } => {
                for queue in queues {
                    let at = (GroupId(*group), QueueId(*queue));
                    if self.locks.get(&at).is_some_and(|(owner, _)| owner == number) {
                        self.locks.remove(&at);
                    }
                }
                let unlock = UnlockQueues {
                    group: GroupId(*group),
                    client: client(*number),
                    queues: queues.iter().map(|queue| (TOPIC, QueueId(*queue))).collect(),
                };
                assert_eq!(machine.apply(&Command::UnlockQueues(unlock)), Outcome::Done);
            }
            _ => unreachable!("the caller knows"),
        }
    }

    fn give_back(&mut self, machine: &mut Machine, step: &Classic) {
        let to = match step {
            Classic::Retry(seconds) => BackTo::Retry(Timestamp(machine.now + seconds * 1000)),
            Classic::Die => BackTo::DeadLetter,
            Classic::Redrive(offset) => BackTo::Redriven(QueueOffset(*offset)),
            _ => unreachable!("the caller knows"),
        };
        let command = Command::SendBack(SendBack { group: GROUP, tag_hash: 0, to });
        let messages = vec![plain_message("back", None).encode()];
        let (outcomes, _) = machine.apply_all(&[Proposal { command: command.encode(), messages }]);
        let message = MessageRef { index: LogIndex(machine.index), slot: 0 };
        let expected = match to {
            BackTo::Retry(at) if at.0 > machine.now => {
                self.waiting.push((at.0, message));
                Outcome::Sent(vec![Stored::Deferred(0)])
            }
            BackTo::Retry(_) => entered(&mut self.came, message),
            BackTo::DeadLetter => entered(&mut self.dead, message),
            BackTo::Redriven(offset) => {
                let is_first = offset.0 < self.dead.len() as u64 && self.redriven.insert(offset.0);
                if is_first {
                    self.came.push(message);
                }
                Outcome::Redriven(vec![is_first])
            }
        };
        assert_eq!(outcomes[0], expected);
    }

    fn tick(&mut self, machine: &mut Machine) {
        assert_eq!(machine.apply(&Command::Tick), Outcome::Ticked { more: false });
        let now = machine.now;
        self.came.extend(self.waiting.iter().filter(|(at, _)| *at <= now).map(|(_, message)| *message));
        self.waiting.retain(|(at, _)| *at > now);
    }

    fn send(&mut self, machine: &mut Machine, to: TopicId, queue: u32, count: usize, placement: QueuePlacement) {
        let queue = QueueId(queue);
        let send = SendToQueue { topic: to, queue, tag_hashes: vec![0; count], placement };
        let messages = vec![plain_message("s", None).encode(); count];
        let command = Command::SendToQueue(send);
        let (outcomes, _) = machine.apply_all(&[Proposal { command: command.encode(), messages }]);
        let next = self.sent.entry((to, queue)).or_default();
        assert_eq!(outcomes[0], Outcome::SentToQueue { offset: QueueOffset(*next), slot: 0 }, "one after the other");
        *next += count as u64;
    }

    fn set_offset(&mut self, machine: &mut Machine, queue: QueueId, offset: u64, how: OffsetMove) {
        let offsets = vec![(queue, QueueOffset(offset))];
        let set = SetGroupOffsets { topic: TOPIC, group: GROUP, offsets, how };
        assert_eq!(machine.apply(&Command::SetGroupOffsets(set)), Outcome::Done);
        let end = self.sent.get(&(TOPIC, queue)).copied().unwrap_or(0);
        let known = self.offsets.entry(queue).or_default();
        let before = *known;
        *known = match how {
            OffsetMove::Advance => before.max(offset.min(end)),
            OffsetMove::Reset | OffsetMove::Set => offset.min(end),
        };
    }

    fn put(&mut self, machine: &mut Machine, at: (usize, usize), value: Option<u8>) {
        let set = SetKeyValue {
            namespace: namespace(at.0).to_owned(),
            key: at.1.to_string(),
            value: value.map(|value| value.to_string()),
        };
        assert_eq!(machine.apply(&Command::SetKeyValue(set)), Outcome::Done);
        match value {
            Some(value) => self.key_values.insert(at, value),
            None => self.key_values.remove(&at),
        };
    }

    fn permit(&mut self, machine: &mut Machine, of: Option<MemberName>, may_write: bool) {
        let before = self.unwritable.clone();
        match of {
            None => self.unwritable.group = !may_write,
            Some(member) if may_write => drop(self.unwritable.members.remove(&member)),
            Some(member) => drop(self.unwritable.members.insert(member)),
        }
        let is_new = self.unwritable != before;
        let outcome = machine.apply(&Command::SetWritePermission(SetWritePermission { of, may_write }));
        assert_eq!(outcome, Outcome::WritePermissionSet { is_new });
    }

    fn check(&self, machine: &Machine) {
        let view = machine.view();
        for number in (1..=GROUPS).map(GroupId) {
            let found: BTreeMap<_, _> = view.queue_locks(TOPIC, number).unwrap().into_iter().collect();
            let of_group = self.locks.iter().filter(|((group, _), _)| *group == number);
            let lock = |(owner, end): &(usize, u64)| QueueLock { client: client(*owner), until: Timestamp(*end) };
            let expected: BTreeMap<_, _> = of_group.map(|((_, queue), held)| (*queue, lock(held))).collect();
            assert_eq!(found, expected);
        }
        let mut came = self.came.clone();
        came.sort_unstable();
        assert_eq!(stored(machine, RETRIES, true), came, "what comes back comes once, at its time");
        assert_eq!(stored(machine, DEAD, false), self.dead, "dead letters stay, in order");
        for ((to, queue), count) in &self.sent {
            assert_eq!(view.queue_head(*to, *queue).unwrap().max, QueueOffset(*count));
        }
        for queue in (0..QUEUES).map(QueueId) {
            let expected = self.offsets.get(&queue).copied().unwrap_or(0);
            let found = view.group_offset(TOPIC, GROUP, queue).unwrap();
            assert_eq!(found, QueueOffset(expected), "P13: back only by a reset or as a client says it");
        }
        for of in 0..2 {
            let known = self.key_values.iter().filter(|((number, _), _)| *number == of);
            let expected: Vec<_> = known.map(|((_, key), value)| (key.to_string(), value.to_string())).collect();
            assert_eq!(view.key_values(namespace(of)).unwrap(), expected);
        }
        assert_eq!(view.unwritable().unwrap(), self.unwritable);
    }
}

fn entered(queue: &mut Vec<MessageRef>, message: MessageRef) -> Outcome {
    queue.push(message);
    Outcome::SentToQueue { offset: QueueOffset(queue.len() as u64 - 1), slot: 0 }
}

/// The messages of a topic's first queue.
fn stored(machine: &Machine, of: TopicId, is_sorted: bool) -> Vec<MessageRef> {
    let head = machine.view().queue_head(of, QueueId(0)).unwrap();
    let runs = machine.view().runs(of, QueueId(0), head.min, head.max).unwrap();
    let of_run = |(_, run): (_, raftmq::machine::state::queue::Run)| {
        let index = run.index;
        run.items.iter().map(|item| MessageRef { index, slot: item.slot }).collect::<Vec<_>>()
    };
    let mut found: Vec<_> = runs.into_iter().flat_map(of_run).collect();
    if is_sorted {
        found.sort_unstable();
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn p13_classic_clients_find_what_a_plain_model_has(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, false);
    }

    #[test]
    fn p15_a_restarted_machine_has_the_same_for_classic_clients(steps in prop::collection::vec(step(), 1..60)) {
        let (straight, restarted) = (run(&steps, false), run(&steps, true));
        prop_assert_eq!(straight.view().digest().unwrap(), restarted.view().digest().unwrap());
        prop_assert_eq!(content(&straight.kv), content(&restarted.kv));
    }
}

#[test]
fn key_values_have_a_bound_that_one_which_goes_makes_room_in() {
    let mut machine = Machine::default();
    let set = |key: u64, value: Option<&str>| {
        let (namespace, key) = (namespace(0).to_owned(), key.to_string());
        let command = Command::SetKeyValue(SetKeyValue { namespace, key, value: value.map(str::to_owned) });
        Proposal { command: command.encode(), messages: Vec::new() }
    };
    let all: Vec<_> = (0..=KEY_VALUES_MAX).map(|key| set(key, Some("v"))).collect();
    let outcomes: Vec<_> = all.chunks(1000).flat_map(|some| machine.apply_all(some).0).collect();
    let (last, others) = outcomes.split_last().unwrap();
    assert!(others.iter().all(|outcome| *outcome == Outcome::Done));
    assert_eq!(*last, Outcome::Rejected(Rejected::KeyValuesFull));
    let (outcomes, _) = machine.apply_all(&[set(0, Some("other")), set(1, None), set(1, None), set(9999, Some("v"))]);
    assert_eq!(outcomes, vec![Outcome::Done; 4]);
    let (outcomes, _) = machine.apply_all(&[set(1, Some("v"))]);
    assert_eq!(outcomes, [Outcome::Rejected(Rejected::KeyValuesFull)]);
    assert_eq!(machine.view().key_values(namespace(0)).unwrap().len() as u64, KEY_VALUES_MAX);
}
