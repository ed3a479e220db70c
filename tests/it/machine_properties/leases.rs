//! Plain messages: sent, received, acked, changed, dead and redriven, in any order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use raftmq::machine::Stored;
use raftmq::machine::command::{
    Ack, Candidate, Change, Command, CreateTopic, OffsetMove, Redrive, SetGroupOffsets, Subscribe,
};
use raftmq::machine::outcome::{Granted, Outcome, Rejected};
use raftmq::machine::state::queue::Run;
use raftmq::model::limits::RECENT_FOR;
use raftmq::model::{
    GroupId, Message, MessageType, Millis, OffsetSet, Permission, QueueId, QueueOffset, ReceiptHandle, TagFilter,
    TopicId, TopicType,
};

use super::{GROUPS, QUEUES, RETRIES, TOPIC, machine};
use crate::fixture::machine::{Machine, content, group, plain_message, send, topic};

const TAGS: [Option<&str>; 3] = [None, Some("a"), Some("b")];
/// The first is most of what groups use.
const FILTERS: [&str; 4] = ["*", "*", "a", "a||b"];

#[derive(Debug, Clone)]
enum Step {
    /// The tag of each message, as its place in [`TAGS`].
    Send(Vec<usize>),
    /// What was sent before, once more, together with something new.
    SendAgain(usize),
    Receive {
        group: u32,
        limit: u32,
        seconds: u64,
        filter: usize,
    },
    /// A grant from the plan before the last one.
    Stale {
        group: u32,
    },
    Ack(usize),
    Change {
        handle: usize,
        seconds: u64,
    },
    /// The node that leased it cannot read it.
    ReturnUnread(usize),
    /// A dead letter, delivered again.
    Redrive {
        group: u32,
        letter: usize,
    },
    /// A client's offset that the group has passed.
    LateUpdate {
        group: u32,
        queue: u32,
        back: u64,
    },
    Pass(u64),
    Tick,
    /// What is applied survives the next crash.
    Flush,
    /// The node loses what was not flushed and applies the log again.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(0..TAGS.len(), 1..6).prop_map(Step::Send),
        1 => any::<usize>().prop_map(Step::SendAgain),
        4 => (1..=GROUPS, 1u32..8, 10u64..40, 0..FILTERS.len()).prop_map(|(group, limit, seconds, filter)| Step::Receive { group, limit, seconds, filter }),
        1 => (1..=GROUPS, any::<usize>()).prop_map(|(group, letter)| Step::Redrive { group, letter }),
        1 => (1..=GROUPS).prop_map(|group| Step::Stale { group }),
        4 => any::<usize>().prop_map(Step::Ack),
        2 => (any::<usize>(), 0u64..30).prop_map(|(handle, seconds)| Step::Change { handle, seconds }),
        1 => any::<usize>().prop_map(Step::ReturnUnread),
        1 => (1..=GROUPS, 0..QUEUES, 0u64..9).prop_map(|(group, queue, back)| Step::LateUpdate { group, queue, back }),
        2 => (1u64..20).prop_map(Step::Pass),
        2 => Just(Step::Tick),
        1 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Leased {
        handle: ReceiptHandle,
        until: u64,
    },
    /// To be delivered again once the machine has noticed that the time is over.
    Settled {
        by: ReceiptHandle,
    },
}

#[derive(Default)]
struct Model {
    /// Messages per queue.
    queues: BTreeMap<QueueId, u64>,
    /// Entries whose messages entered queues.
    turn: u32,
    in_turn: bool,
    messages: BTreeMap<(GroupId, QueueId, QueueOffset), (State, u32)>,
    handles: Vec<ReceiptHandle>,
    dead: BTreeSet<(GroupId, QueueId, QueueOffset)>,
    /// Every death there was: one that was redriven may die again.
    deaths: Vec<(GroupId, QueueId, QueueOffset)>,
    redriven: BTreeSet<(GroupId, QueueOffset)>,
    /// When, what and where to.
    sent: Vec<(u64, Vec<Message>, Vec<Stored>)>,
    tags: BTreeMap<(QueueId, QueueOffset), Option<&'static str>>,
    /// The filters that each group has used.
    used: BTreeMap<GroupId, BTreeSet<usize>>,
}

