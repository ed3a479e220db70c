//! Topics, their queues and the positions of groups in them, as `topic … -o json` and the dashboard show them.

use serde::Serialize;
use serde_json::{Value, json};

use crate::proto::admin::{DescribeTopicResponse, GroupPosition, Topic, TopicQueue};

/// A topic as it is printed. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct TopicRow {
    pub topic: String,
    pub r#type: String,
    pub queues: u32,
    pub permission: &'static str,
    pub messages: u64,
    pub groups: u32,
    pub lag_max: Option<u64>,
    pub created_at_ms: u64,
    /// Null: as long as the log.
    pub retention_ms: Option<u64>,
}

/// A queue as it is printed. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct QueueRow {
    pub queue: u32,
    pub min_offset: u64,
    pub max_offset: u64,
    pub last_stored_at_ms: Option<u64>,
    pub oldest_stored_at_ms: Option<u64>,
}

/// A group's offset in one queue as it is printed. Keys of the JSON.
#[derive(Debug, Default, Serialize)]
pub struct PositionRow {
    pub group: String,
    pub topic: String,
    pub queue: u32,
    /// End of the queue.
    pub max_offset: u64,
    /// Everything below is settled.
    pub group_offset: u64,
    /// Leased and not yet settled.
    pub in_flight: u64,
    /// Not yet settled.
    pub lag: u64,
    /// What retention and trims took before the group had consumed it.
    pub lost: u64,
    /// When the last message below `group_offset` was stored.
    pub last_consumed_at_ms: Option<u64>,
    /// Push consumers that have messages at work.
    pub clients: Vec<String>,
    /// Most deliveries so far of a message that is at work or comes back.
    pub attempts_max: u32,
    /// Of the first such message.
    pub attempts_offset: Option<u64>,
}

impl From<GroupPosition> for PositionRow {
    fn from(position: GroupPosition) -> Self {
        Self {
            group: position.group,
            topic: position.topic,
            queue: position.queue,
            max_offset: position.max_offset,
            group_offset: position.group_offset,
            in_flight: position.in_flight,
            lag: position.lag,
            lost: position.lost,
            last_consumed_at_ms: position.last_consumed_at_ms,
            clients: position.clients,
            attempts_max: position.attempts_max,
            attempts_offset: position.attempts_offset,
        }
    }
}

impl From<TopicQueue> for QueueRow {
    fn from(queue: TopicQueue) -> Self {
        Self {
            queue: queue.queue,
            min_offset: queue.min_offset,
            max_offset: queue.max_offset,
            last_stored_at_ms: queue.last_stored_at_ms,
            oldest_stored_at_ms: queue.oldest_stored_at_ms,
        }
    }
}

/// `raftmq.topics.v1`.
pub fn list(topics: Vec<Topic>) -> Value {
    json!({ "schema": "raftmq.topics.v1", "topics": topics.into_iter().map(row).collect::<Vec<_>>() })
}

/// `raftmq.topic.v1`.
pub fn one(described: DescribeTopicResponse) -> Value {
    let DescribeTopicResponse { topic, queues, positions } = described;
    let queues: Vec<QueueRow> = queues.into_iter().map(QueueRow::from).collect();
    let positions: Vec<PositionRow> = positions.into_iter().map(PositionRow::from).collect();
    json!({ "schema": "raftmq.topic.v1", "topic": topic.map(row), "queues": queues, "positions": positions })
}

pub fn row(topic: Topic) -> TopicRow {
    TopicRow {
        topic: topic.name,
        r#type: topic.r#type,
        queues: topic.queues,
        permission: permission(topic.permission),
        messages: topic.messages,
        groups: topic.groups,
        lag_max: topic.lag_max,
        created_at_ms: topic.created_at_ms,
        retention_ms: topic.retention_ms,
    }
}

/// RocketMQ's permission bits as letters.
fn permission(bits: u32) -> &'static str {
    match bits & 6 {
        6 => "RW",
        4 => "R",
        2 => "W",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_bits_are_shown_as_letters() {
        assert_eq!([6, 4, 2, 0, 7].map(permission), ["RW", "R", "W", "-", "RW"]);
    }
}
