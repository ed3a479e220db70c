//! Families about clients: what they call and how long that takes, and who is connected. Every node shows its own.

use std::fmt;

use crate::edge::budgets::BudgetCounts;
use crate::edge::http::metrics::families::{Families, about, about_in};
use crate::edge::http::metrics::snapshot::{NodeSnapshot, Snapshot};

/// Observations are in microseconds.
const MILLISECONDS: f64 = 1e3;

pub(super) fn put(out: &mut Families<'_>, snapshot: &Snapshot) -> fmt::Result {
    let Some(node) = &snapshot.node else { return Ok(()) };
    let rows = node.calls.iter().map(|one| {
        let is_long_polling = if one.is_long_polling { "true" } else { "false" };
        let labels = [
            ("protocol_type", "grpc"),
            ("request_code", one.call),
            ("response_code", one.code.as_str()),
            ("is_long_polling", is_long_polling),
            ("result", "success"),
        ];
        (labels, one.times.clone())
    });
    let help = "Time of a client's call on this node until its answer; of a poll, until it has messages or ends";
    out.histograms(about_in("rocketmq_rpc_latency", "milliseconds", help), MILLISECONDS, rows)?;
    out.gauge(about("raftmq_polls_waiting", "Polls that wait for messages on this node"), node.waiting_polls)?;
    put_bounds(out, node)?;
    let help = "Living clients of this node that are not in the metrics below: there are too many kinds";
    out.gauge(about("raftmq_clients_left_out", help), node.clients.left_out)?;
    let producers = node.clients.producers.iter().map(|((language, version), count)| {
        ([("language", language.as_str()), ("version", version), ("protocol_type", "grpc")], *count)
    });
    let help = "Living clients of this node that named no consumer group";
    out.gauges(about("rocketmq_producer_connections", help), producers)?;
    let consumers = node.clients.consumers.iter().map(|((group, language, version), count)| {
        let labels = [
            ("consumer_group", group.as_str()),
            ("language", language),
            ("version", version),
            ("consume_mode", "pop"),
            ("protocol_type", "grpc"),
            ("is_system", "false"),
        ];
        (labels, *count)
    });
    let help = "Living consumers of this node that said their group in their settings";
    out.gauges(about("rocketmq_consumer_connections", help), consumers)
}

/// Connections and memory of clients.
fn put_bounds(out: &mut Families<'_>, node: &NodeSnapshot) -> fmt::Result {
    let help = "Connections of clients that are open on this node";
    out.gauge(about("raftmq_client_connections", help), node.connections.open)?;
    let help = "Connections of clients that were refused: there were as many as this node or their address may have";
    out.counter(about("raftmq_client_connections_refused", help), node.connections.refused)?;
    let rows = |value: fn(&BudgetCounts) -> u64| {
        node.budgets.iter().map(move |(kind, counts)| ([("kind", *kind)], value(counts)))
    };
    let help = "Memory that clients hold on this node: of requests, of answers that they did not take yet, of heartbeats that hold";
    out.gauges(about_in("raftmq_client_memory", "bytes", help), rows(|counts| counts.held))?;
    let help = "Memory that all clients may hold on this node";
    out.gauges(about_in("raftmq_client_memory_max", "bytes", help), rows(|counts| counts.most))?;
    let help = "Requests refused because their client, its address or all clients held as much as they may";
    out.counters(about("raftmq_client_memory_refused", help), rows(|counts| counts.refused))
}