impl Model {
    /// The machine was told the time: what was tried for the last time and not settled is dead.
    fn tick(&mut self, now: u64) {
        for (key, (state, attempt)) in &self.messages {
            let is_over = matches!(state, State::Leased { until, .. } if *until <= now && *attempt > RETRIES);
            if is_over && self.dead.insert(*key) {
                self.deaths.push(*key);
            }
        }
    }

    /// A message was stored, or was before.
    fn store(&mut self, message: &Message, place: &Stored) {
        let Stored::Queue(queue, offset) = *place else { panic!("a plain message waits for nothing") };
        let next = self.queues.entry(queue).or_default();
        assert_eq!(offset.0, *next, "P5: dense");
        *next += 1;
        let tag = TAGS.into_iter().flatten().find(|tag| message.tag.as_deref() == Some(tag));
        self.tags.insert((queue, offset), tag);
        assert_eq!(queue.0, (self.turn + self.turn / QUEUES) % QUEUES, "queues take turns");
        self.in_turn = true;
    }

    /// An entry was applied: the next one begins with another queue.
    fn end_turn(&mut self) {
        self.turn += u32::from(std::mem::take(&mut self.in_turn));
    }

    /// What lies behind a group's position was delivered to it, or it did not want it.
    fn is_complete(&self, machine: &Machine, group: GroupId) {
        for queue in (0..QUEUES).map(QueueId) {
            let position = machine.view().group_offset(TOPIC, group, queue).unwrap();
            for offset in (0..position.0).map(QueueOffset) {
                let passed_over =
                    |filter: &usize| !TagFilter::parse(FILTERS[*filter]).matches(self.tags[&(queue, offset)]);
                let is_known = self.messages.contains_key(&(group, queue, offset))
                    || self.used.get(&group).is_some_and(|used| used.iter().any(passed_over));
                assert!(is_known, "P1: {offset} of queue {queue} never came to group {group}");
            }
        }
    }

    fn grant(&mut self, handle: ReceiptHandle, attempt: u32, until: u64, now: u64) {
        let key = (handle.group, handle.queue, handle.offset);
        assert!(handle.offset.0 < self.queues[&handle.queue], "a message that was never sent");
        assert!(!self.dead.contains(&key), "P10: delivered after it died");
        let before = self.messages.insert(key, (State::Leased { handle, until }, attempt));
        match before {
            None => assert_eq!(attempt, 1, "the first delivery"),
            Some((State::Leased { until, .. }, last)) => {
                assert!(until <= now, "P8: leased twice at once");
                assert_eq!(attempt, last + 1, "P10: one attempt for each delivery");
            }
            Some((State::Settled { .. }, _)) => panic!("P7: granted after it was settled"),
        }
        self.handles.push(handle);
    }

    fn is_open(&self, handle: ReceiptHandle, now: u64) -> bool {
        let message = self.messages.get(&(handle.group, handle.queue, handle.offset));
        matches!(message, Some((State::Leased { handle: current, until }, _)) if *current == handle && *until > now)
    }

    /// Whether an ack with this handle must be accepted.
    fn ack(&mut self, handle: ReceiptHandle, now: u64) -> bool {
        let Some((state, _)) = self.messages.get_mut(&(handle.group, handle.queue, handle.offset)) else {
            return false;
        };
        match *state {
            State::Leased { handle: current, until } if current == handle && until > now => {
                *state = State::Settled { by: handle };
                true
            }
            State::Leased { .. } => false,
            State::Settled { by } => by == handle,
        }
    }
}

