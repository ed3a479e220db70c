//! The clients of the cluster. Calls `node/client_list`.

use tonic::Status;

use crate::edge::admin::convert::{count, subscription};
use crate::node::{KnownClient, Node};
use crate::proto::admin as wire;

/// Most clients of one answer.
const CLIENTS_MAX: usize = 2000;

pub(super) async fn list(node: &Node, _request: wire::ListClientsRequest) -> Result<wire::ListClientsResponse, Status> {
    let mut listed = node.clients().await;
    let left_out = listed.left_out + listed.clients.len().saturating_sub(CLIENTS_MAX);
    listed.clients.truncate(CLIENTS_MAX);
    let client = |(node, client): (_, KnownClient)| wire::Client {
        client_id: client.info.client_id,
        language: client.info.language,
        version: client.info.version,
        address: client.info.address,
        last_seen_at_ms: client.seen_at.0,
        node,
        group: client.group.map(|group| group.to_string()).unwrap_or_default(),
        topics: client.topics.iter().map(ToString::to_string).collect(),
        subscriptions: client.subscriptions.into_iter().map(subscription).collect(),
        producer_group: client.producer_group.map(|group| group.to_string()).unwrap_or_default(),
    };
    Ok(wire::ListClientsResponse {
        clients: listed.clients.into_iter().map(client).collect(),
        left_out: count(left_out),
        unknown: listed.unknown,
    })
}
