//! What a leader does next about the members. Pure: it follows from the change in the state and the membership in the log
//! alone, so a leader that comes in the middle goes on where the last one was (D113).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::broker::member_rules::{NotAllowed, Voters, check};
use crate::machine::state::member_changes::{ChangeEnd, MemberChange, MemberChangeKind};
use crate::model::limits::SHORT_TEXT_BYTES_MAX;
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::{MemberProgress, Membership};

/// Who has not answered for this long cannot be reached.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// A learner that lacks no more entries than this votes at once: they are on their way.
const CAUGHT_UP_WITHIN: u64 = 256;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    AddLearner(NodeId, String),
    RemoveLearner(NodeId),
    SetVoters(BTreeSet<NodeId>),
    /// These are to vote, and this node, which leads, is none of them: those that stay end its links with the entry that
    /// removes it, so another one is to lead first.
    GiveWay(BTreeSet<NodeId>),
    /// Of the change with this number.
    End(u64, ChangeEnd),
    /// For a member, or for Raft.
    Wait,
}

/// What a leader sees.
pub(super) struct Look<'a> {
    /// The leader itself.
    pub own: NodeId,
    /// The change that is under way, by a state that has applied at least `applied`.
    pub change: Option<&'a MemberChange>,
    pub applied: LogIndex,
    /// What it knew to be committed in its term before it read the state (ReadIndex).
    pub committed: LogIndex,
    /// The newest in its log.
    pub membership: Membership,
    pub progress: BTreeMap<NodeId, MemberProgress>,
    /// The last entry of its log.
    pub last: LogIndex,
}

/// The end of a change that this node proposed as the leader of a term. It may be in the log, so nothing else may be done
/// about that change until it is applied, or another term comes, which begins with all that was committed before.
#[derive(Default)]
pub(super) struct Said(Option<(Term, u64, ChangeEnd)>);

impl Said {
    /// What is next, for the leader of this term; an end that is next stays what is next.
    pub fn step(&mut self, term: Term, look: &Look<'_>) -> Step {
        if let (Some((of, number, end)), Some(change)) = (&self.0, look.change)
            && (*of, *number) == (term, change.number)
        {
            return Step::End(*number, end.clone());
        }
        let step = next(look);
        if let Step::End(number, end) = &step {
            self.0 = Some((term, *number, end.clone()));
        }
        step
    }
}

fn next(look: &Look<'_>) -> Step {
    let members = &look.membership.members;
    // The log may be ahead of the state: the change may be over, or another one.
    if look.applied < look.committed.max(members.at) || !look.membership.is_settled {
        return Step::Wait;
    }
    let belongs = |node| look.change.is_some_and(|change| change.joins == Some(node) || change.leaves() == Some(node));
    let stray = members.all().find(|member| !member.is_voter && !belongs(member.node));
    match (look.change, stray) {
        // Its change has ended without it.
        (_, Some(stray)) if !members.is_joint => Step::RemoveLearner(stray.node),
        (Some(change), _) => next_of(change, look),
        (None, _) => Step::Wait,
    }
}

fn next_of(change: &MemberChange, look: &Look<'_>) -> Step {
    let members = &look.membership.members;
    let voters: BTreeSet<NodeId> = members.voters().map(|member| member.node).collect();
    let mut target = voters.clone();
    target.extend(change.joins);
    change.leaves().map(|node| target.remove(&node));
    let set_voters = if target.contains(&look.own) { Step::SetVoters(target) } else { Step::GiveWay(target) };
    // Another leader came halfway: there is no way back.
    if members.is_joint {
        return set_voters;
    }
    let joined = change.joins.is_none_or(|node| voters.contains(&node));
    let left = change.leaves().is_none_or(|node| members.get(node).is_none());
    if joined && left {
        return Step::End(change.number, ChangeEnd::Done);
    }
    let learner = change.joins.filter(|node| members.get(*node).is_some_and(|member| !member.is_voter));
    if change.is_cancelled && !(joined && change.joins.is_some()) {
        return learner.map_or(Step::End(change.number, ChangeEnd::Cancelled), Step::RemoveLearner);
    }
    if let Err(NotAllowed(why)) = may_go_on(change, look) {
        // A replacement was allowed when it began, and the old replica may be gone already.
        return match learner {
            None => Step::End(change.number, ChangeEnd::Refused(shortened(why))),
            Some(_) => Step::Wait,
        };
    }
    match (&change.kind, change.joins) {
        // One that leaves and does not vote needs no agreement of the voters.
        (MemberChangeKind::Remove { node: old } | MemberChangeKind::Replace { old, .. }, _)
            if joined && !voters.contains(old) =>
        {
            Step::RemoveLearner(*old)
        }
        (MemberChangeKind::Replace { old, .. }, _)
            if !joined && learner.is_none() && !others_have_all(*old, &voters, look) =>
        {
            Step::Wait
        }
        (MemberChangeKind::Add { address, .. } | MemberChangeKind::Replace { address, .. }, Some(node))
            if !joined && learner.is_none() =>
        {
            Step::AddLearner(node, address.clone())
        }
        (_, Some(node)) if learner.is_some() && !is_caught_up(look.progress.get(&node), look.last) => Step::Wait,
        _ => set_voters,
    }
}

