//! The members as operators see and change them: who is one, how far each follows, and what change is under way (D113).
//! After: `broker/member`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::{
    Deadline, EndedChange, Error, MemberChange, MemberChangeKind, NotAllowed, Operator, Voters, check_member_change,
};
use crate::model::{LogIndex, MemberName, NodeId, Timestamp};
use crate::node::{Node, NodeSummary, ReplicaStatus};
use crate::raft::Members;

/// A leader takes a replica in within this.
const EXPECTED_WITHIN: Duration = Duration::from_secs(2);

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSummary {
    pub id: NodeId,
    /// `host:port` for peers.
    pub address: String,
    pub is_voter: bool,
    pub leads: bool,
    /// Whether it answers.
    pub answers: bool,
    /// What it surely has of the committed log; `None` if nobody who answers knows.
    pub has: Option<LogIndex>,
    /// Since when it is a member, by the time of day; `None` for one of the very first start.
    pub since: Option<Timestamp>,
}

/// All members, and what is done with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersOverview {
    pub members: Vec<MemberSummary>,
    /// The last entry that is known to be committed.
    pub committed: LogIndex,
    /// The change that is under way, and what it waits for.
    pub pending: Option<(MemberChange, String)>,
    pub ended: Option<EndedChange>,
    /// What `dLegerPeers` of this node says otherwise.
    pub difference: Option<String>,
    /// There is no leader: this is what this node knew last.
    pub may_be_old: bool,
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberRequest {
    Add {
        name: MemberName,
        address: String,
    },
    /// Without an address it stays where it is.
    Replace {
        name: MemberName,
        address: Option<String>,
        /// The replica that is to go. Said again after its end it is not a second replacement then.
        old: Option<NodeId>,
    },
    Remove {
        name: MemberName,
    },
    Cancel,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is under way, begun now or before.
    UnderWay(MemberChange),
    /// There is nothing to do; why.
    Already(String),
    /// A trial: it may be done, and this replica would go.
    Allowed { leaves: Option<NodeId> },
}

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error(transparent)]
    Broker(#[from] Error),
}

impl Node {
    /// The members, as this node knows them and as the others answer.
    pub async fn members(&self) -> Result<MembersOverview, Error> {
        let until = self.broker().held_until(Deadline::NONE);
        // Without a leader what this node knows is better than nothing.
        let (changes, may_be_old) = match self.broker().member_changes(until).await {
            Err(Error::NoLeader) => (self.broker().known_member_changes()?, true),
            changes => (changes?, false),
        };
        let members = self.replica.members();
        let nodes = self.cluster_status().await;
        let leader = leader_of(&nodes);
        let summary = |id: NodeId, address: &str, is_voter| {
            let status = nodes.iter().find(|node| node.id == id).and_then(|node| node.status.as_ref());
            let since = changes.since.iter().find(|(node, _)| *node == id).map(|(_, since)| *since);
            MemberSummary {
                id,
                address: address.to_owned(),
                is_voter,
                leads: leader.is_some_and(|leader| leader.node == id),
                answers: status.is_some(),
                has: has(id, leader, status),
                since: since.map(|since| self.replica.clock().wall_of(since)),
            }
        };
        let members: Vec<_> =
            members.all().map(|member| summary(member.node, &member.address, member.is_voter)).collect();
        let committed = nodes.iter().filter_map(|node| node.status.as_ref()).map(|status| status.committed).max();
        let committed = committed.unwrap_or_default();
        let waits_for = |change: &MemberChange| waits_for(change, &members, committed);
        Ok(MembersOverview {
            pending: changes.pending.map(|change| (change.clone(), waits_for(&change))),
            ended: changes.ended,
            difference: self.replica.members_differ(),
            may_be_old,
            members,
            committed,
        })
    }

    /// Begins what an operator asks for, unless it is under way or done already; the leader sees it through, whoever that
    /// is. `is_trial`: only says whether it may be done.
    ///
    /// * Errors: [`NotChanged::NotAllowed`] says what to do instead; an [`Error::TimedOut`] is an unknown fate, and asking
    ///   again is safe.
    pub async fn change_members(
        &self,
        by: &Operator,
        request: MemberRequest,
        is_trial: bool,
    ) -> Result<Asked, NotChanged> {
        let broker = self.broker();
        let until = broker.held_until(Deadline::NONE);
        let pending = broker.member_changes(until).await?.pending;
        let members = self.replica.members();
        if request == MemberRequest::Cancel {
            let Some(change) = pending else {
                return Ok(Asked::Already("no change of members is under way".to_owned()));
            };
            broker.cancel_member_change(by, change.number, until).await?;
            return Ok(Asked::UnderWay(MemberChange { is_cancelled: true, ..change }));
        }
        if let Some(change) = pending {
            return if is_same(&request, &change) { Ok(Asked::UnderWay(change)) } else { Err(is_busy(&change).into()) };
        }
        let kind = match resolve(&request, &members)? {
            Resolved::Already(why) => return Ok(Asked::Already(why)),
            Resolved::Kind(kind) => kind,
        };
        let voters = voters(&members, &self.cluster_status().await);
        check_member_change(&kind, &members, &voters)?;
        if is_trial {
            let leaves = match kind {
                MemberChangeKind::Add { .. } => None,
                MemberChangeKind::Replace { old: node, .. } | MemberChangeKind::Remove { node } => Some(node),
            };
            return Ok(Asked::Allowed { leaves });
        }
        broker.begin_member_change(by, kind, until).await?;
        let changes = broker.member_changes(until).await?;
        let ended = changes.ended.map(|ended| ended.change);
        match changes.pending.or(ended) {
            Some(change) if is_same(&request, &change) => {
                self.until_expected(&change).await;
                Ok(Asked::UnderWay(change))
            }
            Some(change) => Err(is_busy(&change).into()),
            None => Err(NotChanged::Broker(Error::TimedOut)),
        }
    }

