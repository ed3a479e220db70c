//! Where a node stands: whether it is to found a group, is a member of one, became one, or is none any more (D112).
//!
//! A node asks whoever is at the addresses that it knows. What it hears is judged here; nothing in this file waits or
//! writes. What counts is what nodes of its own group say, from the disks that it knows of them (D155). A folder with votes
//! or entries in it is given up only on the word of a majority of the voters, who say so only after an operator had the
//! member replaced (D18), and only once they have all that is in it (D156).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{MemberName, NodeId, Term};
use crate::raft::members::Members;
use crate::store::log::record::RecordId;

/// What one peer said of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub by: MemberName,
    /// Which replica of that name, if that can be told.
    pub node: Option<NodeId>,
    /// The disk that it is on.
    pub disk: u64,
    /// Which group of its name it is of.
    pub lineage: u64,
    /// The names in its `dLegerPeers`.
    pub founders: BTreeSet<MemberName>,
    /// The newest membership that it knows to be committed; empty if it knows of none.
    pub members: Members,
    /// Which disks it knows of the replicas of the asking name.
    pub disks: BTreeMap<NodeId, u64>,
    /// The last durable entry of its log; of term 0 if it says only how long its log is.
    pub last: Option<RecordId>,
    /// It knows that it lost what it acknowledged.
    pub lacks_tail: bool,
}

/// What a node knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnFolder {
    pub node: NodeId,
    pub disk: u64,
    /// Which group of its name it is of; says nothing while the folder is unused.
    pub lineage: u64,
    /// It holds no vote and no entry.
    pub is_unused: bool,
    /// The newest membership in its log.
    pub members: Members,
    /// The later replica of its name that its own log has as committed.
    pub successor: Option<NodeId>,
    pub last: Option<RecordId>,
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is to take part as what its folder says, as far as can be told.
    Member,
    /// Nobody who answered knows of a group: so many members of the very first start, this one included, could make one.
    Founder { together: usize },
    /// Its folder is unused and becomes that of this replica, in the group of this lineage.
    Becomes { node: NodeId, lineage: u64 },
    /// This replica takes its place: what is in its folder is to go, and others have it.
    Replaced(NodeId),
    /// Some say that it is not what its folder says, and not yet so many that it can be sure.
    Unsure,
    /// There is a group without it. `has_left`: it was in it.
    NoMember { has_left: bool },
    /// This replica of its name is known with another disk by that peer.
    OtherDisk { node: NodeId, by: MemberName },
}

impl Answer {
    fn of_name(&self, name: MemberName) -> Option<NodeId> {
        self.members.of_name(name).map(|member| member.node)
    }

    /// Whether its log surely has what was acknowledged of a log that ends with this entry: it is up to date by Raft's rule.
    fn has_all_of(&self, end: Option<RecordId>) -> bool {
        let Some(end) = end else { return true };
        !self.lacks_tail
            && self.last.is_some_and(|last| match last.term {
                Term(0) => last.index >= end.index,
                term => (term, last.index) >= (end.term, end.index),
            })
    }
}

/// The answers that count: those of the node's own group, from replicas that are on the disk that `known` has of them.
pub(super) fn believed(
    own: &OwnFolder,
    known: impl Fn(NodeId) -> Option<u64>,
    mut answers: Vec<Answer>,
) -> Vec<Answer> {
    answers.retain(|answer| answer.node.and_then(&known).is_none_or(|disk| disk == answer.disk));
    let has_name = |answer: &&Answer| answer.of_name(own.node.name()).is_some();
    let of_name: BTreeSet<u64> = answers.iter().filter(has_name).map(|answer| answer.lineage).collect();
    // An unused folder is of whichever group has its name.
    let lineage = match of_name.first() {
        Some(first) if own.is_unused && !of_name.contains(&own.lineage) => *first,
        None if own.is_unused => return answers,
        _ => own.lineage,
    };
    answers.retain(|answer| answer.lineage == lineage);
    answers
}

