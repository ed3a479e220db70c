//! Consumer groups, their positions and members, as `group … -o json` and the dashboard show them.

use serde::Serialize;
use serde_json::{Value, json};

use crate::documents::clients::wanted;
use crate::documents::topics::PositionRow;
use crate::proto::admin::{DescribeGroupResponse, Group, Member, MovedPosition};

/// A moved position as it is printed. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct MovedRow {
    pub queue: u32,
    pub from: u64,
    pub to: u64,
}

/// A group as it is printed. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct GroupRow {
    pub group: String,
    pub r#type: &'static str,
    pub members: u32,
    pub topics: u32,
    pub in_flight: u64,
    pub lag: u64,
    pub retries_max: u32,
    pub created_at_ms: u64,
    pub backoff: String,
    pub consume_from: String,
    pub filter: String,
    pub returning: u64,
    pub dead: u64,
    pub oldest_unsettled_at_ms: Option<u64>,
}

/// A member as it is printed. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct MemberRow {
    pub client_id: String,
    pub language: String,
    pub version: String,
    pub address: String,
    pub last_seen_at_ms: u64,
    pub node: String,
    pub subscriptions: Vec<String>,
}

impl From<MovedPosition> for MovedRow {
    fn from(moved: MovedPosition) -> Self {
        Self { queue: moved.queue, from: moved.from, to: moved.to }
    }
}

/// `raftmq.groups.v1`.
pub fn list(groups: Vec<Group>) -> Value {
    json!({ "schema": "raftmq.groups.v1", "groups": groups.into_iter().map(row).collect::<Vec<_>>() })
}

/// `raftmq.group.v1`.
pub fn one(described: DescribeGroupResponse) -> Value {
    let DescribeGroupResponse { group, positions, members, inconsistencies } = described;
    let positions: Vec<PositionRow> = positions.into_iter().map(PositionRow::from).collect();
    let members: Vec<MemberRow> = members.into_iter().map(member).collect();
    json!({
        "schema": "raftmq.group.v1",
        "group": group.map(row),
        "positions": positions,
        "members": members,
        "inconsistencies": inconsistencies,
    })
}

/// `raftmq.group.moved.v1`.
pub fn moved(positions: Vec<MovedPosition>) -> Value {
    let rows: Vec<MovedRow> = positions.into_iter().map(MovedRow::from).collect();
    json!({ "schema": "raftmq.group.moved.v1", "positions": rows })
}

pub fn row(group: Group) -> GroupRow {
    GroupRow {
        group: group.name,
        r#type: if group.orderly { "fifo" } else { "normal" },
        members: group.members,
        topics: group.topics,
        in_flight: group.in_flight,
        lag: group.lag,
        retries_max: group.retries_max,
        created_at_ms: group.created_at_ms,
        backoff: group.backoff,
        consume_from: group.consume_from,
        filter: group.filter,
        returning: group.returning,
        dead: group.dead,
        oldest_unsettled_at_ms: group.oldest_unsettled_at_ms,
    }
}

pub fn member(member: Member) -> MemberRow {
    MemberRow {
        client_id: member.client_id,
        language: member.language,
        version: member.version,
        address: member.address,
        last_seen_at_ms: member.last_seen_at_ms,
        node: member.node,
        subscriptions: member.subscriptions.into_iter().map(wanted).collect(),
    }
}
