//! Asking a node, known by its name only, what it knows of the group.

use std::time::Duration;

use crate::model::{LogIndex, MemberName, NodeId, Term};
use crate::proto::peer as proto;
use crate::raft::members::{Member, Members};
use crate::raft::peer::client::REDIAL_AFTER;
use crate::raft::peer::facts::Facts;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::link;
use crate::raft::peer::link::LinkError;
use crate::raft::standing::Answer;
use crate::store::log::record::RecordId;

/// A peer that could not be reached is dialled again within this.
pub(in crate::raft) const DIALS_WITHIN: Duration = REDIAL_AFTER.saturating_add(link::DIAL_TIMEOUT);
/// Who does not answer in this time has nothing to say.
const TIMEOUT: Duration = Duration::from_millis(500);
/// More members than this no group has.
const MEMBERS_MAX: usize = 64;

/// What whoever is at this address, under this name, knows of the group; `None` if nobody of this group is.
pub(in crate::raft) async fn ask_names(identity: &PeerIdentity, name: MemberName, address: &str) -> Option<Answer> {
    let asked = tokio::time::timeout(TIMEOUT, link::enquire(identity, name, address)).await.ok()?;
    match asked {
        Ok((facts, group)) if group.members.len() <= MEMBERS_MAX => {
            Some(read_answer(name, NodeId(identity.node).name(), &facts, group))
        }
        Ok(_) | Err(LinkError::Unreachable { .. } | LinkError::Broken(_)) => None,
        Err(error) => {
            identity.note_unanswered(name, &error);
            None
        }
    }
}

fn read_answer(by: MemberName, own: MemberName, facts: &Facts, group: proto::Group) -> Answer {
    let disks = group.members.iter().filter(|member| NodeId(member.node).name() == own);
    let disks = disks.map(|member| (NodeId(member.node), member.disk)).collect();
    let member = |member: proto::GroupMember| Member {
        node: NodeId(member.node),
        address: member.address,
        is_voter: member.is_voter,
    };
    let id = |id: proto::LogId| RecordId { term: Term(id.term), node: NodeId(id.node), index: LogIndex(id.index) };
    let is_older_build = group.node.is_none();
    let mut members = Members::new(LogIndex(group.at), group.members.into_iter().map(member));
    members.by = (Term(group.term), NodeId(group.leader));
    Answer {
        by,
        // Older builds do not say it, and are who they think has their name.
        node: group.node.map(NodeId).or_else(|| members.of_name(by).map(|member| member.node)),
        disk: facts.disk,
        lineage: facts.lineage,
        founders: group.founders.into_iter().map(MemberName).collect(),
        members,
        disks,
        last: if is_older_build {
            Some(RecordId { term: Term(0), node: NodeId(0), index: facts.last })
        } else {
            group.last.map(id)
        },
        lacks_tail: facts.lacks_tail,
    }
}
