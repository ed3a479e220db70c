//! The members of the group and their changes. Calls `node/members`.

use tonic::Status;

use crate::broker::{ChangeEnd, EndedChange, MemberChange, MemberChangeKind, Operator};
use crate::edge::admin::convert::refuse;
use crate::model::{HostPort, MemberName, NodeId};
use crate::node::{Asked, MemberRequest, MemberSummary, Node, NotChanged};
use crate::proto::admin as wire;

pub(super) async fn list(node: &Node, _request: wire::ListMembersRequest) -> Result<wire::ListMembersResponse, Status> {
    let overview = node.members().await.map_err(refuse)?;
    let committed = overview.committed;
    let row = |member: &MemberSummary| wire::ClusterMember {
        name: member.id.name().to_string(),
        id: member.id.to_string(),
        role: match (member.leads, member.is_voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        }
        .to_owned(),
        address: member.address.clone(),
        answers: member.answers,
        matching: member.has.map(|has| has.0),
        behind: member.has.map(|has| committed.0.saturating_sub(has.0)),
        since_ms: member.since.map(|since| since.0),
    };
    Ok(wire::ListMembersResponse {
        members: overview.members.iter().map(row).collect(),
        pending: overview.pending.map(|(change, waits_for)| wire::MemberChange { waits_for, ..put_change(&change) }),
        ended: overview.ended.map(put_ended),
        difference: overview.difference,
        may_be_old: overview.may_be_old,
    })
}

pub(super) async fn change(
    node: &Node,
    by: &Operator,
    request: wire::ChangeMembersRequest,
) -> Result<wire::ChangeMembersResponse, Status> {
    use wire::change_members_request::Change;
    let asked = match request.change {
        Some(Change::Add(add)) => MemberRequest::Add { name: name(&add.name)?, address: address(&add.address)? },
        Some(Change::Replace(replace)) => MemberRequest::Replace {
            name: name(&replace.name)?,
            address: replace.address.as_deref().map(address).transpose()?,
            old: replace.leaves.as_deref().map(replica).transpose()?,
        },
        Some(Change::Remove(remove)) => MemberRequest::Remove { name: name(&remove.name)? },
        Some(Change::Cancel(_)) => MemberRequest::Cancel,
        None => return Err(Status::invalid_argument("the request says no change")),
    };
    let mut answer = wire::ChangeMembersResponse::default();
    match node.change_members(by, asked, request.dry_run).await {
        Ok(Asked::UnderWay(change)) => answer.change = Some(put_change(&change)),
        Ok(Asked::Already(why)) => answer.already = why,
        Ok(Asked::Allowed { leaves }) => answer.leaves = leaves.map(|node| node.to_string()),
        Err(NotChanged::NotAllowed(error)) => return Err(Status::failed_precondition(error.to_string())),
        Err(NotChanged::Broker(error)) => return Err(refuse(error)),
    }
    Ok(answer)
}

fn name(text: &str) -> Result<MemberName, Status> {
    MemberName::parse(text)
        .filter(|name| i32::try_from(name.0).is_ok())
        .ok_or_else(|| Status::invalid_argument(format!("'{text}' is no name of a member; write n0, n1, …")))
}

fn replica(text: &str) -> Result<NodeId, Status> {
    NodeId::parse(text).ok_or_else(|| Status::invalid_argument(format!("'{text}' is no replica; write n2, n2.5, …")))
}

fn address(text: &str) -> Result<String, Status> {
    let address = HostPort::parse(text).filter(|address| address.port > 0 && !address.host.is_empty());
    let address = address.ok_or_else(|| Status::invalid_argument(format!("'{text}' is not like host:port")))?;
    Ok(address.to_string())
}

fn put_change(change: &MemberChange) -> wire::MemberChange {
    let (what, address) = match &change.kind {
        MemberChangeKind::Add { address, .. } => ("add", address.as_str()),
        MemberChangeKind::Replace { address, .. } => ("replace", address.as_str()),
        MemberChangeKind::Remove { .. } => ("remove", ""),
    };
    wire::MemberChange {
        number: change.number,
        what: what.to_owned(),
        name: change.name().to_string(),
        address: address.to_owned(),
        joins: change.joins.map(|node| node.to_string()),
        leaves: change.leaves().map(|node| node.to_string()),
        is_cancelled: change.is_cancelled,
        ..Default::default()
    }
}

fn put_ended(ended: EndedChange) -> wire::MemberChange {
    let (end, why) = match ended.end {
        ChangeEnd::Done => ("done", String::new()),
        ChangeEnd::Cancelled => ("cancelled", String::new()),
        ChangeEnd::Refused(why) => ("refused", why),
    };
    wire::MemberChange { end: end.to_owned(), why, ..put_change(&ended.change) }
}
