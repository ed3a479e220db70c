//! What a node knows of itself from its configuration.

use crate::config::BrokerConfig;
use crate::model::{HostPort, MemberName, NodeId};

/// Where this node is in its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `brokerName`.
    pub broker_name: String,
    /// `dLegerSelfId`.
    pub name: MemberName,
    /// Where this node stores messages, as clients see it: `host:port`.
    pub store_host: String,
    /// `listenPort`, which classic clients are given.
    pub listen_port: u16,
}

/// Where a node serves clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    pub id: NodeId,
    pub host: String,
    pub grpc_port: u16,
    /// The port that classic clients are given; the other one serves them too.
    pub listen_port: u16,
}

impl NodeSettings {
    pub(super) fn of(config: &BrokerConfig) -> Self {
        Self {
            cluster: config.cluster.clone(),
            broker_name: config.broker_name.clone(),
            name: config.self_name,
            store_host: HostPort { host: config.advertised_host.clone(), port: config.grpc_port }.to_string(),
            listen_port: config.listen_port,
        }
    }
}
