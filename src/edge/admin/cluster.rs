//! The nodes of the cluster and who leads. Calls `node/status`, `node/leader` and `node/routes`.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;

use crate::broker::Operator;
use crate::edge::admin::convert::refuse;
use crate::model::{DiskRoom, HostPort, LogIndex, NodeId};
use crate::node::{
    CatchingUp, Damage, DayCounts, FollowerMark, Node, NodeSummary, NotTransferred, ReplicaStatus, Sight,
};
use crate::proto::admin as wire;

pub(super) async fn status(
    node: &Node,
    _request: wire::ClusterStatusRequest,
) -> Result<wire::ClusterStatusResponse, Status> {
    let nodes = node.cluster_status().await;
    // Who leads is what the leader itself says: others may still name one that died.
    let says_so = |status: &&ReplicaStatus| status.leader == Some(status.node);
    let answers = nodes.iter().filter_map(|node| node.status.as_ref());
    let leader = answers.filter(says_so).max_by_key(|status| status.term).map(|status| status.node);
    let is_leader = |node: &NodeSummary| Some(node.id) == leader;
    let committed = nodes.iter().filter_map(|node| node.status.as_ref()).map(|status| status.committed.0).max();
    let place = node.settings();
    let members = node.routes().of_announced().map_err(refuse)?;
    // A node that does not answer is shown where it was last seen.
    let address_of = |id: NodeId| {
        let seen = members.iter().find(|member| member.id == id);
        seen.map(|member| HostPort { host: member.host.clone(), port: member.grpc_port }.to_string())
            .unwrap_or_default()
    };
    // Mostly the same entry on all nodes.
    let firsts: BTreeSet<LogIndex> = nodes.iter().filter_map(|node| Some(node.status.as_ref()?.log?.first)).collect();
    let mut stored_at = BTreeMap::new();
    for first in firsts {
        stored_at.insert(first, node.inspector().entry_stored_at(first).await);
    }
    let row = |node: &NodeSummary| {
        let status = node.status.as_ref();
        let log = status.and_then(|status| status.log);
        let role = match status {
            None => node.refusal.unwrap_or("unreachable"),
            Some(_) if is_leader(node) => "leader",
            Some(status) if status.leader.is_none() || leader.is_none() => "no quorum",
            Some(_) if node.is_voter => "follower",
            Some(_) => "learner",
        };
        wire::Node {
            cluster: place.cluster.clone(),
            broker: place.broker_name.clone(),
            node: node.id.name().to_string(),
            role: role.to_owned(),
            address: status.map_or_else(|| address_of(node.id), |status| status.client_address.clone()),
            version: status.map(|status| status.version.clone()).unwrap_or_default(),
            term: status.map(|status| status.term.0),
            committed: status.map(|status| status.committed.0),
            applied: status.map(|status| status.applied.0),
            behind: status.map(|status| committed.unwrap_or(0).saturating_sub(status.applied.0)),
            process_id: status.map(|status| status.process_id),
            in_per_second: status.map(|status| status.in_per_second),
            out_per_second: status.map(|status| status.out_per_second),
            last_log: status.map(|status| status.last_log.0),
            clock_offset_ms: status.and_then(|status| status.clock_offset_ms),
            disk: status.and_then(|status| status.room).map(disk),
            slow_disk: status.is_some_and(|status| status.slow_disk),
            log_bytes: log.map(|log| log.bytes),
            log_first: log.map(|log| log.first.0),
            catching_up: status.and_then(|status| status.catching_up.clone()).map(pull),
            log_from_ms: log.and_then(|log| *stored_at.get(&log.first)?).map(|at| at.0),
            damage: status.map(|status| damage(status.damage)),
            is_voter: node.is_voter,
            ..status.and_then(|status| status.sight.clone()).map(sight).unwrap_or_default()
        }
    };
    let voters = u32::try_from(nodes.iter().filter(|node| node.is_voter).count()).unwrap_or(u32::MAX);
    let name = |node: &NodeSummary| is_leader(node).then(|| node.id.name().to_string());
    Ok(wire::ClusterStatusResponse {
        nodes: nodes.iter().map(row).collect(),
        leader: nodes.iter().find_map(name),
        difference: node.members_differ(),
        voters,
        quorum: voters / 2 + 1,
    })
}

/// Makes a node the leader; a refusal says why.
pub(super) async fn transfer_leader(
    node: &Node,
    by: &Operator,
    request: wire::TransferLeaderRequest,
) -> Result<wire::TransferLeaderResponse, Status> {
    let from = node.transfer_leadership(by, &request.node).await.map_err(|refused| match refused {
        NotTransferred::NoLeader | NotTransferred::NotTaken(_) => Status::unavailable(refused.to_string()),
        _ => Status::failed_precondition(refused.to_string()),
    })?;
    Ok(wire::TransferLeaderResponse { from })
}

fn pull(CatchingUp { progress, waits_for }: CatchingUp) -> wire::SnapshotPull {
    let (done_bytes, total_bytes) = (progress.done, progress.total);
    wire::SnapshotPull { done_bytes, total_bytes, waits_for: waits_for.unwrap_or_default() }
}

fn disk(room: DiskRoom) -> wire::DiskRoom {
    wire::DiskRoom {
        total: room.total,
        free: room.free,
        reserve: room.reserve,
        soft_mark: room.soft,
        hard_mark: room.hard,
        used_percent: room.used_percent().into(),
        state: room.state.name().to_owned(),
    }
}

/// Of a node, what Raft on it shows.
fn sight(sight: Sight) -> wire::Node {
    let Sight { vote, leader_heard, followers, uptime, days } = sight;
    let follower = |mark: &FollowerMark| wire::Follower {
        node: mark.node.name().to_string(),
        matching: mark.matching.0,
        answered_ms: mark.answered.map(|ago| ago.0),
    };
    let by_day = |days: DayCounts| {
        let DayCounts { since, in_today, in_yesterday, out_today, out_yesterday } = days;
        wire::DayCounts { since_ms: since.0, in_today, in_yesterday, out_today, out_yesterday }
    };
    wire::Node {
        vote: Some(wire::Vote { term: vote.term.0, node: vote.node.name().to_string(), has_won: vote.has_won }),
        leader_heard_ms: leader_heard.map(|ago| ago.0),
        followers: followers.iter().map(follower).collect(),
        uptime_ms: Some(uptime.0),
        days: days.map(by_day),
        ..wire::Node::default()
    }
}

fn damage(damage: Damage) -> wire::Damage {
    let Damage { damaged_segments, lacks_tail, repaired_entries, rebuilt_segments } = damage;
    wire::Damage { damaged_segments, lacks_tail, repaired_entries, rebuilt_segments }
}

/// For the drill, which compares the nodes (P15).
pub(super) async fn state_digest(
    node: &Node,
    _request: wire::StateDigestRequest,
) -> Result<wire::StateDigestResponse, Status> {
    let read = node.state_digest().await.map_err(|error| Status::internal(error.to_string()))?;
    let digest = read.ok_or_else(|| {
        Status::unavailable("entries were applied all the time, or there is too much; ask again when less is done")
    })?;
    Ok(wire::StateDigestResponse { applied: digest.applied.0, content: digest.content, running: digest.running })
}
