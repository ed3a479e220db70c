//! All rules over one history, and the verdict.

use crate::drill::check::excuses::Excuses;
use crate::drill::check::history_index::HistoryIndex;
use crate::drill::check::verdict::{Checked, Demands, Rule, Seen, Verdict};
use crate::drill::history::Event;

/// Checks a history, in order of its numbers.
pub fn check(events: &[Event], demands: &Demands) -> Checked {
    let mut index = HistoryIndex::read(events);
    let lost = index.no_loss();
    index.no_ack_without_majority();
    index.no_phantom();
    let duplicated = index.no_duplicate();
    index.agreement();
    index.producer_order();
    index.real_time_order();
    index.at_least_once();
    let redelivered_after_ack = index.ack_finality();
    let outages = index.availability(demands);
    index.acks_on_full_disks();
    index.transactions(&outages, demands);
    let excuses = Excuses::new(&index, outages);
    index.leases(&excuses, demands);
    index.delays(&excuses, demands);
    index.dead_letters(demands);
    index.offsets();
    let compared = index.equal_replicas();
    index.honesty();
    let seen = Seen {
        delayed: index.delayed_count(),
        recalled: index.recalled_count(),
        committed: index.decided_count(true),
        rolled_back: index.decided_count(false),
        questions: index.questions.len(),
        dead_letters: index.dead_count(),
        compared,
    };
    let redeliveries = index.deliveries.values().map(|all| all.len() - 1).sum();
    index.coverage(demands, &seen, redeliveries);
    let ok = index.sends.values().filter(|span| span.is_ok()).count();
    let failed = index.sends.values().filter(|span| span.is_failed()).count();
    let is_broken = index.counts.keys().any(|rule| *rule != Rule::TooLittleSeen);
    let verdict = match (is_broken, index.counts.contains_key(&Rule::TooLittleSeen)) {
        (true, _) => Verdict::False,
        (false, true) => Verdict::Unknown,
        (false, false) => Verdict::True,
    };
    Checked {
        verdict,
        sends: [ok, index.sends.len() - ok - failed, failed],
        lost,
        duplicated,
        redelivered_after_ack,
        redeliveries,
        seen,
        broken: index.counts.iter().map(|(rule, count)| (rule.to_string(), *count)).collect(),
        findings: index.findings,
    }
}
