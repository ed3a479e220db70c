//! Hand-made histories: one that keeps every promise, and for each rule one that breaks it.

use crate::drill::check::{Checked, Demands, Rule, Verdict, check};
use crate::drill::history::{Event, Got, Offsets, OperationKind, Phase};

const DEMANDS: Demands =
    Demands { sends: 1, faults: 0, leader_faults: 0, redeliveries: 0, lateness_us: 500_000, outage_max_us: 4_000_000 };

/// Writes a history down, with times in milliseconds.
#[derive(Default)]
struct Script(Vec<Event>);

fn body(mid: &str) -> u64 {
    mid.bytes().map(u64::from).sum()
}

fn got(mid: &str, q: u32, off: u64, att: u32) -> Got {
    Got { mid: mid.to_owned(), q, off, att, h: body(mid) }
}

impl Script {
    fn add(&mut self, ms: u64, event: Event) -> u64 {
        let i = self.0.len() as u64;
        self.0.push(Event { i, t: ms * 1000, ..event });
        i
    }

    fn pair(&mut self, (from, to): (u64, u64), asked: Event, answer: Event) {
        let of = Some(self.add(from, asked));
        self.add(to, Event { of, ..answer });
    }

    fn send(&mut self, span: (u64, u64), p: &str, mid: &str, ph: Phase, off: Option<u64>) {
        let (mid, h) = (Some(mid.to_owned()), Some(body(mid)));
        let asked = Event { mid, h, ..Event::new(p, Phase::Inv, OperationKind::Send) };
        self.pair(span, asked, Event { off, ..Event::new(p, ph, OperationKind::Send) });
    }

    fn receive(&mut self, span: (u64, u64), msgs: &[Got]) {
        let asked =
            Event { group: Some("g".into()), inv_ms: Some(10_000), ..Event::new("c", Phase::Inv, OperationKind::Recv) };
        self.pair(span, asked, Event { msgs: msgs.to_vec(), ..Event::new("c", Phase::Ok, OperationKind::Recv) });
    }

    fn ack(&mut self, span: (u64, u64), mid: &str, ph: Phase) {
        let of =
            |ph| Event { group: Some("g".into()), mid: Some(mid.into()), ..Event::new("c", ph, OperationKind::Ack) };
        self.pair(span, of(Phase::Inv), of(ph));
    }

    fn audit(&mut self, node: &str, msgs: &[Got]) {
        let asked = Event { node: Some(node.into()), ..Event::new("audit", Phase::Inv, OperationKind::Audit) };
        let at = self.0.last().map_or(0, |event| event.t / 1000) + 1;
        self.pair(
            (at, at),
            asked,
            Event { msgs: msgs.to_vec(), ..Event::new("audit", Phase::Ok, OperationKind::Audit) },
        );
    }

    fn read_offsets(&mut self, span: (u64, u64), max: u64, group: u64) {
        let offs = [(0, Offsets { max, group })].into();
        let asked = Event::new("operator", Phase::Inv, OperationKind::QueryOff);
        self.pair(span, asked, Event { offs, ..Event::new("operator", Phase::Ok, OperationKind::QueryOff) });
    }

    fn fault(&mut self, ms: u64, f: OperationKind, node: &str) {
        self.add(ms, Event { node: Some(node.into()), led: Some(true), ..Event::new("nemesis", Phase::Info, f) });
    }

    fn check(&self) -> Checked {
        check(&self.0, &DEMANDS)
    }
}

/// Two messages sent, received, acked and audited.
fn good() -> Script {
    let mut script = Script::default();
    script.send((0, 10), "p", "a", Phase::Ok, Some(0));
    script.send((20, 30), "p", "b", Phase::Ok, Some(1));
    script.read_offsets((40, 41), 2, 0);
    script.receive((50, 60), &[got("a", 0, 0, 1), got("b", 0, 1, 1)]);
    script.ack((61, 62), "a", Phase::Ok);
    script.ack((63, 64), "b", Phase::Ok);
    script.read_offsets((70, 71), 2, 2);
    script
}

fn audited(mut script: Script) -> Script {
    script.audit("n0", &[got("a", 0, 0, 1), got("b", 0, 1, 1)]);
    script
}

/// The only rule a history breaks.
fn broken(script: &Script) -> Rule {
    let checked = script.check();
    assert_eq!(checked.verdict, Verdict::False, "{checked:?}");
    assert_eq!(checked.broken.len(), 1, "{checked:?}");
    checked.findings[0].rule
}

#[test]
fn a_good_history_is_true_and_one_without_audit_or_faults_is_unknown() {
    let checked = audited(good()).check();
    assert_eq!(checked.verdict, Verdict::True, "{checked:?}");
    assert_eq!((checked.sends, checked.lost, checked.duplicated), ([2, 0, 0], 0, 0));
    assert_eq!(good().check().verdict, Verdict::Unknown, "V: no audit");
    let demands = Demands { leader_faults: 1, ..DEMANDS };
    assert_eq!(check(&audited(good()).0, &demands).verdict, Verdict::Unknown, "V: no fault");
}

