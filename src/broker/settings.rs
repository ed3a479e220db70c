//! What a shard is given when it is made: settings, and on which nodes its replicas are.

use std::time::Duration;

use crate::model::{HoursOfDay, Millis, NodeId, TransactionChecks};

/// Settings that decide what a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// `leaderWaitMs`: how long a request waits for a leader.
    pub leader_wait: Duration,
    /// `autoCreateTopicEnable`.
    pub creates_topics: bool,
    /// `autoCreateSubscriptionGroup`.
    pub creates_groups: bool,
    /// `defaultTopicQueueNums`.
    pub topic_queues: u32,
    /// `transactionTimeOut`, `transactionCheckInterval`, `transactionCheckMax`.
    pub checks: TransactionChecks,
    pub retention: LogRetention,
}

/// What this node, as the leader, has deleted, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRetention {
    /// `fileReservedTime`: how long messages are kept.
    pub kept_for: Millis,
    /// `deleteWhen`: hours of the day, in this node's time zone, in which what expired goes.
    pub delete_hours: HoursOfDay,
    /// `diskMaxUsedSpaceRatio`, in percent: above it what expired goes at any hour.
    pub disk_used_max: u8,
    /// `cleanFileForciblyEnable`: whether messages go before they expire when that does not make room.
    pub deletes_unexpired: bool,
    /// `logRetentionBytes`: above this size of the log its oldest messages go.
    pub bytes_max: Option<u64>,
}

/// On which nodes the replicas of a shard are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSite {
    /// The node of this replica.
    pub self_id: NodeId,
    /// The nodes of all replicas, this one included, in the same order on each.
    pub nodes: Vec<NodeId>,
    /// Where this node stores messages, as clients see it: `host:port`.
    pub store_host: String,
}

impl ReplicaSite {
    /// The turn of this node, counted from 0, when all nodes take turns and the one of number `first`, modulo their
    /// count, begins.
    pub(super) fn turn(&self, first: u64) -> u32 {
        let count = self.nodes.len().max(1);
        let own = self.nodes.iter().position(|node| *node == self.self_id).unwrap_or(0);
        let first = usize::try_from(first % count as u64).unwrap_or(0);
        u32::try_from((own + count - first) % count).unwrap_or(0)
    }
}
