//! What a node has to say to a heartbeat client, unasked.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::broker::{ClientInfo, OrphanedTransaction};
use crate::model::{GroupName, QueueId, QueueOffset, Timestamp, TopicName};

/// One notice, for one connection.
#[derive(Debug)]
pub enum Notice {
    /// The consumers of a group changed.
    ConsumersChanged(GroupName),
    /// The offsets of a client's group were reset.
    OffsetsReset {
        reset: Arc<OffsetsReset>,
        client: Arc<ClientInfo>,
    },
    Question(ClientQuestion),
    /// A producer is asked what became of a transaction.
    Orphan(Box<OrphanedTransaction>),
}

/// Offsets of a group that an operator set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetsReset {
    pub group: GroupName,
    pub topic: TopicName,
    pub offsets: Vec<(QueueId, QueueOffset)>,
    pub at: Timestamp,
}

/// What a client is asked through the node: by a tool, or by another client that answers one of its messages.
#[derive(Debug)]
pub struct ClientQuestion {
    /// As the protocol numbers it.
    pub code: i32,
    pub fields: Vec<(String, String)>,
    pub body: Bytes,
    pub answer: oneshot::Sender<ClientAnswer>,
}

/// What a client answers. Nothing of it is read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAnswer {
    pub code: i32,
    pub remark: Option<String>,
    pub body: Bytes,
}