    /// Waits, not for ever, until the replica that joins is a member: the node can be started then, whatever its disk was.
    async fn until_expected(&self, change: &MemberChange) {
        let Some(joins) = change.joins else { return };
        let mut members = self.replica.watch_members();
        let is_member = members.wait_for(|members| members.get(joins).is_some());
        // Otherwise its start finds out, and is to be tried again.
        let _ = tokio::time::timeout(EXPECTED_WITHIN, is_member).await;
    }
}

/// Who leads is what the leader itself says: others may still name one that died.
fn leader_of(nodes: &[NodeSummary]) -> Option<&ReplicaStatus> {
    let answers = nodes.iter().filter_map(|node| node.status.as_ref());
    answers.filter(|status| status.leader == Some(status.node)).max_by_key(|status| status.term)
}

fn has(id: NodeId, leader: Option<&ReplicaStatus>, own: Option<&ReplicaStatus>) -> Option<LogIndex> {
    let acknowledged =
        leader.and_then(|leader| leader.acknowledged.iter().find(|(node, _)| *node == id).map(|(_, has)| *has));
    // What it has applied is durable in its log (D5).
    acknowledged.max(own.map(|status| status.applied))
}

fn voters(members: &Members, nodes: &[NodeSummary]) -> Voters {
    let answers = |node: &NodeId| nodes.iter().any(|summary| summary.id == *node && summary.status.is_some());
    let all: BTreeSet<NodeId> = members.voters().map(|member| member.node).collect();
    let reachable = all.iter().copied().filter(answers).collect();
    Voters { all, reachable }
}

enum Resolved {
    Kind(MemberChangeKind),
    Already(String),
}

fn resolve(request: &MemberRequest, members: &Members) -> Result<Resolved, NotAllowed> {
    let no_member = |name: &MemberName| {
        let names: Vec<_> = members.all().map(|member| member.node.name().to_string()).collect();
        NotAllowed(format!("{name} is no member; the members are {}", names.join(", ")))
    };
    Ok(match request {
        MemberRequest::Add { name, address } => match members.of_name(*name) {
            Some(member) if member.is_voter && member.address == *address => {
                Resolved::Already(format!("{name} is a member already"))
            }
            _ => Resolved::Kind(MemberChangeKind::Add { name: *name, address: address.clone() }),
        },
        MemberRequest::Replace { name, address, old } => {
            let member = members.of_name(*name).ok_or_else(|| no_member(name))?;
            if let Some(old) = old.filter(|old| members.get(*old).is_none() && member.is_voter) {
                return Ok(Resolved::Already(format!("{old} was replaced already: {name} is {} now", member.node)));
            }
            let address = address.clone().unwrap_or_else(|| member.address.clone());
            Resolved::Kind(MemberChangeKind::Replace { old: member.node, address })
        }
        MemberRequest::Remove { name } => match members.of_name(*name) {
            Some(member) => Resolved::Kind(MemberChangeKind::Remove { node: member.node }),
            None => Resolved::Already(format!("{name} is no member")),
        },
        MemberRequest::Cancel => Resolved::Already("nothing to cancel".to_owned()),
    })
}

fn is_same(request: &MemberRequest, change: &MemberChange) -> bool {
    match (request, &change.kind) {
        (MemberRequest::Add { name, address }, MemberChangeKind::Add { name: of, address: at }) => {
            name == of && address == at
        }
        (MemberRequest::Replace { name, address, .. }, MemberChangeKind::Replace { old, address: at }) => {
            *name == old.name() && address.as_ref().is_none_or(|address| address == at)
        }
        (MemberRequest::Remove { name }, MemberChangeKind::Remove { node }) => *name == node.name(),
        _ => false,
    }
}

fn is_busy(change: &MemberChange) -> NotAllowed {
    NotAllowed(format!(
        "another change of members is under way: {}. Wait for its end (raftmq cluster members), or have it undone: \
         raftmq cluster cancel",
        sentence(change)
    ))
}

