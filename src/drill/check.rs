//! The checker: whether a history keeps the promises, from the history alone.
//!
//! Each rule is a sort and a few maps. What cannot be decided is said to be unknown, never passed over:
//! a run that met no fault, or whose audit is missing, proves nothing (rule V).
//!
//! Source: docs/promises.md, "Rules of the drill"; C6 is linearizability of an append-only log whose order the audit tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::drill::history::{Event, Got, OperationKind, Phase};

/// Findings told per rule.
const TOLD_MAX: usize = 5;
/// A gap between two acknowledged sends longer than this is an outage.
const OUTAGE_US: u64 = 250_000;
/// After the last heal everything must work again within this.
const SETTLE_US: u64 = 10_000_000;

/// The rules; each breaks a promise of docs/promises.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Rule {
    /// An acknowledged message is lost (P1, P2).
    C1,
    /// A message nobody sent, or with another body (P3).
    C2,
    /// One send lies at two places (P4).
    C3,
    /// One place has held two messages, or a queue has a hole (P5).
    C4,
    /// A producer's sends lie in another order (P5).
    C5,
    /// Two sends of any producers lie in another order than they happened (P5).
    C6,
    /// A message was never delivered to the group (P6).
    C7,
    /// A message came again after its ack was answered OK (P7).
    C8,
    /// A message came again while its lease ran, or too late after it ended (P8).
    C9,
    /// An offset moved back (P13).
    C13a,
    /// The service was away too long, or did not come back, or a node ended by itself (P17).
    C15,
    /// A send answered with a definite failure is in the log (P16).
    C16,
    /// The run saw too little to prove anything.
    V,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// What happened.
    pub text: String,
    /// The numbers of the events that show it.
    pub events: Vec<u64>,
}

/// What a run must have seen, and how long it may have been away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// Sends acknowledged.
    pub sends: usize,
    /// Faults done.
    pub faults: usize,
    /// Of these, to a node that led.
    pub leader_faults: usize,
    /// Deliveries after the first.
    pub redeliveries: usize,
    /// A message whose lease ended comes again within this, while the service is up (P8), microseconds.
    pub lateness_us: u64,
    /// Longest gap between acknowledged sends while a majority was up, microseconds.
    pub outage_max_us: u64,
}

/// Whether the promises were kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes, as far as this history shows.
    True,
    /// No.
    False,
    /// The history does not show it.
    Unknown,
}

/// What the checker found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// The verdict.
    pub verdict: Verdict,
    /// What is wrong or missing; at most a few of each rule.
    pub findings: Vec<Finding>,
    /// How often each rule was broken.
    pub broken: BTreeMap<String, usize>,
    /// Sends acknowledged, with unknown fate, refused.
    pub sends: [usize; 3],
    /// Messages lost.
    pub lost: usize,
    /// Messages at two places.
    pub duplicated: usize,
    /// Messages delivered again after their ack was answered OK.
    pub redelivered_after_ack: usize,
    /// Deliveries after the first.
    pub redeliveries: usize,
}

/// An operation with both its ends; `returned` is the end of time if nobody knows.
struct Span<'a> {
    asked: &'a Event,
    answered: Option<&'a Event>,
}

impl Span<'_> {
    fn is_ok(&self) -> bool {
        self.answered.is_some_and(|answer| answer.ph == Phase::Ok)
    }

    fn is_failed(&self) -> bool {
        self.answered.is_some_and(|answer| answer.ph == Phase::Fail)
    }

    fn returned(&self) -> u64 {
        self.answered.filter(|answer| answer.ph == Phase::Ok).map_or(u64::MAX, |answer| answer.t)
    }

    fn numbers(&self) -> Vec<u64> {
        std::iter::once(self.asked.i).chain(self.answered.map(|answer| answer.i)).collect()
    }
}

/// One delivery of one message.
struct Delivery<'a> {
    asked_at: u64,
    came_at: u64,
    lease_us: u64,
    number: u64,
    /// Whether the answer it came in was whole.
    is_whole: bool,
    got: &'a Got,
}