/// Runs the steps; with `crashes`, from what was flushed and the log at every [`Step::Crash`].
fn run(steps: &[Step], crashes: bool) -> Machine {
    let mut machine = machine();
    let mut model = Model::default();
    let mut stale = BTreeMap::new();
    for step in steps {
        let now = machine.now;
        match step {
            Step::Send(tags) => {
                let name = |number| format!("{}-{number}", machine.index);
                let message = |(number, tag): (usize, &usize)| Message {
                    message_id: name(number),
                    ..plain_message(&name(number), TAGS[*tag])
                };
                let messages: Vec<_> = tags.iter().enumerate().map(message).collect();
                let places = sent(&mut machine, &messages);
                for (message, place) in messages.iter().zip(&places) {
                    model.store(message, place);
                }
                model.end_turn();
                model.sent.push((now, messages, places));
            }
            Step::SendAgain(pick) => {
                if model.sent.is_empty() {
                    continue;
                }
                let (at, mut messages, before) = model.sent[pick % model.sent.len()].clone();
                let name = format!("{}-new", machine.index);
                messages.push(Message { message_id: name.clone(), ..plain_message(&name, None) });
                let places = sent(&mut machine, &messages);
                for (number, (message, place)) in messages.iter().zip(&places).enumerate() {
                    let is_same = before.get(number) == Some(place);
                    assert!(is_same || number == before.len() || now - at > RECENT_FOR.0, "P4: stored twice");
                    if !is_same {
                        model.store(message, place);
                    }
                }
                model.end_turn();
            }
            Step::Receive { group, limit, seconds, filter } => {
                let group = GroupId(*group);
                model.used.entry(group).or_default().insert(*filter);
                let wanted = TagFilter::parse(FILTERS[*filter]);
                let plan = machine.plan(TOPIC, group, &wanted);
                let granted = machine.grant(TOPIC, group, *limit, seconds * 1000, None, plan.clone()).unwrap();
                let count: u32 = granted.iter().map(|lease| lease.messages.len()).sum();
                assert!(count <= *limit);
                take(&mut model, &wanted, &granted, group, now + seconds * 1000, now);
                stale.insert(group, (wanted, plan));
            }
            Step::Stale { group } => {
                let group = GroupId(*group);
                let Some((wanted, plan)) = stale.get(&group).cloned() else { continue };
                let granted = machine.grant(TOPIC, group, 8, 10_000, None, plan).unwrap();
                take(&mut model, &wanted, &granted, group, now + 10_000, now);
            }
            Step::Redrive { group, letter } => {
                let group = GroupId(*group);
                let letters = dead_letters(&machine, group);
                let Some((queue, offset)) = letters.get(letter % letters.len().max(1)).copied() else { continue };
                let letter = QueueOffset((letter % letters.len()) as u64);
                let redrive = Redrive { group, offsets: vec![letter] };
                let is_first = model.redriven.insert((group, letter));
                assert_eq!(machine.apply(&Command::Redrive(redrive)), Outcome::Redriven(vec![is_first]));
                if is_first {
                    let key = (group, queue, offset);
                    model.dead.remove(&key);
                    let (state, attempt) = model.messages.get_mut(&key).unwrap();
                    if let State::Leased { until, .. } = state {
                        *until = now;
                    }
                    *attempt = 0;
                }
            }
            Step::Ack(pick) => {
                let Some(handle) = pick_handle(&model, *pick) else { continue };
                let expected = model.ack(handle, now);
                let Outcome::Acked(found) = machine.apply(&Command::Ack(Ack { handles: vec![handle] })) else {
                    panic!("an ack is answered")
                };
                // A settled lease is forgotten in time; then even a repeated ack hears that it ended.
                assert!(found[0] == expected || (expected && is_old(&machine, handle)), "ack of {handle:?}");
            }
            Step::Change { handle, seconds } => {
                let Some(handle) = pick_handle(&model, *handle) else { continue };
                let key = (handle.group, handle.queue, handle.offset);
                let is_open = model.is_open(handle, now);
                let change = Change { handle, invisible_for: Millis(seconds * 1000) };
                match machine.apply(&Command::Change(change)) {
                    Outcome::Changed(lease) => {
                        assert!(is_open, "a handle that is over acts no more");
                        let new = ReceiptHandle { lease, ..handle };
                        let attempt = model.messages[&key].1;
                        model
                            .messages
                            .insert(key, (State::Leased { handle: new, until: now + seconds * 1000 }, attempt));
                        model.handles.push(new);
                        if *seconds == 0 && attempt > RETRIES {
                            model.dead.insert(key);
                            model.deaths.push(key);
                        }
                    }
                    outcome => {
                        assert_eq!(outcome, Outcome::Rejected(Rejected::LeaseEnded));
                        assert!(!is_open, "an open handle acts");
                    }
                }
            }
            Step::ReturnUnread(pick) => {
                let Some(handle) = pick_handle(&model, *pick) else { continue };
                let is_open = model.is_open(handle, now);
                match machine.apply(&Command::ReturnUnread { handle }) {
                    Outcome::Changed(lease) => {
                        assert!(is_open, "a handle that is over acts no more");
                        let new = ReceiptHandle { lease, ..handle };
                        let (state, attempt) =
                            model.messages.get_mut(&(handle.group, handle.queue, handle.offset)).unwrap();
                        *state = State::Leased { handle: new, until: now };
                        // It counts no attempt, and so it never dies of it.
                        *attempt -= 1;
                        model.handles.push(new);
                    }
                    outcome => {
                        assert_eq!(outcome, Outcome::Rejected(Rejected::LeaseEnded));
                        assert!(!is_open, "an open handle acts");
                    }
                }
            }
            Step::LateUpdate { group, queue, back } => {
                let (group, queue) = (GroupId(*group), QueueId(*queue));
                let offset = |machine: &Machine| machine.view().group_offset(TOPIC, group, queue).unwrap();
                let before = offset(&machine);
                let offsets = vec![(queue, QueueOffset(before.0.saturating_sub(*back)))];
                let update = SetGroupOffsets { topic: TOPIC, group, offsets, how: OffsetMove::Advance };
                assert_eq!(machine.apply(&Command::SetGroupOffsets(update)), Outcome::Done);
                // That its leases are still there, the model finds out.
                assert_eq!(offset(&machine), before, "P13: a group offset went back");
            }
            Step::Pass(seconds) => machine.now += seconds * 1000,
            Step::Tick => {
                machine.apply(&Command::Tick);
                model.tick(now);
            }
            Step::Flush => machine.flush(),
            Step::Crash if crashes => machine.crash(),
            Step::Crash => {}
        }
        let mut letters = Vec::new();
        for group in (1..=GROUPS).map(GroupId) {
            letters.extend(dead_letters(&machine, group).into_iter().map(|(queue, offset)| (group, queue, offset)));
            model.is_complete(&machine, group);
        }
        letters.sort_unstable();
        model.deaths.sort_unstable();
        assert_eq!(letters, model.deaths, "P10: each dead once");
    }
    machine
}