/// What a change does, for people.
fn sentence(change: &MemberChange) -> String {
    match &change.kind {
        MemberChangeKind::Add { name, address } => format!("add {name} at {address}"),
        MemberChangeKind::Replace { old, address } => format!("replace {} at {address}", old.name()),
        MemberChangeKind::Remove { node } => format!("remove {}", node.name()),
    }
}

/// What a change waits for, for people.
fn waits_for(change: &MemberChange, members: &[MemberSummary], committed: LogIndex) -> String {
    let of = |node: NodeId| members.iter().find(|member| member.id == node);
    if change.is_cancelled {
        return "it is being undone".to_owned();
    }
    let Some(joins) = change.joins else { return "the voters are agreeing".to_owned() };
    let name = joins.name();
    match of(joins) {
        None => "the leader is about to take it in".to_owned(),
        Some(member) if member.is_voter => "the voters are agreeing".to_owned(),
        Some(member) if !member.answers && member.has.is_none_or(|has| has == LogIndex(0)) => {
            let still_runs = change.leaves().and_then(of).is_some_and(|old| old.answers);
            if still_runs {
                format!("waits for {name} to give its folder up and start again")
            } else {
                format!(
                    "waits for {name} to start at {} (dLegerSelfId={name}, all members in dLegerPeers)",
                    member.address
                )
            }
        }
        Some(member) => {
            let has = member.has.unwrap_or_default();
            format!("{name} catches up: it has {has} of {committed} entries")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Member;

    fn members(nodes: &[NodeId]) -> Members {
        let member = |node: &NodeId| Member { node: *node, address: format!("h{}:1", node.name()), is_voter: true };
        Members::new(LogIndex(1), nodes.iter().map(member))
    }

    const N1: MemberName = MemberName(1);

    fn change(kind: MemberChangeKind) -> MemberChange {
        MemberChange { number: 1, kind, joins: None, begun_at: Timestamp(0), is_cancelled: false }
    }

    #[test]
    fn what_is_said_again_is_the_same_change_or_none() {
        let later = NodeId::later_of(N1, 4);
        let group = members(&[NodeId(0), later]);
        let add = |address: &str| MemberRequest::Add { name: N1, address: address.into() };
        assert!(matches!(resolve(&add("hn1:1"), &group), Ok(Resolved::Already(_))));
        assert!(
            matches!(resolve(&add("hn1:2"), &group), Ok(Resolved::Kind(_))),
            "refused by the rules, with what to do"
        );
        let remove = |name| MemberRequest::Remove { name: MemberName(name) };
        assert!(matches!(resolve(&remove(7), &group), Ok(Resolved::Already(_))));
        let replace = |name: u32| MemberRequest::Replace { name: MemberName(name), address: None, old: None };
        let replace_at =
            |address: &str| MemberRequest::Replace { name: N1, address: Some(address.into()), old: Some(later) };
        let replace_old = |old| resolve(&MemberRequest::Replace { name: N1, address: None, old: Some(old) }, &group);
        let Ok(Resolved::Kind(kind)) = resolve(&replace(1), &group) else { panic!() };
        assert_eq!(kind, MemberChangeKind::Replace { old: later, address: "hn1:1".into() });
        let Ok(Resolved::Kind(same)) = replace_old(later) else { panic!() };
        assert_eq!(same, kind);
        let Ok(Resolved::Already(why)) = replace_old(NodeId(1)) else { panic!("said again after its end") };
        assert_eq!(why, "n1 was replaced already: n1 is n1.4 now");
        assert!(resolve(&replace(7), &group).err().unwrap().0.contains("the members are n0, n1"));
        let under_way = change(kind);
        assert!(is_same(&replace(1), &under_way));
        assert!(is_same(&replace_at("hn1:1"), &under_way));
        assert!(!is_same(&replace_at("elsewhere:1"), &under_way));
        assert!(!is_same(&remove(1), &under_way));
        assert!(is_same(&remove(1), &change(MemberChangeKind::Remove { node: later })));
        assert!(is_busy(&under_way).0.contains("replace n1 at hn1:1"));
    }

    #[test]
    fn a_change_says_what_it_waits_for() {
        let joins = NodeId::later_of(N1, 4);
        let mut pending = change(MemberChangeKind::Replace { old: NodeId(1), address: "hn1:1".into() });
        pending.joins = Some(joins);
        let summary = |id, is_voter, answers, has| MemberSummary {
            id,
            address: "hn1:1".into(),
            is_voter,
            leads: false,
            answers,
            has,
            since: None,
        };
        let old = |answers| summary(NodeId(1), true, answers, None);
        let said = |members: &[MemberSummary]| waits_for(&pending, members, LogIndex(100));
        assert!(said(&[old(false)]).contains("about to take it in"));
        assert!(said(&[old(false), summary(joins, false, false, None)]).contains("to start at hn1:1"));
        assert!(said(&[old(true), summary(joins, false, false, None)]).contains("give its folder up"));
        let behind = summary(joins, false, true, Some(LogIndex(40)));
        assert!(said(&[old(false), behind]).contains("has 40 of 100"));
        assert!(said(&[old(false), summary(joins, true, true, None)]).contains("agreeing"));
    }
}
