//! The running digests of the replicas, compared at equal applied entries (P15).
//!
//! A digest covers all writes there were, so two that differ once differ for ever. What follows from it: `digest_exchange`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::{LogIndex, NodeId};

/// Entries whose digests are remembered: some seconds of a busy cluster.
const REMEMBERED: usize = 16 * 1024;
/// What was seen or said before does not count: that replica may be down, made anew, or no member any more. Each is asked
/// once a second.
const COUNTS_FOR: Duration = Duration::from_secs(5);

/// An entry and the running digest after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestMark {
    pub applied: LogIndex,
    pub digest: u64,
}

/// What is known of the digests of all replicas. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Digests(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Of this replica, by entry; consecutive.
    own: VecDeque<DigestMark>,
    /// Of others, at entries that are not applied here yet.
    ahead: BTreeMap<NodeId, PeerMark>,
    /// Whose digests differ from this replica's, and when that was seen last.
    differing: BTreeMap<NodeId, Instant>,
    /// Whom each says to differ from, and when it said so.
    said: BTreeMap<NodeId, (Instant, BTreeSet<NodeId>)>,
}

/// What another replica said of its own.
#[derive(Clone, Copy)]
struct PeerMark {
    mark: DigestMark,
    at: Instant,
}

impl Digests {
    /// This replica applied an entry.
    pub fn note_applied(&self, mark: DigestMark) {
        let mut known = self.0.lock();
        if known.own.len() >= REMEMBERED {
            known.own.pop_front();
        }
        known.own.push_back(mark);
        if known.ahead.is_empty() {
            return;
        }
        let reached: Vec<_> = known
            .ahead
            .iter()
            .filter(|(_, theirs)| theirs.mark.applied <= mark.applied)
            .map(|(node, _)| *node)
            .collect();
        for node in reached {
            if let Some(theirs) = known.ahead.remove(&node) {
                known.compare(node, theirs);
            }
        }
    }

    /// The newest of this replica.
    pub fn latest(&self) -> Option<DigestMark> {
        self.0.lock().own.back().copied()
    }

    /// What another replica says now of its own, and whom it differs from.
    pub fn note_peer(&self, node: NodeId, theirs: Option<DigestMark>, differs_from: BTreeSet<NodeId>, now: Instant) {
        let mut known = self.0.lock();
        known.forget_old(now);
        known.said.insert(node, (now, differs_from));
        let Some(mark) = theirs else { return };
        let theirs = PeerMark { mark, at: now };
        if known.own.back().is_none_or(|own| own.applied < mark.applied) {
            // One that waits already is as good, and is compared sooner.
            known.ahead.entry(node).or_insert(theirs);
        } else {
            known.compare(node, theirs);
        }
    }

    /// Whose digests differ from this replica's, as seen a moment ago.
    pub fn differs_from(&self, now: Instant) -> BTreeSet<NodeId> {
        let mut known = self.0.lock();
        known.forget_old(now);
        known.differing.keys().copied().collect()
    }

    /// Whether this replica differs from a majority of these, this one included, that agrees.
    pub fn is_wrong(&self, voters: &[NodeId], own: NodeId, now: Instant) -> bool {
        let mut known = self.0.lock();
        known.forget_old(now);
        let others = voters.iter().filter(|node| **node != own && known.differing.contains_key(node));
        let others: Vec<NodeId> = others.copied().collect();
        let denies = |one: &NodeId, of: &NodeId| known.said.get(one).is_some_and(|(_, said)| !said.contains(of));
        let agree = others.iter().all(|one| others.iter().all(|other| denies(one, other)));
        agree && others.len() > voters.len() / 2
    }
}

impl Known {
    fn forget_old(&mut self, now: Instant) {
        let counts = |at: &Instant| now.duration_since(*at) < COUNTS_FOR;
        self.differing.retain(|_, seen_at| counts(seen_at));
        self.said.retain(|_, (said_at, _)| counts(said_at));
    }

