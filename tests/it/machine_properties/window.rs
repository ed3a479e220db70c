//! The window of message ids at the sizes that nodes have (P4).

use raftmq::machine::Stored;
use raftmq::machine::command::Command;
use raftmq::machine::outcome::Outcome;
use raftmq::model::Message;
use raftmq::model::limits::{RECENT_FOR, RECENT_MESSAGES_MAX};

use super::{TOPIC, machine};
use crate::fixture::machine::{Machine, content, plain_message, send};

const PER_ENTRY: usize = 1000;
/// Twice what builds before cluster version 5 remember.
const ENTRIES: usize = 2 * RECENT_MESSAGES_MAX / PER_ENTRY;

fn messages(entry: usize) -> Vec<Message> {
    (0..PER_ENTRY).map(|number| plain_message(&format!("{entry}-{number}"), None)).collect()
}

fn places(machine: &mut Machine, messages: &[Message]) -> Vec<Stored> {
    match machine.apply_all(&[send(TOPIC, messages)]).0.pop() {
        Some(Outcome::Sent(places)) => places,
        other => panic!("a send is taken, not {other:?}"),
    }
}

/// Sends them all, the first ones below cluster version 5. With `crashes`, the state is made again now and then from what was
/// flushed and from the log: as after a crash, and as where a snapshot was taken in.
fn sent(crashes: bool) -> (Machine, Vec<Stored>) {
    let mut machine = machine();
    machine.now = 1_000_000;
    let mut first = Vec::new();
    for entry in 0..ENTRIES {
        if entry == 250 {
            machine.apply(&Command::RaiseClusterVersion { to: 5 });
        }
        first.push(places(&mut machine, &messages(entry))[0]);
        // While nothing is written of a lot, while some is, and when all is and some of it has left memory.
        if [200, 262, 300, 470].contains(&entry) {
            machine.flush();
        }
        if crashes && [210, 265, 340, 480].contains(&entry) {
            machine.crash();
        }
    }
    (machine, first)
}

#[test]
fn p4_p15_a_window_larger_than_memory_is_whole_on_replicas_that_restarted_and_on_those_that_did_not() {
    let (mut straight, first) = sent(false);
    let (mut restarted, first_again) = sent(true);
    assert_eq!(first, first_again);
    for machine in [&mut straight, &mut restarted] {
        machine.now += RECENT_FOR.0;
        for (entry, first) in first.iter().enumerate() {
            assert_eq!(places(machine, &messages(entry)[..1]), [*first], "P4: entry {entry}");
        }
        machine.now += 1;
        for (entry, first) in first.iter().enumerate() {
            assert_ne!(places(machine, &messages(entry)[..1]), [*first], "it is older than ten minutes");
        }
    }
    assert_eq!(straight.view().digest().unwrap(), restarted.view().digest().unwrap());
    assert_eq!(content(&straight.kv), content(&restarted.kv));
}
