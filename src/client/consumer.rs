//! Receives, acknowledges and prolongs messages for one group of one topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Channel;

use crate::model::{Timestamp, limits};
use crate::proto::v2;
use crate::proto::v2::messaging_service_client::MessagingServiceClient;
use crate::proto::v2::receive_message_response::Content;

use crate::client::connection::Connection;
use crate::client::error::{Error, check};
use crate::client::membership::Membership;

/// A message leased to this consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub topic: String,
    pub queue: u32,
    pub queue_offset: u64,
    pub message_id: String,
    pub tag: Option<String>,
    pub keys: Vec<String>,
    pub properties: BTreeMap<String, String>,
    /// Deliveries so far, this one included.
    pub attempt: u32,
    pub born_at: Timestamp,
    pub born_host: String,
    pub stored_at: Timestamp,
    /// The node that gave it out, as clients see it.
    pub store_host: String,
    /// Of a message that was delayed.
    pub delivery_at: Option<Timestamp>,
    /// NORMAL, FIFO, DELAY, TRANSACTION or PRIORITY.
    pub kind: String,
    pub message_group: Option<String>,
    pub priority: Option<i32>,
    /// Of a dead letter: its topic before, and its id there.
    pub died_in: Option<(String, String)>,
    /// Whether the body is compressed.
    pub is_gzip: bool,
    /// The body as transmitted.
    pub body: Bytes,
    /// Proves the lease.
    pub handle: String,
}

/// Which messages a consumer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterText {
    /// Those with one of these tags: `*`, or `a||b`.
    Tags(String),
    /// Those of which this SQL92 expression over their properties is true.
    Sql(String),
}

/// One member of a consumer group.
pub struct Consumer {
    connection: Arc<Connection>,
    group: v2::Resource,
    topic: v2::Resource,
    filter: v2::FilterExpression,
    _membership: Membership,
}

impl Consumer {
    /// A consumer of `topic` in `group` for the messages that `filter` wants, and a member of the group from now on; must be
    /// made inside a tokio runtime.
    pub fn new(connection: Arc<Connection>, group: &str, topic: &str, filter: &FilterText) -> Self {
        let (filter_type, expression) = match filter {
            FilterText::Tags(expression) => (v2::FilterType::Tag, expression),
            FilterText::Sql(expression) => (v2::FilterType::Sql, expression),
        };
        let resource = |name: &str| v2::Resource { name: name.to_owned(), ..Default::default() };
        let (group, topic) = (resource(group), resource(topic));
        let filter = v2::FilterExpression { r#type: filter_type.into(), expression: expression.clone() };
        let entry = v2::SubscriptionEntry { topic: Some(topic.clone()), expression: Some(filter.clone()) };
        let subscription =
            v2::Subscription { group: Some(group.clone()), subscriptions: vec![entry], ..Default::default() };
        let _membership = Membership::start(connection.clone(), subscription);
        Self { connection, group, topic, filter, _membership }
    }

    /// Waits up to `wait` for messages and leases at most `batch` of them for `invisible_for`.
    ///
    /// Empty when none came in time. A stream that breaks after some messages returns those, for their leases have begun.
    ///
    /// * Units: the server bounds `wait` to 5–20 s and `invisible_for` to 10 s–12 h.
    pub async fn receive(&self, batch: u32, invisible_for: Duration, wait: Duration) -> Result<Vec<Received>, Error> {
        let request = v2::ReceiveMessageRequest {
            group: Some(self.group.clone()),
            // No broker named: any queue of the topic will do.
            message_queue: Some(v2::MessageQueue {
                topic: Some(self.topic.clone()),
                permission: v2::Permission::Read as i32,
                ..Default::default()
            }),
            filter_expression: Some(self.filter.clone()),
            batch_size: batch.min(limits::RECEIVE_BATCH_MAX) as i32,
            invisible_duration: Some(wire_duration(invisible_for)),
            auto_renew: false,
            long_polling_timeout: Some(wire_duration(wait)),
            attempt_id: None,
        };
        let timeout = wait.saturating_add(self.connection.timeout());
        let (status, messages) = self
            .connection
            .call(timeout, |channel| {
                let request = self.connection.request(request.clone(), timeout);
                async move {
                    let mut stream = service(channel).receive_message(request).await?.into_inner();
                    let mut status = None;
                    let mut messages = Vec::new();
                    loop {
                        match stream.message().await {
                            Ok(None) => return Ok((status, messages)),
                            Ok(Some(item)) => match item.content {
                                Some(Content::Status(found)) => status = Some(found),
                                Some(Content::Message(message)) => messages.push(message),
                                Some(Content::DeliveryTimestamp(_)) | None => {}
                            },
                            Err(_) if !messages.is_empty() => return Ok((status, messages)),
                            Err(error) => return Err(error),
                        }
                    }
                }
            })
            .await?;
        if messages.is_empty() {
            return match status {
                Some(status) if status.code == v2::Code::MessageNotFound as i32 => Ok(Vec::new()),
                status => check(status).map(|()| Vec::new()),
            };
        }
        messages.into_iter().map(received).collect()
    }

    /// Acknowledges messages and answers for each, in order; what may succeed later is repeated for `patience`.
    pub async fn ack(&self, messages: &[Received], patience: Duration) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(messages.len());
        for part in messages.chunks(limits::ACK_ENTRIES_MAX) {
            match self.connection.persist(patience, || self.ack_part(part)).await {
                Ok(answers) => results.extend(answers),
                Err(error) => results.extend(part.iter().map(|_| Err(error.clone()))),
            }
        }
        results
    }

