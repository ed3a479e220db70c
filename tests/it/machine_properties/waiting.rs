//! Messages that wait: for their delivery time, or for the decision on their transaction.

use std::collections::BTreeMap;

use proptest::prelude::*;
use raftmq::machine::Proposal;
use raftmq::machine::Stored;
use raftmq::machine::command::{Command, CreateTopic, Decide, Placement, QueuePlacement, Recall, SendToQueue};
use raftmq::machine::outcome::{Outcome, Rejected};
use raftmq::model::{
    LogIndex, MessageRef, MessageType, Millis, Permission, QueueId, QueueOffset, Timestamp, TopicId, TopicType,
    TransactionChecks,
};

use super::{QUEUES, machine};
use crate::fixture::machine::{Machine, content, plain_message, topic};

/// What is put aside: by delay or in a transaction.
#[derive(Debug, Clone)]
enum Deferred {
    Delay { seconds: u64, count: usize, queue: Option<u32> },
    Recall(usize),
    Half { count: usize, queue: Option<u32> },
    Decide { half: usize, commit: bool },
    Pass(u64),
    Tick,
    Flush,
    Crash,
}

fn deferred_step() -> impl Strategy<Value = Deferred> {
    prop_oneof![
        3 => (0u64..30, 1usize..4, chosen_queue()).prop_map(|(seconds, count, queue)| Deferred::Delay { seconds, count, queue }),
        1 => any::<usize>().prop_map(Deferred::Recall),
        2 => (1usize..3, chosen_queue()).prop_map(|(count, queue)| Deferred::Half { count, queue }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(half, commit)| Deferred::Decide { half, commit }),
        3 => (1u64..15).prop_map(Deferred::Pass),
        3 => Just(Deferred::Tick),
        1 => Just(Deferred::Flush),
        1 => Just(Deferred::Crash),
    ]
}

/// The queue that a producer chose, if it did.
fn chosen_queue() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(0..QUEUES)
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

/// All messages in the queues of a topic. Those whose queue was chosen are there.
fn in_queues(machine: &Machine, topic: TopicId, chosen: &BTreeMap<MessageRef, QueueId>) -> Vec<MessageRef> {
    let mut found = Vec::new();
    for queue in (0..QUEUES).map(QueueId) {
        let head = machine.view().queue_head(topic, queue).unwrap();
        for (_, run) in machine.view().runs(topic, queue, head.min, head.max).unwrap() {
            for item in &run.items {
                let message = MessageRef { index: run.index, slot: item.slot };
                let wanted = chosen.get(&message);
                assert!(wanted.is_none_or(|wanted| *wanted == queue), "{message:?} in {queue}, not in {wanted:?}");
                found.push(message);
            }
        }
    }
    found.sort_unstable();
    found
}

/// Sends messages for a queue that was chosen; each as if no queue had been.
fn send_to(machine: &mut Machine, topic: TopicId, queue: u32, count: usize, placement: QueuePlacement) -> Vec<Stored> {
    let queue = QueueId(queue);
    let waits = match &placement {
        QueuePlacement::DeliverAt(times) => times[0].0 > machine.now,
        _ => true,
    };
    let command = Command::SendToQueue(SendToQueue { topic, queue, tag_hashes: vec![0; count], placement });
    let messages = vec![plain_message("c", None).encode(); count];
    let (outcomes, _) = machine.apply_all(&[Proposal { command: command.encode(), messages }]);
    let Outcome::SentToQueue { offset, slot } = outcomes[0] else { panic!("it is taken: {outcomes:?}") };
    let stored = |number: u32| {
        if waits {
            Stored::Deferred(slot + number)
        } else {
            Stored::Queue(queue, QueueOffset(offset.0 + u64::from(number)))
        }
    };
    (0..u32::try_from(count).unwrap()).map(stored).collect()
}

fn run_deferred(steps: &[Deferred], crashes: bool) -> Machine {
    let mut machine = machine();
    for (name, message_type) in [("later", MessageType::Delay), ("deals", MessageType::Transaction)] {
        let create = CreateTopic {
            topic: topic(name),
            topic_type: TopicType::Only(message_type),
            queues: QUEUES,
            permission: Permission::READ_WRITE,
            retention: None,
        };
        machine.apply(&Command::CreateTopic(create));
    }
    let mut waiting: Vec<(u64, MessageRef)> = Vec::new();
    let mut came: Vec<MessageRef> = Vec::new();
    let mut halves: Vec<PlainHalf> = Vec::new();
    let mut chosen: BTreeMap<MessageRef, QueueId> = BTreeMap::new();
    for step in steps {
        let now = machine.now;
        match step {
            Deferred::Delay { seconds, count, queue } => {
                let at = now + seconds * 1000;
                let times = vec![Timestamp(at); *count];
                let places = match queue {
                    Some(queue) => send_to(&mut machine, LATER, *queue, *count, QueuePlacement::DeliverAt(times)),
                    None => {
                        let placement = Placement::DeliverAt(times);
                        let outcome = machine.send_aside(LATER, MessageType::Delay, &vec!["d"; *count], placement);
                        let Outcome::Sent(places) = outcome else { panic!("a delay is taken") };
                        places
                    }
                };
                for (slot, place) in (0..).zip(places) {
                    let message = MessageRef { index: LogIndex(machine.index), slot };
                    chosen.extend(queue.map(|queue| (message, QueueId(queue))));
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
            Deferred::Half { count, queue } => {
                match queue {
                    Some(queue) => {
                        send_to(&mut machine, DEALS, *queue, *count, QueuePlacement::OnCommit(CHECKS));
                    }
                    None => {
                        let placement = Placement::OnCommit(CHECKS);
                        machine.send_aside(DEALS, MessageType::Transaction, &vec!["h"; *count], placement);
                    }
                }
                for slot in 0..*count as u32 {
                    let message = MessageRef { index: LogIndex(machine.index), slot };
                    chosen.extend(queue.map(|queue| (message, QueueId(queue))));
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
        assert_eq!(in_queues(&machine, LATER, &chosen), came, "P11: once, at its time, unless it was recalled");
        let committed = halves.iter().filter(|half| half.decided == Some(true));
        let committed: Vec<_> = committed.map(|half| half.message).collect();
        assert_eq!(in_queues(&machine, DEALS, &chosen), committed, "P12: visible once, if it was committed first");
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