#[test]
fn an_audit_or_a_drain_that_came_to_no_end_makes_a_run_unknown_not_false() {
    let mut script = audited(good());
    let asked = Event { node: Some("n1".into()), ..Event::new("audit", Phase::Inv, OperationKind::Audit) };
    script.pair(
        (90, 91),
        asked,
        Event { msgs: vec![got("a", 0, 0, 1)], ..Event::new("audit", Phase::Info, OperationKind::Audit) },
    );
    assert_eq!(script.check().verdict, Verdict::Unknown);
    let mut script = Script::default();
    script.send((0, 10), "p", "a", Phase::Ok, Some(0));
    script.add(20, Event::new("operator", Phase::Info, OperationKind::Drained));
    script.audit("n0", &[got("a", 0, 0, 1)]);
    assert_eq!(script.check().verdict, Verdict::Unknown);
}

#[test]
fn c1_an_acknowledged_message_that_one_replica_lacks_is_lost() {
    let mut script = audited(good());
    script.audit("n1", &[got("a", 0, 0, 1)]);
    assert_eq!(broken(&script), Rule::AckedMessageLost);
    assert_eq!(script.check().lost, 1);
}

#[test]
fn c2_a_message_nobody_sent_or_with_another_body_is_a_phantom() {
    let mut script = good();
    let stranger = Got { h: 7, ..got("b", 0, 1, 1) };
    script.audit("n0", &[got("a", 0, 0, 1), stranger]);
    assert_eq!(broken(&script), Rule::UnknownMessage);
    let mut script = good();
    script.receive((72, 73), &[got("x", 0, 2, 1)]);
    script.audit("n0", &[got("a", 0, 0, 1), got("b", 0, 1, 1), got("x", 0, 2, 1)]);
    assert_eq!(broken(&script), Rule::UnknownMessage);
}

#[test]
fn c3_a_send_with_two_offsets_is_stored_twice() {
    let mut script = good();
    script.audit("n0", &[got("a", 0, 0, 1), got("b", 0, 1, 1), got("a", 1, 0, 1)]);
    assert!(script.check().broken.contains_key("C3"));
    assert_eq!(script.check().duplicated, 1);
}

#[test]
fn c4_an_offset_that_held_two_messages_a_hole_or_another_offset_than_was_answered() {
    let mut script = audited(good());
    script.audit("n1", &[got("b", 0, 0, 1), got("a", 0, 1, 1)]);
    assert!(script.check().broken.contains_key("C4"));
    let mut script = Script::default();
    script.send((0, 10), "p", "a", Phase::Ok, Some(1));
    script.receive((50, 60), &[got("a", 0, 1, 1)]);
    script.audit("n0", &[got("a", 0, 1, 1)]);
    assert_eq!(broken(&script), Rule::OffsetConflict, "a hole");
    let mut script = Script::default();
    script.send((0, 10), "p", "a", Phase::Ok, Some(5));
    script.receive((50, 60), &[got("a", 0, 0, 1)]);
    script.audit("n0", &[got("a", 0, 0, 1)]);
    assert_eq!(broken(&script), Rule::OffsetConflict, "answered another offset");
}

#[test]
fn c5_and_c6_sends_stored_in_another_order_than_they_happened() {
    let swapped = |second: &str| {
        let mut script = Script::default();
        script.send((0, 10), "p", "a", Phase::Ok, None);
        script.send((20, 30), second, "b", Phase::Ok, None);
        script.receive((50, 60), &[got("b", 0, 0, 1), got("a", 0, 1, 1)]);
        script.audit("n0", &[got("b", 0, 0, 1), got("a", 0, 1, 1)]);
        script
    };
    assert!(swapped("p").check().broken.contains_key("C5"), "of one producer");
    assert_eq!(broken(&swapped("q")), Rule::RealTimeOrderBroken, "of two");
    // Sends that overlapped may be stored either way.
    let mut script = Script::default();
    script.send((0, 25), "p", "a", Phase::Ok, None);
    script.send((20, 30), "q", "b", Phase::Ok, None);
    script.receive((50, 60), &[got("b", 0, 0, 1), got("a", 0, 1, 1)]);
    script.audit("n0", &[got("b", 0, 0, 1), got("a", 0, 1, 1)]);
    assert_eq!(script.check().verdict, Verdict::True);
}

#[test]
fn c7_a_stored_message_the_group_never_got() {
    let mut script = Script::default();
    script.send((0, 10), "p", "a", Phase::Ok, Some(0));
    script.send((20, 30), "p", "b", Phase::Info, None);
    script.receive((50, 60), &[got("a", 0, 0, 1)]);
    script.audit("n0", &[got("a", 0, 0, 1), got("b", 0, 1, 1)]);
    assert_eq!(broken(&script), Rule::NeverDelivered);
}

