//! Events are bounded, and the same on every replica.

use raftmq::machine::Proposal;
use raftmq::machine::command::Command;
use raftmq::machine::state::events::{Act, ClusterEventKind, EVENTS_MAX, Operator};
use raftmq::model::NodeId;

use crate::fixture::machine::{Machine, content};

fn proposal(number: u64) -> Proposal {
    let by = Operator { address: "10.0.0.9".into(), tool: "raftmq".into() };
    let act = Act { by, node: NodeId(0), what: "trim".into(), on: number.to_string(), detail: String::new() };
    Proposal { command: Command::NoteAct { act, said: "begun".into() }.encode(), messages: Vec::new() }
}

#[test]
fn p15_the_newest_events_stay_and_a_replica_that_starts_anew_has_the_same() {
    let mut machine = Machine::default();
    const MORE: u64 = 77;
    let all: Vec<Proposal> = (1..=EVENTS_MAX + MORE).map(proposal).collect();
    // Entries of different sizes; the oldest go within one, and between two.
    for (number, some) in all.chunks(250).enumerate() {
        machine.apply_all(some);
        if number == 20 {
            machine.flush();
        }
    }
    let kept = machine.view().events(0, u64::MAX).unwrap();
    assert_eq!(kept.len() as u64, EVENTS_MAX);
    for ((number, event), expected) in kept.iter().zip(MORE + 1..) {
        let ClusterEventKind::Act(act, _) = &event.kind else { panic!("{event:?}") };
        assert_eq!((*number, &act.on), (expected, &expected.to_string()));
    }
    assert_eq!(machine.view().event_count().unwrap(), EVENTS_MAX + MORE);
    assert_eq!(machine.view().events(1, MORE + 3).unwrap().len(), 2, "those that went are passed over");
    let state = content(&machine.kv);
    machine.crash();
    assert!(content(&machine.kv) == state, "P15: another state on another replica");
}
