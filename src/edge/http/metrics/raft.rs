//! Families about agreement: terms, indexes, followers, syncs and applying. Every node shows its own.

use std::fmt;

use crate::edge::http::metrics::families::{Families, PLAIN, about, about_in};
use crate::edge::http::metrics::snapshot::{NodeSnapshot, Snapshot};
use crate::model::NodeId;

/// Observations are in microseconds.
const SECONDS: f64 = 1e6;

pub(super) fn put(out: &mut Families<'_>, snapshot: &Snapshot) -> fmt::Result {
    let Some(node) = &snapshot.node else { return Ok(()) };
    indexes(out, node)?;
    members(out, node)?;
    let measures = &node.measures;
    let times = [
        ("raftmq_raft_fsync", "Time of a sync of the log on this node's disk", &measures.sync),
        (
            "raftmq_raft_apply",
            "Time from when a committed entry is handed over until it is applied here; waiting for this node's disk is part of it",
            &measures.apply,
        ),
        (
            "raftmq_raft_apply_delay",
            "Time from the leader's stamp of an entry until it is applied here",
            &measures.apply_delay,
        ),
    ];
    for (name, help, observed) in times {
        out.histograms(about_in(name, "seconds", help), SECONDS, [(PLAIN, observed.clone())])?;
    }
    let help = "Commands in an entry of the log";
    out.histograms(about("raftmq_raft_apply_batch_size", help), 1.0, [(PLAIN, measures.commands.clone())])
}

fn indexes(out: &mut Families<'_>, node: &NodeSnapshot) -> fmt::Result {
    let status = &node.status;
    out.gauge(about("raftmq_raft_term", "The term this node is in"), status.term.0)?;
    out.gauge(about("raftmq_raft_is_leader", "Whether this node leads, with a majority"), i64::from(node.leads))?;
    let help = "Whether this node knows a leader that has a majority";
    out.gauge(about("raftmq_raft_has_leader", help), i64::from(status.leader.is_some()))?;
    out.gauge(about("raftmq_raft_last_log_index", "The last entry in this node's log"), status.last_log.0)?;
    out.gauge(about("raftmq_raft_commit_index", "The last entry it knows to be committed"), status.committed.0)?;
    out.gauge(about("raftmq_raft_applied_index", "The last entry it has applied"), status.applied.0)?;
    if let Some(log) = status.log {
        out.gauge(
            about("raftmq_raft_first_log_index", "The first entry that is still in this node's log"),
            log.first.0,
        )?;
    }
    let help = "Elections: terms that began since this process started";
    out.counter(about("raftmq_raft_elections", help), node.measures.elections)
}

fn members(out: &mut Families<'_>, node: &NodeSnapshot) -> fmt::Result {
    let voters = node.members.iter().filter(|(_, votes)| *votes).count();
    out.gauge(about("raftmq_raft_voters", "Members that vote, as this node knows"), voters as u64)?;
    out.gauge(about("raftmq_raft_members", "Members, as this node knows"), node.members.len() as u64)?;
    let catches_up = i64::from(node.status.catching_up.is_some());
    let help = "Whether this node catches up by a snapshot";
    out.gauge(about("raftmq_raft_catching_up", help), catches_up)?;
    if !node.leads {
        return Ok(());
    }
    let lag = |of: &NodeId| {
        let known = node.status.acknowledged.iter().find(|(node, _)| node == of);
        known.map(|(_, has)| node.status.committed.0.saturating_sub(has.0))
    };
    let others = node.members.iter().filter(|(other, _)| *other != node.status.node);
    let rows = others.filter_map(|(other, _)| Some(([("peer", other.name().to_string())], lag(other)?)));
    let help = "Committed entries that a follower has not acknowledged, as its leader knows";
    out.gauges(about("raftmq_raft_replication_lag", help), rows)
}
