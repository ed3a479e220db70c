//! What a shard needs to know of clients: a small trait that the node implements (`node/clients`), so that nothing here
//! depends on the node.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

use crate::model::{GroupName, Message, MessageRef, NodeId, QueueId, Timestamp, TopicId, TopicName};

/// The property of a classic client's half message that names its group.
const PRODUCER_GROUP: &str = "PGROUP";

/// The clients of the node that a shard's replica is on.
pub trait Clients: Send + Sync {
    /// Whether the client sent this node a request a short time ago.
    fn is_alive(&self, client_id: &str) -> bool;

    /// Asks a living producer for its decision, another one at every `turn`: one of the topic, or for a message of a classic
    /// client one of its producer group. False if none is connected to this node.
    fn ask_producer(&self, transaction: &OrphanedTransaction, turn: u64) -> bool;

    /// The consumers of a group, as the nodes that answer see them: each once, with the node that saw it last.
    fn consumers_of<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Vec<(NodeId, GroupConsumer)>>;

    /// How many consumers each group has, as the nodes that answer see them; a group without is left out. One question to each
    /// node.
    fn consumer_counts(&self) -> BoxFuture<'_, BTreeMap<GroupName, u32>>;
}

/// A transaction that its producer did not end in time: it is asked what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanedTransaction {
    pub topic: TopicName,
    pub topic_id: TopicId,
    /// The queue that it would enter, if its producer chose one.
    pub queue: Option<QueueId>,
    /// The half message.
    pub message: Message,
    /// Names the transaction.
    pub at: MessageRef,
    pub stored_at: Timestamp,
}

impl OrphanedTransaction {
    /// The group whose producers are asked, if a classic client sent the message.
    pub fn producer_group(&self) -> Option<GroupName> {
        producer_group(&self.message)
    }
}

/// The producer group of a half message of a classic client.
pub(super) fn producer_group(message: &Message) -> Option<GroupName> {
    message.classic?;
    let (_, group) = message.properties.iter().find(|(name, _)| name == PRODUCER_GROUP)?;
    GroupName::parse(group).ok()
}

/// What a client's headers say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientInfo {
    pub client_id: String,
    pub language: String,
    pub version: String,
    /// Where it connects from.
    pub address: String,
}

/// What a consumer wants of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub topic: TopicName,
    /// Whether the expression is SQL92, not a tag expression.
    pub is_sql: bool,
    /// The expression as it was sent.
    pub expression: String,
}

/// A consumer of a group, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConsumer {
    pub client: ClientInfo,
    /// When it was last seen there.
    pub seen_at: Timestamp,
    pub subscriptions: Vec<Subscription>,
}