struct Check<'a> {
    events: &'a [Event],
    sends: BTreeMap<&'a str, Span<'a>>,
    /// By group and message, in the order they came.
    deliveries: BTreeMap<(&'a str, &'a str), Vec<Delivery<'a>>>,
    acks: BTreeMap<(&'a str, &'a str), Vec<Span<'a>>>,
    renews: BTreeMap<(&'a str, &'a str), Vec<Span<'a>>>,
    /// By replica: everything it has.
    audits: BTreeMap<&'a str, Vec<(&'a Got, u64)>>,
    /// What audits that came to no end showed: it is there, but nothing is known of what they lack.
    glimpsed: Vec<(&'a Got, u64)>,
    findings: Vec<Finding>,
    counts: BTreeMap<Rule, usize>,
}

/// Checks a history, in order of its numbers.
pub fn check(events: &[Event], demands: &Demands) -> Checked {
    let mut check = Check::read(events);
    let lost = check.no_loss();
    check.no_phantom();
    let duplicated = check.no_duplicate();
    check.agreement();
    check.producer_order();
    check.real_time_order();
    check.at_least_once();
    let redelivered_after_ack = check.ack_finality();
    let outages = check.availability(demands);
    check.leases(&outages, demands.lateness_us);
    check.offsets();
    check.honesty();
    let redeliveries = check.deliveries.values().map(|all| all.len() - 1).sum();
    check.coverage(demands, redeliveries);
    let ok = check.sends.values().filter(|span| span.is_ok()).count();
    let failed = check.sends.values().filter(|span| span.is_failed()).count();
    let is_broken = check.counts.keys().any(|rule| *rule != Rule::V);
    let verdict = match (is_broken, check.counts.contains_key(&Rule::V)) {
        (true, _) => Verdict::False,
        (false, true) => Verdict::Unknown,
        (false, false) => Verdict::True,
    };
    Checked {
        verdict,
        sends: [ok, check.sends.len() - ok - failed, failed],
        lost,
        duplicated,
        redelivered_after_ack,
        redeliveries,
        broken: check.counts.iter().map(|(rule, count)| (rule.to_string(), *count)).collect(),
        findings: check.findings,
    }
}

impl<'a> Check<'a> {
    fn read(events: &'a [Event]) -> Self {
        let answers: BTreeMap<u64, &Event> =
            events.iter().filter(|event| event.ph != Phase::Inv).filter_map(|event| Some((event.of?, event))).collect();
        let mut check = Self {
            events,
            sends: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            acks: BTreeMap::new(),
            renews: BTreeMap::new(),
            audits: BTreeMap::new(),
            glimpsed: Vec::new(),
            findings: Vec::new(),
            counts: BTreeMap::new(),
        };
        for asked in events.iter().filter(|event| event.ph == Phase::Inv) {
            let answered = answers.get(&asked.i).copied();
            let group = asked.group.as_deref().unwrap_or_default();
            let mid = asked.mid.as_deref().unwrap_or_default();
            match asked.f {
                OperationKind::Send => drop(check.sends.insert(mid, Span { asked, answered })),
                OperationKind::Ack => check.acks.entry((group, mid)).or_default().push(Span { asked, answered }),
                OperationKind::Renew => check.renews.entry((group, mid)).or_default().push(Span { asked, answered }),
                OperationKind::Recv => {
                    for got in answered.into_iter().flat_map(|answer| &answer.msgs) {
                        let number = answered.map_or(0, |answer| answer.i);
                        let came_at = answered.map_or(0, |answer| answer.t);
                        let lease_us = asked.inv_ms.unwrap_or(0) * 1000;
                        let is_whole = answered.is_some_and(|answer| answer.ph == Phase::Ok);
                        let delivery = Delivery { asked_at: asked.t, came_at, lease_us, number, is_whole, got };
                        check.deliveries.entry((group, got.mid.as_str())).or_default().push(delivery);
                    }
                }
                OperationKind::Audit => {
                    let node = asked.node.as_deref().unwrap_or_default();
                    let Some(answer) = answered else { continue };
                    let messages = answer.msgs.iter().map(|got| (got, answer.i));
                    match answer.ph {
                        Phase::Ok => check.audits.entry(node).or_default().extend(messages),
                        _ => check.glimpsed.extend(messages),
                    }
                }
                OperationKind::QueryOff
                | OperationKind::Fault
                | OperationKind::Heal
                | OperationKind::Ended
                | OperationKind::Drained => {}
            }
        }
        for deliveries in check.deliveries.values_mut() {
            deliveries.sort_by_key(|delivery| (delivery.came_at, delivery.number));
        }
        check
    }

