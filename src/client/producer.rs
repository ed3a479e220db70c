//! Sends messages in batches. Retries keep the message ids, by which the broker recognises them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::Status;
use tonic::client::Grpc;

use crate::model::limits;
use crate::model::{Millis, Timestamp};
use crate::proto::admin::send_receipt::Durability;
use crate::proto::v2;

use crate::client::connection::{ClientIdentity, Connection, Patience};
use crate::client::error::{Error, check};
use crate::client::send_codec::SendCodec;

/// 2021-01-01T00:00:00Z, from which message ids count seconds.
const ID_EPOCH_SECS: u64 = 1_609_459_200;

const SEND_PATH: &str = "/apache.rocketmq.v2.MessagingService/SendMessage";

/// A message to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The body; the broker refuses an empty one.
    pub body: Bytes,
    pub tag: Option<String>,
    pub keys: Vec<String>,
    pub properties: BTreeMap<String, String>,
    pub kind: Kind,
}

/// The kinds of message that one request is enough for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Normal,
    /// In the order of its message group.
    Fifo(String),
    /// Delivered this long after it is first sent.
    Delay(Duration),
    /// Before those of lower priority.
    Priority(u32),
}

/// A message the cluster has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendReceipt {
    /// Its id, 34 hexadecimal digits.
    pub message_id: String,
    /// Its offset in its queue; the protocol does not say which queue.
    pub queue_offset: u64,
    /// Recalls a delayed message.
    pub recall_handle: Option<String>,
    /// What the OK meant; only raftmq says it.
    pub entry: Option<EntryReceipt>,
}

/// What the OK to a send meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryReceipt {
    /// The entry of the send in the Raft log; the term is 0 if the leader is of an older build.
    pub term: u64,
    pub index: u64,
    pub durability: Durability,
}

/// Sends messages. Share one: its sequence keeps message ids apart.
pub struct Producer {
    connection: Arc<Connection>,
    sequence: AtomicU32,
}

impl EntryReceipt {
    /// Stable, for programs.
    pub fn durability_name(&self) -> &'static str {
        match self.durability {
            Durability::SyncedOnMajority => "synced_on_majority",
            Durability::PageCacheOnMajority => "page_cache_on_majority",
            Durability::Unspecified => "unknown",
        }
    }
}

impl Producer {
    /// A producer over `connection`. Two on one connection would give the same ids: make one and share it.
    pub fn new(connection: Arc<Connection>) -> Self {
        Self { connection, sequence: AtomicU32::new(0) }
    }

    /// Sends a batch in one request and answers for each message, in order.
    ///
    /// Until `patience` ends, messages without an acknowledgement are sent again under the same message ids, if they may
    /// succeed later.
    ///
    /// * Errors: each message has its own; a failure of the whole request is every message's. The message may be stored
    ///   all the same, unless all attempts were refused with codes below 50000.
    pub async fn send(&self, topic: &str, batch: Vec<Outgoing>, patience: Duration) -> Vec<Result<SendReceipt, Error>> {
        assert!(batch.len() <= limits::SEND_MESSAGES_MAX, "a batch of {} messages", batch.len());
        let identity = self.connection.identity();
        let now = (identity.now)();
        let messages: Vec<v2::Message> = batch
            .into_iter()
            .map(|message| {
                let id = message_id(identity, now, self.sequence.fetch_add(1, Ordering::Relaxed));
                wire(topic, message, id, now, &identity.host)
            })
            .collect();
        let mut patience = Patience::new(patience);
        let mut results: Vec<Option<Result<SendReceipt, Error>>> = messages.iter().map(|_| None).collect();
        loop {
            let open: Vec<usize> = (0..messages.len()).filter(|at| is_open(results[*at].as_ref())).collect();
            let request: Vec<v2::Message> = open.iter().map(|at| messages[*at].clone()).collect();
            let failure = match self.request(request).await {
                Ok(answers) => {
                    for (at, answer) in open.into_iter().zip(answers) {
                        results[at] = Some(answer);
                    }
                    results.iter().flatten().find_map(|result| result.as_ref().err().cloned())
                }
                Err(error) => {
                    for at in open {
                        results[at] = Some(Err(error.clone()));
                    }
                    Some(error)
                }
            };
            let is_done = !results.iter().any(|result| is_open(result.as_ref()));
            let Some(failure) = failure.filter(|_| !is_done) else { break };
            if !patience.pause(&self.connection, &failure).await {
                break;
            }
        }
        results.into_iter().map(|result| result.expect("each round fills what is open")).collect()
    }

