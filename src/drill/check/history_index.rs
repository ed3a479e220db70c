//! A history, ordered by what the rules ask for, and the findings so far.

use std::collections::{BTreeMap, BTreeSet};

use crate::drill::check::verdict::{Finding, Rule};
use crate::drill::history::{Applied, Event, Got, OperationKind, Phase};

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

    pub fn is_half(&self) -> bool {
        self.asked.f == OperationKind::SendTxn
    }

    /// Whether what is sent enters its queue with the send, so that its place says when that was.
    pub fn is_plain(&self) -> bool {
        !self.is_half() && self.asked.due.is_none()
    }
}

/// One delivery of one message.
pub(super) struct Delivery<'a> {
    pub asked_at: u64,
    pub came_at: u64,
    pub lease_us: u64,
    pub number: u64,
    /// The node that was polled.
    pub node: &'a str,
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
    pub recalls: BTreeMap<&'a str, Vec<Span<'a>>>,
    pub decisions: BTreeMap<&'a str, Vec<Span<'a>>>,
    /// Messages about which a producer was asked.
    pub questions: BTreeSet<&'a str>,
    /// By replica: everything it has.
    pub audits: BTreeMap<&'a str, Vec<(&'a Got, u64)>>,
    /// What audits that came to no end showed: it is there, but nothing is known of what they lack.
    pub glimpsed: Vec<(&'a Got, u64)>,
    /// By group and node: all dead letters.
    pub dead_letters: BTreeMap<(&'a str, &'a str), Vec<(&'a Got, u64)>>,
    /// Which node had applied what, and the event.
    pub digests: Vec<(&'a str, Applied, u64)>,
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
            recalls: BTreeMap::new(),
            decisions: BTreeMap::new(),
            questions: BTreeSet::new(),
            audits: BTreeMap::new(),
            glimpsed: Vec::new(),
            dead_letters: BTreeMap::new(),
            digests: Vec::new(),
            findings: Vec::new(),
            counts: BTreeMap::new(),
        };
        for event in events {
            if event.ph == Phase::Inv {
                index.add(event, answers.get(&event.i).copied());
            } else if event.f == OperationKind::TxnCheck {
                index.questions.extend(event.mid.as_deref());
            }
        }
        for deliveries in index.deliveries.values_mut() {
            deliveries.sort_by_key(|delivery| (delivery.came_at, delivery.number));
        }
        index
    }

    /// An operation by its two ends.
    fn add(&mut self, asked: &'a Event, answered: Option<&'a Event>) {
        let group = asked.group.as_deref().unwrap_or_default();
        let mid = asked.mid.as_deref().unwrap_or_default();
        let node = asked.node.as_deref().unwrap_or_default();
        let span = Span { asked, answered };
        match asked.f {
            OperationKind::Send | OperationKind::SendTxn => drop(self.sends.insert(mid, span)),
            OperationKind::Ack => self.acks.entry((group, mid)).or_default().push(span),
            OperationKind::Renew => self.renews.entry((group, mid)).or_default().push(span),
            OperationKind::Recall => self.recalls.entry(mid).or_default().push(span),
            OperationKind::EndTxn => self.decisions.entry(mid).or_default().push(span),
            OperationKind::Recv => {
                for got in answered.into_iter().flat_map(|answer| &answer.msgs) {
                    let delivery = Delivery {
                        asked_at: asked.t,
                        came_at: answered.map_or(0, |answer| answer.t),
                        lease_us: asked.inv_ms.unwrap_or(0) * 1000,
                        number: answered.map_or(0, |answer| answer.i),
                        node,
                        is_whole: span.is_ok(),
                        got,
                    };
                    self.deliveries.entry((group, got.mid.as_str())).or_default().push(delivery);
                }
            }
            OperationKind::Audit | OperationKind::DeadLetters => {
                let Some(answer) = answered else { return };
                let messages = answer.msgs.iter().map(|got| (got, answer.i));
                match (answer.ph, asked.f) {
                    (Phase::Ok, OperationKind::Audit) => self.audits.entry(node).or_default().extend(messages),
                    (Phase::Ok, _) => self.dead_letters.entry((group, node)).or_default().extend(messages),
                    _ => self.glimpsed.extend(messages),
                }
            }
            OperationKind::Digest => {
                self.digests.extend(answered.and_then(|answer| Some((node, answer.applied?, answer.i))));
            }
            OperationKind::QueryOff
            | OperationKind::TxnCheck
            | OperationKind::Fault
            | OperationKind::Heal
            | OperationKind::Ended
            | OperationKind::StartedAgain
            | OperationKind::NotDone
            | OperationKind::Rot
            | OperationKind::Snapshots
            | OperationKind::MajorityLost
            | OperationKind::MajorityBack
            | OperationKind::Held
            | OperationKind::Released
            | OperationKind::Drained => {}
        }
    }

    pub fn find(&mut self, rule: Rule, text: String, events: Vec<u64>) {
        let count = self.counts.entry(rule).or_default();
        *count += 1;
        if *count <= FINDINGS_MAX {
            self.findings.push(Finding { rule, text, events });
        }
    }

    pub fn find_all(&mut self, rule: Rule, found: Vec<(String, Vec<u64>)>) {
        for (text, events) in found {
            self.find(rule, text, events);
        }
    }

    /// Every message that an audit, a delivery or the dead letters showed, with its queue offset, and the event.
    pub fn seen(&self) -> impl Iterator<Item = (&'a Got, u64)> {
        let audited = self.audits.values().flatten().chain(&self.glimpsed).copied();
        let delivered = self.deliveries.values().flatten().map(|delivery| (delivery.got, delivery.number));
        audited.chain(delivered).chain(self.dead_letters.values().flatten().copied())
    }

    pub fn audited_ids(&self) -> BTreeSet<&'a str> {
        self.audits.values().flatten().map(|(got, _)| got.mid.as_str()).collect()
    }

    /// The messages that a group gave up, as any node says.
    pub fn dead_ids(&self, group: &str) -> BTreeSet<&'a str> {
        let of_group = self.dead_letters.iter().filter(|((of, _), _)| *of == group);
        of_group.flat_map(|(_, letters)| letters).map(|(got, _)| got.mid.as_str()).collect()
    }

    /// Whether the group received and settled everything before the run ended.
    pub fn is_drained(&self) -> bool {
        !self.events.iter().any(|event| event.f == OperationKind::Drained && event.ph != Phase::Ok)
    }

    /// The sends of each queue whose places say when they were stored, by offset as the audit shows it.
    pub fn by_place(&self) -> BTreeMap<u32, Vec<(u64, &Span<'a>)>> {
        let mut queues: BTreeMap<u32, BTreeMap<u64, &Span<'a>>> = BTreeMap::new();
        for (got, _) in self.audits.values().flatten() {
            if let Some(send) = self.sends.get(got.mid.as_str()).filter(|send| send.is_plain()) {
                queues.entry(got.q).or_default().insert(got.off, send);
            }
        }
        queues.into_iter().map(|(queue, sends)| (queue, sends.into_iter().collect())).collect()
    }

    pub fn groups(&self) -> BTreeSet<&'a str> {
        let polls = self.events.iter().filter(|event| event.f == OperationKind::Recv && event.ph == Phase::Inv);
        polls.filter_map(|event| event.group.as_deref()).collect()
    }

    /// What events enclose, by node; what nothing ends goes on for ever.
    pub fn windows(&self, begins: impl Fn(&Event) -> bool, ends: OperationKind) -> Vec<(Option<&'a str>, u64, u64)> {
        let mut open: BTreeMap<Option<&str>, u64> = BTreeMap::new();
        let mut windows = Vec::new();
        for event in self.events {
            let node = event.node.as_deref();
            if begins(event) {
                open.entry(node).or_insert(event.t);
            } else if event.f == ends
                && let Some(from) = open.remove(&node)
            {
                windows.push((node, from, event.t));
            }
        }
        windows.extend(open.into_iter().map(|(node, from)| (node, from, u64::MAX)));
        windows
    }
}
