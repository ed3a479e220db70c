//! What every verb works with: the node and its shard, the settings, and who calls.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::broker::{Broker, ClientInfo, Deadline, Share};
use crate::edge::grpc::call_times::{Call, CallTimes, Coded};
use crate::edge::grpc::codes::Refused;
use crate::edge::grpc::convert;
use crate::edge::peer::RemoteAddress;
use crate::edge::rules;
use crate::model::{GroupName, Millis, TopicName};
use crate::node::{ClientHeader, Node};
use crate::proto::v2;

/// Settings of the front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeSettings {
    /// `maxMessageSize`.
    pub body_bytes_max: usize,
    /// `timerMaxDelaySec`.
    pub delay_max: Millis,
}

/// The service over a node. Cheap to clone.
#[derive(Clone)]
pub struct Messaging {
    pub(super) node: Arc<Node>,
    /// The node's shard.
    pub(super) broker: Arc<Broker>,
    pub(super) settings: EdgeSettings,
    pub(super) call_times: Arc<CallTimes>,
}

/// Who calls, and how long they wait.
pub(super) struct Caller {
    pub client: Arc<ClientInfo>,
    /// Of resources that name none: the Node client says it in a header only.
    pub namespace: String,
    pub asked_at: Instant,
    pub timeout: Option<Duration>,
}

impl Caller {
    /// The topic that a resource of this request names.
    pub fn topic(&self, resource: Option<&v2::Resource>) -> Result<TopicName, Refused> {
        convert::topic(resource, &self.namespace)
    }

    /// The consumer group that a resource of this request names.
    pub fn group(&self, resource: Option<&v2::Resource>) -> Result<GroupName, Refused> {
        convert::group(resource, &self.namespace)
    }

    pub fn deadline(&self) -> Deadline {
        self.timeout.and_then(|timeout| self.asked_at.checked_add(timeout)).map_or(Deadline::NONE, Deadline::at)
    }
}

/// The items of a streaming answer.
pub(super) type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Messaging {
    pub fn new(node: Arc<Node>, settings: EdgeSettings) -> Self {
        Self { broker: node.broker().clone(), node, settings, call_times: Arc::default() }
    }

    /// How long calls took.
    pub fn call_times(&self) -> &Arc<CallTimes> {
        &self.call_times
    }

    /// An answer in time: how long it took is noted.
    pub(super) async fn timed<T: Coded>(&self, call: Call, answering: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let answer = answering.await;
        self.call_times.note(call, answer.code(), began.elapsed());
        answer
    }

    /// Reads the headers; every request renews its client's session.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Refused> {
        let text_of =
            |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let header = ClientHeader {
            client_id: text_of("x-mq-client-id"),
            language: text_of("x-mq-language"),
            version: text_of("x-mq-client-version"),
            address: request.extensions().get::<RemoteAddress>().map_or("", |peer| &*peer.text),
        };
        rules::client::id("header x-mq-client-id", header.client_id)?;
        rules::client::text("header x-mq-client-id", header.client_id)?;
        rules::client::text("header x-mq-language", header.language)?;
        rules::client::text("header x-mq-client-version", header.version)?;
        let client = self.node.sessions().seen(header);
        let namespace = text_of("x-mq-namespace").to_owned();
        Ok(Caller { client, namespace, asked_at: Instant::now(), timeout: grpc_timeout(text_of("grpc-timeout")) })
    }
}

/// The share of the connection's client for what its answers hold.
pub(super) fn answers_of<T>(request: &Request<T>) -> Option<Share> {
    request.extensions().get::<RemoteAddress>().and_then(|peer| peer.answers.clone())
}

/// The `grpc-timeout` header: up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_read() {
        assert_eq!(grpc_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(grpc_timeout("2999m"), Some(Duration::from_millis(2999)));
        assert_eq!(grpc_timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(grpc_timeout("5000000u"), Some(Duration::from_secs(5)));
        assert_eq!(grpc_timeout(""), None);
        assert_eq!(grpc_timeout("x"), None);
        assert_eq!(grpc_timeout("3é"), None);
    }
}
