//! What operators see of Raft on a node, beside its marks: its vote, when it heard of the leader, how far its followers are
//! if it leads, how long it runs, and what it counted.

use std::time::Duration;

use crate::model::{LogIndex, Millis, NodeId, Term, Timestamp};
use crate::proto::peer as proto;

/// More followers than there can be are not believed.
const FOLLOWERS_MAX: usize = 64;

/// What operators see of Raft on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Of an older build, a vote for n0 in term 0.
    pub vote: VoteMark,
    /// How long ago it heard of the leader that it follows; `None` if it never did, and on the leader.
    pub leader_heard: Option<Millis>,
    /// If it leads: the others.
    pub followers: Vec<FollowerMark>,
    pub uptime: Millis,
    /// What it counted by day; `None` from an older build.
    pub days: Option<DayCounts>,
}

/// A vote as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VoteMark {
    pub term: Term,
    /// For whom.
    pub node: NodeId,
    /// That node won: it leads the term.
    pub has_won: bool,
}

/// A follower, as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerMark {
    pub node: NodeId,
    /// The last entry that is surely in its log.
    pub matching: LogIndex,
    /// How long ago it answered a heartbeat; `None` if it never did.
    pub answered: Option<Millis>,
}

/// Messages in and out by day, as the node counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DayCounts {
    pub since: Timestamp,
    pub in_today: u64,
    pub in_yesterday: u64,
    pub out_today: u64,
    pub out_yesterday: u64,
}

pub(in crate::raft) fn millis(length: Duration) -> Millis {
    Millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

pub(in crate::raft) fn put_sight(sight: Sight) -> proto::Sight {
    let VoteMark { term, node, has_won } = sight.vote;
    let follower = |mark: &FollowerMark| proto::Follower {
        node: mark.node.0,
        matching: mark.matching.0,
        answered_ms: mark.answered.map(|ago| ago.0),
    };
    proto::Sight {
        vote: Some(proto::Vote { term: term.0, node: node.0, committed: has_won }),
        leader_heard_ms: sight.leader_heard.map(|ago| ago.0),
        followers: sight.followers.iter().map(follower).collect(),
        uptime_ms: sight.uptime.0,
        days: sight.days.map(|days| proto::DayCounts {
            since_ms: days.since.0,
            in_today: days.in_today,
            in_yesterday: days.in_yesterday,
            out_today: days.out_today,
            out_yesterday: days.out_yesterday,
        }),
    }
}

pub(in crate::raft) fn read_sight(sight: proto::Sight) -> Sight {
    let follower = |mark: proto::Follower| FollowerMark {
        node: NodeId(mark.node),
        matching: LogIndex(mark.matching),
        answered: mark.answered_ms.map(Millis),
    };
    let vote = |vote: proto::Vote| VoteMark { term: Term(vote.term), node: NodeId(vote.node), has_won: vote.committed };
    Sight {
        vote: sight.vote.map(vote).unwrap_or_default(),
        leader_heard: sight.leader_heard_ms.map(Millis),
        followers: sight.followers.into_iter().take(FOLLOWERS_MAX).map(follower).collect(),
        uptime: Millis(sight.uptime_ms),
        days: sight.days.map(|days| DayCounts {
            since: Timestamp(days.since_ms),
            in_today: days.in_today,
            in_yesterday: days.in_yesterday,
            out_today: days.out_today,
            out_yesterday: days.out_yesterday,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sight_comes_back_from_its_wire_form() {
        let followers = vec![
            FollowerMark { node: NodeId(1), matching: LogIndex(7), answered: Some(Millis(20)) },
            FollowerMark { node: NodeId(2), matching: LogIndex(0), answered: None },
        ];
        let days = DayCounts { since: Timestamp(1), in_today: 2, in_yesterday: 3, out_today: 4, out_yesterday: 5 };
        let sight = Sight {
            vote: VoteMark { term: Term(3), node: NodeId(2), has_won: true },
            leader_heard: Some(Millis(5)),
            followers,
            uptime: Millis(99),
            days: Some(days),
        };
        assert_eq!(read_sight(put_sight(sight.clone())), sight);
        assert_eq!(read_sight(proto::Sight::default()), Sight::default());
    }
}