    async fn ack_part(&self, messages: &[Received]) -> Result<Vec<Result<(), Error>>, Error> {
        let request = v2::AckMessageRequest {
            group: Some(self.group.clone()),
            topic: Some(self.topic.clone()),
            entries: messages
                .iter()
                .map(|message| v2::AckMessageEntry {
                    message_id: message.message_id.clone(),
                    receipt_handle: message.handle.clone(),
                    lite_topic: None,
                })
                .collect(),
        };
        let timeout = self.connection.timeout();
        let response = self
            .connection
            .call(timeout, |channel| {
                let request = self.connection.request(request.clone(), timeout);
                async move { service(channel).ack_message(request).await }
            })
            .await?
            .into_inner();
        if response.entries.len() != messages.len() {
            check(response.status)?;
            return Err(Error::Malformed("not one ack result for each message"));
        }
        let results: Vec<_> = response.entries.into_iter().map(|entry| check(entry.status)).collect();
        // An ack may be repeated harmlessly, so one retryable entry repeats the request.
        match results.iter().find_map(|result| result.as_ref().err().filter(|error| error.is_retryable())) {
            Some(error) => Err(error.clone()),
            None => Ok(results),
        }
    }

    /// Lets the lease end `invisible_for` from now; zero gives the message back. The message gets its new handle.
    pub async fn change_invisible(&self, message: &mut Received, invisible_for: Duration) -> Result<(), Error> {
        let request = v2::ChangeInvisibleDurationRequest {
            group: Some(self.group.clone()),
            topic: Some(self.topic.clone()),
            receipt_handle: message.handle.clone(),
            invisible_duration: Some(wire_duration(invisible_for)),
            message_id: message.message_id.clone(),
            ..Default::default()
        };
        let timeout = self.connection.timeout();
        let response = self
            .connection
            .call(timeout, |channel| {
                let request = self.connection.request(request.clone(), timeout);
                async move { service(channel).change_invisible_duration(request).await }
            })
            .await?
            .into_inner();
        check(response.status)?;
        message.handle = response.receipt_handle;
        Ok(())
    }

    /// Ends this member's session. Its leases end by themselves.
    pub async fn close(&self) -> Result<(), Error> {
        let request = v2::NotifyClientTerminationRequest { group: Some(self.group.clone()) };
        let timeout = self.connection.timeout();
        let response = self
            .connection
            .call(timeout, |channel| {
                let request = self.connection.request(request.clone(), timeout);
                async move { service(channel).notify_client_termination(request).await }
            })
            .await?;
        check(response.into_inner().status)
    }
}

fn service(channel: Channel) -> MessagingServiceClient<Channel> {
    MessagingServiceClient::new(channel).max_decoding_message_size(limits::REQUEST_BYTES_MAX)
}

fn wire_duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: length.subsec_nanos() as i32,
    }
}

fn received(message: v2::Message) -> Result<Received, Error> {
    let system = message.system_properties.ok_or(Error::Malformed("a message without system properties"))?;
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let time = |at: prost_types::Timestamp| {
        let millis = at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos / 1_000_000));
        Timestamp(number(Some(millis)).unwrap_or_default())
    };
    Ok(Received {
        kind: system.message_type().as_str_name().to_owned(),
        is_gzip: system.body_encoding() == v2::Encoding::Gzip,
        topic: message.topic.map(|topic| topic.name).unwrap_or_default(),
        queue: u32::try_from(system.queue_id).map_err(|_| Error::Malformed("a negative queue id"))?,
        queue_offset: number(system.queue_offset).ok_or(Error::Malformed("a message without queue offset"))?,
        message_id: system.message_id,
        tag: system.tag,
        keys: system.keys,
        properties: message.user_properties,
        attempt: system.delivery_attempt.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1),
        born_at: system.born_timestamp.map(time).unwrap_or_default(),
        born_host: system.born_host,
        stored_at: system.store_timestamp.map(time).unwrap_or_default(),
        store_host: system.store_host,
        delivery_at: system.delivery_timestamp.map(time),
        message_group: system.message_group,
        priority: system.priority,
        died_in: system.dead_letter_queue.map(|before| (before.topic, before.message_id)),
        body: message.body,
        handle: system.receipt_handle.ok_or(Error::Malformed("a message without receipt handle"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_without_offset_or_handle_is_refused() {
        let system = v2::SystemProperties {
            queue_id: 3,
            queue_offset: Some(7),
            receipt_handle: Some("h".into()),
            delivery_attempt: Some(2),
            born_timestamp: Some(prost_types::Timestamp { seconds: 1, nanos: 5_000_000 }),
            ..Default::default()
        };
        let of = |system: v2::SystemProperties| {
            received(v2::Message { system_properties: Some(system), ..Default::default() })
        };
        let message = of(system.clone()).unwrap();
        assert_eq!((message.queue, message.queue_offset, message.attempt), (3, 7, 2));
        assert_eq!(message.born_at, Timestamp(1005));
        assert!(of(v2::SystemProperties { queue_offset: None, ..system.clone() }).is_err());
        assert!(of(v2::SystemProperties { receipt_handle: None, ..system.clone() }).is_err());
        assert!(of(v2::SystemProperties { queue_id: -1, ..system }).is_err());
    }
}
