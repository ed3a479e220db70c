//! Who led, and since when: what this node saw of it since its start. A few bytes for each change.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::env::clock::wall;
use crate::node::Node;

/// Changes that are remembered; the oldest go.
const CHANGES_MAX: usize = 200;

/// A change. Keys of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub at_ms: u64,
    pub term: u64,
    /// Null: none is known from then on.
    pub leader: Option<String>,
}

/// The changes that were seen.
#[derive(Default)]
pub(super) struct Timeline {
    seen: Mutex<VecDeque<Change>>,
}

impl Timeline {
    pub fn changes(&self) -> Vec<Change> {
        self.seen.lock().iter().cloned().collect()
    }

    /// When the last change was, as a mark that tells a page to read again.
    pub fn last_at(&self) -> Option<u64> {
        self.seen.lock().back().map(|change| change.at_ms)
    }

    /// Notes every change from now on; sleeps in between.
    pub async fn watch(self: Arc<Self>, node: Arc<Node>) {
        let mut leadership = node.broker().leadership();
        loop {
            let now = *leadership.borrow_and_update();
            self.note(wall().0, now.term.0, now.leader.map(|leader| leader.name().to_string()));
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    fn note(&self, at_ms: u64, term: u64, leader: Option<String>) {
        let mut seen = self.seen.lock();
        if seen.back().is_some_and(|last| last.leader == leader && (last.term == term || leader.is_none())) {
            return;
        }
        if seen.len() >= CHANGES_MAX {
            seen.pop_front();
        }
        seen.push_back(Change { at_ms, term, leader });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noted_once_and_the_oldest_go() {
        let timeline = Timeline::default();
        let n1 = || Some("n1".to_owned());
        timeline.note(1, 1, n1());
        timeline.note(2, 1, n1());
        timeline.note(3, 1, None);
        timeline.note(4, 2, None);
        timeline.note(5, 2, n1());
        let seen: Vec<_> = timeline.changes().into_iter().map(|change| (change.at_ms, change.leader)).collect();
        assert_eq!(seen, [(1, n1()), (3, None), (5, n1())]);
        assert_eq!(timeline.last_at(), Some(5));
        (10..1000).for_each(|term| timeline.note(term, term, n1()));
        assert_eq!(timeline.changes().len(), CHANGES_MAX);
        assert_eq!(timeline.last_at(), Some(999));
    }
}
