//! Every limit of the broker by name. Sizes in bytes, times in milliseconds.
//!
//! Source of the client-visible ones: RocketMQ 5.3 proxy defaults (contract §5).

use crate::model::time::Millis;

/// Longest topic name.
pub const TOPIC_NAME_BYTES_MAX: usize = 127;
/// Longest consumer group name.
pub const GROUP_NAME_BYTES_MAX: usize = 255;
/// Largest body as transmitted.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most user properties of one message.
pub const PROPERTY_COUNT_MAX: usize = 128;
/// Largest sum of property keys and values, tag and message keys.
pub const PROPERTY_BYTES_MAX: usize = 16 * 1024;
/// Message group: its UTF-8 length must stay below this.
pub const MESSAGE_GROUP_BYTES_BOUND: usize = 64;
/// Longest orphaned transaction recovery duration.
pub const TRANSACTION_RECOVERY_MAX: Millis = Millis::from_secs(3600);
/// Longest name of a broker or a cluster.
pub const NODE_NAME_BYTES_MAX: usize = 255;
/// Longest message id, trace context or host text we store (RocketMQ sets no bound; ours protects the log).
pub const SHORT_TEXT_BYTES_MAX: usize = 1024;
/// Longest text of an event: who did what to what.
pub const EVENT_TEXT_BYTES_MAX: usize = 256;

/// Most properties that a client may send about itself.
pub const CLIENT_PROPERTY_COUNT_MAX: usize = 32;
/// Longest key of one.
pub const CLIENT_PROPERTY_KEY_BYTES_MAX: usize = 64;
/// Longest value of one.
pub const CLIENT_PROPERTY_VALUE_BYTES_MAX: usize = 256;
/// Largest sum of their keys and values.
pub const CLIENT_PROPERTIES_BYTES_MAX: usize = 4 * 1024;

/// Shortest lease a receive may ask for.
pub const INVISIBLE_MIN: Millis = Millis::from_secs(10);
/// Longest lease.
pub const INVISIBLE_MAX: Millis = Millis::from_secs(12 * 3600);
/// Length of a lease that the server renews while the client lives.
pub const INVISIBLE_RENEWED: Millis = Millis::from_secs(60);
/// Longest time a lease is renewed in all.
pub const RENEW_TOTAL_MAX: Millis = Millis::from_secs(3 * 3600);
/// Leases whose messages never reached their consumer end after this time (contract §13.2, contract §7).
pub const LEFT_BEHIND: Millis = Millis::from_secs(1);
/// Bodies and properties in one receive: no message is added once there are this many bytes.
pub const RECEIVE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest filter expression.
pub const FILTER_BYTES_MAX: usize = 4096;
/// Most topics or subscriptions in a client's settings.
pub const SETTINGS_ENTRIES_MAX: usize = 1024;
/// Longest client id, language or version of a client.
pub const CLIENT_TEXT_BYTES_MAX: usize = 255;
/// Most key-values that a group keeps for tools of RocketMQ. All of a namespace fit into one answer.
pub const KEY_VALUES_MAX: u64 = 4096;
/// Longest namespace or key of one.
pub const KEY_VALUE_NAME_BYTES_MAX: usize = 255;
/// Longest value of one.
pub const KEY_VALUE_BYTES_MAX: usize = 1024;
/// Most queues that one request locks, or gives up.
pub const LOCKED_QUEUES_MAX: usize = 4096;
/// Most messages in one receive.
pub const RECEIVE_BATCH_MAX: u32 = 32;
/// Shortest and longest long poll.
pub const POLL_MIN: Millis = Millis::from_secs(5);
/// See [`POLL_MIN`].
pub const POLL_MAX: Millis = Millis::from_secs(20);
/// A poll is answered this long before the caller's deadline.
pub const POLL_MARGIN: Millis = Millis(500);
/// Most polls waiting on one node.
pub const POLLS_WAITING_MAX: usize = 100_000;

/// A message id is remembered for this long, so that a message that is sent again is recognised (D17).
pub const RECENT_FOR: Millis = Millis::from_secs(600);
/// Most messages remembered for that below cluster version 5: the last of a busy cluster.
pub const RECENT_MESSAGES_MAX: usize = 256 * 1024;
/// Most memory for the filter over the ids that are only in the state (D235).
pub const RECENT_FILTER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most queues of a topic.
pub const TOPIC_QUEUES_MAX: u32 = 1024;
/// Deliveries after the first, before a message becomes a dead letter (RocketMQ `retryMaxTimes`).
pub const GROUP_RETRIES_DEFAULT: u32 = 16;
/// Most retries a group may ask for.
pub const GROUP_RETRIES_MAX: u32 = 10_000;

/// Most messages in one send request.
pub const SEND_MESSAGES_MAX: usize = 1024;
/// Most messages in one answer to a message query.
pub const QUERY_MESSAGES_MAX: usize = 1024;
/// Most dead letters redriven by one request.
pub const REDRIVE_MAX: usize = 256;
/// Most entries in one ack request.
pub const ACK_ENTRIES_MAX: usize = 1024;
/// A gathered batch is closed once it is this large; one larger command still travels alone.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the commands of a batch without their messages: applying them is one step of Raft's thread, and each key that they
/// write takes some of these. One larger command still travels alone.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;
/// References to bytes that one command carries at most.
pub const CARRY_REFERENCES_MAX: usize = 1024;
/// Most commands in one batch.
pub const BATCH_COMMANDS_MAX: usize = 4096;
/// Largest record the log accepts. Also bounds what recovery may believe of a length field.
pub const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Largest gRPC message a client may send: a send of many messages.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest gRPC message of any other request: a thousand receipt handles, or a thousand subscriptions with long filters.
pub const OTHER_REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Slowest snapshot: whoever pulls one gives up on parts that take longer than they would at this rate.
pub const SNAPSHOT_BYTES_MIN: u64 = 1 << 20;
/// Fastest scrub; at this rate it does not pause between passes either.
pub const SCRUB_BYTES_MAX: u64 = 1 << 30;
/// How long a request waits for a leader before it is refused.
pub const LEADER_WAIT: Millis = Millis(2500);
/// A client that was silent for this long is forgotten.
pub const SESSION_SILENT_MAX: Millis = Millis::from_secs(120);
/// Most client sessions remembered on one node.
pub const SESSIONS_MAX: usize = 100_000;

const _: () = assert!(BATCH_BYTES_MAX + REQUEST_BYTES_MAX < RECORD_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX + PROPERTY_BYTES_MAX < REQUEST_BYTES_MAX);
const _: () = assert!(BATCH_COMMANDS_MAX * 4 < 1 << 16);

/// Shortest time that messages may be kept.
pub const KEPT_MIN: Millis = Millis::from_secs(1);
/// Longest one: RocketMQ reads a 32-bit number of hours.
pub const KEPT_MAX: Millis = Millis::from_secs(2_147_483_647 * 3600);