/// The newest membership among the answers.
fn newest(answers: &[Answer]) -> Option<&Members> {
    let members = answers.iter().map(|answer| &answer.members).filter(|members| !members.is_empty());
    members.reduce(|newest, other| if other.is_newer_than(newest) { other } else { newest })
}

/// The newest membership, if a majority of its voters has it, and of those voters that the node's own log knows most of who
/// answered: what one alone says may be wrong.
pub(super) fn agreed<'a>(own: &OwnFolder, answers: &'a [Answer]) -> Option<&'a Members> {
    let newest = newest(answers)?;
    let knows = |answer: &&Answer| !answer.members.is_empty() && !newest.is_newer_than(&answer.members);
    let agreeing = names(answers.iter().filter(knows));
    let own_voters = &voters(&own.members) & &names(answers.iter());
    let is_agreed =
        is_majority(&agreeing, &voters(newest)) && (own_voters.is_empty() || is_majority(&agreeing, &own_voters));
    is_agreed.then_some(newest)
}

/// Judges the answers of the peers, of which all count.
pub(super) fn judge(own: &OwnFolder, founders: &BTreeSet<MemberName>, answers: &[Answer]) -> Standing {
    let Some(newest) = newest(answers) else {
        if own.successor.is_some() {
            return Standing::Unsure;
        }
        let others = answers.iter().filter(|answer| answer.founders == *founders && founders.contains(&answer.by));
        return Standing::Founder { together: others.count() + 1 };
    };
    let of_name = newest.of_name(own.node.name()).map(|member| member.node);
    // The same entry counts too: whoever led logged its own removal first, and others have committed it.
    let is_news = !own.members.is_newer_than(newest);
    match of_name {
        Some(node) if own.is_unused => take(node, own, answers),
        None if own.is_unused => Standing::NoMember { has_left: own.node.number() > 0 },
        Some(node) if is_news && node > own.node => {
            let have_all = answers.iter().filter(|answer| answer.has_all_of(own.last));
            if is_sure(own, newest, of_name, have_all) { Standing::Replaced(node) } else { Standing::Unsure }
        }
        // Its own number was given up again: it joined, and the change was cancelled. The replica before it has no folder any
        // more, and another one is to come.
        Some(node) if is_news && node < own.node => {
            let is_sure = is_sure(own, newest, of_name, answers.iter());
            if is_sure { Standing::NoMember { has_left: true } } else { Standing::Unsure }
        }
        // The others have not committed it yet, as far as they say.
        _ if own.successor.is_some() => Standing::Unsure,
        None if is_news => {
            let is_sure = is_sure(own, newest, of_name, answers.iter());
            if is_sure { Standing::NoMember { has_left: true } } else { Standing::Unsure }
        }
        // Or what its log says is newer.
        _ => Standing::Member,
    }
}

/// An unused folder and the replica that the group has of its name.
fn take(node: NodeId, own: &OwnFolder, answers: &[Answer]) -> Standing {
    let takes = answers.iter().find(|answer| answer.of_name(node.name()) == Some(node));
    let lineage = takes.map_or(own.lineage, |answer| answer.lineage);
    // A first replica is judged at the first greeting by whoever met it before.
    if node.number() == 0 || (node, lineage) == (own.node, own.lineage) {
        return Standing::Member;
    }
    let knows_other = |answer: &&Answer| answer.disks.get(&node).is_some_and(|disk| *disk != 0 && *disk != own.disk);
    match answers.iter().find(knows_other) {
        Some(answer) => Standing::OtherDisk { node, by: answer.by },
        None => Standing::Becomes { node, lineage },
    }
}

/// Whether a majority of the voters says the same of this name: of those that are voters now, and of the others in the
/// membership that the node's own log has, so that no group that is newer by its own word alone takes a node away.
fn is_sure<'a>(
    own: &OwnFolder,
    newest: &Members,
    of_name: Option<NodeId>,
    answers: impl Iterator<Item = &'a Answer>,
) -> bool {
    let name = own.node.name();
    let agreeing = names(
        answers
            .filter(|answer| !answer.members.is_empty() && answer.by != name)
            .filter(|answer| answer.of_name(name) == of_name),
    );
    let mut own_voters = voters(&own.members);
    own_voters.remove(&name);
    is_majority(&agreeing, &voters(newest)) && (own.members.is_empty() || is_majority(&agreeing, &own_voters))
}