/// Whether the group can do without a voter: it stops as soon as it knows that it is replaced, and what the others lack by
/// then may be on it and on one other alone (D156).
fn others_have_all(old: NodeId, voters: &BTreeSet<NodeId>, look: &Look<'_>) -> bool {
    let has_all = |node: &&NodeId| is_caught_up(look.progress.get(node), look.last);
    let others = voters.iter().filter(|node| **node != old).filter(has_all).count();
    !voters.contains(&old) || others > voters.len() / 2
}

fn is_caught_up(progress: Option<&MemberProgress>, last: LogIndex) -> bool {
    progress.is_some_and(|progress| {
        // One that has nothing waits for a snapshot, however short the log is.
        let has_most = progress.has > LogIndex(0) && progress.has.0 + CAUGHT_UP_WITHIN >= last.0;
        has_most && progress.answered.is_some_and(|ago| ago < SILENT_AFTER)
    })
}

fn may_go_on(change: &MemberChange, look: &Look<'_>) -> Result<(), NotAllowed> {
    let members = &look.membership.members;
    let answers = |node: &NodeId| {
        look.progress.get(node).is_some_and(|progress| progress.answered.is_some_and(|ago| ago < SILENT_AFTER))
    };
    let all: BTreeSet<NodeId> = members.voters().map(|member| member.node).collect();
    let reachable = all.iter().copied().filter(answers).collect();
    let voters = Voters { all, reachable };
    match (&change.kind, change.joins) {
        // It is a member by now: only its name was to be free.
        (MemberChangeKind::Add { .. }, Some(node)) if members.get(node).is_some() => Ok(()),
        (MemberChangeKind::Replace { old, .. }, _) if members.get(*old).is_none() => {
            Err(NotAllowed(format!("{old} is no member any more")))
        }
        (MemberChangeKind::Remove { node }, _) if members.get(*node).is_none() => Ok(()),
        (kind, _) => check(kind, members, &voters),
    }
}