fn sent(machine: &mut Machine, messages: &[Message]) -> Vec<Stored> {
    match machine.apply_all(&[send(TOPIC, messages)]).0.pop() {
        Some(Outcome::Sent(places)) => places,
        other => panic!("a send is taken, not {other:?}"),
    }
}

/// Where the dead letters of a group were before, in the order in which they died.
fn dead_letters(machine: &Machine, group: GroupId) -> Vec<(QueueId, QueueOffset)> {
    let name = topic(&format!("%DLQ%g{group}"));
    let Some((dead, _)) = machine.view().topic(&name).unwrap() else { return Vec::new() };
    let max = machine.view().queue_head(dead, QueueId(0)).unwrap().max;
    let of = |run: Run| {
        let origin = run.origin.unwrap();
        assert_eq!((origin.topic, origin.attempts), (TOPIC, RETRIES + 1), "P10: after all attempts");
        (origin.queue, origin.offset)
    };
    let runs = machine.view().runs(dead, QueueId(0), QueueOffset(0), max).unwrap();
    runs.into_iter().map(|(_, run)| of(run)).collect()
}

fn take(model: &mut Model, wanted: &TagFilter, granted: &[Granted], group: GroupId, until: u64, now: u64) {
    for lease in granted {
        for bit in (0..64).filter(|bit| lease.messages.0 >> bit & 1 == 1) {
            let (queue, offset) = (lease.queue, QueueOffset(lease.first.0 + bit));
            assert!(wanted.matches(model.tags[&(queue, offset)]), "a filter is kept");
            let handle = ReceiptHandle { group, topic: TOPIC, queue, offset, lease: lease.lease };
            model.grant(handle, lease.attempt, until, now);
        }
    }
}

