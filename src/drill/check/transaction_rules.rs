//! Transactions: C11.

use std::collections::BTreeSet;

use crate::drill::check::history_index::{HistoryIndex, Span};
use crate::drill::check::verdict::{Demands, Rule};
use crate::drill::history::{Event, OperationKind};

impl HistoryIndex<'_> {
    pub fn transactions(&mut self, outages: &[(u64, u64)], demands: &Demands) {
        let mut found = self.visible_without_commit();
        found.extend(self.committed_and_missing());
        found.extend(self.decided_twice());
        found.extend(self.never_asked_about(outages, demands));
        self.find_all(Rule::TransactionBroken, found);
    }

    fn ended(&self, mid: &str, commit: bool) -> impl Iterator<Item = &Span<'_>> {
        self.decisions.get(mid).into_iter().flatten().filter(move |decision| decision.asked.commit == Some(commit))
    }

    /// Seen before anybody asked for a commit, or although a rollback was answered `OK`.
    fn visible_without_commit(&self) -> Vec<(String, Vec<u64>)> {
        let mut found = Vec::new();
        let mut reported = BTreeSet::new();
        for (got, number) in self.seen() {
            let mid = got.mid.as_str();
            let Some(send) = self.sends.get(mid).filter(|send| send.is_half()) else { continue };
            let shown_at = self.events.get(number as usize).map_or(0, |event| event.t);
            let committed_at = self.ended(mid, true).map(|commit| commit.asked.t).min();
            let rolled_back = self.ended(mid, false).find(|rollback| rollback.is_ok());
            let text = match (committed_at, rolled_back) {
                (_, Some(_)) => format!("{mid} is seen although it was rolled back"),
                (None, None) => format!("{mid} is seen and nobody ever committed it"),
                (Some(at), None) if at > shown_at => format!("{mid} was seen before anybody committed it"),
                (Some(_), None) => continue,
            };
            if reported.insert(mid) {
                let decided = rolled_back.map(Span::numbers).unwrap_or_default();
                found.push((text, [send.numbers(), decided, vec![number]].concat()));
            }
        }
        found
    }

    fn committed_and_missing(&self) -> Vec<(String, Vec<u64>)> {
        let mut found = Vec::new();
        for (node, audit) in &self.audits {
            let there: BTreeSet<&str> = audit.iter().map(|(got, _)| got.mid.as_str()).collect();
            for mid in self.decisions.keys().filter(|mid| !there.contains(*mid)) {
                if let Some(commit) = self.ended(mid, true).find(|commit| commit.is_ok()) {
                    found.push((format!("{mid} was committed and is not on {node}"), commit.numbers()));
                }
            }
        }
        found
    }

    fn decided_twice(&self) -> Vec<(String, Vec<u64>)> {
        let both = |mid: &&str| {
            let commit = self.ended(mid, true).find(|commit| commit.is_ok())?;
            let rollback = self.ended(mid, false).find(|rollback| rollback.is_ok())?;
            let text = format!("both a commit and a rollback of {mid} were answered OK");
            Some((text, [commit.numbers(), rollback.numbers()].concat()))
        };
        self.decisions.keys().filter_map(both).collect()
    }

    /// Half messages that were acknowledged, that nobody tried to end, and about which no producer was asked, while one
    /// listened for long enough. A decision whose answer was lost may have ended one.
    fn never_asked_about(&self, outages: &[(u64, u64)], demands: &Demands) -> Vec<(String, Vec<u64>)> {
        let is_end = |event: &&Event| event.f == OperationKind::TxnCheck && event.mid.is_none();
        let Some(listened_until) = self.events.iter().find(is_end).map(|event| event.t) else { return Vec::new() };
        let mut found = Vec::new();
        for (mid, send) in self.sends.iter().filter(|(_, send)| send.is_half() && send.is_ok()) {
            if self.questions.contains(mid) || self.decisions.contains_key(mid) {
                continue;
            }
            let from = send.returned();
            let excused: u64 =
                outages.iter().map(|(begin, end)| (*end).min(listened_until).saturating_sub((*begin).max(from))).sum();
            if from.saturating_add(excused).saturating_add(demands.asked_within_us) < listened_until {
                let open = (listened_until - from) / 1000;
                found.push((format!("{mid} was open for {open} ms and nobody was asked about it"), send.numbers()));
            }
        }
        found
    }

    /// Half messages with a decision that was answered `OK`.
    pub fn decided_count(&self, commit: bool) -> usize {
        self.decisions.keys().filter(|mid| self.ended(mid, commit).any(|one| one.is_ok())).count()
    }
}