fn shortened(mut why: String) -> String {
    let mut end = why.len().min(SHORT_TEXT_BYTES_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MemberName, Timestamp};
    use crate::raft::{Member, Members};

    const N: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];
    const LAST: LogIndex = LogIndex(10_000);

    fn later(name: u32) -> NodeId {
        NodeId::later_of(MemberName(name), 1)
    }

    fn change(kind: MemberChangeKind, joins: Option<NodeId>) -> MemberChange {
        MemberChange { number: 1, kind, joins, begun_at: Timestamp(0), is_cancelled: false }
    }

    fn add() -> MemberChange {
        change(MemberChangeKind::Add { name: MemberName(3), address: "new:1".into() }, Some(later(3)))
    }

    fn replace() -> MemberChange {
        change(MemberChangeKind::Replace { old: N[2], address: "hn2:1".into() }, Some(later(2)))
    }

    fn remove() -> MemberChange {
        change(MemberChangeKind::Remove { node: N[2] }, None)
    }

    fn membership(voters: &[NodeId], learners: &[NodeId]) -> Membership {
        let member = |node: &NodeId, is_voter| Member { node: *node, address: format!("h{node}:1"), is_voter };
        let all = voters.iter().map(|node| member(node, true)).chain(learners.iter().map(|node| member(node, false)));
        Membership { members: Members::new(LogIndex(9), all), is_settled: true }
    }

    /// All that are named answer and have everything, but for these.
    fn progress(all: &[NodeId], behind: &[NodeId], silent: &[NodeId]) -> BTreeMap<NodeId, MemberProgress> {
        let of = |node: &NodeId| MemberProgress {
            has: if behind.contains(node) { LogIndex(5) } else { LAST },
            answered: (!silent.contains(node)).then_some(Duration::ZERO),
        };
        all.iter().map(|node| (*node, of(node))).collect()
    }

    /// What the leader n0 does, who has applied all.
    fn next(
        change: &MemberChange,
        membership: &Membership,
        progress: &BTreeMap<NodeId, MemberProgress>,
        last: LogIndex,
    ) -> Step {
        super::next(&look(Some(change), membership, progress, last))
    }

    fn look<'a>(
        change: Option<&'a MemberChange>,
        membership: &Membership,
        progress: &BTreeMap<NodeId, MemberProgress>,
        last: LogIndex,
    ) -> Look<'a> {
        let (membership, progress) = (membership.clone(), progress.clone());
        Look { own: N[0], change, applied: last, committed: last, membership, progress, last }
    }

    fn set(nodes: &[NodeId]) -> Step {
        Step::SetVoters(nodes.iter().copied().collect())
    }

    #[test]
    fn a_replica_comes_as_a_learner_catches_up_and_only_then_votes() {
        let all = [N[0], N[1], N[2], later(3)];
        let healthy = progress(&all, &[], &[]);
        assert_eq!(next(&add(), &membership(&N, &[]), &healthy, LAST), Step::AddLearner(later(3), "new:1".into()));
        let joining = membership(&N, &[later(3)]);
        assert_eq!(next(&add(), &joining, &progress(&all, &[later(3)], &[]), LAST), Step::Wait, "it is behind");
        assert_eq!(next(&add(), &joining, &progress(&all, &[], &[later(3)]), LAST), Step::Wait, "it is silent");
        assert_eq!(next(&add(), &joining, &progress(&N, &[], &[]), LAST), Step::Wait, "nothing is known of it");
        let mut empty = healthy.clone();
        empty.insert(later(3), MemberProgress { has: LogIndex(0), answered: Some(Duration::ZERO) });
        assert_eq!(next(&add(), &joining, &empty, LogIndex(100)), Step::Wait, "it has nothing of a short log");
        assert_eq!(next(&add(), &joining, &healthy, LAST), set(&all));
        assert_eq!(next(&add(), &membership(&all, &[]), &healthy, LAST), Step::End(1, ChangeEnd::Done));
    }

    #[test]
    fn p18_a_voter_is_replaced_only_once_a_majority_of_the_others_has_caught_up() {
        let joins = Step::AddLearner(later(2), "hn2:1".into());
        for (behind, silent, expected) in [
            (&[][..], &[][..], joins.clone()),
            (&[N[1]], &[], Step::Wait),
            (&[N[2]], &[N[2]], joins.clone()),
            (&[N[0]], &[], Step::Wait),
        ] {
            let progress = progress(&N, behind, silent);
            assert_eq!(next(&replace(), &membership(&N, &[]), &progress, LAST), expected, "{behind:?} {silent:?}");
        }
    }

    #[test]
    fn a_leader_that_comes_in_the_middle_goes_on_from_there() {
        let all = [N[0], N[1], N[2], later(2)];
        let after = [N[0], N[1], later(2)];
        let healthy = progress(&all, &[], &[]);
        let old_is_down = progress(&all, &[], &[N[2]]);
        assert_eq!(next(&replace(), &membership(&N, &[later(2)]), &old_is_down, LAST), set(&after));
        let mut halfway = membership(&all, &[]);
        halfway.members.is_joint = true;
        assert_eq!(next(&replace(), &halfway, &old_is_down, LAST), set(&after), "also if it is cancelled by then");
        halfway.is_settled = false;
        assert_eq!(next(&replace(), &halfway, &healthy, LAST), Step::Wait);
        assert_eq!(next(&replace(), &membership(&after, &[]), &healthy, LAST), Step::End(1, ChangeEnd::Done));
        assert_eq!(next(&remove(), &membership(&N, &[]), &healthy, LAST), set(&N[..2]));
        assert_eq!(next(&remove(), &membership(&N[..2], &[]), &healthy, LAST), Step::End(1, ChangeEnd::Done));
    }

    #[test]
    fn a_cancelled_change_is_undone_unless_it_has_come_too_far() {
        let cancelled = MemberChange { is_cancelled: true, ..add() };
        let all = [N[0], N[1], N[2], later(3)];
        let healthy = progress(&all, &[], &[]);
        let joining = membership(&N, &[later(3)]);
        assert_eq!(next(&cancelled, &joining, &healthy, LAST), Step::RemoveLearner(later(3)));
        assert_eq!(next(&cancelled, &membership(&N, &[]), &healthy, LAST), Step::End(1, ChangeEnd::Cancelled));
        assert_eq!(next(&cancelled, &membership(&all, &[]), &healthy, LAST), Step::End(1, ChangeEnd::Done));
    }

    #[test]
    fn p16_the_leader_does_not_remove_a_voter_while_another_one_is_silent() {
        let step = next(&remove(), &membership(&N, &[]), &progress(&N, &[], &[N[1]]), LAST);
        assert!(matches!(&step, Step::End(1, ChangeEnd::Refused(why)) if why.contains("start n1 again")), "{step:?}");
        let all = [N[0], N[1], N[2], later(2)];
        let step = next(&replace(), &membership(&N, &[later(2)]), &progress(&all, &[], &[N[1], N[2]]), LAST);
        assert_eq!(step, Step::Wait, "what has begun waits for a majority");
    }

    #[test]
    fn p16_nothing_is_done_by_a_state_that_may_not_have_the_end_of_the_change_yet() {
        let (membership, healthy) = (membership(&N, &[]), progress(&[N[0], N[1], N[2], later(3)], &[], &[]));
        let change = add();
        let all = look(Some(&change), &membership, &healthy, LAST);
        assert_eq!(super::next(&all), Step::AddLearner(later(3), "new:1".into()));
        let behind = Look { applied: LogIndex(LAST.0 - 1), ..look(Some(&change), &membership, &healthy, LAST) };
        assert_eq!(super::next(&behind), Step::Wait, "its end may be the last entry");
    }

    #[test]
    fn p16_a_change_that_a_leader_has_refused_is_not_gone_on_with_in_its_term() {
        let (membership, change) = (membership(&N, &[]), remove());
        let (n1_is_silent, healthy) = (progress(&N, &[], &[N[1]]), progress(&N, &[], &[]));
        let mut said = Said::default();
        let refused = said.step(Term(4), &look(Some(&change), &membership, &n1_is_silent, LAST));
        assert!(matches!(refused, Step::End(1, ChangeEnd::Refused(_))), "{refused:?}");
        let again = said.step(Term(4), &look(Some(&change), &membership, &healthy, LAST));
        assert_eq!(again, refused, "the log may have it");
        let next = said.step(Term(6), &look(Some(&change), &membership, &healthy, LAST));
        assert_eq!(next, set(&N[..2]), "a later term begins with all that was committed");
        let other = MemberChange { number: 2, ..remove() };
        let mut said = Said(Some((Term(4), 1, ChangeEnd::Cancelled)));
        assert_eq!(said.step(Term(4), &look(Some(&other), &membership, &healthy, LAST)), set(&N[..2]));
    }

    #[test]
    fn p16_a_learner_without_a_change_is_let_go() {
        let all = [N[0], N[1], N[2], later(3)];
        let (joining, healthy) = (membership(&N, &[later(3)]), progress(&all, &[], &[]));
        assert_eq!(super::next(&look(None, &joining, &healthy, LAST)), Step::RemoveLearner(later(3)));
        let behind = Look { applied: LogIndex(8), committed: LogIndex(8), ..look(None, &joining, &healthy, LAST) };
        assert_eq!(super::next(&behind), Step::Wait, "its change may be in the log");
        assert_eq!(next(&remove(), &joining, &healthy, LAST), Step::RemoveLearner(later(3)), "first of all");
        assert_eq!(super::next(&look(None, &membership(&N, &[]), &healthy, LAST)), Step::Wait);
    }

    #[test]
    fn a_learner_is_replaced_and_goes_when_its_successor_votes() {
        let old = later(3);
        let new = NodeId::later_of(MemberName(3), 2);
        let change = change(MemberChangeKind::Replace { old, address: "new:1".into() }, Some(new));
        let all = [N[0], N[1], N[2], new];
        let healthy = progress(&[N[0], N[1], N[2], old, new], &[], &[]);
        let of = |voters: &[NodeId], learners: &[NodeId]| next(&change, &membership(voters, learners), &healthy, LAST);
        assert_eq!(of(&N, &[old]), Step::AddLearner(new, "new:1".into()));
        assert_eq!(of(&N, &[old, new]), set(&all));
        assert_eq!(of(&all, &[old]), Step::RemoveLearner(old));
        assert_eq!(of(&all, &[]), Step::End(1, ChangeEnd::Done));
    }

    #[test]
    fn p22_a_leader_that_leaves_gives_leadership_away_first() {
        let change = change(MemberChangeKind::Remove { node: N[0] }, None);
        let step = next(&change, &membership(&N, &[]), &progress(&N, &[], &[]), LAST);
        assert_eq!(step, Step::GiveWay(N[1..].iter().copied().collect()));
    }
}
