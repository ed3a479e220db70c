//! Events, as `cluster events -o json` and the dashboard show them: what operators did and what befell the cluster.

use serde::Serialize;

use crate::proto::admin::ClusterEvent;

/// `raftmq.events.v1`.
pub const SCHEMA: &str = "raftmq.events.v1";

/// An event as it is printed. Keys of the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventRow {
    /// Counts up.
    pub number: u64,
    pub at_ms: u64,
    /// The entry of the log that it is of.
    pub entry: u64,
    /// leader, members, or what an operator did: topic-create, offset-reset, …
    pub what: String,
    /// The topic, group or node; empty for all.
    pub on: String,
    pub detail: String,
    pub result: String,
    /// Null for what nobody did.
    pub by: Option<AuthorRow>,
    /// Of a change of leader.
    pub leader: Option<LeaderRow>,
}

/// Who asked; not proven.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuthorRow {
    pub address: String,
    pub tool: String,
    /// The node that was asked.
    pub node: String,
}

/// A node began to lead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeaderRow {
    pub term: u64,
    pub leader: String,
    /// Who led before, as far as it was noted.
    pub before: Option<String>,
    /// How long nobody led; null if the new leader had heard of none since its start.
    pub gap_ms: Option<u64>,
}

pub fn row(event: ClusterEvent) -> EventRow {
    let by = event.by.map(|by| AuthorRow { address: by.address, tool: by.tool, node: by.node });
    let leader = event.leader.map(|change| LeaderRow {
        term: change.term,
        leader: change.leader,
        before: change.before,
        gap_ms: change.gap_ms,
    });
    EventRow {
        number: event.number,
        at_ms: event.at_ms,
        entry: event.entry,
        what: event.what,
        on: event.on,
        detail: event.detail,
        result: event.result,
        by,
        leader,
    }
}
