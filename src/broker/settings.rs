//! What a shard is given when it is made: settings, and where its replica is.

use std::time::Duration;

use crate::model::{HoursOfDay, Millis, Permission, TopicName, TransactionChecks};

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
    /// `brokerPermission`.
    pub permission: Permission,
    /// `rejectTransactionMessage` is not set.
    pub takes_transactions: bool,
    /// `traceTopicEnable`, `msgTraceTopicName`: the topic of traces that this node makes when it leads.
    pub trace_topic: Option<TopicName>,
    /// `transactionTimeOut`, `transactionCheckInterval`, `transactionCheckMax`.
    pub checks: TransactionChecks,
    pub retention: LogRetention,
    pub caps: Caps,
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

/// The keys of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// `topicsMax`.
    pub topics: u64,
    /// `groupsMax`.
    pub groups: u64,
    /// `subscriptionsMax`.
    pub subscriptions: u64,
    /// `topicQueuesMax`.
    pub topic_queues: u32,
}

/// Where the replica of a shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSite {
    /// Where this node stores messages, as clients see it: `host:port`.
    pub store_host: String,
}
