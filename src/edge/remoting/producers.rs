//! Who sends: what tools ask of the producers that are connected (remoting §6.7).
//!
//! Producers send heartbeats to every node of their routes, so each node knows those that send anything.

use std::collections::BTreeMap;

use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Remoting, Request};
use crate::edge::rules;
use crate::node::GroupProducer;
use crate::proto::remoting::ResponseCode;
use crate::proto::remoting::connections::{ClientConnection, ProducerConnections, ProducerRow, ProducerTable};

/// Producers of one answer.
const PRODUCERS_MAX: usize = 10_000;

/// GET_PRODUCER_CONNECTION_LIST: those of a group.
pub(super) fn of_group(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let group = rules::names::group("", request.header.fields.text("producerGroup")?)?;
    let known = remoting.node.heartbeat_producers().known(Some(&group), PRODUCERS_MAX);
    if known.is_empty() {
        let text = format!("no producer of group '{group}' is connected to this node");
        return Err(Refused::new(ResponseCode::SystemError, text));
    }
    let connection = |(_, GroupProducer { client, .. }): (_, GroupProducer)| ClientConnection {
        client_addr: client.address.clone(),
        client_id: client.client_id.clone(),
        language: client.language.clone(),
        version: client.version.parse().unwrap_or(0),
    };
    Ok(Answer::json(&ProducerConnections { connection_set: known.into_iter().map(connection).collect() }))
}

/// GET_ALL_PRODUCER_INFO: those of all groups.
pub(super) fn all(remoting: &Remoting) -> Answer {
    let mut data: BTreeMap<String, Vec<ProducerRow>> = BTreeMap::new();
    for (group, GroupProducer { client, seen_at }) in remoting.node.heartbeat_producers().known(None, PRODUCERS_MAX) {
        data.entry(group.to_string()).or_default().push(ProducerRow {
            client_id: client.client_id.clone(),
            language: client.language.clone(),
            last_update_timestamp: seen_at.0,
            remote_ip: client.address.clone(),
            version: client.version.parse().unwrap_or(0),
        });
    }
    Answer::json(&ProducerTable { data })
}