    fn compare(&mut self, node: NodeId, theirs: PeerMark) {
        let PeerMark { mark: theirs, at } = theirs;
        let Some(first) = self.own.front() else { return };
        let Some(position) = theirs.applied.0.checked_sub(first.applied.0) else { return };
        let own = usize::try_from(position).ok().and_then(|position| self.own.get(position));
        let Some(own) = own.filter(|own| own.applied == theirs.applied) else { return };
        if own.digest == theirs.digest {
            self.differing.remove(&node);
        } else if self.differing.insert(node, at).is_none() {
            tracing::error!(
                peer = format!("n{node}"),
                entry = %theirs.applied,
                "the state of this node and of a peer differ at the same entry"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(applied: u64, digest: u64) -> DigestMark {
        DigestMark { applied: LogIndex(applied), digest }
    }

    const VOTERS: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];

    #[test]
    fn p15_who_differs_from_a_majority_that_agrees_is_wrong_and_nobody_else() {
        let (digests, now) = (Digests::default(), Instant::now());
        (5..=9).for_each(|index| digests.note_applied(mark(index, index)));
        let hear = |node, theirs, said: &[u64]| {
            digests.note_peer(NodeId(node), Some(theirs), said.iter().copied().map(NodeId).collect(), now);
        };
        hear(1, mark(7, 7), &[]);
        assert!(digests.differs_from(now).is_empty());
        hear(1, mark(8, 1), &[0]);
        assert_eq!(digests.differs_from(now), BTreeSet::from([NodeId(1)]));
        assert!(!digests.is_wrong(&VOTERS, NodeId(0), now), "one of two is wrong, and who knows which");
        hear(2, mark(6, 2), &[0, 1]);
        assert!(!digests.is_wrong(&VOTERS, NodeId(0), now), "all three differ");
        hear(2, mark(6, 2), &[0]);
        assert!(digests.is_wrong(&VOTERS, NodeId(0), now), "the other two agree");
    }

    #[test]
    fn p15_what_a_replica_said_before_it_was_gone_or_made_anew_does_not_count() {
        let (digests, start) = (Digests::default(), Instant::now());
        digests.note_applied(mark(5, 5));
        let hear = |node, digest, at| {
            digests.note_peer(NodeId(node), Some(mark(5, digest)), BTreeSet::from([NodeId(0)]), at);
        };
        hear(1, 1, start);
        let now = start + COUNTS_FOR;
        assert!(digests.differs_from(now).is_empty(), "it is down, or no member any more");
        hear(2, 2, now);
        assert!(!digests.is_wrong(&VOTERS, NodeId(0), now), "the first one may be made anew by now");
        hear(1, 2, now);
        assert!(digests.is_wrong(&VOTERS, NodeId(0), now));
        // What waited to be compared is as old as it was said.
        digests.note_peer(NodeId(1), Some(mark(6, 1)), BTreeSet::new(), now);
        digests.note_applied(mark(6, 6));
        assert!(digests.differs_from(now + COUNTS_FOR).is_empty());
    }

    #[test]
    fn p15_what_is_ahead_is_compared_once_it_is_applied_here() {
        let (digests, now) = (Digests::default(), Instant::now());
        digests.note_applied(mark(5, 5));
        digests.note_peer(NodeId(1), Some(mark(7, 1)), BTreeSet::new(), now);
        digests.note_peer(NodeId(1), Some(mark(8, 8)), BTreeSet::new(), now);
        digests.note_applied(mark(6, 6));
        assert!(digests.differs_from(now).is_empty());
        digests.note_applied(mark(7, 7));
        assert_eq!(digests.differs_from(now), BTreeSet::from([NodeId(1)]));
        // What is not remembered any more, or from before this start, is not compared.
        digests.note_peer(NodeId(2), Some(mark(4, 9)), BTreeSet::new(), now);
        assert_eq!(digests.differs_from(now), BTreeSet::from([NodeId(1)]));
    }
}
