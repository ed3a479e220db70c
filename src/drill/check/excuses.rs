//! Times for which nobody can be blamed for being late: the service was away, or the node that was asked was hurt.

use crate::drill::check::history_index::HistoryIndex;
use crate::drill::history::{Event, OperationKind};

/// A node that was healed answers again within this.
const RECOVERY_US: u64 = 1_000_000;
/// What begins the names of faults of a clock, and the name of one that leaves a node all it needs.
const CLOCK_FAULT: &str = "clock-";
const ATTACK: &str = "hostile-peers";

fn is_clock_fault(event: &Event) -> bool {
    event.f == OperationKind::Fault && event.kind.as_deref().is_some_and(|kind| kind.starts_with(CLOCK_FAULT))
}

/// Whether this is a fault that excuses its node: one that is attacked, or whose clock is moved, has to serve.
pub(super) fn takes_away(event: &Event) -> bool {
    event.f == OperationKind::Fault && !is_clock_fault(event) && event.kind.as_deref() != Some(ATTACK)
}

pub(super) struct Excuses {
    outages: Vec<(u64, u64)>,
    /// By node.
    hurt: Vec<(String, u64, u64)>,
    /// When a clock was first moved.
    clock_moved_at: u64,
}

impl Excuses {
    /// `outages` are the gaps between acknowledged sends.
    pub fn new(index: &HistoryIndex<'_>, outages: Vec<(u64, u64)>) -> Self {
        let windows = index.windows(takes_away, OperationKind::Heal).into_iter();
        let hurt =
            windows.filter_map(|(node, from, to)| Some((node?.to_owned(), from, to.saturating_add(RECOVERY_US))));
        let clock_moved_at = index.events.iter().find(|event| is_clock_fault(event)).map_or(u64::MAX, |fault| fault.t);
        Self { outages, hurt: hurt.collect(), clock_moved_at }
    }

    /// How much of a time is excused for an answer of this node.
    pub fn within(&self, node: &str, from: u64, to: u64) -> u64 {
        let hurt = self.hurt.iter().filter(|(of, ..)| of == node).map(|(_, from, to)| (*from, *to));
        covered(self.outages.iter().copied().chain(hurt).collect(), from, to)
    }

    /// How much of a time the service was away.
    pub fn outages_within(&self, from: u64, to: u64) -> u64 {
        covered(self.outages.clone(), from, to)
    }

    /// How much too early something may be: nothing, unless a clock was moved (P21).
    pub fn early(&self, at: u64, moved_clock_us: u64) -> u64 {
        if at >= self.clock_moved_at { moved_clock_us } else { 0 }
    }
}

/// How much of a time these parts cover together.
fn covered(mut parts: Vec<(u64, u64)>, from: u64, to: u64) -> u64 {
    parts.sort_unstable();
    let (mut sum, mut at) = (0, from);
    for (begin, end) in parts {
        let (begin, end) = (begin.max(at), end.min(to));
        sum += end.saturating_sub(begin);
        at = at.max(end);
    }
    sum
}
