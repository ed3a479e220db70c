//! The clients of the cluster, as `client list -o json` and the dashboard show them.

use serde::Serialize;
use serde_json::{Value, json};

use crate::proto::admin::{Client, ListClientsResponse, Subscription};

/// A client. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct ClientRow {
    pub client_id: String,
    pub language: String,
    pub version: String,
    pub address: String,
    pub last_seen_at_ms: u64,
    pub node: String,
    /// Of a consumer.
    pub group: Option<String>,
    /// What it publishes to.
    pub topics: Vec<String>,
    pub subscriptions: Vec<String>,
    /// Of a producer that says so.
    pub producer_group: Option<String>,
}

impl ClientRow {
    /// What it does, in a word.
    pub fn kind(&self) -> &'static str {
        if self.group.is_some() || !self.subscriptions.is_empty() { "consumer" } else { "producer" }
    }
}

/// `raftmq.clients.v1`.
pub const SCHEMA: &str = "raftmq.clients.v1";

/// Each client as it is printed.
pub fn rows(clients: Vec<Client>) -> Vec<ClientRow> {
    clients.into_iter().map(row).collect()
}

/// All there is to say of them.
pub fn document(listed: ListClientsResponse) -> Value {
    let ListClientsResponse { clients, left_out, unknown } = listed;
    json!({ "schema": SCHEMA, "clients": rows(clients), "left_out": left_out, "unknown": unknown })
}

/// What a client wants of a topic, in one line.
pub fn wanted(wanted: Subscription) -> String {
    format!("{} {} {}", wanted.topic, wanted.r#type, wanted.expression).trim_end().to_owned()
}

fn row(client: Client) -> ClientRow {
    ClientRow {
        client_id: client.client_id,
        language: client.language,
        version: client.version,
        address: client.address,
        last_seen_at_ms: client.last_seen_at_ms,
        node: client.node,
        group: Some(client.group).filter(|group| !group.is_empty()),
        topics: client.topics,
        subscriptions: client.subscriptions.into_iter().map(wanted).collect(),
        producer_group: Some(client.producer_group).filter(|group| !group.is_empty()),
    }
}
