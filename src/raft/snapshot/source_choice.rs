//! Which node is asked for a snapshot first: one whose last pull came to nothing is asked after all others.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::NodeId;
use crate::raft::snapshot::source::NotGiven;
use crate::raft::snapshot::sources::NotServed;

/// A node that makes a snapshot for this one is waited for, and nobody else asked to make one, this long.
const MAKES_MAX: Duration = Duration::from_secs(1800);

/// A node that could give a snapshot, as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub node: NodeId,
    /// Its disk is at its hard mark.
    pub is_short: bool,
    pub has_slow_disk: bool,
    /// It has more to do than the others.
    pub leads: bool,
    /// Who leads, as it knows.
    pub leader: Option<NodeId>,
}

/// What is remembered of those that were asked.
#[derive(Default)]
pub(in crate::raft) struct SourceChoice {
    failed_at: BTreeMap<NodeId, Instant>,
    /// Who makes one now, and since when.
    making: Option<(NodeId, Instant)>,
}

impl SourceChoice {
    /// The best first.
    pub(super) fn sort(&mut self, candidates: &mut [Candidate]) {
        self.failed_at.retain(|node, _| candidates.iter().any(|candidate| candidate.node == *node));
        let makes = self.making.map(|(node, _)| node);
        candidates.sort_by_key(|it| {
            let failed_at = self.failed_at.get(&it.node).copied();
            (makes != Some(it.node), failed_at, it.is_short, it.has_slow_disk, it.leads, it.node)
        });
    }

    /// What came of it, or did not, is no reason to ask it again soon.
    pub(super) fn note_failed(&mut self, node: NodeId) {
        self.failed_at.insert(node, Instant::now());
    }

    /// A node did not open a source, for this reason; whether it is about to, and asked again rather than another one. To make
    /// a snapshot takes long, and what it made is given up soon unless it is asked for.
    pub(super) fn note_not_opened(&mut self, node: NodeId, why: &NotGiven) -> bool {
        let since = self.making.filter(|(making, _)| *making == node).map(|(_, since)| since);
        let is_making = match why {
            NotGiven::Late => true,
            // With what it makes already.
            NotGiven::NotServed(NotServed::Busy) => since.is_some(),
            _ => false,
        };
        let since = since.unwrap_or_else(Instant::now);
        self.making = (is_making && since.elapsed() < MAKES_MAX).then_some((node, since));
        if self.making.is_none() {
            self.note_failed(node);
        }
        self.making.is_some()
    }

    /// A node opened a source.
    pub(super) fn note_opened(&mut self) {
        self.making = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(choice: &mut SourceChoice) -> Vec<u64> {
        let candidate = |node| Candidate {
            node: NodeId(node),
            is_short: node == 4,
            has_slow_disk: node == 3,
            leads: node == 0,
            leader: None,
        };
        let mut candidates: Vec<_> = (0..5).map(candidate).collect();
        choice.sort(&mut candidates);
        candidates.into_iter().map(|candidate| candidate.node.0).collect()
    }

    #[tokio::test]
    async fn one_that_failed_is_asked_after_all_others_and_the_longest_ago_first() {
        let mut choice = SourceChoice::default();
        assert_eq!(sorted(&mut choice), [1, 2, 0, 3, 4]);
        for next in [1, 2, 0, 3, 4, 1, 2, 0] {
            assert_eq!(sorted(&mut choice)[0], next);
            choice.note_failed(NodeId(next));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(sorted(&mut choice), [3, 4, 1, 2, 0]);
    }

    #[tokio::test]
    async fn one_that_makes_a_snapshot_is_waited_for_and_no_other_is_asked_to() {
        let mut choice = SourceChoice::default();
        let busy = NotGiven::NotServed(NotServed::Busy);
        assert!(!choice.note_not_opened(NodeId(1), &busy), "it makes others");
        assert!(choice.note_not_opened(NodeId(2), &NotGiven::Late));
        assert!(choice.note_not_opened(NodeId(2), &busy));
        assert_eq!(sorted(&mut choice), [2, 0, 3, 4, 1]);
        let gone = NotGiven::Unreachable("gone".to_owned());
        assert!(!choice.note_not_opened(NodeId(2), &gone));
        assert_eq!(sorted(&mut choice), [0, 3, 4, 1, 2]);
        assert!(choice.note_not_opened(NodeId(0), &NotGiven::Late));
        choice.making = Instant::now().checked_sub(MAKES_MAX).map(|since| (NodeId(0), since));
        assert!(!choice.note_not_opened(NodeId(0), &busy), "not for ever");
        assert_eq!(sorted(&mut choice)[0], 3);
    }
}
