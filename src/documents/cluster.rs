//! The nodes of the cluster, as `cluster status -o json` and the dashboard show them.

use serde::Serialize;
use serde_json::{Value, json};

use crate::proto::admin::{ClusterStatusResponse, Follower, Node, SnapshotPull};

/// A clock that is off by more than this is called wrong; the node itself warns then.
const CLOCK_WRONG_MS: u64 = 500;

/// A node as it is printed. Keys of the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeRow {
    pub cluster: String,
    pub broker: String,
    pub node: String,
    /// RocketMQ's broker id: 0 is the leader.
    pub broker_id: Option<u64>,
    pub role: String,
    pub address: String,
    pub version: Option<String>,
    pub process_id: Option<u32>,
    pub term: Option<u64>,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    pub behind: Option<u64>,
    pub last_log: Option<u64>,
    pub in_per_second: Option<f64>,
    pub out_per_second: Option<f64>,
    /// What its clock is ahead of what most nodes agree on; null while they do not agree.
    pub clock_offset_ms: Option<i64>,
    /// What is used of its disk.
    pub disk_used_percent: Option<u32>,
    pub disk_free_bytes: Option<u64>,
    pub disk_reserve_bytes: Option<u64>,
    pub disk_soft_mark_bytes: Option<u64>,
    pub disk_hard_mark_bytes: Option<u64>,
    /// ok; soft: retention runs early; hard: no sends; full: nothing is taken into the log.
    pub disk_state: Option<String>,
    pub slow_disk: bool,
    /// What its log takes, the first entry in it, and when that was stored.
    pub log_bytes: Option<u64>,
    pub log_first: Option<u64>,
    pub log_from_ms: Option<u64>,
    /// While it catches up by a snapshot: how far that is, and why it does not get on.
    pub snapshot_percent: Option<u64>,
    pub snapshot_waits_for: Option<String>,
    /// With something in them that cannot be read and is not repaired yet.
    pub damaged_segments: u64,
    /// It lost the end of its log, and does not vote until it has that again.
    pub lacks_tail: bool,
    /// Replaced by what other nodes have, since its start.
    pub repaired_entries: u64,
    pub rebuilt_segments: u64,
    pub is_voter: bool,
    /// Whom it voted for in its newest term, and whether that node won.
    pub vote: Option<VoteRow>,
    /// The last entry that is surely in its log, as the leader knows.
    pub match_index: Option<u64>,
    /// Between it and the leader: how long ago it answered one, as the leader knows; without a leader, how long ago it heard
    /// of one.
    pub heartbeat_age_ms: Option<u64>,
    pub uptime_ms: Option<u64>,
    /// Messages by day, as it counted since then.
    pub counted_since_ms: Option<u64>,
    pub in_today: Option<u64>,
    pub in_yesterday: Option<u64>,
    pub out_today: Option<u64>,
    pub out_yesterday: Option<u64>,
    pub state: String,
}

/// A vote as it is printed. Keys of the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VoteRow {
    pub term: u64,
    pub node: String,
    pub has_won: bool,
}

/// All nodes, each with what the leader knows of it.
pub fn rows(nodes: Vec<Node>) -> Vec<NodeRow> {
    let followers: Vec<Follower> = nodes.iter().flat_map(|node| node.followers.iter().cloned()).collect();
    let mut rows: Vec<NodeRow> = nodes.into_iter().map(row).collect();
    rows.iter_mut().for_each(|row| add_leader_s_view(row, &followers));
    rows
}

/// `raftmq.cluster.v1`.
pub fn document(status: ClusterStatusResponse) -> Value {
    let ClusterStatusResponse { nodes, leader, voters, quorum, .. } = status;
    json!({ "schema": "raftmq.cluster.v1", "leader": leader, "voters": voters, "quorum": quorum, "nodes": rows(nodes) })
}