    /// One request; as many answers as messages, in order.
    async fn request(&self, messages: Vec<v2::Message>) -> Result<Vec<Result<SendReceipt, Error>>, Error> {
        let count = messages.len();
        let request = v2::SendMessageRequest { messages };
        let timeout = self.connection.timeout();
        let (response, added) = self
            .connection
            .call(timeout, |channel| {
                let request = self.connection.request(request.clone(), timeout);
                async move {
                    let mut client = Grpc::new(channel);
                    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                    client.unary(request, PathAndQuery::from_static(SEND_PATH), SendCodec).await
                }
            })
            .await?
            .into_inner();
        let is_mixed = response.status.as_ref().is_some_and(|status| status.code == v2::Code::MultipleResults as i32);
        if response.entries.is_empty() || !is_mixed {
            check(response.status)?;
        }
        if response.entries.len() != count {
            return Err(Error::Malformed("not one send result for each message"));
        }
        let entry = added.receipt.map(|receipt| EntryReceipt {
            term: receipt.term,
            index: receipt.index,
            durability: receipt.durability(),
        });
        Ok(response.entries.into_iter().map(|result| sent(result, entry)).collect())
    }
}

/// Whether the message is still to be sent, for the first time or again.
fn is_open(result: Option<&Result<SendReceipt, Error>>) -> bool {
    match result {
        None => true,
        Some(Ok(_)) => false,
        Some(Err(error)) => error.is_retryable(),
    }
}

fn sent(result: v2::SendResultEntry, entry: Option<EntryReceipt>) -> Result<SendReceipt, Error> {
    check(result.status)?;
    let queue_offset = u64::try_from(result.offset).map_err(|_| Error::Malformed("a negative queue offset"))?;
    let recall_handle = Some(result.recall_handle).filter(|handle| !handle.is_empty());
    Ok(SendReceipt { message_id: result.message_id, queue_offset, recall_handle, entry })
}

fn wire(topic: &str, message: Outgoing, id: String, now: Timestamp, host: &str) -> v2::Message {
    let plain = v2::SystemProperties { message_type: v2::MessageType::Normal.into(), ..Default::default() };
    let of_kind = match message.kind {
        Kind::Normal => plain,
        Kind::Fifo(group) => {
            v2::SystemProperties { message_type: v2::MessageType::Fifo.into(), message_group: Some(group), ..plain }
        }
        Kind::Delay(delay) => v2::SystemProperties {
            message_type: v2::MessageType::Delay.into(),
            delivery_timestamp: Some(wire_time(now.plus(Millis::from(delay)))),
            ..plain
        },
        Kind::Priority(priority) => v2::SystemProperties {
            message_type: v2::MessageType::Priority.into(),
            priority: Some(i32::try_from(priority).unwrap_or(i32::MAX)),
            ..plain
        },
    };
    v2::Message {
        topic: Some(v2::Resource { name: topic.to_owned(), ..Default::default() }),
        user_properties: message.properties,
        system_properties: Some(v2::SystemProperties {
            tag: message.tag,
            keys: message.keys,
            message_id: id,
            body_digest: Some(v2::Digest {
                r#type: v2::DigestType::Crc32.into(),
                checksum: format!("{:08X}", crc32fast::hash(&message.body)),
            }),
            body_encoding: v2::Encoding::Identity as i32,
            born_timestamp: Some(wire_time(now)),
            born_host: host.to_owned(),
            ..of_kind
        }),
        body: message.body,
    }
}

/// A time as the protocol writes it.
pub fn wire_time(at: Timestamp) -> prost_types::Timestamp {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    prost_types::Timestamp { seconds, nanos: (at.0 % 1000) as i32 * 1_000_000 }
}

/// A message id of RocketMQ's version 1.
///
/// * Shape: 34 upper-case hexadecimal digits of `01`, host 6 bytes, process id 2, seconds since 2021 4, sequence 4.
/// * Source: contract §9.1. The host bytes are the identity's random ones, which need no network card to be unique.
fn message_id(identity: &ClientIdentity, now: Timestamp, sequence: u32) -> String {
    let host = identity.unique & 0xFFFF_FFFF_FFFF;
    let process = identity.process_id & 0xFFFF;
    let seconds = (now.0 / 1000).saturating_sub(ID_EPOCH_SECS) & 0xFFFF_FFFF;
    format!("01{host:012X}{process:04X}{seconds:08X}{sequence:08X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_have_rocketmq_s_shape() {
        let identity = ClientIdentity {
            host: "h".into(),
            process_id: 0x1_2345,
            unique: 0xFFFF_0102_0304_0506,
            now: || Timestamp(0),
            tls: None,
        };
        let at = Timestamp((ID_EPOCH_SECS + 16) * 1000 + 999);
        assert_eq!(message_id(&identity, at, 999), "010102030405062345000000".to_owned() + "10000003E7");
        assert_eq!(message_id(&identity, Timestamp(0), 0).len(), 34);
    }

    #[test]
    fn acknowledged_and_refused_messages_are_not_sent_again() {
        let code = |code: v2::Code| Some(v2::Status { code: code as i32, message: String::new() });
        let result = |status| sent(v2::SendResultEntry { status, offset: 3, ..Default::default() }, None);
        assert!(is_open(None));
        assert!(!is_open(Some(&result(code(v2::Code::Ok)))));
        assert!(!is_open(Some(&result(code(v2::Code::MessageBodyEmpty)))));
        assert!(is_open(Some(&result(code(v2::Code::HaNotAvailable)))));
        assert!(!is_open(Some(&result(None))));
        assert_eq!(result(code(v2::Code::Ok)).unwrap().queue_offset, 3);
    }
}
