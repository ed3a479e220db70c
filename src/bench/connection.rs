//! One connection to the measured endpoint, opened as the official clients open theirs: route, settings
//! over Telemetry, assignments. Nothing here knows whose server answers.

use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use crate::bench::Error;
use crate::client::Address;
use crate::proto::v2;
use crate::proto::v2::messaging_service_client::MessagingServiceClient;
use crate::proto::v2::receive_message_response::Content;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Time for the requests of the start, and for sends and acks.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A session lasts longer than any run.
const SESSION: Duration = Duration::from_secs(24 * 3600);
/// RocketMQ's shortest long poll.
pub(super) const POLL: Duration = Duration::from_secs(5);
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// What a connection is opened for.
pub(super) struct Purpose<'a> {
    pub address: &'a Address,
    pub topic: &'a str,
    pub group: &'a str,
    pub client_id: String,
    /// Whether it will receive.
    pub consumes: bool,
    /// How long it keeps what it received.
    pub invisible: Duration,
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Connection {
    client: MessagingServiceClient<Channel>,
    headers: MetadataMap,
    topic: v2::Resource,
    group: v2::Resource,
    invisible: Duration,
    /// Queues to send to.
    pub writable: Vec<i32>,
    /// Queues to receive from, as the server assigned them.
    pub assigned: Vec<v2::MessageQueue>,
}

/// What one poll brought.
pub(super) struct Polled {
    pub messages: Vec<v2::Message>,
    /// What the server said if it gave none.
    pub code: i32,
}

fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

fn duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

/// The text of a code, whichever version of the protocol the server speaks.
pub(super) fn code_name(code: i32) -> String {
    v2::Code::try_from(code).map_or_else(|_| code.to_string(), |code| code.as_str_name().to_owned())
}

fn check(what: &str, status: Option<v2::Status>) -> Result<(), Error> {
    let status = status.unwrap_or_default();
    if status.code == v2::Code::Ok as i32 {
        return Ok(());
    }
    Err(Error::Refused { what: what.to_owned(), code: code_name(status.code), text: status.message })
}

impl Connection {
    /// Connects and starts a session. The session's answers must be kept for as long as the connection is used.
    pub async fn open(purpose: Purpose<'_>) -> Result<(Self, Streaming<v2::TelemetryCommand>), Error> {
        let unreachable = |reason: String| Error::Connect { address: purpose.address.to_string(), reason };
        let channel = Endpoint::from_shared(format!("http://{}", purpose.address))
            .map_err(|error| unreachable(error.to_string()))?
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect()
            .await
            .map_err(|error| unreachable(root(&error)))?;
        let mut connection = Self {
            client: MessagingServiceClient::new(channel).max_decoding_message_size(usize::MAX),
            headers: headers(&purpose.client_id),
            topic: resource(purpose.topic),
            group: resource(purpose.group),
            invisible: purpose.invisible,
            writable: Vec::new(),
            assigned: Vec::new(),
        };
        let endpoints = endpoints(purpose.address);
        let route = v2::QueryRouteRequest { topic: Some(connection.topic.clone()), endpoints: Some(endpoints.clone()) };
        let route = connection.client.query_route(connection.request(route, ANSWER_WITHIN)).await?.into_inner();
        check("QueryRoute", route.status)?;
        let can_write = |queue: &&v2::MessageQueue| queue.permission() != v2::Permission::Read;
        connection.writable = route.message_queues.iter().filter(can_write).map(|queue| queue.id).collect();
        let session = connection.settings(purpose.consumes).await?;
        if purpose.consumes {
            let request = v2::QueryAssignmentRequest {
                topic: Some(connection.topic.clone()),
                group: Some(connection.group.clone()),
                endpoints: Some(endpoints),
            };
            let answer =
                connection.client.query_assignment(connection.request(request, ANSWER_WITHIN)).await?.into_inner();
            check("QueryAssignment", answer.status)?;
            connection.assigned = answer.assignments.into_iter().filter_map(|one| one.message_queue).collect();
        }
        Ok((connection, session))
    }

