//! What the nodes' clocks say, and what most of them agree on.
//!
//! A peer's time of day is noted with each answer to a status call, as what it is ahead of this node's monotonic clock;
//! so it can be compared later, and a jump of this node's own time of day changes nothing about the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::clock::Clock;
use crate::model::{NodeId, Timestamp};
use crate::raft::members::MemberTable;

/// Clocks that agree are this close to each other.
pub(in crate::raft) const AGREED_WITHIN_MS: i64 = 1000;
/// A peer that did not say its time for this long has no say.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// A sample is kept this long for one of a longer round trip.
const BEST_FOR: Duration = Duration::from_secs(5);

/// What a peer's clock said.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Its time of day less this node's monotonic time.
    ahead_ms: i64,
    /// Half of the round trip: it may be wrong by that.
    error_ms: i64,
    /// This node's monotonic time.
    at: Duration,
}

/// What a majority of all nodes agrees on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::raft) struct Agreement {
    /// The time of day, now.
    pub wall: Timestamp,
    /// What each node's clock is ahead of that.
    pub offsets_ms: BTreeMap<NodeId, i64>,
}

/// What the nodes' clocks said last.
pub struct ClockSamples {
    clock: Arc<dyn Clock>,
    own: NodeId,
    members: MemberTable,
    peers: Mutex<BTreeMap<NodeId, Sample>>,
    /// This node's offset as last compared.
    own_offset_ms: Mutex<Option<i64>>,
}

impl ClockSamples {
    /// `clock` is this node's.
    pub(in crate::raft) fn new(clock: Arc<dyn Clock>, own: NodeId, members: MemberTable) -> Self {
        Self { clock, own, members, peers: Mutex::default(), own_offset_ms: Mutex::default() }
    }

    /// This node's monotonic time, for [`Self::note`].
    pub(in crate::raft) fn mono(&self) -> Duration {
        self.clock.mono()
    }

    /// A peer answered with its time of day; it was asked at `asked` and is taken to have read its clock halfway.
    pub(in crate::raft) fn note(&self, peer: NodeId, wall: Timestamp, asked: Duration) {
        let at = self.clock.mono();
        let error = at.saturating_sub(asked) / 2;
        let ahead_ms = signed(wall.0).saturating_sub(millis(asked + error));
        let new = Sample { ahead_ms, error_ms: millis(error).saturating_add(1), at };
        let mut peers = self.peers.lock();
        peers.retain(|node, _| self.members.is_member(*node));
        let best = peers.entry(peer).or_insert(new);
        let errors = new.error_ms.saturating_add(best.error_ms).unsigned_abs();
        // Its clock jumped, or this machine was suspended.
        let is_other = new.ahead_ms.abs_diff(best.ahead_ms) > errors;
        if is_other || new.error_ms <= best.error_ms || at.saturating_sub(best.at) >= BEST_FOR {
            *best = new;
        }
    }

    /// Voters, this node included.
    pub(in crate::raft) fn nodes(&self) -> usize {
        self.members.voters()
    }

    /// Whether every voter has said its time since this node started. Those of an older build do not.
    pub(in crate::raft) fn has_sampled_all(&self) -> bool {
        let peers = self.peers.lock();
        self.members.now().voters().all(|voter| voter.node == self.own || peers.contains_key(&voter.node))
    }

    /// Clocks that can be compared now, this node's included, as what they are ahead of monotonic time. One that cannot
    /// be told from this node's counts as equal to it.
    pub(in crate::raft) fn fresh(&self) -> BTreeMap<NodeId, i64> {
        let now = self.clock.mono();
        let own = signed(self.clock.wall().0).saturating_sub(millis(now));
        let of = |sample: &Sample| {
            let is_equal = sample.ahead_ms.abs_diff(own) <= sample.error_ms.unsigned_abs();
            if is_equal { own } else { sample.ahead_ms }
        };
        let peers = self.peers.lock();
        let is_fresh = |sample: &Sample| now.saturating_sub(sample.at) <= FRESH_FOR;
        let fresh = peers.iter().filter(|(node, sample)| is_fresh(sample) && self.members.is_voter(**node));
        let mut ahead: BTreeMap<NodeId, i64> = fresh.map(|(node, sample)| (*node, of(sample))).collect();
        ahead.insert(self.own, own);
        ahead
    }

    /// How many clocks make a majority.
    pub(in crate::raft) fn majority(&self) -> usize {
        self.nodes() / 2 + 1
    }

    /// The median of the clocks, if a majority of all nodes is close to it. Of two in the middle it is the lower: a
    /// message may come late, never early.
    pub(in crate::raft) fn agreement(&self) -> Option<Agreement> {
        let ahead = self.fresh();
        let mut sorted: Vec<i64> = ahead.values().copied().collect();
        sorted.sort_unstable();
        let median = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
        let offsets_ms: BTreeMap<NodeId, i64> =
            ahead.iter().map(|(node, ahead)| (*node, ahead.saturating_sub(median))).collect();
        let close = offsets_ms.values().filter(|offset| offset.unsigned_abs() <= AGREED_WITHIN_MS.unsigned_abs());
        if close.count() < self.majority() {
            return None;
        }
        let wall = u64::try_from(median.saturating_add(millis(self.clock.mono()))).ok()?;
        Some(Agreement { wall: Timestamp(wall), offsets_ms })
    }

