//! Stored messages, as `message … -o json` and the dashboard show them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::proto::admin::StoredMessage;

/// A message as it is printed. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct MessageRow {
    pub topic: String,
    pub queue: Option<u32>,
    pub offset: Option<u64>,
    pub message_id: String,
    pub r#type: String,
    pub tag: String,
    pub keys: Vec<String>,
    pub properties: BTreeMap<String, String>,
    pub message_group: String,
    pub born_host: String,
    pub born_at_ms: u64,
    pub stored_at_ms: u64,
    pub delivery_at_ms: Option<u64>,
    pub priority: Option<u32>,
    pub body_bytes: usize,
    /// With marks in place of what is not UTF-8.
    pub body: String,
    pub entry: u64,
    pub slot: u32,
    pub recall_handle: Option<String>,
    pub origin: Option<OriginRow>,
}

/// Where a dead letter was. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct OriginRow {
    pub topic: String,
    /// Null of what a classic consumer gave back.
    pub queue: Option<u32>,
    pub offset: Option<u64>,
    pub attempts: u32,
    pub redriven_at_ms: Option<u64>,
}

impl MessageRow {
    pub fn of(message: StoredMessage) -> Self {
        let origin = message.origin.map(|origin| OriginRow {
            topic: origin.topic,
            queue: origin.queue,
            offset: origin.offset,
            attempts: origin.attempts,
            redriven_at_ms: origin.redriven_at_ms,
        });
        Self {
            topic: message.topic,
            queue: message.queue,
            offset: message.offset,
            message_id: message.message_id,
            r#type: message.r#type,
            tag: message.tag,
            keys: message.keys,
            properties: message.properties.into_iter().collect(),
            message_group: message.message_group,
            born_host: message.born_host,
            born_at_ms: message.born_at_ms,
            stored_at_ms: message.stored_at_ms,
            delivery_at_ms: message.delivery_at_ms,
            priority: message.priority,
            body_bytes: message.body.len(),
            body: String::from_utf8_lossy(&message.body).into_owned(),
            entry: message.entry,
            slot: message.slot,
            recall_handle: Some(message.recall_handle).filter(|handle| !handle.is_empty()),
            origin,
        }
    }
}

/// `raftmq.messages.v1`.
pub fn list(messages: Vec<StoredMessage>) -> Value {
    json!({ "schema": "raftmq.messages.v1", "messages": messages.into_iter().map(MessageRow::of).collect::<Vec<_>>() })
}
