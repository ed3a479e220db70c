//! The members of the group and their changes, as `cluster members -o json` and the dashboard show them.

use serde::Serialize;
use serde_json::{Value, json};

use crate::proto::admin::{ClusterMember, ListMembersResponse, MemberChange};

/// A member as it is printed. Keys of the JSON.
#[derive(Debug, PartialEq, Serialize)]
pub struct MemberRow {
    pub name: String,
    /// The replica behind the name.
    pub id: String,
    pub role: String,
    pub address: String,
    pub answers: bool,
    /// The last entry of the committed log that it surely has, and what it lacks.
    pub matching: Option<u64>,
    pub behind: Option<u64>,
    /// Null for one of the very first start.
    pub since_ms: Option<u64>,
    pub state: &'static str,
}

/// A change as it is printed. Keys of the JSON.
#[derive(Debug, PartialEq, Serialize)]
pub struct ChangeRow {
    pub number: u64,
    pub what: String,
    pub name: String,
    pub address: String,
    pub joins: Option<String>,
    pub leaves: Option<String>,
    pub cancelled: bool,
    pub waits_for: Option<String>,
    pub end: Option<String>,
    pub why: Option<String>,
}

/// `raftmq.members.v1`.
pub fn document(listed: &ListMembersResponse) -> Value {
    json!({
        "schema": "raftmq.members.v1",
        "members": listed.members.iter().map(row).collect::<Vec<_>>(),
        "pending": listed.pending.as_ref().map(change_row),
        "ended": listed.ended.as_ref().map(change_row),
        "difference": listed.difference,
        "may_be_old": listed.may_be_old,
    })
}

pub fn row(member: &ClusterMember) -> MemberRow {
    MemberRow {
        name: member.name.clone(),
        id: member.id.clone(),
        role: member.role.clone(),
        address: member.address.clone(),
        answers: member.answers,
        matching: member.matching,
        behind: member.behind,
        since_ms: member.since_ms,
        state: if member.answers { "ok" } else { "down" },
    }
}

pub fn change_row(change: &MemberChange) -> ChangeRow {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    ChangeRow {
        number: change.number,
        what: change.what.clone(),
        name: change.name.clone(),
        address: change.address.clone(),
        joins: change.joins.clone(),
        leaves: change.leaves.clone(),
        cancelled: change.is_cancelled,
        waits_for: text(&change.waits_for),
        end: text(&change.end),
        why: text(&change.why),
    }
}