    fn find(&mut self, rule: Rule, text: String, events: Vec<u64>) {
        let count = self.counts.entry(rule).or_default();
        *count += 1;
        if *count <= TOLD_MAX {
            self.findings.push(Finding { rule, text, events });
        }
    }

    /// Every place any audit or delivery showed, with the message and the event.
    fn seen(&self) -> impl Iterator<Item = (&'a Got, u64)> {
        let audited = self.audits.values().flatten().chain(&self.glimpsed).copied();
        let delivered = self.deliveries.values().flatten().map(|delivery| (delivery.got, delivery.number));
        audited.chain(delivered)
    }

    fn audited_ids(&self) -> BTreeSet<&'a str> {
        self.audits.values().flatten().map(|(got, _)| got.mid.as_str()).collect()
    }

    fn no_loss(&mut self) -> usize {
        let mut lost = BTreeSet::new();
        let mut found = Vec::new();
        for (node, audit) in &self.audits {
            let there: BTreeSet<&str> = audit.iter().map(|(got, _)| got.mid.as_str()).collect();
            for (mid, send) in self.sends.iter().filter(|(mid, send)| send.is_ok() && !there.contains(*mid)) {
                lost.insert(*mid);
                found.push((format!("{mid} was acknowledged and is not on {node}"), send.numbers()));
            }
        }
        for (text, events) in found {
            self.find(Rule::C1, text, events);
        }
        lost.len()
    }

    fn no_phantom(&mut self) {
        let mut found = Vec::new();
        for (got, number) in self.seen() {
            match self.sends.get(got.mid.as_str()) {
                None => found.push((format!("{} was delivered and never sent", got.mid), vec![number])),
                Some(send) if send.asked.h != Some(got.h) => {
                    found.push((format!("{} came with another body", got.mid), vec![send.asked.i, number]));
                }
                Some(_) => {}
            }
        }
        for (text, events) in found {
            self.find(Rule::C2, text, events);
        }
    }

    fn no_duplicate(&mut self) -> usize {
        let mut places: BTreeMap<&str, BTreeMap<(u32, u64), u64>> = BTreeMap::new();
        for (got, number) in self.seen() {
            places.entry(&got.mid).or_default().insert((got.q, got.off), number);
        }
        let twice: Vec<_> = places.into_iter().filter(|(_, places)| places.len() > 1).collect();
        for (mid, places) in &twice {
            let text = format!("{mid} lies at {:?}", places.keys().collect::<Vec<_>>());
            self.find(Rule::C3, text, places.values().copied().collect());
        }
        twice.len()
    }

    fn agreement(&mut self) {
        let mut holders: BTreeMap<(u32, u64), BTreeMap<&str, u64>> = BTreeMap::new();
        for (got, number) in self.seen() {
            holders.entry((got.q, got.off)).or_default().insert(&got.mid, number);
        }
        let mut told_otherwise = Vec::new();
        for (got, number) in self.seen() {
            let answer = self.sends.get(got.mid.as_str()).and_then(|send| send.answered);
            if let Some((answer, told)) =
                answer.and_then(|answer| Some((answer, answer.off?))).filter(|(_, told)| *told != got.off)
            {
                let text =
                    format!("{} lies at offset {} of queue {}; its sender was told {told}", got.mid, got.off, got.q);
                told_otherwise.push((text, vec![answer.i, number]));
            }
        }
        for (text, events) in told_otherwise {
            self.find(Rule::C4, text, events);
        }
        for ((queue, offset), held) in holders.into_iter().filter(|(_, held)| held.len() > 1) {
            let text = format!("queue {queue} offset {offset} held {:?}", held.keys().collect::<Vec<_>>());
            self.find(Rule::C4, text, held.values().copied().collect());
        }
        let mut holes = Vec::new();
        for (node, audit) in &self.audits {
            let places: BTreeSet<(u32, u64)> = audit.iter().map(|(got, _)| (got.q, got.off)).collect();
            let mut next: BTreeMap<u32, u64> = BTreeMap::new();
            for (queue, offset) in places {
                let expected = next.entry(queue).or_default();
                if offset != *expected {
                    holes.push(format!("on {node} queue {queue} goes from {expected} to {offset}"));
                }
                *expected = offset + 1;
            }
        }
        for text in holes {
            self.find(Rule::C4, text, Vec::new());
        }
    }

    /// The acknowledged sends of each queue, by offset as the audit shows it.
    fn by_place(&self) -> BTreeMap<u32, Vec<(u64, &Span<'a>)>> {
        let mut queues: BTreeMap<u32, BTreeMap<u64, &Span<'a>>> = BTreeMap::new();
        for (got, _) in self.audits.values().flatten() {
            if let Some(send) = self.sends.get(got.mid.as_str()) {
                queues.entry(got.q).or_default().insert(got.off, send);
            }
        }
        queues.into_iter().map(|(queue, sends)| (queue, sends.into_iter().collect())).collect()
    }

    fn producer_order(&mut self) {
        let mut found = Vec::new();
        for (queue, sends) in self.by_place() {
            let mut last: BTreeMap<&str, (u64, u64, &Span<'_>)> = BTreeMap::new();
            for (offset, send) in sends {
                let before = last.insert(&send.asked.p, (send.asked.t, offset, send));
                if let Some((asked_at, before_offset, before)) = before
                    && send.returned() < asked_at
                {
                    let text = format!(
                        "queue {queue}: {} sent what lies at {offset} before what lies at {before_offset}",
                        send.asked.p
                    );
                    found.push((text, [before.numbers(), send.numbers()].concat()));
                }
            }
        }
        for (text, events) in found {
            self.find(Rule::C5, text, events);
        }
    }

    /// One sweep: the latest invocation among earlier places; a later place that had returned before it
    /// was overtaken.
    fn real_time_order(&mut self) {
        let mut found = Vec::new();
        for (queue, sends) in self.by_place() {
            let mut latest: Option<(&Span<'_>, u64)> = None;
            for (offset, send) in sends {
                if let Some((before, before_offset)) = latest
                    && send.returned() < before.asked.t
                {
                    let text = format!(
                        "queue {queue}: the send at {offset} had returned before the one at {before_offset} began"
                    );
                    found.push((text, [before.numbers(), send.numbers()].concat()));
                }
                if latest.is_none_or(|(before, _)| before.asked.t < send.asked.t) {
                    latest = Some((send, offset));
                }
            }
        }
        for (text, events) in found {
            self.find(Rule::C6, text, events);
        }
    }

    fn groups(&self) -> BTreeSet<&'a str> {
        let polls = self.events.iter().filter(|event| event.f == OperationKind::Recv && event.ph == Phase::Inv);
        polls.filter_map(|event| event.group.as_deref()).collect()
    }

    fn at_least_once(&mut self) {
        if self.events.iter().any(|event| event.f == OperationKind::Drained && event.ph != Phase::Ok) {
            return;
        }
        let audited = self.audited_ids();
        let mut found = Vec::new();
        for group in self.groups() {
            for mid in &audited {
                if !self.deliveries.contains_key(&(group, *mid)) {
                    found.push(format!("{mid} is stored and was never delivered to {group}"));
                }
            }
        }
        for text in found {
            self.find(Rule::C7, text, Vec::new());
        }
    }

    fn ack_finality(&mut self) -> usize {
        let mut found = Vec::new();
        for (key, acks) in &self.acks {
            let Some(settled) = acks.iter().filter(|ack| ack.is_ok()).min_by_key(|ack| ack.returned()) else {
                continue;
            };
            for again in self.deliveries.get(key).into_iter().flatten().filter(|one| one.asked_at > settled.returned())
            {
                let text = format!("{} came again to {} after its ack was answered OK", key.1, key.0);
                found.push((text, [settled.numbers(), vec![again.number]].concat()));
            }
        }
        let count = found.len();
        for (text, events) in found {
            self.find(Rule::C8, text, events);
        }
        count
    }

    /// Too early: certainly while the lease of the delivery before ran. Too late: later than the lease's
    /// end by more than is allowed and the outages since, with a poll open all the time.
    fn leases(&mut self, outages: &[(u64, u64)], lateness_us: u64) {
        let mut found = Vec::new();
        for (key, deliveries) in &self.deliveries {
            let renews = self.renews.get(key).map_or(&[][..], Vec::as_slice);
            for pair in deliveries.windows(2) {
                let (first, again) = (&pair[0], &pair[1]);
                let touched =
                    renews.iter().any(|renew| renew.asked.t <= again.came_at && renew.asked.t >= first.asked_at);
                if touched {
                    continue;
                }
                let text = |how: &str| format!("{} came again to {} {how}", key.1, key.0);
                let ends_first = first.asked_at + first.lease_us;
                let ends_last = first.came_at + first.lease_us;
                // An answer that broke off may have been given back.
                if first.is_whole && again.came_at < ends_first {
                    let early = (ends_first - again.came_at) / 1000;
                    found.push((
                        text(&format!("{early} ms or more before its lease ended")),
                        vec![first.number, again.number],
                    ));
                }
                let excused: u64 = outages
                    .iter()
                    .map(|(from, to)| (*to).min(again.came_at).saturating_sub((*from).max(first.came_at)))
                    .sum();
                // An attempt in between means a lease whose answer nobody got.
                let is_next = again.got.att == first.got.att + 1;
                if is_next && again.came_at > ends_last + excused + lateness_us {
                    let late = (again.came_at - ends_last - excused) / 1000;
                    found.push((
                        text(&format!("{late} ms after its lease had ended")),
                        vec![first.number, again.number],
                    ));
                }
            }
        }
        for (text, events) in found {
            self.find(Rule::C9, text, events);
        }
    }

    fn offsets(&mut self) {
        let mut found = Vec::new();
        let mut reads: Vec<(u64, &Event)> = Vec::new();
        for answer in self.events.iter().filter(|event| event.f == OperationKind::QueryOff && event.ph == Phase::Ok) {
            if let Some(asked) = answer.of.and_then(|of| self.events.get(of as usize)) {
                reads.push((asked.t, answer));
            }
        }
        // What is known for certain at a time: values read, and sends acknowledged, before it.
        let mut known: Vec<(u64, u64, u32, u64, bool)> = Vec::new();
        for (_, answer) in &reads {
            for (queue, offsets) in &answer.offs {
                known.push((answer.t, answer.i, *queue, offsets.max, true));
                known.push((answer.t, answer.i, *queue, offsets.group, false));
            }
        }
        for (got, _) in self.audits.values().flatten() {
            if let Some(answer) =
                self.sends.get(got.mid.as_str()).and_then(|send| send.answered).filter(|one| one.ph == Phase::Ok)
            {
                known.push((answer.t, answer.i, got.q, got.off + 1, true));
            }
        }
        known.sort_unstable();
        known.dedup();
        reads.sort_by_key(|(asked_at, _)| *asked_at);
        let mut known = known.into_iter().peekable();
        let mut least: BTreeMap<(u32, bool), (u64, u64)> = BTreeMap::new();
        for (asked_at, answer) in reads {
            while let Some((_, number, queue, value, is_max)) = known.next_if(|(at, ..)| *at < asked_at) {
                let floor = least.entry((queue, is_max)).or_default();
                *floor = (*floor).max((value, number));
            }
            for (queue, offsets) in &answer.offs {
                for (value, is_max, name) in [(offsets.max, true, "max"), (offsets.group, false, "group")] {
                    let (floor, number) = least.get(&(*queue, is_max)).copied().unwrap_or_default();
                    if value < floor {
                        let text = format!("queue {queue}: {name} offset {value} read after {floor} was known");
                        found.push((text, vec![number, answer.i]));
                    }
                }
            }
        }
        for (text, events) in found {
            self.find(Rule::C13a, text, events);
        }
    }

    /// The gaps between acknowledged sends; too long a gap while a majority was up breaks C15.
    fn availability(&mut self, demands: &Demands) -> Vec<(u64, u64)> {
        let mut answered: Vec<u64> = self.sends.values().filter(|send| send.is_ok()).map(Span::returned).collect();
        answered.sort_unstable();
        let mut outages = Vec::new();
        let mut found = Vec::new();
        let without_majority = self.without_majority();
        for pair in answered.windows(2).filter(|pair| pair[1] - pair[0] > OUTAGE_US) {
            outages.push((pair[0], pair[1]));
            let excused: u64 =
                without_majority.iter().map(|(from, to)| (*to).min(pair[1]).saturating_sub((*from).max(pair[0]))).sum();
            let gap = (pair[1] - pair[0]).saturating_sub(excused);
            if gap > demands.outage_max_us {
                found.push((
                    format!("no send was acknowledged for {} ms while a majority was up", gap / 1000),
                    Vec::new(),
                ));
            }
        }
        for ended in self.events.iter().filter(|event| event.f == OperationKind::Ended) {
            found.push((format!("{} ended by itself", ended.node.as_deref().unwrap_or_default()), vec![ended.i]));
        }
        let healed = self.events.iter().filter(|event| event.f == OperationKind::Heal).map(|event| event.t).max();
        if let Some(healed) = healed {
            for (mid, send) in self.sends.iter().filter(|(_, send)| send.asked.t > healed + SETTLE_US && !send.is_ok())
            {
                found.push((format!("{mid} failed although everything had been healed for long"), send.numbers()));
            }
        }
        for (text, events) in found {
            self.find(Rule::C15, text, events);
        }
        outages
    }

    /// The times in which fewer than two nodes were whole.
    fn without_majority(&self) -> Vec<(u64, u64)> {
        let mut hurt: BTreeSet<&str> = BTreeSet::new();
        let mut windows = Vec::new();
        let mut since = None;
        for event in self.events {
            let Some(node) = event.node.as_deref() else { continue };
            match event.f {
                OperationKind::Fault | OperationKind::Ended => drop(hurt.insert(node)),
                OperationKind::Heal => drop(hurt.remove(node)),
                _ => continue,
            }
            match (hurt.len() >= 2, since) {
                (true, None) => since = Some(event.t),
                (false, Some(from)) => {
                    windows.push((from, event.t));
                    since = None;
                }
                _ => {}
            }
        }
        windows.extend(since.map(|from| (from, u64::MAX)));
        windows
    }

    fn honesty(&mut self) {
        let audited = self.audited_ids();
        let lied: Vec<_> = self.sends.iter().filter(|(mid, send)| send.is_failed() && audited.contains(*mid)).collect();
        let found: Vec<_> = lied
            .into_iter()
            .map(|(mid, send)| (format!("{mid} was refused for good and is in the log"), send.numbers()))
            .collect();
        for (text, events) in found {
            self.find(Rule::C16, text, events);
        }
    }

    fn coverage(&mut self, demands: &Demands, redeliveries: usize) {
        let faults: Vec<_> = self.events.iter().filter(|event| event.f == OperationKind::Fault).collect();
        let led = faults.iter().filter(|event| event.led == Some(true)).count();
        let sends = self.sends.values().filter(|send| send.is_ok()).count();
        let mut missing = Vec::new();
        for (name, seen, wanted) in [
            ("acknowledged sends", sends, demands.sends),
            ("faults", faults.len(), demands.faults),
            ("faults of a leader", led, demands.leader_faults),
            ("redeliveries", redeliveries, demands.redeliveries),
        ] {
            if seen < wanted {
                missing.push(format!("only {seen} {name}, {wanted} are wanted"));
            }
        }
        if self.audits.is_empty() {
            missing.push("no replica was audited".to_owned());
        }
        let incomplete = self.events.iter().filter(|event| {
            (event.f == OperationKind::Audit || event.f == OperationKind::Drained)
                && matches!(event.ph, Phase::Fail | Phase::Info)
        });
        missing.extend(incomplete.map(|event| format!("{:?} of {} was not complete", event.f, event.p)));
        for text in missing {
            self.find(Rule::V, text, Vec::new());
        }
    }
}
