//! Attempts and dead letters: C12.

use std::collections::{BTreeMap, BTreeSet};

use crate::drill::check::history_index::HistoryIndex;
use crate::drill::check::verdict::{Demands, Rule};

impl HistoryIndex<'_> {
    pub fn dead_letters(&mut self, demands: &Demands) {
        let mut found = self.attempts(demands.attempts_max);
        found.extend(self.letters(demands.attempts_max));
        if self.is_drained() {
            found.extend(self.vanished());
        }
        self.find_all(Rule::DeadLetterBroken, found);
    }

    /// Deliveries that count no attempt, or come after the last one.
    fn attempts(&self, most: u32) -> Vec<(String, Vec<u64>)> {
        let mut found = Vec::new();
        for ((group, mid), deliveries) in &self.deliveries {
            let mut counted = BTreeMap::new();
            for delivery in deliveries {
                let attempt = delivery.got.att;
                if attempt > most {
                    let text = format!("{mid} came to {group} as attempt {attempt} of {most}");
                    found.push((text, vec![delivery.number]));
                }
                if let Some(before) = counted.insert(attempt, delivery.number) {
                    let text = format!("{mid} came to {group} twice as attempt {attempt}");
                    found.push((text, vec![before, delivery.number]));
                }
            }
        }
        found
    }

    /// Dead letters that are there twice, died at another attempt than the last, or were acknowledged.
    fn letters(&self, most: u32) -> Vec<(String, Vec<u64>)> {
        let mut found = Vec::new();
        for ((group, node), letters) in &self.dead_letters {
            let mut there = BTreeSet::new();
            for (got, number) in letters {
                let mid = got.mid.as_str();
                if !there.insert(mid) {
                    found.push((format!("{mid} is twice among the dead letters of {group} on {node}"), vec![*number]));
                }
                if got.att != most {
                    let text = format!("{mid} is a dead letter of {group} after {} attempts, not {most}", got.att);
                    found.push((text, vec![*number]));
                }
                let acks = self.acks.get(&(*group, mid));
                if let Some(acked) = acks.into_iter().flatten().find(|ack| ack.is_ok()) {
                    let text = format!("{mid} is a dead letter of {group} although its ack was answered OK");
                    found.push((text, [acked.numbers(), vec![*number]].concat()));
                }
            }
        }
        found
    }

    /// What is stored and settled, although no consumer ever acknowledged it, and is no dead letter.
    fn vanished(&self) -> Vec<(String, Vec<u64>)> {
        let audited = self.audited_ids();
        let mut found = Vec::new();
        for (group, node) in self.dead_letters.keys() {
            let letters: BTreeSet<&str> =
                self.dead_letters[&(*group, *node)].iter().map(|(got, _)| got.mid.as_str()).collect();
            for mid in audited.difference(&letters).filter(|mid| !self.acks.contains_key(&(*group, **mid))) {
                let deliveries = self.deliveries.get(&(*group, *mid));
                let numbers = deliveries.into_iter().flatten().map(|delivery| delivery.number).collect();
                let text = format!("{mid} was never acknowledged by {group} and is no dead letter on {node}");
                found.push((text, numbers));
            }
        }
        found
    }

    pub fn dead_count(&self) -> usize {
        self.dead_letters.values().map(Vec::len).max().unwrap_or(0)
    }
}