fn voters(members: &Members) -> BTreeSet<MemberName> {
    members.voters().map(|voter| voter.node.name()).collect()
}

fn names<'a>(answers: impl Iterator<Item = &'a Answer>) -> BTreeSet<MemberName> {
    answers.map(|answer| answer.by).collect()
}

fn is_majority(some: &BTreeSet<MemberName>, of: &BTreeSet<MemberName>) -> bool {
    some.intersection(of).count() > of.len() / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogIndex;
    use crate::raft::members::Member;

    fn named(names: &[u32]) -> BTreeSet<MemberName> {
        names.iter().copied().map(MemberName).collect()
    }

    fn later(name: u32, number: u32) -> NodeId {
        NodeId::later_of(MemberName(name), number)
    }

    /// Voters, and those that follow only.
    fn members(at: u64, voters: &[NodeId], learners: &[NodeId]) -> Members {
        let member = |node: &NodeId, is_voter| Member { node: *node, address: "a:1".into(), is_voter };
        let voters = voters.iter().map(|node| member(node, true));
        Members::new(LogIndex(at), voters.chain(learners.iter().map(|node| member(node, false))))
    }

    fn answer(by: u32, members: Members) -> Answer {
        Answer {
            by: MemberName(by),
            node: members.of_name(MemberName(by)).map(|member| member.node),
            disk: u64::from(by),
            lineage: 0,
            founders: named(&[0, 1, 2]),
            members,
            disks: BTreeMap::new(),
            last: Some(entry(2, 1000)),
            lacks_tail: false,
        }
    }

    fn entry(term: u64, index: u64) -> RecordId {
        RecordId { term: Term(term), node: NodeId(0), index: LogIndex(index) }
    }

    /// The folder of a node, with a log up to the membership at this entry; 0: an unused one.
    fn folder(node: NodeId, at: u64) -> OwnFolder {
        let members = if at == 0 { Members::default() } else { members(at, &N[..3], &[]) };
        let last = (at > 0).then(|| entry(2, 900));
        OwnFolder { node, disk: 77, lineage: 0, is_unused: at == 0, members, successor: None, last }
    }

    const N: [NodeId; 4] = [NodeId(0), NodeId(1), NodeId(2), NodeId(3)];

    const BECOMES: Standing = Standing::Becomes { node: NodeId(1 << 32 | 3), lineage: 0 };

    fn judged(own: OwnFolder, answers: &[Answer]) -> Standing {
        let known = |node: NodeId| (node.number() == 0).then_some(node.0);
        let answers = believed(&own, known, answers.to_vec());
        judge(&own, &named(&[0, 1, 2]), &answers)
    }

    #[test]
    fn p18_a_group_is_founded_by_those_only_who_name_the_same_members() {
        let nobody = Members::default;
        assert_eq!(judged(folder(N[2], 0), &[]), Standing::Founder { together: 1 });
        let answers = [answer(0, nobody()), answer(1, nobody())];
        assert_eq!(judged(folder(N[2], 0), &answers), Standing::Founder { together: 3 });
        let mut other = answer(1, nobody());
        other.founders = named(&[0, 1, 2, 3]);
        assert_eq!(judged(folder(N[2], 0), &[answer(0, nobody()), other]), Standing::Founder { together: 2 });
        assert_eq!(judged(folder(N[2], 0), &[answer(3, nobody())]), Standing::Founder { together: 1 }, "no founder");
        // Others were faster: it is a member of what they made.
        assert_eq!(judged(folder(N[2], 0), &[answer(0, members(1, &N[..3], &[]))]), Standing::Member);
    }

    #[test]
    fn p18_an_unused_folder_takes_the_number_that_the_group_has_for_its_name_and_none_of_another_disk() {
        let joining = members(9, &N[..3], &[later(3, 1)]);
        let own = folder(N[3], 0);
        assert_eq!(judged(own.clone(), &[answer(0, members(1, &N[..3], &[]))]), Standing::NoMember { has_left: false });
        assert_eq!(judged(own.clone(), &[answer(1, joining.clone())]), BECOMES);
        let knowing = |disk| Answer { disks: BTreeMap::from([(later(3, 1), disk)]), ..answer(0, joining.clone()) };
        assert_eq!(judged(own.clone(), &[answer(1, joining.clone()), knowing(own.disk)]), BECOMES);
        let refused = Standing::OtherDisk { node: later(3, 1), by: MemberName(0) };
        assert_eq!(judged(own.clone(), &[answer(1, joining.clone()), knowing(5)]), refused);
        assert_eq!(judged(folder(later(3, 1), 0), &[answer(1, joining)]), Standing::Member);
    }

    #[test]
    fn p18_a_used_folder_is_given_up_only_if_a_majority_of_the_voters_says_so() {
        let replacing = members(9, &N[..3], &[later(2, 1)]);
        let own = folder(N[2], 4);
        assert_eq!(judged(own.clone(), &[answer(0, replacing.clone())]), Standing::Unsure, "one of three voters");
        assert_eq!(
            judged(own.clone(), &[answer(0, replacing.clone()), answer(4, replacing.clone())]),
            Standing::Unsure,
            "no voter"
        );
        let both = [answer(0, replacing.clone()), answer(1, replacing.clone())];
        assert_eq!(judged(own.clone(), &both), Standing::Replaced(later(2, 1)));
        let behind = [answer(0, replacing), answer(1, members(1, &N[..3], &[]))];
        assert_eq!(judged(own.clone(), &behind), Standing::Unsure, "the other one does not know yet");
    }

    #[test]
    fn p18_a_node_left_if_a_majority_of_the_voters_has_a_newer_membership_without_it() {
        let without = members(9, &N[..2], &[]);
        let both = [answer(0, without.clone()), answer(1, without.clone())];
        assert_eq!(judged(folder(N[2], 4), &both), Standing::NoMember { has_left: true });
        assert_eq!(judged(folder(N[2], 12), &both), Standing::Member, "its own log is newer");
        assert_eq!(judged(folder(N[2], 4), &both[..1]), Standing::Unsure);
        let led = folder(N[2], 9);
        assert_eq!(
            judged(led.clone(), &both),
            Standing::NoMember { has_left: true },
            "it led, and logged its own removal"
        );
        assert_eq!(judged(led.clone(), &both[..1]), Standing::Unsure);
        let newer = folder(later(2, 3), 12);
        assert_eq!(judged(newer.clone(), &[answer(0, members(9, &N[..3], &[]))]), Standing::Member, "it came later");
        let cancelled = members(15, &N[..3], &[]);
        let both = [answer(0, cancelled.clone()), answer(1, cancelled)];
        assert_eq!(
            judged(newer.clone(), &both),
            Standing::NoMember { has_left: true },
            "its replacement was cancelled"
        );
        assert_eq!(judged(newer, &both[..1]), Standing::Unsure);
    }

    #[test]
    fn p18_a_group_that_was_restored_takes_no_node_of_the_old_one_and_the_old_one_none_of_it() {
        let of_old = members(1, &N[..3], &[]);
        let restored = |node| members(900, &[node], &[]);
        let of = |lineage, disk, members| Answer { lineage, disk, ..answer(0, members) };
        let own = folder(N[1], 1);
        // Of another lineage; of the same, from a build that knew none, on another disk; and where nothing tells the disk.
        let answers = |restored| [answer(2, of_old.clone()), restored];
        assert_eq!(judged(own.clone(), &answers(of(55, 8, restored(later(0, 9))))), Standing::Member);
        assert_eq!(judged(own.clone(), &answers(of(0, 8, restored(N[0])))), Standing::Member);
        assert_eq!(judged(own.clone(), &answers(of(0, 8, restored(later(0, 9))))), Standing::Unsure);
        assert_eq!(agreed(&own, &answers(of(0, 8, restored(later(0, 9))))), None, "n2 says otherwise");
        // The other way round: an old configuration, and the old group has a later replica of the name.
        let made = OwnFolder { lineage: 55, members: restored(later(0, 9)), ..folder(later(0, 9), 900) };
        let replaced = members(950, &[later(0, 77), N[1], N[2]], &[]);
        let others = [answer(1, replaced.clone()), answer(2, replaced.clone())];
        assert_eq!(judged(made.clone(), &others), Standing::Founder { together: 1 });
        let older = [answer(1, members(7, &[later(0, 77), N[1], N[2]], &[])), answer(2, of_old.clone())];
        let made = OwnFolder { lineage: 0, ..made };
        assert_eq!(judged(made, &older), Standing::Member, "its own log is newer");
    }

    #[test]
    fn p18_an_unused_folder_is_of_the_group_that_has_its_name() {
        let own = folder(N[3], 0);
        let joining = Answer { lineage: 55, ..answer(0, members(901, &[later(0, 9)], &[later(3, 1)])) };
        let becomes = Standing::Becomes { node: later(3, 1), lineage: 55 };
        assert_eq!(judged(own.clone(), &[joining.clone(), answer(2, members(1, &N[..3], &[]))]), becomes.clone());
        let of_same_number = folder(later(3, 1), 0);
        assert_eq!(judged(of_same_number, std::slice::from_ref(&joining)), becomes, "a number of the old group");
        let of_old = answer(2, members(9, &N[..3], &[later(3, 4)]));
        let unlike = Standing::Becomes { node: later(3, 4), lineage: 0 };
        assert_eq!(judged(own, &[joining, of_old]), unlike, "where both have it, that of its own lineage");
    }

    #[test]
    fn p18_what_is_in_a_folder_is_dropped_only_once_a_majority_has_all_of_it() {
        let replacing = members(9, &N[..3], &[later(2, 1)]);
        let own = OwnFolder { successor: Some(later(2, 1)), ..folder(N[2], 9) };
        let whole = answer(0, replacing.clone());
        let with = |last| Answer { last, ..answer(1, replacing.clone()) };
        for (last, expected) in [
            (Some(entry(2, 899)), Standing::Unsure),
            (Some(entry(1, 5000)), Standing::Unsure),
            (None, Standing::Unsure),
            (Some(entry(0, 899)), Standing::Unsure),
            (Some(entry(2, 900)), Standing::Replaced(later(2, 1))),
            (Some(entry(3, 800)), Standing::Replaced(later(2, 1))),
            (Some(entry(0, 900)), Standing::Replaced(later(2, 1))),
        ] {
            assert_eq!(judged(own.clone(), &[whole.clone(), with(last)]), expected, "{last:?}");
        }
        let lacking = Answer { lacks_tail: true, ..with(Some(entry(2, 950))) };
        assert_eq!(judged(own.clone(), &[whole, lacking]), Standing::Unsure);
        assert_eq!(judged(own.clone(), &[]), Standing::Unsure, "its own log says that it was replaced");
        assert_eq!(judged(own, &[answer(0, members(1, &N[..3], &[]))]), Standing::Unsure, "who has not heard of it");
    }

    #[test]
    fn p18_what_a_majority_has_committed_is_believed_and_what_one_says_is_not() {
        let moved = members(40, &[later(0, 1), later(1, 2), N[2]], &[]);
        let own = folder(N[2], 1);
        let both = [answer(0, moved.clone()), answer(1, moved.clone())];
        assert_eq!(agreed(&own, &both), Some(&moved));
        assert_eq!(agreed(&own, &both[..1]), None);
        assert_eq!(agreed(&own, &[both[0].clone(), answer(1, members(1, &N[..3], &[]))]), None);
        // All that it knew are gone, and nobody says otherwise.
        let elsewhere = members(90, &[N[3], NodeId(4), N[2]], &[]);
        assert_eq!(agreed(&own, &[answer(3, elsewhere.clone()), answer(4, elsewhere.clone())]), Some(&elsewhere));
    }
}
