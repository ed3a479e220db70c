//! Hand-made histories: one that keeps every promise, and for each rule one that breaks it.

use crate::drill::check::{Checked, Demands, Rule, Verdict, check};
use crate::drill::history::{Applied, Event, FULL_DISK, Got, Offsets, OperationKind, Phase};

const DEMANDS: Demands = Demands {
    sends: 1,
    faults: 0,
    leader_faults: 0,
    redeliveries: 0,
    of_each_kind: 0,
    compared: 0,
    snapshots: 0,
    repairs: 0,
    attempts_max: 4,
    asked_within_us: 5_000_000,
    delay_late_us: 1_000_000,
    moved_clock_us: 500_000,
    lateness_us: 500_000,
    gap_max_us: 4_000_000,
    resume_max_us: 6_000_000,
};

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

    fn send_delayed(&mut self, span: (u64, u64), mid: &str, due: u64) {
        let (mid, h, due) = (Some(mid.to_owned()), Some(body(mid)), Some(due * 1000));
        let asked = Event { mid, h, due, ..Event::new("p", Phase::Inv, OperationKind::Send) };
        self.pair(span, asked, Event::new("p", Phase::Ok, OperationKind::Send));
    }

    fn recall(&mut self, span: (u64, u64), mid: &str, ph: Phase) {
        let asked = Event { mid: Some(mid.into()), ..Event::new("p", Phase::Inv, OperationKind::Recall) };
        self.pair(span, asked, Event::new("p", ph, OperationKind::Recall));
    }

    fn send_half(&mut self, span: (u64, u64), mid: &str) {
        let (mid, h) = (Some(mid.to_owned()), Some(body(mid)));
        let asked = Event { mid, h, ..Event::new("p", Phase::Inv, OperationKind::SendTxn) };
        self.pair(span, asked, Event::new("p", Phase::Ok, OperationKind::SendTxn));
    }

    fn end(&mut self, span: (u64, u64), mid: &str, commit: bool, ph: Phase) {
        let asked =
            Event { mid: Some(mid.into()), commit: Some(commit), ..Event::new("p", Phase::Inv, OperationKind::EndTxn) };
        self.pair(span, asked, Event::new("p", ph, OperationKind::EndTxn));
    }

    fn question(&mut self, ms: u64, mid: Option<&str>) {
        let mid = mid.map(str::to_owned);
        self.add(ms, Event { mid, ..Event::new("asked", Phase::Info, OperationKind::TxnCheck) });
    }

    /// Delivered so often from a time on, each time given back.
    fn give_back(&mut self, from: u64, mid: &str, attempts: std::ops::RangeInclusive<u32>) {
        for attempt in attempts {
            let at = from + u64::from(attempt) * 2000;
            self.receive((at, at + 10), &[got(mid, 0, 0, attempt)]);
            let asked = |ph| Event {
                group: Some("g".into()),
                mid: Some(mid.into()),
                inv_ms: Some(1000),
                ..Event::new("c", ph, OperationKind::Renew)
            };
            self.pair((at + 20, at + 30), asked(Phase::Inv), asked(Phase::Ok));
        }
    }

    fn dead_letters(&mut self, msgs: &[Got]) {
        let asked = |ph| Event {
            node: Some("n0".into()),
            group: Some("g".into()),
            ..Event::new("operator", ph, OperationKind::DeadLetters)
        };
        let at = self.0.last().map_or(0, |event| event.t / 1000) + 1;
        self.pair((at, at), asked(Phase::Inv), Event { msgs: msgs.to_vec(), ..asked(Phase::Ok) });
    }

    fn digest(&mut self, node: &str, index: u64, content: u64, running: u64) {
        let asked = Event { node: Some(node.into()), ..Event::new("operator", Phase::Inv, OperationKind::Digest) };
        let applied = Some(Applied { index, content, running });
        let at = self.0.last().map_or(0, |event| event.t / 1000) + 1;
        self.pair((at, at), asked, Event { applied, ..Event::new("operator", Phase::Ok, OperationKind::Digest) });
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

    fn majority(&mut self, ms: u64, f: OperationKind) {
        self.add(ms, Event::new("nemesis", Phase::Info, f));
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
fn c1_nothing_is_acknowledged_while_no_majority_is_there() {
    let script = |asked: u64, answered: u64| {
        let mut script = audited(good());
        script.majority(1000, OperationKind::MajorityLost);
        script.majority(4000, OperationKind::MajorityBack);
        script.send((asked, answered), "p", "c", Phase::Ok, Some(2));
        script.receive((4100, 4110), &[got("c", 0, 2, 1)]);
        script.audit("n0", &[got("c", 0, 2, 1)]);
        script
    };
    assert_eq!(broken(&script(1010, 3990)), Rule::AckedMessageLost);
    assert_eq!(script(1010, 4010).check().verdict, Verdict::True, "answered once it was back");
    assert_eq!(script(990, 1100).check().verdict, Verdict::True, "stored before it was lost");
}

#[test]
fn c15_p20_acks_that_are_not_answered_while_disks_are_full_are_found() {
    let script = |acked: Phase| {
        let mut script = audited(good());
        let fault = |f| Event {
            node: Some("n1".into()),
            kind: Some(FULL_DISK.into()),
            ..Event::new("nemesis", Phase::Info, f)
        };
        script.add(1000, fault(OperationKind::Fault));
        for number in 0..3 {
            script.ack((1400 + number * 10, 1405 + number * 10), "a", if number == 2 { acked } else { Phase::Fail });
        }
        script.add(2000, fault(OperationKind::Heal));
        script
    };
    assert_eq!(broken(&script(Phase::Fail)), Rule::Unavailable);
    assert_eq!(script(Phase::Ok).check().verdict, Verdict::True, "one is enough: a node may be between two leaders");
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

/// A delayed message that is due at 2000 ms, delivered at a time.
fn delayed(at: u64) -> Script {
    let mut script = Script::default();
    script.send((0, 5), "q", "a", Phase::Ok, Some(0));
    script.send_delayed((10, 20), "d", 2000);
    script.receive((at - 5, at), &[got("a", 0, 0, 1), got("d", 0, 1, 1)]);
    script
}

fn audited_delayed(mut script: Script) -> Script {
    script.audit("n0", &[got("a", 0, 0, 1), got("d", 0, 1, 1)]);
    script
}

#[test]
fn c10_a_delayed_message_comes_at_its_time_and_not_at_all_once_it_is_recalled() {
    assert_eq!(audited_delayed(delayed(2000)).check().verdict, Verdict::True);
    assert_eq!(audited_delayed(delayed(9000)).check().verdict, Verdict::True, "its consumers were slow");
    assert_eq!(broken(&audited_delayed(delayed(1990))), Rule::DelayBroken, "early");
    // A moved clock moves it by half a second at most.
    let moved = |at: u64| {
        let mut script = delayed(at);
        let clock = Event { kind: Some("clock-ahead".into()), ..script.0[0].clone() };
        let fault = Event { t: 0, node: Some("n0".into()), ph: Phase::Info, f: OperationKind::Fault, ..clock };
        script.0.push(Event { i: script.0.len() as u64, mid: None, ..fault });
        audited_delayed(script).check().broken.contains_key("C10")
    };
    assert_eq!((moved(1600), moved(1400)), (false, true));
    let recalled = |ph| {
        let mut script = delayed(2000);
        script.recall((30, 40), "d", ph);
        audited_delayed(script)
    };
    assert_eq!(broken(&recalled(Phase::Ok)), Rule::DelayBroken, "delivered after its recall");
    assert_eq!(recalled(Phase::Fail).check().verdict, Verdict::True);
    assert_eq!(recalled(Phase::Info).check().verdict, Verdict::True);
}

#[test]
fn c1_a_delayed_message_that_was_not_recalled_is_there_in_the_end() {
    let missing = |recalled: Option<Phase>| {
        let mut script = Script::default();
        script.send((0, 5), "q", "a", Phase::Ok, Some(0));
        script.send_delayed((10, 20), "d", 2000);
        if let Some(ph) = recalled {
            script.recall((30, 40), "d", ph);
        }
        script.receive((50, 60), &[got("a", 0, 0, 1)]);
        script.audit("n0", &[got("a", 0, 0, 1)]);
        script
    };
    assert_eq!(broken(&missing(None)), Rule::AckedMessageLost);
    assert_eq!(broken(&missing(Some(Phase::Fail))), Rule::AckedMessageLost, "it was not recalled");
    assert_eq!(missing(Some(Phase::Ok)).check().verdict, Verdict::True);
    assert_eq!(missing(Some(Phase::Info)).check().verdict, Verdict::True, "nobody knows");
}

#[test]
fn c10_a_delayed_message_enters_its_queue_at_its_time_however_slow_its_consumers_are() {
    // Behind it or before it, a plain message that is sent at a time.
    let placed = |sent: u64, is_before: bool, outage: bool| {
        let mut script = Script::default();
        script.send_delayed((10, 20), "d", 500);
        if !outage {
            (1..20).for_each(|at| script.send((at * 200, at * 200 + 10), "z", &format!("z{at}"), Phase::Ok, None));
        }
        script.send((sent, sent + 10), "p", "a", Phase::Ok, None);
        let places = if is_before { [("a", 0), ("d", 1)] } else { [("d", 0), ("a", 1)] };
        let mut stored: Vec<Got> = places.iter().map(|(mid, offset)| got(mid, 0, *offset, 1)).collect();
        let others = script.0.iter().filter_map(|event| event.mid.as_deref().filter(|mid| mid.starts_with('z')));
        stored.extend(others.zip(0..).map(|(mid, offset)| got(mid, 1, offset, 1)));
        script.receive((sent + 5000, sent + 5010), &stored);
        script.audit("n0", &stored);
        script
    };
    assert_eq!(placed(1400, true, false).check().verdict, Verdict::True);
    assert_eq!(broken(&placed(1600, true, false)), Rule::DelayBroken, "behind a send that began 1.1 s after its time");
    assert_eq!(placed(1600, false, false).check().verdict, Verdict::True, "before it");
    assert_eq!(placed(1600, true, true).check().verdict, Verdict::True, "nobody was served in between");
    assert_eq!(
        broken(&placed(400, false, false)),
        Rule::DelayBroken,
        "before a send that had ended 90 ms before its time"
    );
    assert_eq!(placed(495, false, false).check().verdict, Verdict::True);
}

#[test]
fn c9_what_is_late_because_its_node_was_hurt_is_excused() {
    let polled = |node: &str| {
        let mut script = Script::default();
        script.send((0, 10), "p", "a", Phase::Ok, Some(0));
        script.receive((20, 30), &[got("a", 0, 0, 1)]);
        script.fault(9_000, OperationKind::Fault, "n1");
        script.fault(12_000, OperationKind::Heal, "n1");
        let asked = Event {
            node: Some(node.into()),
            group: Some("g".into()),
            inv_ms: Some(10_000),
            ..Event::new("c", Phase::Inv, OperationKind::Recv)
        };
        let answer = Event { msgs: vec![got("a", 0, 0, 2)], ..Event::new("c", Phase::Ok, OperationKind::Recv) };
        script.pair((8_000, 12_500), asked, answer);
        script.audit("n0", &[got("a", 0, 0, 1)]);
        script
    };
    assert_eq!(polled("n1").check().verdict, Verdict::True, "its poll was at the node that was hurt");
    assert_eq!(broken(&polled("n2")), Rule::RedeliveredOffTime);
}

/// A half message with decisions, and a plain one; both received and stored.
fn half(decisions: &[(u64, bool, Phase)]) -> Script {
    let mut script = Script::default();
    script.send((0, 5), "q", "a", Phase::Ok, Some(0));
    script.send_half((10, 20), "t");
    for (at, commit, ph) in decisions {
        script.end((*at, at + 10), "t", *commit, *ph);
    }
    script
}

fn shown(mut script: Script) -> Script {
    script.receive((90, 100), &[got("a", 0, 0, 1), got("t", 0, 1, 1)]);
    script.audit("n0", &[got("a", 0, 0, 1), got("t", 0, 1, 1)]);
    script
}

fn hidden(mut script: Script) -> Script {
    script.receive((90, 100), &[got("a", 0, 0, 1)]);
    script.audit("n0", &[got("a", 0, 0, 1)]);
    script
}

#[test]
fn c11_a_half_message_is_seen_after_its_commit_and_never_otherwise() {
    let verdict = |script: Script| script.check().verdict;
    assert_eq!(verdict(shown(half(&[(30, true, Phase::Ok)]))), Verdict::True);
    assert_eq!(verdict(shown(half(&[(30, true, Phase::Info)]))), Verdict::True);
    assert_eq!(verdict(hidden(half(&[(30, true, Phase::Info)]))), Verdict::True, "nobody knows");
    assert_eq!(verdict(hidden(half(&[(30, false, Phase::Ok)]))), Verdict::True);
    assert_eq!(verdict(shown(half(&[(30, true, Phase::Ok), (50, false, Phase::Fail)]))), Verdict::True);
    let broken_by = |script: Script| broken(&script);
    assert_eq!(broken_by(shown(half(&[]))), Rule::TransactionBroken, "never committed");
    assert_eq!(broken_by(shown(half(&[(200, true, Phase::Ok)]))), Rule::TransactionBroken, "committed later");
    assert_eq!(broken_by(shown(half(&[(30, false, Phase::Ok)]))), Rule::TransactionBroken, "rolled back");
    assert_eq!(broken_by(hidden(half(&[(30, true, Phase::Ok)]))), Rule::TransactionBroken, "committed and missing");
    let both = hidden(half(&[(30, true, Phase::Ok), (50, false, Phase::Ok)]));
    assert_eq!(both.check().broken["C11"], 2, "decided twice, and committed and missing");
}

#[test]
fn c11_a_producer_is_asked_about_what_it_left_open() {
    let open = |asked: bool, until: u64, decisions: &[(u64, bool, Phase)]| {
        let mut script = hidden(half(decisions));
        if asked {
            script.question(1500, Some("t"));
        }
        script.question(until, None);
        script
    };
    assert_eq!(broken(&open(false, 6000, &[])), Rule::TransactionBroken);
    assert_eq!(open(false, 6000, &[(30, false, Phase::Info)]).check().verdict, Verdict::True, "it may be decided");
    assert_eq!(open(true, 6000, &[]).check().verdict, Verdict::True);
    assert_eq!(open(false, 4000, &[]).check().verdict, Verdict::True, "nobody listened for long enough");
    assert_eq!(open(false, 6000, &[(30, false, Phase::Ok)]).check().verdict, Verdict::True, "it was decided");
}

#[test]
fn c12_a_message_is_a_dead_letter_once_after_its_last_attempt() {
    let script = |attempts: u32, letters: &[Got]| {
        let mut script = Script::default();
        script.send((0, 5), "p", "x", Phase::Ok, Some(0));
        script.give_back(0, "x", 1..=attempts);
        script.dead_letters(letters);
        script.audit("n0", &[got("x", 0, 0, 1)]);
        script
    };
    let letter = |attempts| got("x", 0, 0, attempts);
    assert_eq!(script(4, &[letter(4)]).check().verdict, Verdict::True);
    assert_eq!(script(4, &[letter(4)]).check().seen.dead_letters, 1);
    assert_eq!(broken(&script(4, &[])), Rule::DeadLetterBroken, "neither acknowledged nor dead");
    assert_eq!(broken(&script(4, &[letter(4), letter(4)])), Rule::DeadLetterBroken, "twice");
    assert_eq!(broken(&script(3, &[letter(3)])), Rule::DeadLetterBroken, "too early");
    assert!(script(5, &[letter(5)]).check().broken["C12"] >= 2, "too late, and an attempt after the last");
    let mut acked = Script::default();
    acked.send((0, 5), "p", "x", Phase::Ok, Some(0));
    acked.receive((10, 20), &[got("x", 0, 0, 1)]);
    acked.ack((30, 40), "x", Phase::Ok);
    let mut dead = Script(acked.0.clone());
    dead.dead_letters(&[letter(4)]);
    dead.audit("n0", &[got("x", 0, 0, 1)]);
    assert_eq!(broken(&dead), Rule::DeadLetterBroken, "acknowledged and dead");
    acked.dead_letters(&[]);
    acked.audit("n0", &[got("x", 0, 0, 1)]);
    assert_eq!(acked.check().verdict, Verdict::True);
}

#[test]
fn c12_each_delivery_counts_an_attempt() {
    let mut script = Script::default();
    script.send((0, 5), "p", "x", Phase::Ok, Some(0));
    script.give_back(0, "x", 1..=1);
    script.give_back(4000, "x", 1..=1);
    script.audit("n0", &[got("x", 0, 0, 1)]);
    assert_eq!(broken(&script), Rule::DeadLetterBroken);
}

#[test]
fn c7_a_dead_letter_whose_deliveries_were_all_lost_was_not_forgotten() {
    let mut script = Script::default();
    script.send((0, 5), "p", "a", Phase::Ok, Some(0));
    script.send((0, 5), "q", "x", Phase::Ok, Some(1));
    script.receive((10, 20), &[got("a", 0, 0, 1)]);
    script.ack((30, 40), "a", Phase::Ok);
    script.dead_letters(&[got("x", 0, 1, 4)]);
    script.audit("n0", &[got("a", 0, 0, 1), got("x", 0, 1, 1)]);
    assert_eq!(script.check().verdict, Verdict::True);
}

#[test]
fn c14_replicas_at_one_entry_are_equal() {
    let compared = |digests: &[(&str, u64, u64, u64)]| {
        let mut script = audited(good());
        digests.iter().for_each(|(node, index, content, running)| script.digest(node, *index, *content, *running));
        script
    };
    let equal = compared(&[("n0", 7, 1, 1), ("n1", 7, 1, 1), ("n2", 7, 1, 1)]);
    assert_eq!((equal.check().verdict, equal.check().seen.compared), (Verdict::True, 3));
    assert_eq!(broken(&compared(&[("n0", 7, 1, 1), ("n1", 7, 2, 1)])), Rule::ReplicasDiffer, "content");
    assert_eq!(broken(&compared(&[("n0", 7, 1, 1), ("n1", 7, 1, 2)])), Rule::ReplicasDiffer, "writes");
    let apart = compared(&[("n0", 7, 1, 1), ("n1", 8, 2, 2)]);
    assert_eq!((apart.check().verdict, apart.check().seen.compared), (Verdict::True, 1), "two entries say nothing");
    let demands = Demands { compared: 2, ..DEMANDS };
    assert_eq!(check(&apart.0, &demands).verdict, Verdict::Unknown, "V: not compared");
    assert_eq!(check(&equal.0, &demands).verdict, Verdict::True);
}

#[test]
fn a_run_without_the_rarer_kinds_is_unknown() {
    let demands = Demands { of_each_kind: 1, ..DEMANDS };
    let checked = check(&audited(good()).0, &demands);
    assert_eq!((checked.verdict, checked.broken["V"]), (Verdict::Unknown, 6), "{checked:?}");
}

#[test]
fn snapshots_and_repairs_that_were_wanted_must_have_been_seen() {
    let mut script = good();
    let of_nemesis = |ph, f, off| Event { off, node: Some("n1".to_owned()), ..Event::new("nemesis", ph, f) };
    script.add(90, of_nemesis(Phase::Info, OperationKind::Snapshots, Some(1)));
    script.add(91, of_nemesis(Phase::Info, OperationKind::Rot, None));
    script.add(92, of_nemesis(Phase::Ok, OperationKind::Rot, None));
    let events = audited(script).0;
    let verdict = |snapshots, repairs| check(&events, &Demands { snapshots, repairs, ..DEMANDS }).verdict;
    assert_eq!([verdict(1, 1), verdict(2, 1), verdict(1, 2)], [Verdict::True, Verdict::Unknown, Verdict::Unknown]);
}

#[test]
fn c15_what_was_not_done_and_who_started_itself_again_is_found() {
    for f in [OperationKind::NotDone, OperationKind::StartedAgain] {
        let mut script = good();
        let kind = Some("a change did not end".to_owned());
        script.add(90, Event { kind, node: Some("n1".to_owned()), ..Event::new("nemesis", Phase::Info, f) });
        assert_eq!(broken(&audited(script)), Rule::Unavailable, "{f:?}");
    }
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
    // While the drill holds its clients nobody sends.
    let mut held = script(&["n0"], 5_000, Phase::Info);
    held.majority(100, OperationKind::Held);
    held.majority(4_900, OperationKind::Released);
    held.0.sort_by_key(|event| event.t);
    assert_eq!(held.check().broken["C15"], 1, "only the send that fails afterwards: {:?}", held.check());
    // Once they are back, it may take longer than a change of leader, and not for ever.
    let mut slow = script(&["n0", "n1"], 5_000, Phase::Info);
    slow.0.iter_mut().filter(|event| event.f == OperationKind::Heal).for_each(|heal| heal.t -= 4_500_000);
    assert_eq!(slow.check().broken["C15"], 1, "only the send that fails afterwards");
    let strict = Demands { resume_max_us: 4_500_000, ..DEMANDS };
    assert_eq!(check(&slow.0, &strict).broken["C15"], 2);
}

#[test]
fn c15_a_node_that_is_attacked_or_whose_clock_is_moved_is_up() {
    let mut script = Script::default();
    script.send((0, 10), "p", "a", Phase::Ok, Some(0));
    for (node, kind) in [("n0", "clock-ahead"), ("n1", "hostile-peers")] {
        script.fault(20, OperationKind::Fault, node);
        script.0.last_mut().unwrap().kind = Some(kind.into());
    }
    script.send((4_900, 5_000), "p", "b", Phase::Ok, Some(1));
    script.receive((50, 5_030), &[got("a", 0, 0, 1), got("b", 0, 1, 1)]);
    script.audit("n0", &[got("a", 0, 0, 1), got("b", 0, 1, 1)]);
    assert_eq!(broken(&script), Rule::Unavailable);
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