    /// What this node's clock is ahead, for its status.
    pub(in crate::raft) fn publish(&self, own_offset_ms: Option<i64>) {
        *self.own_offset_ms.lock() = own_offset_ms;
    }

    /// What this node's clock was ahead of the agreed time when they were last compared; `None` if no time was agreed.
    pub(in crate::raft) fn own_offset_ms(&self) -> Option<i64> {
        *self.own_offset_ms.lock()
    }

    /// This node.
    pub(in crate::raft) fn own(&self) -> NodeId {
        self.own
    }

    /// This node's time of day.
    pub(in crate::raft) fn own_wall(&self) -> Timestamp {
        self.clock.wall()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::clock::ManualClock;
    use crate::model::{MemberName, Millis};

    const NOW: u64 = 1_000_000_000;

    /// A cluster of `nodes`, seen from n0, whose peers are ahead by so much.
    fn samples(nodes: usize, peers: &[i64]) -> (Arc<ManualClock>, ClockSamples) {
        let clock = Arc::new(ManualClock::new(Timestamp(NOW)));
        let names = (0..).take(nodes).map(MemberName);
        let members = MemberTable::new(names.map(|name| (name, String::new())).collect());
        let samples = ClockSamples::new(clock.clone(), NodeId(0), members);
        for (node, ahead) in (1..).zip(peers) {
            samples.note(NodeId(node), Timestamp(NOW.saturating_add_signed(*ahead)), samples.mono());
        }
        (clock, samples)
    }

    #[test]
    fn one_clock_of_three_that_is_wrong_moves_the_agreed_time_to_a_right_one() {
        for wrong in [-3_600_000, -120_000, 3_600_000, i64::MAX] {
            let (_, samples) = samples(3, &[3, wrong]);
            let agreement = samples.agreement().unwrap();
            assert!((0..=3).contains(&(agreement.wall.0 - NOW)), "{wrong}: {agreement:?}");
            assert!(agreement.offsets_ms[&NodeId(2)].unsigned_abs() > 100_000);
        }
        // The same, seen from the node that is wrong.
        let (_, samples) = samples(3, &[3_600_000, 3_600_002]);
        let agreement = samples.agreement().unwrap();
        assert_eq!(agreement.wall, Timestamp(NOW + 3_600_000));
        assert_eq!(agreement.offsets_ms[&NodeId(0)], -3_600_000);
    }

    #[test]
    fn without_a_majority_close_together_there_is_no_agreed_time() {
        // Nobody else answers; the two that answer differ; all three differ.
        for peers in [&[][..], &[3_600_000], &[3_600_000, -3_600_000]] {
            let (_, samples) = samples(3, peers);
            assert_eq!(samples.agreement(), None, "{peers:?}");
        }
        let (_, alone) = samples(1, &[]);
        assert_eq!(alone.agreement().unwrap().wall, Timestamp(NOW));
        // Of two that agree, the earlier one.
        let (_, two) = samples(3, &[700]);
        assert_eq!(two.agreement().unwrap().wall, Timestamp(NOW));
    }

    #[test]
    fn a_peer_that_fell_silent_has_no_say() {
        let (clock, samples) = samples(3, &[0, 0]);
        clock.advance(Millis::from(FRESH_FOR));
        assert!(samples.agreement().is_some());
        clock.advance(Millis(1));
        assert_eq!(samples.agreement(), None);
        assert!(samples.has_sampled_all(), "it has spoken");
    }

    #[test]
    fn a_peer_s_clock_is_taken_in_the_middle_of_the_round_trip() {
        let (clock, samples) = samples(3, &[]);
        let asked = samples.mono();
        clock.advance(Millis(400));
        // It read its clock 200 ms ago, if the way back is as long as the way there.
        samples.note(NodeId(1), Timestamp(NOW + 200 - 700), asked);
        let offset = || samples.agreement().unwrap().offsets_ms[&NodeId(0)];
        assert_eq!(offset(), 700);
        // A shorter way tells more; so does this node's own clock, within what a way can hide.
        samples.note(NodeId(1), Timestamp(NOW + 400 - 600), samples.mono());
        assert_eq!(offset(), 600);
        samples.note(NodeId(1), Timestamp(NOW + 400 - 800), asked);
        assert_eq!(offset(), 600, "the longer way is forgotten");
        samples.note(NodeId(1), Timestamp(NOW + 200 - 900), asked);
        assert_eq!(offset(), 900, "but for what it cannot hide: the clock was set");
        clock.advance(Millis::from(BEST_FOR));
        let asked = samples.mono();
        clock.advance(Millis(400));
        samples.note(NodeId(1), Timestamp(NOW + 5600 + 150), asked);
        assert_eq!(offset(), 0, "no difference that could be told");
    }
}
