//! The machine against a plain model, against itself after restarts, and against arbitrary bytes.
//!
//! The model knows only what a reader of the contract knows: per group and message a state, an attempt
//! and an end. It is too simple to be wrong and too slow to be used.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use raftmq::machine::command::{
    Ack, Candidate, Change, Command, CreateTopic, Decide, Placement, Recall, Redrive, Subscribe,
};
use raftmq::machine::outcome::{Granted, Outcome, Rejected};
use raftmq::machine::state::queue::Run;
use raftmq::machine::{Batch, Proposal, Stored};
use raftmq::model::limits::RECENT_FOR;
use raftmq::model::{
    GroupId, LeaseId, LogIndex, Message, MessageGroupHash, MessageRef, MessageType, Millis, OffsetSet, Permission,
    QueueId, QueueOffset, ReceiptHandle, TagFilter, Timestamp, TopicId, TopicType, TransactionChecks,
};

use crate::machine::{Machine, content, group, narrow, plain_message, send, topic};

const TOPIC: TopicId = TopicId(1);
const QUEUES: u32 = 3;
const GROUPS: u32 = 2;
const TAGS: [Option<&str>; 3] = [None, Some("a"), Some("b")];
/// The first is most of what groups use.
const FILTERS: [&str; 4] = ["*", "*", "a", "a||b"];
/// Deliveries after the first.
const RETRIES: u32 = 2;

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
    /// A dead letter, delivered again.
    Redrive {
        group: u32,
        letter: usize,
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

fn machine() -> Machine {
    let mut machine = Machine::default();
    let create = CreateTopic {
        topic: topic("t"),
        topic_type: TopicType::Only(MessageType::Normal),
        queues: QUEUES,
        permission: Permission::READ_WRITE,
    };
    machine.apply(&Command::CreateTopic(create));
    for number in 1..=GROUPS {
        let subscribe =
            Subscribe { group: group(&format!("g{number}")), topics: vec![topic("t")], create: Some(RETRIES) };
        assert_eq!(machine.apply(&Command::Subscribe(subscribe)), Outcome::GroupCreated(GroupId(number)));
    }
    machine
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
                let is_open = matches!(model.messages.get(&key), Some((State::Leased { handle: current, until }, _)) if *current == handle && *until > now);
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

    #[test]
    fn arbitrary_bytes_never_panic_a_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let bytes = Bytes::from(bytes);
        // Whatever comes of it, it comes without a panic.
        let _ = (Batch::decode(bytes.clone()), Command::decode(bytes.clone()), Outcome::decode(bytes.clone()));
        let _ = (Message::decode(bytes.clone()), Proposal::decode(bytes), ReceiptHandle::parse(&text));
    }

    #[test]
    fn commands_survive_the_log(group in any::<u32>(), lease in any::<u64>(), offset in any::<u64>(), millis in any::<u64>()) {
        let handle = ReceiptHandle {
            group: GroupId(group),
            topic: TOPIC,
            queue: QueueId(group ^ 1),
            offset: QueueOffset(offset),
            lease: LeaseId(lease),
        };
        for command in [
            Command::Ack(Ack { handles: vec![handle, handle] }),
            Command::Change(Change { handle, invisible_for: Millis(millis) }),
            Command::Tick,
            Command::DeadLetter { handle },
            Command::Recall(Recall { topic: TOPIC, at: Timestamp(millis), message: MessageRef { index: LogIndex(offset), slot: group } }),
            Command::Decide(Decide { topic: TOPIC, message: MessageRef { index: LogIndex(offset), slot: group }, commit: lease % 2 == 0 }),
        ] {
            prop_assert_eq!(Command::decode(command.encode()).unwrap(), command);
        }
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

/// What is deferred: by delay or in a transaction.
#[derive(Debug, Clone)]
enum Deferred {
    Delay { seconds: u64, count: usize },
    Recall(usize),
    Half { count: usize },
    Decide { half: usize, commit: bool },
    Pass(u64),
    Tick,
    Flush,
    Crash,
}

fn deferred_step() -> impl Strategy<Value = Deferred> {
    prop_oneof![
        3 => (0u64..30, 1usize..4).prop_map(|(seconds, count)| Deferred::Delay { seconds, count }),
        1 => any::<usize>().prop_map(Deferred::Recall),
        2 => (1usize..3).prop_map(|count| Deferred::Half { count }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(half, commit)| Deferred::Decide { half, commit }),
        3 => (1u64..15).prop_map(Deferred::Pass),
        3 => Just(Deferred::Tick),
        1 => Just(Deferred::Flush),
        1 => Just(Deferred::Crash),
    ]
}

const LATER: TopicId = TopicId(2);
const DEALS: TopicId = TopicId(3);
/// A half message is asked about once, ten seconds after it was stored, and rolled back ten seconds later.
const CHECKS: TransactionChecks = TransactionChecks { after: Millis(10_000), every: Millis(10_000), most: 1 };

/// A half message as the contract knows it.
struct PlainHalf {
    message: MessageRef,
    stored_at: u64,
    asked: bool,
    decided: Option<bool>,
}

/// All messages in the queues of a topic.
fn in_queues(machine: &Machine, topic: TopicId) -> Vec<MessageRef> {
    let mut found = Vec::new();
    for queue in (0..QUEUES).map(QueueId) {
        let head = machine.view().queue_head(topic, queue).unwrap();
        for (_, run) in machine.view().runs(topic, queue, head.min, head.max).unwrap() {
            found.extend(run.items.iter().map(|item| MessageRef { index: run.index, slot: item.slot }));
        }
    }
    found.sort_unstable();
    found
}

fn run_deferred(steps: &[Deferred], crashes: bool) -> Machine {
    let mut machine = machine();
    for (name, message_type) in [("later", MessageType::Delay), ("deals", MessageType::Transaction)] {
        let create = CreateTopic {
            topic: topic(name),
            topic_type: TopicType::Only(message_type),
            queues: QUEUES,
            permission: Permission::READ_WRITE,
        };
        machine.apply(&Command::CreateTopic(create));
    }
    let mut waiting: Vec<(u64, MessageRef)> = Vec::new();
    let mut came: Vec<MessageRef> = Vec::new();
    let mut halves: Vec<PlainHalf> = Vec::new();
    for step in steps {
        let now = machine.now;
        match step {
            Deferred::Delay { seconds, count } => {
                let at = now + seconds * 1000;
                let placement = Placement::DeliverAt(vec![Timestamp(at); *count]);
                let outcome = machine.send_aside(LATER, MessageType::Delay, &vec!["d"; *count], placement);
                let Outcome::Sent(places) = outcome else { panic!("a delay is taken") };
                for (slot, place) in (0..).zip(places) {
                    let message = MessageRef { index: LogIndex(machine.index), slot };
                    match place {
                        Stored::DeferredBefore(_) => panic!("nothing is sent twice here"),
                        Stored::Deferred(found) => {
                            assert_eq!((found, at > now), (slot, true), "only what is to come waits");
                            waiting.push((at, message));
                        }
                        Stored::Queue(..) => {
                            assert!(at <= now, "P11: never before its time");
                            came.push(message);
                        }
                    }
                }
            }
            Deferred::Recall(pick) => {
                let Some((at, message)) = waiting.get(pick % waiting.len().max(1)).copied() else { continue };
                let recall = Recall { topic: LATER, at: Timestamp(at), message };
                assert_eq!(machine.apply(&Command::Recall(recall)), Outcome::Done);
                let again = machine.apply(&Command::Recall(recall));
                assert_eq!(again, Outcome::Rejected(Rejected::NotWaiting));
                waiting.retain(|(_, other)| *other != message);
            }
            Deferred::Half { count } => {
                let placement = Placement::OnCommit(CHECKS);
                machine.send_aside(DEALS, MessageType::Transaction, &vec!["h"; *count], placement);
                for slot in 0..*count as u32 {
                    let message = MessageRef { index: LogIndex(machine.index), slot };
                    halves.push(PlainHalf { message, stored_at: now, asked: false, decided: None });
                }
            }
            Deferred::Decide { half, commit } => {
                let count = halves.len().max(1);
                let Some(half) = halves.get_mut(half % count) else { continue };
                let decide = Decide { topic: DEALS, message: half.message, commit: *commit };
                let is_first = *half.decided.get_or_insert(*commit) == *commit;
                let expected = if is_first { Outcome::Done } else { Outcome::Rejected(Rejected::DecidedOtherwise) };
                assert_eq!(machine.apply(&Command::Decide(decide)), expected, "P12: the first decision is final");
            }
            Deferred::Pass(seconds) => machine.now += seconds * 1000,
            Deferred::Tick => {
                let tick = Proposal { command: Command::Tick.encode(), messages: Vec::new() };
                let (_, effects) = machine.apply_all(&[tick]);
                let is_due = |entry: &&(u64, MessageRef)| entry.0 <= now;
                came.extend(waiting.iter().filter(is_due).map(|(_, message)| *message));
                waiting.retain(|(at, _)| *at > now);
                let mut asked = Vec::new();
                for half in halves.iter_mut().filter(|half| half.decided.is_none()) {
                    if half.asked {
                        if half.stored_at + 10_000 <= now {
                            half.decided = Some(false);
                        }
                    } else if half.stored_at + 10_000 <= now {
                        half.asked = true;
                        // The next is due ten seconds after this one was asked.
                        half.stored_at = now;
                        asked.push((DEALS, half.message));
                    }
                }
                let mut found = effects.questions;
                found.sort_unstable();
                asked.sort_unstable();
                assert_eq!(found, asked, "P12: asked about while it is undecided, and no more than that");
            }
            Deferred::Flush => machine.flush(),
            Deferred::Crash if crashes => machine.crash(),
            Deferred::Crash => {}
        }
        came.sort_unstable();
        assert_eq!(in_queues(&machine, LATER), came, "P11: once, at its time, unless it was recalled");
        let committed = halves.iter().filter(|half| half.decided == Some(true));
        let committed: Vec<_> = committed.map(|half| half.message).collect();
        assert_eq!(in_queues(&machine, DEALS), committed, "P12: visible once, if it was committed first");
    }
    machine
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn p11_p12_what_is_put_aside_enters_its_queue_once_and_not_before(steps in prop::collection::vec(deferred_step(), 1..60)) {
        run_deferred(&steps, false);
    }

    #[test]
    fn p15_a_restarted_machine_has_put_the_same_aside(steps in prop::collection::vec(deferred_step(), 1..60)) {
        let (straight, restarted) = (run_deferred(&steps, false), run_deferred(&steps, true));
        prop_assert_eq!(straight.view().digest().unwrap(), restarted.view().digest().unwrap());
        prop_assert_eq!(content(&straight.kv), content(&restarted.kv));
    }
}

/// What orderly groups do on a FIFO topic.
#[derive(Debug, Clone)]
enum Ordered {
    Send(Vec<u8>),
    Receive { group: u32, limit: u32, seconds: u64 },
    Ack(usize),
    Change { handle: usize, seconds: u64 },
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
            assert_eq!(attempt, last.map_or(0, |told| told.attempt) + 1, "P10: one attempt for each delivery");
            let fate = match last.map(|told| told.fate) {
                // It was settled, and stays that.
                Some(Fate::Settled) => Fate::Settled,
                _ => Fate::Open(handle),
            };
            self.told.insert((group, queue, *offset), Told { attempt, fate });
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

#[test]
fn a_group_passes_over_what_it_does_not_want_and_over_nothing_that_nobody_looked_at() {
    let mut machine = Machine::default();
    let normal = TopicType::Only(MessageType::Normal);
    let create =
        CreateTopic { topic: topic("skips"), topic_type: normal, queues: 1, permission: Permission::READ_WRITE };
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
