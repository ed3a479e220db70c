//! What may be done with the members: nothing that leaves the group without a majority, and nothing twice (D114).
//!
//! Pure. The same rules answer the operator at once, on whatever node is asked, and hold the leader back while it sees a
//! change through.

use std::collections::BTreeSet;

use crate::machine::state::member_changes::MemberChangeKind;
use crate::model::NodeId;
use crate::raft::Members;

/// Voters that a group may have: each costs every message a copy and an acknowledgement.
const VOTERS_MAX: usize = 9;

/// Who votes, and who of them can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voters {
    pub all: BTreeSet<NodeId>,
    pub reachable: BTreeSet<NodeId>,
}

/// Why a change is not made, with what to do instead, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAllowed(pub String);

impl Voters {
    fn unreachable(&self) -> Vec<NodeId> {
        self.all.difference(&self.reachable).copied().collect()
    }

    /// Those that can be reached and are left without this one, of how many, and how many of them are a majority.
    fn without(&self, node: NodeId) -> (usize, usize, usize) {
        let left = self.all.iter().filter(|voter| **voter != node).count();
        let reachable = self.reachable.iter().filter(|voter| **voter != node).count();
        (reachable, left, left / 2 + 1)
    }
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(|node| node.name().to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether a change may begin.
///
/// * Errors: why not, and what to do.
pub fn check(kind: &MemberChangeKind, members: &Members, voters: &Voters) -> Result<(), NotAllowed> {
    match kind {
        MemberChangeKind::Add { name, address } => {
            if let Some(member) = members.of_name(*name) {
                return Err(NotAllowed(format!(
                    "{name} is a member already, at {}. For a new replica in its place, also at another address, run: \
                     raftmq cluster replace {name} --peer {address}",
                    member.address
                )));
            }
            is_free(address, None, members)?;
            if voters.all.len() >= VOTERS_MAX {
                return Err(NotAllowed(format!("the group has {VOTERS_MAX} voters, which is the most there may be")));
            }
            // The new one counts as reachable: it votes only once it has caught up.
            let (reachable, all) = (voters.reachable.len() + 1, voters.all.len() + 1);
            let majority = all / 2 + 1;
            if reachable < majority {
                let down = names(&voters.unreachable());
                return Err(NotAllowed(format!(
                    "with {name} a majority would be {majority} voters, and {reachable} could be reached: start {down} again first"
                )));
            }
            Ok(())
        }
        MemberChangeKind::Remove { node } => may_leave(*node, members, voters),
        MemberChangeKind::Replace { old, address } => {
            is_free(address, Some(*old), members)?;
            may_be_replaced(*old, members, voters)
        }
    }
}

fn is_free(address: &str, but: Option<NodeId>, members: &Members) -> Result<(), NotAllowed> {
    let taken = members
        .all()
        .find(|member| member.address == address && but.is_none_or(|but| but.name() != member.node.name()));
    taken.map_or(Ok(()), |member| {
        let name = member.node.name();
        Err(NotAllowed(format!("{address} is the address of {name}: give each member its own")))
    })
}

fn is_voter(node: NodeId, members: &Members) -> bool {
    members.get(node).is_some_and(|member| member.is_voter)
}

/// Whether a member may be removed.
fn may_leave(node: NodeId, members: &Members, voters: &Voters) -> Result<(), NotAllowed> {
    if !is_voter(node, members) {
        return Ok(());
    }
    let name = node.name();
    let (reachable, left, majority) = voters.without(node);
    if left == 0 {
        return Err(NotAllowed(format!("{name} is the only voter: without it there is no group")));
    }
    let down: Vec<NodeId> = voters.unreachable().into_iter().filter(|voter| *voter != node).collect();
    if down.is_empty() {
        return Ok(());
    }
    let down = names(&down);
    if reachable < majority {
        return Err(NotAllowed(format!(
            "without {name} a majority would be {majority} of {left} voters, and only {reachable} can be reached: start {down} \
             again, or remove or replace {down} first"
        )));
    }
    if reachable == majority && voters.reachable.contains(&node) {
        return Err(NotAllowed(format!(
            "{name} works and {down} cannot be reached: without {name} the next failure would stop the group. Start {down} \
             again, or remove or replace {down} first"
        )));
    }
    Ok(())
}

/// Whether a member may be replaced: from when its folder is dropped until its successor votes, the others must do.
fn may_be_replaced(old: NodeId, members: &Members, voters: &Voters) -> Result<(), NotAllowed> {
    if !is_voter(old, members) {
        return Ok(());
    }
    let name = old.name();
    let (reachable, _, _) = voters.without(old);
    let majority = voters.all.len() / 2 + 1;
    if reachable >= majority {
        return Ok(());
    }
    let others: Vec<NodeId> = voters.unreachable().into_iter().filter(|voter| *voter != old).collect();
    let remedy = if others.is_empty() {
        "add another member first (raftmq cluster add)".to_owned()
    } else {
        format!("start {} again first", names(&others))
    };
    Err(NotAllowed(format!(
        "while {name} is replaced the others must be a majority, {majority} of {} voters, and {reachable} of them can be \
         reached: {remedy}",
        voters.all.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogIndex, MemberName};
    use crate::raft::Member;

    /// A group of so many voters, of whom some are down.
    fn group(count: u64, down: &[u64]) -> (Members, Voters) {
        let nodes = (0..count).map(NodeId);
        let member = |node: NodeId| Member { node, address: format!("h{node}:1"), is_voter: true };
        let members = Members::new(LogIndex(1), nodes.clone().map(member));
        let all: BTreeSet<NodeId> = nodes.collect();
        let reachable = all.iter().copied().filter(|node| !down.contains(&node.0)).collect();
        (members, Voters { all, reachable })
    }

    fn checked(kind: MemberChangeKind, count: u64, down: &[u64]) -> Result<(), String> {
        let (members, voters) = group(count, down);
        check(&kind, &members, &voters).map_err(|error| error.0)
    }

    fn remove(node: u64) -> MemberChangeKind {
        MemberChangeKind::Remove { node: NodeId(node) }
    }

    fn replace(node: u64) -> MemberChangeKind {
        MemberChangeKind::Replace { old: NodeId(node), address: format!("h{}:1", NodeId(node)) }
    }

    fn add(name: u32, address: &str) -> MemberChangeKind {
        MemberChangeKind::Add { name: MemberName(name), address: address.into() }
    }

    #[test]
    fn p16_what_would_lose_the_majority_is_refused_with_what_to_do() {
        for (kind, count, down, refused) in [
            (remove(2), 3, &[][..], None),
            (remove(2), 3, &[2], None),
            (remove(1), 3, &[2], Some("start n2 again, or remove or replace n2 first")),
            (remove(1), 5, &[4], Some("the next failure would stop the group")),
            (remove(4), 5, &[4], None),
            (remove(4), 5, &[3, 4], None),
            (remove(0), 5, &[3, 4], Some("only 2 can be reached")),
            (remove(1), 2, &[], None),
            (remove(0), 1, &[], Some("the only voter")),
            (replace(2), 3, &[2], None),
            (replace(2), 3, &[], None),
            (replace(1), 3, &[2], Some("start n2 again first")),
            (replace(1), 2, &[], Some("add another member first")),
            (replace(0), 1, &[], Some("add another member first")),
            (replace(0), 5, &[3], None),
            (replace(0), 5, &[3, 4], Some("start n3, n4 again first")),
            (add(3, "new:1"), 3, &[], None),
            (add(3, "new:1"), 3, &[2], None),
            (add(1, "new:1"), 1, &[], None),
            (add(5, "new:1"), 5, &[3, 4], None),
            (add(9, "new:1"), 9, &[], Some("9 voters")),
        ] {
            let found = checked(kind.clone(), count, down);
            match refused {
                None => assert_eq!(found, Ok(()), "{kind:?} of {count}, down {down:?}"),
                Some(part) => {
                    assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{kind:?} of {count}: {found:?}")
                }
            }
        }
    }

    #[test]
    fn a_name_and_an_address_are_one_member_s() {
        assert!(checked(add(2, "new:1"), 3, &[]).unwrap_err().contains("raftmq cluster replace n2 --peer new:1"));
        assert!(checked(add(3, "hn1:1"), 3, &[]).unwrap_err().contains("is the address of n1"));
        let moved = MemberChangeKind::Replace { old: NodeId(2), address: "hn1:1".into() };
        assert!(checked(moved, 3, &[]).unwrap_err().contains("is the address of n1"));
    }
}
