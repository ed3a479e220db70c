//! `apache.rocketmq.v2.MessagingService`: one file per verb.
//!
//! Application failures travel in the response's status with gRPC OK (contract §4.1): gRPC errors make
//! the official clients isolate the endpoint and hide the reason.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::broker::{Broker, ClientInfo, Deadline};
use crate::edge::grpc::codes::{Refused, status};
use crate::edge::listener::RemoteAddress;
use crate::model::Millis;
use crate::model::limits::CLIENT_TEXT_BYTES_MAX;
use crate::node::{ClientHeader, Node};
use crate::proto::v2;
use crate::proto::v2::Code;
use crate::proto::v2::messaging_service_server::MessagingService;

/// Settings of the front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeSettings {
    /// `maxMessageSize`.
    pub body_bytes_max: usize,
    /// `timerMaxDelaySec`.
    pub delay_max: Millis,
}

/// See the module.
#[derive(Clone)]
pub struct Messaging {
    node: Arc<Node>,
    /// The node's shard.
    broker: Arc<Broker>,
    settings: EdgeSettings,
}

/// Who calls, and how long they wait.
struct Caller {
    client: Arc<ClientInfo>,
    asked_at: Instant,
    timeout: Option<Duration>,
}

impl Caller {
    fn deadline(&self) -> Deadline {
        self.timeout.and_then(|timeout| self.asked_at.checked_add(timeout)).map_or(Deadline::NONE, Deadline::at)
    }
}

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Messaging {
    /// Over a node.
    pub fn new(node: Arc<Node>, settings: EdgeSettings) -> Self {
        Self { broker: node.broker().clone(), node, settings }
    }

    /// Reads the headers; every request renews its client's session.
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Refused> {
        let text_of =
            |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let header = ClientHeader {
            client_id: text_of("x-mq-client-id"),
            language: text_of("x-mq-language"),
            version: text_of("x-mq-client-version"),
            address: request.extensions().get::<RemoteAddress>().map_or("", |peer| &peer.0),
        };
        if header.client_id.trim().is_empty() {
            return Err(Refused::new(Code::ClientIdRequired, "the header x-mq-client-id is missing or blank"));
        }
        for (name, text) in [
            ("x-mq-client-id", header.client_id),
            ("x-mq-language", header.language),
            ("x-mq-client-version", header.version),
        ] {
            if text.len() > CLIENT_TEXT_BYTES_MAX {
                let text = format!("the header {name} of {} bytes is longer than {CLIENT_TEXT_BYTES_MAX}", text.len());
                return Err(Refused::new(Code::BadRequest, text));
            }
        }
        let client = self.node.sessions().seen(header);
        Ok(Caller { client, asked_at: Instant::now(), timeout: grpc_timeout(text_of("grpc-timeout")) })
    }
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

/// The name in a resource.
fn name(resource: Option<&v2::Resource>) -> &str {
    resource.map_or("", |resource| resource.name.as_str())
}

impl Messaging {
    /// The answer of a verb that is not served yet.
    fn not_implemented<T>(&self, request: &Request<T>, what: &str) -> v2::Status {
        match self.caller(request) {
            Ok(_) => status(Code::NotImplemented, format!("{what} is not implemented")),
            Err(refused) => refused.status(),
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl MessagingService for Messaging {
    type ReceiveMessageStream = Items<v2::ReceiveMessageResponse>;
    type PullMessageStream = Items<v2::PullMessageResponse>;
    type TelemetryStream = Items<v2::TelemetryCommand>;

    async fn query_route(&self, request: Request<v2::QueryRouteRequest>) -> Answer<v2::QueryRouteResponse> {
        Ok(Response::new(route::query_route(self, request).await))
    }

    async fn heartbeat(&self, request: Request<v2::HeartbeatRequest>) -> Answer<v2::HeartbeatResponse> {
        Ok(Response::new(v2::HeartbeatResponse { status: Some(session::heartbeat(self, &request).await) }))
    }

    async fn send_message(&self, request: Request<v2::SendMessageRequest>) -> Answer<v2::SendMessageResponse> {
        Ok(Response::new(send::send(self, request).await))
    }

    async fn query_assignment(
        &self,
        request: Request<v2::QueryAssignmentRequest>,
    ) -> Answer<v2::QueryAssignmentResponse> {
        Ok(Response::new(route::query_assignment(self, request).await))
    }

    async fn receive_message(&self, request: Request<v2::ReceiveMessageRequest>) -> Answer<Self::ReceiveMessageStream> {
        Ok(Response::new(receive::receive(self.clone(), request)))
    }

    async fn ack_message(&self, request: Request<v2::AckMessageRequest>) -> Answer<v2::AckMessageResponse> {
        Ok(Response::new(ack::ack(self, request).await))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<v2::ForwardMessageToDeadLetterQueueResponse> {
        let status = Some(dead_letter::forward(self, request).await);
        Ok(Response::new(v2::ForwardMessageToDeadLetterQueueResponse { status }))
    }

    async fn pull_message(&self, request: Request<v2::PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        Ok(Response::new(offset::pull(self.clone(), request)))
    }

    async fn update_offset(&self, request: Request<v2::UpdateOffsetRequest>) -> Answer<v2::UpdateOffsetResponse> {
        Ok(Response::new(v2::UpdateOffsetResponse { status: Some(offset::update(self, request).await) }))
    }

    async fn get_offset(&self, request: Request<v2::GetOffsetRequest>) -> Answer<v2::GetOffsetResponse> {
        Ok(Response::new(offset::get(self, request).await))
    }

    async fn query_offset(&self, request: Request<v2::QueryOffsetRequest>) -> Answer<v2::QueryOffsetResponse> {
        Ok(Response::new(offset::query(self, request).await))
    }

    async fn end_transaction(&self, request: Request<v2::EndTransactionRequest>) -> Answer<v2::EndTransactionResponse> {
        Ok(Response::new(v2::EndTransactionResponse { status: Some(transaction::end(self, request).await) }))
    }

    async fn telemetry(&self, request: Request<Streaming<v2::TelemetryCommand>>) -> Answer<Self::TelemetryStream> {
        Ok(Response::new(session::telemetry(self.clone(), request)))
    }

    async fn notify_client_termination(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Answer<v2::NotifyClientTerminationResponse> {
        let status = Some(session::terminated(self, &request).await);
        Ok(Response::new(v2::NotifyClientTerminationResponse { status }))
    }

    async fn change_invisible_duration(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Answer<v2::ChangeInvisibleDurationResponse> {
        Ok(Response::new(invisible::change(self, request).await))
    }

    async fn recall_message(&self, request: Request<v2::RecallMessageRequest>) -> Answer<v2::RecallMessageResponse> {
        Ok(Response::new(delay::recall(self, request).await))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Answer<v2::SyncLiteSubscriptionResponse> {
        Ok(Response::new(v2::SyncLiteSubscriptionResponse {
            status: Some(self.not_implemented(&request, "SyncLiteSubscription")),
        }))
    }
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
pub(super) mod ack;
pub(super) mod dead_letter;
pub(in crate::edge) mod delay;
pub(super) mod invisible;
pub(super) mod offset;
pub(super) mod receive;
pub(super) mod route;
pub(super) mod send;
pub(super) mod session;
pub(super) mod transaction;
