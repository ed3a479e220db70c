//! Delayed messages: C10.

use std::collections::BTreeMap;

use crate::drill::check::excuses::Excuses;
use crate::drill::check::history_index::{HistoryIndex, Span};
use crate::drill::check::verdict::{Demands, Rule};

/// The clock that says when a message is due and the one that says when it came may run apart by this much meanwhile.
const CLOCKS_APART_US: u64 = 5_000;

impl HistoryIndex<'_> {
    /// Early: received, or by its place, certainly before its time. Late: by its place, behind a send that began after its time; consumers may be as
    /// slow as they like. Recalled: an `OK` says that it waited and now never comes.
    pub fn delays(&mut self, excuses: &Excuses, demands: &Demands) {
        let mut found = Vec::new();
        for ((group, mid), deliveries) in &self.deliveries {
            let Some((send, due)) = self.sends.get(mid).and_then(|send| Some((send, send.asked.due?))) else {
                continue;
            };
            let Some(first) = deliveries.first() else { continue };
            let early = excuses.early(first.came_at, demands.moved_clock_us);
            if first.came_at + CLOCKS_APART_US + early < due {
                let early = (due - first.came_at) / 1000;
                let events = [send.numbers(), vec![first.number]].concat();
                found.push((format!("{mid} came to {group} {early} ms before its time"), events));
            }
        }
        found.extend(self.entered_early(excuses, demands));
        found.extend(self.entered_late(excuses, demands));
        for (mid, recalls) in &self.recalls {
            let Some(recalled) = recalls.iter().find(|recall| recall.is_ok()) else { continue };
            let shown = self.seen().find(|(got, _)| got.mid == *mid);
            if let Some((_, number)) = shown {
                let events = [recalled.numbers(), vec![number]].concat();
                found.push((format!("{mid} is there although its recall was answered OK"), events));
            }
        }
        self.find_all(Rule::DelayBroken, found);
    }

    /// The plain and delayed messages of each queue, by offset.
    fn timed_by_place(&self) -> Vec<Vec<&Span<'_>>> {
        let mut queues: BTreeMap<u32, BTreeMap<u64, &Span<'_>>> = BTreeMap::new();
        for (got, _) in self.audits.values().flatten() {
            if let Some(send) = self.sends.get(got.mid.as_str()).filter(|send| !send.is_half()) {
                queues.entry(got.q).or_default().insert(got.off, send);
            }
        }
        queues.into_values().map(|sends| sends.into_values().collect()).collect()
    }

    /// Delayed messages that lie before sends that had returned before their times.
    fn entered_early(&self, excuses: &Excuses, demands: &Demands) -> Vec<(String, Vec<u64>)> {
        let mut found = Vec::new();
        for sends in self.timed_by_place() {
            let mut first: Option<&Span<'_>> = None;
            for send in sends.into_iter().rev() {
                let Some(due) = send.asked.due else {
                    first = first.filter(|first| first.returned() < send.returned()).or(Some(send));
                    continue;
                };
                let Some(behind) = first else { continue };
                let early = excuses.early(behind.returned(), demands.moved_clock_us);
                if behind.returned().saturating_add(CLOCKS_APART_US + early) < due {
                    let mid = send.asked.mid.as_deref().unwrap_or_default();
                    let early = (due - behind.returned()) / 1000;
                    let text = format!("{mid} entered its queue {early} ms before its time or earlier");
                    found.push((text, [send.numbers(), behind.numbers()].concat()));
                }
            }
        }
        found
    }

    /// Delayed messages that entered their queues behind sends that began too long after their times.
    fn entered_late(&self, excuses: &Excuses, demands: &Demands) -> Vec<(String, Vec<u64>)> {
        let mut found = Vec::new();
        for sends in self.timed_by_place() {
            let mut latest: Option<&Span<'_>> = None;
            for send in sends {
                let Some(due) = send.asked.due else {
                    latest = latest.filter(|latest| latest.asked.t > send.asked.t).or(Some(send));
                    continue;
                };
                let Some(before) = latest else { continue };
                // What was acknowledged late is late from then on.
                let due = due.max(send.answered.map_or(u64::MAX, |answer| answer.t));
                let excused = excuses.outages_within(due, before.asked.t);
                if before.asked.t > due.saturating_add(excused + demands.delay_late_us) {
                    let mid = send.asked.mid.as_deref().unwrap_or_default();
                    let late = (before.asked.t - due - excused) / 1000;
                    let text = format!("{mid} entered its queue {late} ms after its time or later");
                    found.push((text, [send.numbers(), before.numbers()].concat()));
                }
            }
        }
        found
    }

    pub fn delayed_count(&self) -> usize {
        let is_delayed = |mid: &str| self.sends.get(mid).is_some_and(|send| send.asked.due.is_some());
        self.deliveries.keys().filter(|(_, mid)| is_delayed(mid)).count()
    }

    pub fn recalled_count(&self) -> usize {
        self.recalls.values().flatten().filter(|recall| Span::is_ok(recall)).count()
    }
}
