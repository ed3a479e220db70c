//! Retention against a plain list: what is trimmed is what was old, what lives longer is carried and stays what it was, and
//! nothing refers to an entry that could be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use raftmq::machine::command::{
    Ack, Command, CreateGroup, CreateTopic, Decide, Placement, Recall, Reschedule, Subscribe, Trim,
};
use raftmq::machine::outcome::{Outcome, Rejected};
use raftmq::machine::state::references;
use raftmq::machine::state::references::RunPlace;
use raftmq::machine::{Proposal, Stored};
use raftmq::model::{
    GroupId, GroupSettings, LogIndex, MessageGroupHash, MessageRef, MessageType, Millis, Permission, QueueId,
    QueueOffset, ReceiptHandle, TagFilter, Timestamp, TopicId, TopicType, TransactionChecks,
};
use raftmq::store::kv::memory::MemoryKv;
use raftmq::store::kv::{Kv, Space, WriteBatch};

use super::QUEUES;
use crate::fixture::machine::{Machine, content, group, topic};

#[derive(Debug, Clone)]
enum Step {
    /// To the topic of this number.
    Send {
        to: u32,
        count: usize,
        seconds: u64,
    },
    /// What waits, in the order it was sent.
    Recall(usize),
    Reschedule(usize, u64),
    Decide(usize, bool),
    /// Polls, and acknowledges every other message.
    Receive {
        from: u32,
        limit: u32,
    },
    /// Leases over messages of two ages; the older ones go before the leases end.
    Spread,
    Trim {
        of: u32,
        queue: u32,
        before: u64,
    },
    /// References to entries that are older than this many.
    Carry(u64),
    /// Many entries pass.
    Idle,
    Pass(u64),
    Tick,
    Drop,
    Flush,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..=TOPICS, 1usize..5, 1u64..60).prop_map(|(to, count, seconds)| Step::Send { to, count, seconds }),
        1 => any::<usize>().prop_map(Step::Recall),
        1 => (any::<usize>(), 1u64..60).prop_map(|(pick, seconds)| Step::Reschedule(pick, seconds)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(pick, commit)| Step::Decide(pick, commit)),
        4 => (1..=TOPICS, 1u32..6).prop_map(|(from, limit)| Step::Receive { from, limit }),
        1 => Just(Step::Spread),
        3 => (1..=TOPICS + 1, 0..QUEUES, 0u64..60).prop_map(|(of, queue, before)| Step::Trim { of, queue, before }),
        3 => (0u64..200).prop_map(Step::Carry),
        3 => Just(Step::Idle),
        3 => (1u64..20).prop_map(Step::Pass),
        3 => Just(Step::Tick),
        1 => Just(Step::Drop),
        1 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ]
}

const LATER: u32 = 2;
const DEALS: u32 = 3;
const STEPS: u32 = 4;
const TOPICS: u32 = 4;
const NAMES: [(&str, MessageType); TOPICS as usize] = [
    ("normal", MessageType::Normal),
    ("later", MessageType::Delay),
    ("deals", MessageType::Transaction),
    ("steps", MessageType::Fifo),
];
const GROUP: GroupId = GroupId(1);
const CHECKS: TransactionChecks = TransactionChecks { after: Millis(30_000), every: Millis(30_000), most: 2 };
/// An entry is counted with those of its bucket.
const BUCKET: u64 = 64;

/// What is known from outside.
#[derive(Default)]
struct Seen {
    /// The body at each offset, from the first time that it was there.
    bodies: BTreeMap<(TopicId, QueueId, QueueOffset), String>,
    min: BTreeMap<(TopicId, QueueId), QueueOffset>,
    /// Delayed messages with their times and bodies.
    waiting: Vec<(Timestamp, MessageRef, String)>,
    halves: Vec<(MessageRef, String)>,
    sent: u64,
    acked: BTreeSet<(TopicId, QueueId, QueueOffset)>,
    /// Where dead letters were before.
    dead: BTreeSet<(TopicId, QueueId, QueueOffset)>,
    /// It never falls.
    needed: LogIndex,
}

