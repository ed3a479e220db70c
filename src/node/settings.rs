//! What a node knows of itself and of the others from its configuration.

use crate::config::{BrokerConfig, PeerAddress};
use crate::model::{HostPort, NodeId};

/// Where this node is in its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `brokerName`.
    pub broker_name: String,
    pub self_id: NodeId,
    /// All nodes, this one included, by id.
    pub nodes: Vec<NodeAddress>,
    /// Where this node stores messages, as clients see it: `host:port`.
    pub store_host: String,
}

/// One node's name and address for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    pub id: NodeId,
    /// `n0`, `n1`, …
    pub name: String,
    pub host: String,
    /// gRPC port, once known.
    pub grpc_port: Option<u16>,
}

impl NodeSettings {
    pub(super) fn of(config: &BrokerConfig) -> Self {
        let node = |peer: &PeerAddress| {
            let is_self = peer.id == config.self_id;
            NodeAddress {
                id: peer.id,
                name: peer.name.clone(),
                host: if is_self { config.advertised_host.clone() } else { peer.address.host.clone() },
                grpc_port: is_self.then_some(config.grpc_port),
            }
        };
        Self {
            cluster: config.cluster.clone(),
            broker_name: config.broker_name.clone(),
            self_id: config.self_id,
            nodes: config.peers.iter().map(node).collect(),
            store_host: HostPort { host: config.advertised_host.clone(), port: config.grpc_port }.to_string(),
        }
    }
}