fn pick_handle(model: &Model, pick: usize) -> Option<ReceiptHandle> {
    if model.handles.is_empty() { None } else { Some(model.handles[pick % model.handles.len()]) }
}

/// Whether nothing is left of the handle's lease.
fn is_old(machine: &Machine, handle: ReceiptHandle) -> bool {
    machine.view().lease(raftmq::machine::state::lease::key_of(&handle)).unwrap().is_none()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn p5_p7_p8_p10_the_machine_does_what_the_plain_model_says(steps in prop::collection::vec(step(), 1..80)) {
        run(&steps, false);
    }

    #[test]
    fn p15_a_restarted_machine_equals_one_that_ran_on(steps in prop::collection::vec(step(), 1..60)) {
        let (straight, restarted) = (run(&steps, false), run(&steps, true));
        prop_assert_eq!(straight.view().digest().unwrap(), restarted.view().digest().unwrap());
        prop_assert_eq!(content(&straight.kv), content(&restarted.kv));
    }
}

#[test]
fn a_batch_of_many_sends_keeps_each_message_in_its_slot() {
    let mut machine = machine();
    let messages =
        |from: u32| (from..from + 3).map(|number| plain_message(&number.to_string(), None)).collect::<Vec<_>>();
    let (outcomes, _) = machine.apply_all(&[send(TOPIC, &messages(0)), send(TOPIC, &messages(3))]);
    assert_eq!(outcomes.len(), 2);
    let runs = machine.view().runs(TOPIC, QueueId(0), QueueOffset(0), QueueOffset(9)).unwrap();
    // One run for all of the entry; the second send's messages lie behind the first one's.
    assert_eq!(runs.len(), 1);
    let slots: Vec<_> = runs[0].1.items.iter().map(|item| item.slot).collect();
    assert_eq!(slots, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_group_passes_over_what_it_does_not_want_and_over_nothing_that_nobody_looked_at() {
    let mut machine = Machine::default();
    let normal = TopicType::Only(MessageType::Normal);
    let create = CreateTopic {
        topic: topic("skips"),
        topic_type: normal,
        queues: 1,
        permission: Permission::READ_WRITE,
        retention: None,
    };
    machine.apply(&Command::CreateTopic(create));
    let subscribe = Subscribe { group: group("g"), topics: vec![topic("skips")], create: Some(16) };
    machine.apply(&Command::Subscribe(subscribe));
    let messages: Vec<_> = (0..200).map(|number| plain_message(&number.to_string(), None)).collect();
    machine.send(TopicId(1), &messages);
    let (group, queue) = (GroupId(1), QueueId(0));
    let skip = |first, length| Candidate::Skip { queue, first: QueueOffset(first), length };
    let fresh = |first| Candidate::Fresh { queue, first: QueueOffset(first), length: 4, wanted: OffsetSet(0b0101) };
    let mut grant = |candidates| {
        let granted = machine.grant(TopicId(1), group, 8, 10_000, None, candidates).unwrap();
        (
            granted.iter().map(|lease| lease.messages.0).collect::<Vec<_>>(),
            machine.view().group_offset(TopicId(1), group, queue).unwrap(),
        )
    };
    let at = QueueOffset;
    assert_eq!(grant(vec![skip(10, 50)]), (vec![], at(0)), "a gap would be jumped over");
    assert_eq!(grant(vec![skip(0, 150), fresh(150)]), (vec![0b0101], at(154)));
    assert_eq!(grant(vec![skip(0, 150), fresh(150)]), (vec![], at(154)), "a stale plan moves nothing back");
    assert_eq!(grant(vec![skip(150, 10)]), (vec![], at(160)), "the rest of a stale one counts");
    assert_eq!(
        grant(vec![skip(160, u32::MAX)]),
        (vec![], at(200)),
        "messages that are not there yet are not passed over"
    );
    machine.send(TopicId(1), &messages[..1]);
    let all = Candidate::Fresh { queue, first: QueueOffset(200), length: 1, wanted: OffsetSet(1) };
    let granted = machine.grant(TopicId(1), group, 8, 10_000, None, vec![all]).unwrap();
    assert_eq!(granted.len(), 1);
}