fn start() -> Machine {
    let mut machine = Machine::default();
    for (name, message_type) in NAMES {
        let (topic_type, permission) = (TopicType::Only(message_type), Permission::READ_WRITE);
        let create = CreateTopic { topic: topic(name), topic_type, queues: QUEUES, permission, retention: None };
        machine.apply(&Command::CreateTopic(create));
    }
    let settings = GroupSettings::standard(1);
    machine.apply(&Command::CreateGroup(CreateGroup { group: group("g"), orderly: false, settings }));
    let topics = NAMES.map(|(name, _)| topic(name)).to_vec();
    machine.apply(&Command::Subscribe(Subscribe { group: group("g"), topics, create: None }));
    machine
}

impl Seen {
    fn send(&mut self, machine: &mut Machine, to: u32, count: usize, seconds: u64) {
        let bodies: Vec<String> = (0..count as u64).map(|number| format!("body {}", self.sent + number)).collect();
        self.sent += count as u64;
        let at = Timestamp(machine.now + seconds * 1000);
        let placement = match to {
            LATER => Placement::DeliverAt(vec![at; count]),
            DEALS => Placement::OnCommit(CHECKS),
            STEPS => Placement::Fifo((0..count as u64).map(|number| MessageGroupHash(number % 2 + 1)).collect()),
            _ => Placement::Now,
        };
        let texts: Vec<&str> = bodies.iter().map(String::as_str).collect();
        let Outcome::Sent(places) = machine.send_aside(TopicId(to), NAMES[to as usize - 1].1, &texts, placement) else {
            return;
        };
        for (place, body) in places.into_iter().zip(bodies) {
            match place {
                Stored::Queue(queue, offset) => {
                    self.bodies.insert((TopicId(to), queue, offset), body);
                }
                Stored::Deferred(slot) => {
                    let message = MessageRef { index: LogIndex(machine.index), slot };
                    if to == LATER {
                        self.waiting.push((at, message, body));
                    } else {
                        self.halves.push((message, body));
                    }
                }
                Stored::DeferredBefore(_) => panic!("nothing is sent twice here"),
            }
        }
    }

    /// All that can be seen is what it was, and refers only to entries that are kept.
    fn check(&mut self, machine: &Machine) {
        let view = machine.view();
        let mut oldest: Option<u64> = None;
        let mut refers = |index: LogIndex| oldest = Some(oldest.map_or(index.0, |oldest| oldest.min(index.0)));
        for (id, record) in view.topics().unwrap() {
            for queue in (0..record.queues).map(QueueId) {
                let head = view.queue_head(id, queue).unwrap();
                let before = self.min.insert((id, queue), head.min).unwrap_or_default();
                assert!(head.min >= before, "P13: a minimum never goes back");
                let mut next = head.min;
                for (first, run) in view.runs(id, queue, head.min, head.max).unwrap() {
                    assert_eq!(first, next, "P5: dense, and trimmed between runs");
                    refers(run.index);
                    self.dead.extend(run.origin.iter().map(|origin| (origin.topic, origin.queue, origin.offset)));
                    for (item, offset) in run.items.iter().zip(first.0..) {
                        let body = machine.message(MessageRef { index: run.index, slot: item.slot }).body;
                        let body = String::from_utf8(body.to_vec()).unwrap();
                        let known = self.bodies.entry((id, queue, QueueOffset(offset))).or_insert(body.clone());
                        assert_eq!(*known, body, "P3, P5: what is at an offset stays");
                    }
                    next = QueueOffset(first.0 + run.items.len() as u64);
                }
                assert_eq!(next, head.max);
            }
        }
        let delayed = view.delayed_page(&bytes::Bytes::new()).unwrap().0;
        for (_, _, message, item) in &delayed {
            refers(item.bytes_in(*message));
            let body = machine.message(item.bytes_at(*message)).body;
            if let Some((.., known)) = self.waiting.iter().find(|(_, waiting, _)| waiting == message) {
                assert_eq!(*known, String::from_utf8(body.to_vec()).unwrap(), "P3");
            }
        }
        for (_, message, half) in view.halves_page(&bytes::Bytes::new()).unwrap().0 {
            let Some(index) = half.bytes_in(message) else { continue };
            refers(index);
            let body = machine.message(half.bytes_at(message)).body;
            let known = self.halves.iter().find(|(half, _)| *half == message).map(|(_, body)| body.clone());
            assert_eq!(known, Some(String::from_utf8(body.to_vec()).unwrap()), "P3");
        }
        if self.is_swept(machine) {
            let expected = oldest.map(|oldest| LogIndex(oldest / BUCKET * BUCKET));
            let needed = view.needed_from(self.needed).unwrap();
            assert_eq!(needed, expected, "P2: what is referred to, and no more, is needed");
            self.needed = needed.unwrap_or(self.needed);
            assert_eq!(counted_anew(machine), expected);
        }
    }