    async fn settings(&mut self, consumes: bool) -> Result<Streaming<v2::TelemetryCommand>, Error> {
        let pub_sub = if consumes {
            let expression = v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: "*".to_owned() };
            let entry = v2::SubscriptionEntry { topic: Some(self.topic.clone()), expression: Some(expression) };
            v2::settings::PubSub::Subscription(v2::Subscription {
                group: Some(self.group.clone()),
                subscriptions: vec![entry],
                ..Default::default()
            })
        } else {
            let topics = vec![self.topic.clone()];
            v2::settings::PubSub::Publishing(v2::Publishing { topics, ..Default::default() })
        };
        let client_type = if consumes { v2::ClientType::SimpleConsumer } else { v2::ClientType::Producer };
        let settings = v2::Settings {
            client_type: Some(client_type.into()),
            request_timeout: Some(duration(ANSWER_WITHIN)),
            pub_sub: Some(pub_sub),
            ..Default::default()
        };
        let command =
            v2::TelemetryCommand { status: None, command: Some(v2::telemetry_command::Command::Settings(settings)) };
        // The request side stays open: closing it ends the session.
        let commands = futures_util::StreamExt::chain(tokio_stream::once(command), tokio_stream::pending());
        let mut answers = self.client.telemetry(self.request(commands, SESSION)).await?.into_inner();
        let answer = answers.message().await?.unwrap_or_default();
        // RocketMQ's proxy may leave the status of a settings answer out.
        if answer.status.is_some() {
            check("Telemetry", answer.status)?;
        }
        Ok(answers)
    }

    fn request<T>(&self, message: T, within: Duration) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request.set_timeout(within);
        request
    }

    /// Sends messages in one request; the answers by message.
    pub async fn send(&mut self, messages: Vec<v2::Message>) -> Result<v2::SendMessageResponse, tonic::Status> {
        let request = self.request(v2::SendMessageRequest { messages }, ANSWER_WITHIN);
        Ok(self.client.send_message(request).await?.into_inner())
    }

    /// One long poll on an assigned queue.
    pub async fn receive(&mut self, turn: usize, batch: u32) -> Result<Polled, tonic::Status> {
        let queue = self.assigned.get(turn % self.assigned.len().max(1)).cloned();
        let request = v2::ReceiveMessageRequest {
            group: Some(self.group.clone()),
            message_queue: queue
                .or_else(|| Some(v2::MessageQueue { topic: Some(self.topic.clone()), id: -1, ..Default::default() })),
            filter_expression: Some(v2::FilterExpression {
                r#type: v2::FilterType::Tag.into(),
                expression: "*".to_owned(),
            }),
            batch_size: i32::try_from(batch).unwrap_or(i32::MAX),
            invisible_duration: Some(duration(self.invisible)),
            long_polling_timeout: Some(duration(POLL)),
            ..Default::default()
        };
        let request = self.request(request, POLL + ANSWER_WITHIN);
        let mut items = self.client.receive_message(request).await?.into_inner();
        let mut polled = Polled { messages: Vec::new(), code: v2::Code::Ok.into() };
        while let Some(item) = items.message().await? {
            match item.content {
                Some(Content::Message(message)) => polled.messages.push(message),
                Some(Content::Status(status)) => polled.code = status.code,
                Some(Content::DeliveryTimestamp(_)) | None => {}
            }
        }
        Ok(polled)
    }

    /// Acknowledges deliveries in one request; how many the server took.
    pub async fn ack(&mut self, entries: Vec<v2::AckMessageEntry>) -> Result<usize, tonic::Status> {
        let count = entries.len();
        let request =
            v2::AckMessageRequest { group: Some(self.group.clone()), topic: Some(self.topic.clone()), entries };
        let answer = self.client.ack_message(self.request(request, ANSWER_WITHIN)).await?.into_inner();
        let is_ok = |status: &Option<v2::Status>| status.as_ref().is_some_and(|status| status.code == 20_000);
        if answer.entries.is_empty() && is_ok(&answer.status) {
            return Ok(count);
        }
        Ok(answer.entries.iter().filter(|entry| is_ok(&entry.status)).count())
    }

    /// The topic as messages name it.
    pub fn topic(&self) -> v2::Resource {
        self.topic.clone()
    }
}

/// How many messages of a request are stored for certain, and the first reason for those that are not.
pub(super) fn stored(answer: &Result<v2::SendMessageResponse, tonic::Status>, batch: usize) -> (usize, String) {
    let response = match answer {
        Ok(response) => response,
        Err(status) => return (0, format!("gRPC {:?}", status.code())),
    };
    let ok = v2::Code::Ok as i32;
    let code = |status: &Option<v2::Status>| status.as_ref().map_or(0, |status| status.code);
    // RocketMQ answers a request of many messages with one entry for all of them.
    let all_taken = !response.entries.is_empty() && response.entries.iter().all(|entry| code(&entry.status) == ok);
    if code(&response.status) == ok && all_taken {
        return (batch, String::new());
    }
    let refused = response.entries.iter().map(|entry| code(&entry.status)).find(|code| *code != ok);
    (0, code_name(refused.unwrap_or_else(|| code(&response.status))))
}

/// The innermost cause, which names the trouble.
fn root(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

fn headers(client_id: &str) -> MetadataMap {
    let mut headers = MetadataMap::new();
    headers.insert("x-mq-language", MetadataValue::from_static("JAVA"));
    headers.insert("x-mq-client-version", MetadataValue::from_static("5.0.7"));
    headers.insert("x-mq-protocol", MetadataValue::from_static("v2"));
    let client_id = MetadataValue::try_from(client_id).expect("made of visible ASCII letters");
    headers.insert("x-mq-request-id", client_id.clone());
    headers.insert("x-mq-client-id", client_id);
    headers
}

fn endpoints(address: &Address) -> v2::Endpoints {
    let scheme = match address.host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => v2::AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => v2::AddressScheme::IPv6,
        Err(_) => v2::AddressScheme::DomainName,
    };
    let address = v2::Address { host: address.host.clone(), port: address.port.into() };
    v2::Endpoints { scheme: scheme.into(), addresses: vec![address] }
}
