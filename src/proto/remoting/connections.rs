//! Clients that are connected, as tools read them: bodies in JSON.
//!
//! Source: remoting §6.7.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub client_addr: String,
    pub client_id: String,
    /// By name, as in headers.
    pub language: String,
    pub version: i32,
}

/// The producers of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerConnections {
    pub connection_set: Vec<ClientConnection>,
}

/// One producer, in the list of all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerRow {
    pub client_id: String,
    pub language: String,
    pub last_update_timestamp: u64,
    #[serde(rename = "remoteIP")]
    pub remote_ip: String,
    pub version: i32,
}

/// All producers, by group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProducerTable {
    pub data: BTreeMap<String, Vec<ProducerRow>>,
}