    /// P6: what is neither acknowledged nor trimmed comes until it is a dead letter, whatever was trimmed around it.
    fn check_all_came(&mut self, machine: &mut Machine) {
        for _ in 0..8 {
            machine.now += 1_000_000;
            machine.apply(&Command::Tick);
            self.check(machine);
            for topic in (1..=TOPICS).map(TopicId) {
                loop {
                    let plan = machine.plan(topic, GROUP, &TagFilter::All);
                    match machine.grant(topic, GROUP, 64, 10_000, None, plan) {
                        Ok(granted) if !granted.is_empty() => {}
                        _ => break,
                    }
                }
            }
        }
        for (id, record) in machine.view().topics().unwrap().into_iter().filter(|(id, _)| id.0 <= TOPICS) {
            for queue in (0..record.queues).map(QueueId) {
                let head = machine.view().queue_head(id, queue).unwrap();
                for offset in (head.min.0..head.max.0).map(QueueOffset) {
                    let at = (id, queue, offset);
                    let is_known = self.acked.contains(&at) || self.dead.contains(&at);
                    assert!(is_known, "P6: {} {queue}/{offset} is there and came no more", record.name);
                }
            }
        }
    }

    /// Whether nothing is left of topics that were deleted.
    fn is_swept(&self, machine: &Machine) -> bool {
        let is_known = |place: &RunPlace| machine.view().topic_record(place.topic).unwrap().is_some();
        let all = |key: &[u8]| RunPlace {
            topic: TopicId(u32::from_be_bytes(key[1..5].try_into().unwrap())),
            queue: QueueId(0),
            first: QueueOffset(0),
        };
        let kv = &*machine.kv;
        [b"p", b"r"].into_iter().all(|tag| {
            let end = [tag[0] + 1];
            kv.scan(Space::Queue, tag, &end, usize::MAX).unwrap().iter().all(|(key, _)| is_known(&all(key)))
        })
    }
}

/// What a build that finds no references counts in the same state.
fn counted_anew(machine: &Machine) -> Option<LogIndex> {
    let kv = MemoryKv::default();
    let kept = content(&machine.kv).into_iter().filter(|(space, ..)| *space != Space::Reference);
    kv.write(WriteBatch { writes: kept.map(|(space, key, value)| (space, key, Some(value))).collect() }).unwrap();
    assert!(references::rebuild(&kv).unwrap());
    assert!(!references::rebuild(&kv).unwrap(), "once");
    raftmq::machine::state::view::View::new(&kv).needed_from(LogIndex(0)).unwrap()
}

