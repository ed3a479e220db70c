//! What the other members still need of this node's log: everything after what each surely has.
//!
//! A member is known by what it said it has applied, which is durable in its own log (D5), or by what the leader said it has
//! acknowledged. Neither is ever taken back, so old news keeps too much and never too little.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::LogIndex;

/// What is known of the other members.
#[derive(Default)]
pub(super) struct MemberNeeds {
    members: BTreeMap<u64, Member>,
    /// Those whose entries this node has forgotten: nothing is kept for them, the log could not serve them.
    left_behind: BTreeSet<u64>,
}

struct Member {
    /// What it surely has.
    has: LogIndex,
    /// The same, one look before: with `ASYNC_FLUSH` a power loss may take what a member had for a moment.
    had: LogIndex,
    /// When that changed.
    moved_at: Instant,
}

impl MemberNeeds {
    /// Notes what each other member surely has now; to be called every few seconds. `log_begins` is this node's first entry.
    pub fn look(&mut self, members: &[(u64, LogIndex)], log_begins: LogIndex, now: Instant) {
        self.members.retain(|node, _| members.iter().any(|(member, _)| member == node));
        for (node, has) in members {
            let unknown = Member { has: LogIndex(0), had: LogIndex(0), moved_at: now };
            let member = self.members.entry(*node).or_insert(unknown);
            if member.has != *has {
                member.moved_at = now;
            }
            (member.had, member.has) = (member.has, *has);
            if has.next() >= log_begins {
                self.left_behind.remove(node);
            }
        }
    }

    /// These get on in another way than by the log.
    pub fn note_moving(&mut self, nodes: &[u64], now: Instant) {
        for (_, member) in self.members.iter_mut().filter(|(node, _)| nodes.contains(node)) {
            member.moved_at = now;
        }
    }

    /// The first entry that a member may still ask for; `None` if there are no others.
    pub fn first(&self) -> Option<LogIndex> {
        let kept_for = self.members.iter().filter(|(node, _)| !self.left_behind.contains(node));
        kept_for.map(|(_, member)| member.had.next()).min()
    }

    /// Those that would miss entries if the log began at `first`, with what each has; `None` if one of them is to be waited for,
    /// because it got further not longer than `wait` ago.
    pub fn would_miss(&self, first: LogIndex, wait: Duration, now: Instant) -> Option<Vec<(u64, LogIndex)>> {
        let behind =
            self.members.iter().filter(|(node, member)| !self.left_behind.contains(node) && member.had.next() < first);
        let mut missing = Vec::new();
        for (node, member) in behind {
            if now.duration_since(member.moved_at) < wait {
                return None;
            }
            missing.push((*node, member.has));
        }
        Some(missing)
    }

    /// From now on nothing is kept for it, until it is known to be where the log begins.
    pub fn leave_behind(&mut self, node: u64) {
        self.left_behind.insert(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    fn look(needs: &mut MemberNeeds, members: &[(u64, u64)], log_begins: u64, now: Instant) {
        let members: Vec<_> = members.iter().map(|(node, has)| (*node, LogIndex(*has))).collect();
        needs.look(&members, LogIndex(log_begins), now);
    }

    #[test]
    fn what_the_slowest_member_had_one_look_ago_is_kept() {
        let first = |looks: &[&[(u64, u64)]]| {
            let mut needs = MemberNeeds::default();
            looks.iter().for_each(|members| look(&mut needs, members, 1, Instant::now()));
            needs.first()
        };
        assert_eq!(first(&[]), None, "nobody else");
        assert_eq!(first(&[&[(1, 50), (2, 70)]]), Some(LogIndex(1)), "it may be about to lose it");
        assert_eq!(first(&[&[(1, 50), (2, 70)], &[(1, 60), (2, 70)]]), Some(LogIndex(51)));
        assert_eq!(first(&[&[(1, 0), (2, 70)], &[(1, 0), (2, 90)]]), Some(LogIndex(1)), "never heard of");
    }

    #[test]
    fn a_member_that_catches_up_is_waited_for_and_a_stalled_one_is_left_behind() {
        let mut needs = MemberNeeds::default();
        let mut now = Instant::now();
        look(&mut needs, &[(1, 50), (2, 99)], 1, now);
        look(&mut needs, &[(1, 50), (2, 99)], 1, now);
        assert_eq!(needs.would_miss(LogIndex(80), WAIT, now), None);
        now += WAIT;
        look(&mut needs, &[(1, 60), (2, 99)], 1, now);
        assert_eq!(needs.would_miss(LogIndex(80), WAIT, now), None, "it moved");
        now += WAIT;
        look(&mut needs, &[(1, 60), (2, 99)], 1, now);
        assert_eq!(needs.would_miss(LogIndex(80), WAIT, now), Some(vec![(1, LogIndex(60))]));
        assert_eq!(needs.would_miss(LogIndex(61), WAIT, now), Some(Vec::new()), "that is what it asks for next");

        needs.note_moving(&[1], now);
        assert_eq!(needs.would_miss(LogIndex(80), WAIT, now), None, "it pulls a snapshot");
        now += WAIT;

        needs.leave_behind(1);
        assert_eq!(needs.first(), Some(LogIndex(100)), "nothing is kept for it any more");
        look(&mut needs, &[(1, 70), (2, 99)], 80, now);
        assert_eq!(needs.first(), Some(LogIndex(100)), "still behind the start");
        look(&mut needs, &[(1, 79), (2, 99)], 80, now);
        assert_eq!(needs.first(), Some(LogIndex(71)), "it is back");
    }
}