#[test]
fn c8_a_message_delivered_again_to_a_poll_that_began_after_its_ack() {
    let mut script = good();
    script.receive((10_070, 10_080), &[got("a", 0, 0, 2)]);
    let script = audited(script);
    assert_eq!(broken(&script), Rule::RedeliveredAfterAck);
    assert_eq!(script.check().redelivered_after_ack, 1);
    // A poll that was open while the ack ran may still bring it.
    let mut script = Script::default();
    script.send((0, 10), "p", "a", Phase::Ok, Some(0));
    script.receive((20, 30), &[got("a", 0, 0, 1)]);
    script.receive((10_025, 10_040), &[got("a", 0, 0, 2)]);
    script.ack((10_020, 10_035), "a", Phase::Ok);
    script.audit("n0", &[got("a", 0, 0, 1)]);
    assert_eq!(script.check().verdict, Verdict::True);
}

#[test]
fn c9_a_message_delivered_again_while_its_lease_runs_or_long_after() {
    let redelivered = |at: u64| {
        let mut script = Script::default();
        script.send((0, 10), "p", "a", Phase::Ok, Some(0));
        script.receive((20, 30), &[got("a", 0, 0, 1)]);
        script.receive((at - 5, at), &[got("a", 0, 0, 2)]);
        script.audit("n0", &[got("a", 0, 0, 1)]);
        script
    };
    assert_eq!(broken(&redelivered(10_010)), Rule::RedeliveredOffTime, "early");
    assert_eq!(redelivered(10_025).check().verdict, Verdict::True, "the lease may have begun with the poll");
    assert_eq!(redelivered(10_400).check().verdict, Verdict::True);
    assert_eq!(broken(&redelivered(10_600)), Rule::RedeliveredOffTime, "late");
    // Unless there was another delivery in between, whose answer was lost with its node.
    let mut script = redelivered(21_000);
    for event in &mut script.0 {
        event.msgs.iter_mut().filter(|got| got.att == 2).for_each(|got| got.att = 3);
    }
    assert_eq!(script.check().verdict, Verdict::True);
}

#[test]
fn c13a_offsets_that_move_back_or_stay_below_what_was_acknowledged() {
    let mut script = good();
    script.read_offsets((80, 81), 2, 1);
    assert_eq!(broken(&audited(script)), Rule::OffsetMovedBack, "the group's offset");
    let mut script = good();
    script.read_offsets((80, 81), 1, 2);
    assert!(audited(script).check().broken.contains_key("C13a"), "below what was read");
    let mut script = Script::default();
    script.send((0, 10), "p", "a", Phase::Ok, Some(0));
    script.read_offsets((20, 21), 0, 0);
    script.receive((50, 60), &[got("a", 0, 0, 1)]);
    script.audit("n0", &[got("a", 0, 0, 1)]);
    assert_eq!(broken(&script), Rule::OffsetMovedBack, "below what was acknowledged");
}

#[test]
fn c15_an_outage_counts_unless_no_majority_was_up_and_everything_works_again_afterwards() {
    let script = |hurt: &[&str], gap: u64, last: Phase| {
        let mut script = Script::default();
        script.send((0, 10), "p", "a", Phase::Ok, Some(0));
        hurt.iter().for_each(|node| script.fault(20, OperationKind::Fault, node));
        hurt.iter().for_each(|node| script.fault(gap - 100, OperationKind::Heal, node));
        script.send((gap, gap + 10), "p", "b", Phase::Ok, Some(1));
        script.send((gap + 20_000, gap + 20_010), "p", "c", last, None);
        script.receive((50, gap + 30), &[got("a", 0, 0, 1), got("b", 0, 1, 1)]);
        script.audit("n0", &[got("a", 0, 0, 1), got("b", 0, 1, 1)]);
        script
    };
    assert_eq!(broken(&script(&["n0"], 5_000, Phase::Info)), Rule::Unavailable);
    let away = script(&["n0"], 5_000, Phase::Info).check();
    assert_eq!(away.broken["C15"], 2, "the outage, and the send that fails afterwards: {away:?}");
    assert_eq!(script(&["n0", "n1"], 5_000, Phase::Info).check().broken["C15"], 1, "two of three were down");
}

#[test]
fn c15_a_node_does_not_end_by_itself() {
    let mut script = good();
    script.add(80, Event { node: Some("n1".into()), ..Event::new("nemesis", Phase::Info, OperationKind::Ended) });
    assert_eq!(broken(&audited(script)), Rule::Unavailable);
}

#[test]
fn c16_a_send_that_was_refused_for_good_is_not_in_the_log() {
    let mut script = Script::default();
    script.send((0, 10), "p", "a", Phase::Ok, Some(0));
    script.send((20, 30), "p", "b", Phase::Fail, None);
    script.receive((50, 60), &[got("a", 0, 0, 1), got("b", 0, 1, 1)]);
    script.audit("n0", &[got("a", 0, 0, 1), got("b", 0, 1, 1)]);
    assert_eq!(broken(&script), Rule::RefusedMessageStored);
}
