//! What the service showed on the whole: offsets (C13a), outages (C15), and whether the run saw enough (V).

use std::collections::{BTreeMap, BTreeSet};

use crate::drill::check::excuses::takes_away;
use crate::drill::check::history_index::{HistoryIndex, Span};
use crate::drill::check::verdict::{Demands, Rule, Seen};
use crate::drill::history::{Event, FULL_DISK, OperationKind, Phase};

/// A gap between two acknowledged sends longer than this is an outage.
const OUTAGE_US: u64 = 250_000;
/// So many acks that are not answered say something.
const ACKS_ENOUGH: usize = 3;
/// After the last heal everything must work again within this.
const SETTLE_US: u64 = 10_000_000;

impl HistoryIndex<'_> {
    pub fn offsets(&mut self) {
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
            // What was put aside is in its queue later than it was acknowledged.
            let send = self.sends.get(got.mid.as_str()).filter(|send| send.is_ok() && send.is_plain());
            if let Some(answer) = send.and_then(|send| send.answered) {
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
        self.find_all(Rule::OffsetMovedBack, found);
    }

    /// The gaps between acknowledged sends; too long a gap while a majority was up breaks C15, and so does too long a
    /// time until the service is back after a majority was away.
    pub fn availability(&mut self, demands: &Demands) -> Vec<(u64, u64)> {
        let mut answered: Vec<u64> = self.sends.values().filter(|send| send.is_ok()).map(Span::returned).collect();
        answered.sort_unstable();
        let mut outages = Vec::new();
        let mut found = Vec::new();
        let without_majority = self.without_majority();
        // Nobody sends then.
        let held = self.windows(|event| event.f == OperationKind::Held, OperationKind::Released);
        for pair in answered.windows(2).filter(|pair| pair[1] - pair[0] > OUTAGE_US) {
            outages.push((pair[0], pair[1]));
            let within = |from: u64, to: u64| to.min(pair[1]).saturating_sub(from.max(pair[0]));
            let excused: u64 = without_majority.iter().map(|(from, to)| within(*from, *to)).sum();
            let held: u64 = held.iter().map(|(_, from, to)| within(*from, *to)).sum();
            let gap = (pair[1] - pair[0]).saturating_sub(excused + held);
            let most = if excused == 0 { demands.gap_max_us } else { demands.resume_max_us };
            if gap > most {
                let (gap, most) = (gap / 1000, most / 1000);
                let fault = self.events.iter().rfind(|event| event.f == OperationKind::Fault && event.t <= pair[1]);
                let after = fault.map_or_else(String::new, |fault| {
                    let [kind, node] = [&fault.kind, &fault.node].map(|text| text.as_deref().unwrap_or("?"));
                    format!("; the last fault: {kind} {node}")
                });
                let text = format!(
                    "no send was acknowledged for {gap} ms while a majority was up, {most} ms is the most{after}"
                );
                found.push((text, fault.map(|fault| fault.i).into_iter().collect()));
            }
        }
        for ended in self.events.iter().filter(|event| event.f == OperationKind::Ended) {
            found.push((format!("{} ended by itself", ended.node.as_deref().unwrap_or_default()), vec![ended.i]));
        }
        for again in self.events.iter().filter(|event| event.f == OperationKind::StartedAgain) {
            found.push((format!("{} started itself again", again.node.as_deref().unwrap_or_default()), vec![again.i]));
        }
        for not_done in self.events.iter().filter(|event| event.f == OperationKind::NotDone) {
            found.push((not_done.kind.clone().unwrap_or_default(), vec![not_done.i]));
        }
        let healed = self.events.iter().filter(|event| event.f == OperationKind::Heal).map(|event| event.t).max();
        if let Some(healed) = healed {
            for (mid, send) in self.sends.iter().filter(|(_, send)| send.asked.t > healed + SETTLE_US && !send.is_ok())
            {
                found.push((format!("{mid} failed although everything had been healed for long"), send.numbers()));
            }
        }
        self.find_all(Rule::Unavailable, found);
        outages
    }

    /// While disks are full sends may be refused, and acks may not (P20).
    pub fn acks_on_full_disks(&mut self) {
        let is_full = |event: &Event| event.f == OperationKind::Fault && event.kind.as_deref() == Some(FULL_DISK);
        let mut found = Vec::new();
        for (node, full_at, healed_at) in self.windows(is_full, OperationKind::Heal) {
            let tried_in = full_at.saturating_add(OUTAGE_US)..healed_at.saturating_sub(OUTAGE_US);
            let tried: Vec<_> = self.acks.values().flatten().filter(|ack| tried_in.contains(&ack.asked.t)).collect();
            if tried.len() >= ACKS_ENOUGH && !tried.iter().any(|ack| ack.is_ok()) {
                let (count, node) = (tried.len(), node.unwrap_or("?"));
                let text = format!("none of {count} acks was answered OK while the disk of {node} was full");
                found.push((text, tried.iter().flat_map(|ack| ack.numbers()).collect()));
            }
        }
        self.find_all(Rule::Unavailable, found);
    }

    /// The times in which fewer than two nodes were whole.
    fn without_majority(&self) -> Vec<(u64, u64)> {
        let mut hurt: BTreeSet<&str> = BTreeSet::new();
        let mut windows = Vec::new();
        let mut since = None;
        for event in self.events {
            let Some(node) = event.node.as_deref() else { continue };
            match event.f {
                OperationKind::Ended => drop(hurt.insert(node)),
                OperationKind::Fault if takes_away(event) => drop(hurt.insert(node)),
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

    pub fn coverage(&mut self, demands: &Demands, seen: &Seen, redeliveries: usize) {
        let faults: Vec<_> = self.events.iter().filter(|event| event.f == OperationKind::Fault).collect();
        let led = faults.iter().filter(|event| event.led == Some(true)).count();
        let sends = self.sends.values().filter(|send| send.is_ok()).count();
        let repaired =
            self.events.iter().filter(|event| event.f == OperationKind::Rot && event.ph == Phase::Ok).count();
        let pulled = self.events.iter().filter(|event| event.f == OperationKind::Snapshots);
        let snapshots = pulled.filter_map(|event| event.off).max().map_or(0, |count| count as usize);
        let mut missing = Vec::new();
        for (name, seen, wanted) in [
            ("acknowledged sends", sends, demands.sends),
            ("faults", faults.len(), demands.faults),
            ("faults of a leader", led, demands.leader_faults),
            ("redeliveries", redeliveries, demands.redeliveries),
            ("delayed messages delivered", seen.delayed, demands.of_each_kind),
            ("recalls", seen.recalled, demands.of_each_kind),
            ("commits", seen.committed, demands.of_each_kind),
            ("rollbacks", seen.rolled_back, demands.of_each_kind),
            ("questions about transactions", seen.questions, demands.of_each_kind),
            ("dead letters", seen.dead_letters, demands.of_each_kind),
            ("replicas compared at one entry", seen.compared, demands.compared),
            ("snapshots pulled", snapshots, demands.snapshots),
            ("damages repaired", repaired, demands.repairs),
        ] {
            if seen < wanted {
                missing.push(format!("only {seen} {name}, {wanted} are wanted"));
            }
        }
        if self.audits.is_empty() {
            missing.push("no replica was audited".to_owned());
        }
        let incomplete = self.events.iter().filter(|event| {
            matches!(event.f, OperationKind::Audit | OperationKind::DeadLetters | OperationKind::Drained)
                && matches!(event.ph, Phase::Fail | Phase::Info)
        });
        missing.extend(incomplete.map(|event| format!("{:?} of {} was not complete", event.f, event.p)));
        for text in missing {
            self.find(Rule::TooLittleSeen, text, Vec::new());
        }
    }
}