fn add_leader_s_view(row: &mut NodeRow, followers: &[Follower]) {
    if let Some(seen) = followers.iter().find(|follower| follower.node == row.node) {
        row.match_index = Some(seen.matching);
        row.heartbeat_age_ms = seen.answered_ms;
    }
}

pub fn row(node: Node) -> NodeRow {
    let number = node.node.strip_prefix('n').and_then(|digits| digits.parse::<u64>().ok());
    let broker_id = if node.role == "leader" { Some(0) } else { number.map(|number| number + 1) };
    let room = node.disk.as_ref().map_or("", |disk| &disk.state);
    let damage = node.damage.unwrap_or_default();
    let state = match (node.role.as_str(), node.behind) {
        ("unreachable", _) => "down",
        ("rolled back" | "other disk" | "other group" | "refused", _) => "kept out",
        // The role says too that there is no quorum; a disk may be why.
        _ if room == "full" => "disk full",
        _ if node.slow_disk => "slow disk",
        _ if room == "hard" => "no room",
        ("no quorum", _) => "no quorum",
        _ if damage.lacks_tail => "repairing",
        _ if damage.damaged_segments > 0 => "damaged",
        (_, Some(behind)) if behind > 0 => "catching up",
        _ if node.clock_offset_ms.is_some_and(|offset| offset.unsigned_abs() > CLOCK_WRONG_MS) => "wrong clock",
        _ if room == "soft" => "short of room",
        _ => "ok",
    };
    let pull = node.catching_up.as_ref();
    let snapshot_percent = pull.map(percent);
    let state = match snapshot_percent.filter(|_| state == "catching up") {
        Some(percent) => format!("catching up by snapshot, {percent} %"),
        None => state.to_owned(),
    };
    NodeRow {
        cluster: node.cluster,
        broker: node.broker,
        node: node.node,
        broker_id,
        role: node.role,
        address: node.address,
        version: Some(node.version).filter(|version| !version.is_empty()),
        process_id: node.process_id,
        term: node.term,
        committed: node.committed,
        applied: node.applied,
        behind: node.behind,
        last_log: node.last_log,
        in_per_second: node.in_per_second,
        out_per_second: node.out_per_second,
        clock_offset_ms: node.clock_offset_ms,
        disk_used_percent: node.disk.as_ref().map(|disk| disk.used_percent),
        disk_free_bytes: node.disk.as_ref().map(|disk| disk.free),
        disk_reserve_bytes: node.disk.as_ref().map(|disk| disk.reserve),
        disk_soft_mark_bytes: node.disk.as_ref().map(|disk| disk.soft_mark),
        disk_hard_mark_bytes: node.disk.as_ref().map(|disk| disk.hard_mark),
        slow_disk: node.slow_disk,
        log_bytes: node.log_bytes,
        log_first: node.log_first,
        log_from_ms: node.log_from_ms,
        snapshot_percent,
        snapshot_waits_for: node.catching_up.map(|pull| pull.waits_for).filter(|why| !why.is_empty()),
        damaged_segments: damage.damaged_segments,
        lacks_tail: damage.lacks_tail,
        repaired_entries: damage.repaired_entries,
        rebuilt_segments: damage.rebuilt_segments,
        is_voter: node.is_voter,
        vote: node.vote.map(|vote| VoteRow { term: vote.term, node: vote.node, has_won: vote.has_won }),
        match_index: None,
        heartbeat_age_ms: node.leader_heard_ms,
        uptime_ms: node.uptime_ms,
        counted_since_ms: node.days.map(|days| days.since_ms),
        in_today: node.days.map(|days| days.in_today),
        in_yesterday: node.days.map(|days| days.in_yesterday),
        out_today: node.days.map(|days| days.out_today),
        out_yesterday: node.days.map(|days| days.out_yesterday),
        state,
        disk_state: node.disk.map(|disk| disk.state),
    }
}

fn percent(pull: &SnapshotPull) -> u64 {
    pull.done_bytes.min(pull.total_bytes).saturating_mul(100).checked_div(pull.total_bytes).unwrap_or(0)
}
