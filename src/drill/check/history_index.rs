//! A history, ordered by what the rules ask for, and the findings so far.

use std::collections::{BTreeMap, BTreeSet};

use crate::drill::check::verdict::{Finding, Rule};
use crate::drill::history::{Event, Got, OperationKind, Phase};

/// Most findings reported for one rule; all are counted.
const FINDINGS_MAX: usize = 5;

/// An operation with both its ends; `returned` is the end of time if nobody knows.
pub(super) struct Span<'a> {
    pub asked: &'a Event,
    pub answered: Option<&'a Event>,
}

impl Span<'_> {
    pub fn is_ok(&self) -> bool {
        self.answered.is_some_and(|answer| answer.ph == Phase::Ok)
    }

    pub fn is_failed(&self) -> bool {
        self.answered.is_some_and(|answer| answer.ph == Phase::Fail)
    }

    pub fn returned(&self) -> u64 {
        self.answered.filter(|answer| answer.ph == Phase::Ok).map_or(u64::MAX, |answer| answer.t)
    }

    pub fn numbers(&self) -> Vec<u64> {
        std::iter::once(self.asked.i).chain(self.answered.map(|answer| answer.i)).collect()
    }
}

/// One delivery of one message.
pub(super) struct Delivery<'a> {
    pub asked_at: u64,
    pub came_at: u64,
    pub lease_us: u64,
    pub number: u64,
    /// Whether the answer it came in was whole.
    pub is_whole: bool,
    pub got: &'a Got,
}

pub(super) struct HistoryIndex<'a> {
    pub events: &'a [Event],
    pub sends: BTreeMap<&'a str, Span<'a>>,
    /// By group and message, in the order they came.
    pub deliveries: BTreeMap<(&'a str, &'a str), Vec<Delivery<'a>>>,
    pub acks: BTreeMap<(&'a str, &'a str), Vec<Span<'a>>>,
    pub renews: BTreeMap<(&'a str, &'a str), Vec<Span<'a>>>,
    /// By replica: everything it has.
    pub audits: BTreeMap<&'a str, Vec<(&'a Got, u64)>>,
    /// What audits that came to no end showed: it is there, but nothing is known of what they lack.
    pub glimpsed: Vec<(&'a Got, u64)>,
    pub findings: Vec<Finding>,
    pub counts: BTreeMap<Rule, usize>,
}

impl<'a> HistoryIndex<'a> {
    pub fn read(events: &'a [Event]) -> Self {
        let answers: BTreeMap<u64, &Event> =
            events.iter().filter(|event| event.ph != Phase::Inv).filter_map(|event| Some((event.of?, event))).collect();
        let mut index = Self {
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
                OperationKind::Send => drop(index.sends.insert(mid, Span { asked, answered })),
                OperationKind::Ack => index.acks.entry((group, mid)).or_default().push(Span { asked, answered }),
                OperationKind::Renew => index.renews.entry((group, mid)).or_default().push(Span { asked, answered }),
                OperationKind::Recv => {
                    for got in answered.into_iter().flat_map(|answer| &answer.msgs) {
                        let number = answered.map_or(0, |answer| answer.i);
                        let came_at = answered.map_or(0, |answer| answer.t);
                        let lease_us = asked.inv_ms.unwrap_or(0) * 1000;
                        let is_whole = answered.is_some_and(|answer| answer.ph == Phase::Ok);
                        let delivery = Delivery { asked_at: asked.t, came_at, lease_us, number, is_whole, got };
                        index.deliveries.entry((group, got.mid.as_str())).or_default().push(delivery);
                    }
                }
                OperationKind::Audit => {
                    let node = asked.node.as_deref().unwrap_or_default();
                    let Some(answer) = answered else { continue };
                    let messages = answer.msgs.iter().map(|got| (got, answer.i));
                    match answer.ph {
                        Phase::Ok => index.audits.entry(node).or_default().extend(messages),
                        _ => index.glimpsed.extend(messages),
                    }
                }
                OperationKind::QueryOff
                | OperationKind::Fault
                | OperationKind::Heal
                | OperationKind::Ended
                | OperationKind::Drained => {}
            }
        }
        for deliveries in index.deliveries.values_mut() {
            deliveries.sort_by_key(|delivery| (delivery.came_at, delivery.number));
        }
        index
    }

    pub fn find(&mut self, rule: Rule, text: String, events: Vec<u64>) {
        let count = self.counts.entry(rule).or_default();
        *count += 1;
        if *count <= FINDINGS_MAX {
            self.findings.push(Finding { rule, text, events });
        }
    }

    /// Every message that an audit or a delivery showed, with its queue offset, and the event.
    pub fn seen(&self) -> impl Iterator<Item = (&'a Got, u64)> {
        let audited = self.audits.values().flatten().chain(&self.glimpsed).copied();
        let delivered = self.deliveries.values().flatten().map(|delivery| (delivery.got, delivery.number));
        audited.chain(delivered)
    }

    pub fn audited_ids(&self) -> BTreeSet<&'a str> {
        self.audits.values().flatten().map(|(got, _)| got.mid.as_str()).collect()
    }

    /// The acknowledged sends of each queue, by offset as the audit shows it.
    pub fn by_place(&self) -> BTreeMap<u32, Vec<(u64, &Span<'a>)>> {
        let mut queues: BTreeMap<u32, BTreeMap<u64, &Span<'a>>> = BTreeMap::new();
        for (got, _) in self.audits.values().flatten() {
            if let Some(send) = self.sends.get(got.mid.as_str()) {
                queues.entry(got.q).or_default().insert(got.off, send);
            }
        }
        queues.into_iter().map(|(queue, sends)| (queue, sends.into_iter().collect())).collect()
    }

    pub fn groups(&self) -> BTreeSet<&'a str> {
        let polls = self.events.iter().filter(|event| event.f == OperationKind::Recv && event.ph == Phase::Inv);
        polls.filter_map(|event| event.group.as_deref()).collect()
    }
}
