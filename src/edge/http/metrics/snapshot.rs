//! What a scrape found: plain values, taken from the node at once.

use crate::broker::{GroupTraffic, TopicTraffic};
use crate::edge::budgets::{Bounds, BudgetCounts};
use crate::edge::grpc::call_times::{CallTime, CallTimes};
use crate::edge::http::metrics::client_kinds::ClientKinds;
use crate::edge::http::tables::{ROWS_MAX, Table};
use crate::edge::places::PlaceCounts;
use crate::env::process::{self, OwnProcess};
use crate::model::{NodeId, Timestamp};
use crate::node::{Node, ReplicaMeasures, ReplicaStatus};

/// Everything that is shown.
#[derive(Debug, Clone)]
pub(in crate::edge::http) struct Snapshot {
    /// Of every metric.
    pub labels: Vec<(String, String)>,
    pub process: OwnProcess,
    /// `None` while the node starts.
    pub node: Option<NodeSnapshot>,
}

#[derive(Debug, Clone)]
pub(in crate::edge::http) struct NodeSnapshot {
    pub status: ReplicaStatus,
    pub measures: ReplicaMeasures,
    /// Whether it leads, with a majority.
    pub leads: bool,
    /// All members, and whether each votes.
    pub members: Vec<(NodeId, bool)>,
    pub is_ready: bool,
    pub calls: Vec<CallTime>,
    pub clients: ClientKinds,
    pub waiting_polls: u64,
    pub connections: PlaceCounts,
    /// What clients hold of the node's memory, by what for.
    pub budgets: [(&'static str, BudgetCounts); 3],
    /// When the first entry was stored that is still in this node's log, and what time it is now.
    pub oldest_at: Option<Timestamp>,
    pub now: Timestamp,
    /// If it leads.
    pub leader: Option<LeaderSnapshot>,
}

/// What only the leader shows.
#[derive(Debug, Clone)]
pub(in crate::edge::http) struct LeaderSnapshot {
    /// Whether sends are taken.
    pub has_room: bool,
    pub due_late_ms: u64,
    pub topics: Vec<TopicTraffic>,
    pub groups: Vec<GroupTraffic>,
    /// `None` if it was not found yet.
    pub table: Option<Table>,
}

impl Snapshot {
    /// Of a process that is starting a node.
    pub fn of_start(labels: Vec<(String, String)>) -> Self {
        Self { labels, process: process::own(), node: None }
    }

    /// The same of a node that runs.
    pub fn with(self, node: NodeSnapshot) -> Self {
        Self { node: Some(node), ..self }
    }
}

impl NodeSnapshot {
    pub async fn of(node: &Node, calls: &CallTimes, bounds: &Bounds, table: Option<Table>, is_ready: bool) -> Self {
        let leads = node.broker().leadership().borrow().is_self;
        let status = node.own_status();
        let oldest_at = match status.log {
            Some(log) => node.inspector().entry_stored_at(log.first).await,
            None => None,
        };
        Self {
            oldest_at,
            now: node.broker().now(),
            status,
            measures: node.measures(),
            leads,
            members: node.voters(),
            is_ready,
            calls: calls.all(),
            clients: ClientKinds::of(node.sessions()),
            waiting_polls: node.broker().waiting_polls() as u64,
            connections: bounds.places.counts(),
            budgets: bounds.budgets.counts(),
            leader: leads.then(|| LeaderSnapshot::of(node, table)),
        }
    }
}

impl LeaderSnapshot {
    fn of(node: &Node, table: Option<Table>) -> Self {
        // A store that cannot be read ends the process elsewhere.
        let (topics, groups) = node.inspector().traffic(ROWS_MAX).unwrap_or_default();
        Self {
            has_room: node.has_room(),
            due_late_ms: node.inspector().due_late_by().map_or(0, |late| late.0),
            topics,
            groups,
            table,
        }
    }
}
