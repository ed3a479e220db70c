//! What is stored: C1 to C6 and C16.

use std::collections::{BTreeMap, BTreeSet};

use crate::drill::check::history_index::{HistoryIndex, Span};
use crate::drill::check::verdict::Rule;
use crate::drill::history::OperationKind;

impl HistoryIndex<'_> {
    pub fn no_loss(&mut self) -> usize {
        let mut lost = BTreeSet::new();
        let mut found = Vec::new();
        for (node, audit) in &self.audits {
            let there: BTreeSet<&str> = audit.iter().map(|(got, _)| got.mid.as_str()).collect();
            for (mid, send) in self.sends.iter().filter(|(mid, send)| send.is_ok() && !there.contains(*mid)) {
                // A half message may stay one (C11), and what was recalled, or may be, enters no queue.
                let may_be_recalled = self.recalls.get(mid).is_some_and(|all| all.iter().any(|one| !one.is_failed()));
                if send.is_half() || may_be_recalled {
                    continue;
                }
                lost.insert(*mid);
                found.push((format!("{mid} was acknowledged and is not on {node}"), send.numbers()));
            }
        }
        self.find_all(Rule::AckedMessageLost, found);
        lost.len()
    }

    /// Sends that began and were acknowledged while no majority could have stored them.
    pub fn no_ack_without_majority(&mut self) {
        let mut found = Vec::new();
        for (_, lost_at, back_at) in
            self.windows(|event| event.f == OperationKind::MajorityLost, OperationKind::MajorityBack)
        {
            for (mid, send) in &self.sends {
                if send.is_ok() && send.asked.t > lost_at && send.returned() < back_at {
                    found.push((format!("{mid} was acknowledged while two of three nodes were away"), send.numbers()));
                }
            }
        }
        self.find_all(Rule::AckedMessageLost, found);
    }

    pub fn no_phantom(&mut self) {
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
        self.find_all(Rule::UnknownMessage, found);
    }

    pub fn no_duplicate(&mut self) -> usize {
        let mut places: BTreeMap<&str, BTreeMap<(u32, u64), u64>> = BTreeMap::new();
        for (got, number) in self.seen() {
            places.entry(&got.mid).or_default().insert((got.q, got.off), number);
        }
        let twice: Vec<_> = places.into_iter().filter(|(_, places)| places.len() > 1).collect();
        for (mid, places) in &twice {
            let text = format!("{mid} lies at {:?}", places.keys().collect::<Vec<_>>());
            self.find(Rule::StoredTwice, text, places.values().copied().collect());
        }
        twice.len()
    }

    pub fn agreement(&mut self) {
        let mut holders: BTreeMap<(u32, u64), BTreeMap<&str, u64>> = BTreeMap::new();
        for (got, number) in self.seen() {
            holders.entry((got.q, got.off)).or_default().insert(&got.mid, number);
        }
        let mut answered_otherwise = Vec::new();
        for (got, number) in self.seen() {
            let answer = self.sends.get(got.mid.as_str()).and_then(|send| send.answered);
            if let Some((answer, answered)) =
                answer.and_then(|answer| Some((answer, answer.off?))).filter(|(_, answered)| *answered != got.off)
            {
                let text = format!(
                    "{} lies at offset {} of queue {}; its sender was told {answered}",
                    got.mid, got.off, got.q
                );
                answered_otherwise.push((text, vec![answer.i, number]));
            }
        }
        self.find_all(Rule::OffsetConflict, answered_otherwise);
        for ((queue, offset), held) in holders.into_iter().filter(|(_, held)| held.len() > 1) {
            let text = format!("queue {queue} offset {offset} held {:?}", held.keys().collect::<Vec<_>>());
            self.find(Rule::OffsetConflict, text, held.values().copied().collect());
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
            self.find(Rule::OffsetConflict, text, Vec::new());
        }
    }

    pub fn producer_order(&mut self) {
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
        self.find_all(Rule::ProducerOrderBroken, found);
    }

    /// One sweep: the latest invocation among earlier places; a later place that had returned before it
    /// was overtaken.
    pub fn real_time_order(&mut self) {
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
        self.find_all(Rule::RealTimeOrderBroken, found);
    }

    pub fn honesty(&mut self) {
        let audited = self.audited_ids();
        let lied: Vec<_> = self.sends.iter().filter(|(mid, send)| send.is_failed() && audited.contains(*mid)).collect();
        let found: Vec<_> = lied
            .into_iter()
            .map(|(mid, send)| (format!("{mid} was refused for good and is in the log"), send.numbers()))
            .collect();
        self.find_all(Rule::RefusedMessageStored, found);
    }
}