fn run(steps: &[Step], crashes: bool) -> Machine {
    let (mut machine, mut seen) = (start(), Seen::default());
    for step in steps {
        match step {
            Step::Send { to, count, seconds } => seen.send(&mut machine, *to, *count, *seconds),
            Step::Recall(pick) => {
                let count = seen.waiting.len().max(1);
                if let Some((at, message, _)) = seen.waiting.get(pick % count).cloned() {
                    let is_there = is_waiting(&machine, message);
                    let recall = Recall { topic: TopicId(LATER), at, message };
                    let is_done = machine.apply(&Command::Recall(recall)) == Outcome::Done;
                    assert_eq!(is_done, is_there, "a handle works as long as its message waits, carried or not");
                    seen.waiting.remove(pick % count);
                }
            }
            Step::Reschedule(pick, seconds) => {
                let count = seen.waiting.len().max(1);
                if let Some((at, message, _)) = seen.waiting.get_mut(pick % count) {
                    let to = Timestamp(machine.now + seconds * 1000);
                    let change = Reschedule { topic: TopicId(LATER), at: *at, message: *message, to };
                    if machine.apply(&Command::Reschedule(change)) == Outcome::Done {
                        *at = to;
                    }
                }
            }
            Step::Decide(pick, commit) => {
                let Some((message, _)) = seen.halves.get(pick % seen.halves.len().max(1)) else { continue };
                let decide = Decide { topic: TopicId(DEALS), message: *message, commit: *commit };
                machine.apply(&Command::Decide(decide));
            }
            Step::Receive { from, limit } => {
                let topic = TopicId(*from);
                let plan = machine.plan(topic, GROUP, &TagFilter::All);
                let Ok(granted) = machine.grant(topic, GROUP, *limit, 10_000, None, plan) else { continue };
                for granted in granted {
                    let offset = QueueOffset(granted.first.0 + granted.messages.iter().next().unwrap());
                    let handle =
                        ReceiptHandle { group: GROUP, topic, queue: granted.queue, offset, lease: granted.lease };
                    if machine.apply(&Command::Ack(Ack { handles: vec![handle] })) == Outcome::Acked(vec![true]) {
                        seen.acked.insert((topic, granted.queue, offset));
                    }
                }
            }
            Step::Trim { of, queue, before } => {
                // The last topic is that of the dead letters.
                let trim = Trim {
                    topic: TopicId(*of),
                    queue: QueueId(*queue),
                    before: Timestamp(machine.now.saturating_sub(before * 1000)),
                };
                let old = |machine: &Machine| {
                    let is_old = |(place, run): &(RunPlace, _)| {
                        let run: &raftmq::machine::state::queue::Run = run;
                        (place.topic, place.queue) == (trim.topic, trim.queue) && run.stored_at < trim.before
                    };
                    machine.runs().iter().filter(|run| is_old(run)).map(|(_, run)| run.items.len() as u64).sum::<u64>()
                };
                let expected = old(&machine);
                let is_there = machine.view().topic_record(trim.topic).unwrap().is_some();
                let expected = match is_there {
                    true => Outcome::Trimmed { count: expected, more: false },
                    false => Outcome::Rejected(Rejected::TopicNotFound),
                };
                assert_eq!(machine.apply(&Command::Trim(trim)), expected, "P2: what is old, and no more");
            }
            Step::Spread => {
                (0..QUEUES).for_each(|_| seen.send(&mut machine, 1, 1, 0));
                machine.now += 1000;
                let before = Timestamp(machine.now);
                (0..QUEUES).for_each(|_| seen.send(&mut machine, 1, 1, 0));
                let plan = machine.plan(TopicId(1), GROUP, &TagFilter::All);
                let _ = machine.grant(TopicId(1), GROUP, 64, 10_000, None, plan);
                for queue in (0..QUEUES).map(QueueId) {
                    machine.apply(&Command::Trim(Trim { topic: TopicId(1), queue, before }));
                }
            }
            Step::Carry(age) => drop(machine.carry(LogIndex(machine.index.saturating_sub(*age)))),
            Step::Idle => (0..40).for_each(|_| drop(machine.apply_all(&[]))),
            Step::Pass(seconds) => machine.now += seconds * 1000,
            Step::Tick => {
                drop(machine.apply_all(&[Proposal { command: Command::Tick.encode(), messages: Vec::new() }]))
            }
            Step::Drop => drop(machine.apply(&Command::DeleteTopic { topic: topic("normal") })),
            Step::Flush => machine.flush(),
            Step::Crash if crashes => machine.crash(),
            Step::Crash => {}
        }
        seen.check(&machine);
    }
    seen.check_all_came(&mut machine);
    machine
}

fn is_waiting(machine: &Machine, message: MessageRef) -> bool {
    machine.view().delayed_page(&bytes::Bytes::new()).unwrap().0.iter().any(|(_, _, waiting, _)| *waiting == message)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn p2_p3_what_is_trimmed_was_old_and_what_is_carried_stays_what_it_was(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, false);
    }

    #[test]
    fn p15_a_restarted_machine_trims_and_carries_the_same(steps in prop::collection::vec(step(), 1..60)) {
        let (straight, restarted) = (run(&steps, false), run(&steps, true));
        prop_assert_eq!(straight.view().digest().unwrap(), restarted.view().digest().unwrap());
        prop_assert_eq!(content(&straight.kv), content(&restarted.kv));
    }
}
