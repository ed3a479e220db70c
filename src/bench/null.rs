//! The floor of a run: a plain tonic server of the same protocol that answers at once and keeps nothing.
//!
//! Not here: anything of ours. Its transport is tonic's own on a multi-thread runtime, as any tonic service
//! would have it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::bench::Error;
use crate::client::{Address, Endpoints};
use crate::env::process;
use crate::proto::v2;
use crate::proto::v2::messaging_service_server::{MessagingService, MessagingServiceServer};

const START_STEPS: usize = 200;
const START_STEP: Duration = Duration::from_millis(10);
const QUEUES: i32 = 8;

/// The server in a process of its own; ends with it.
pub struct NullServer {
    child: Child,
    /// Where it listens.
    pub endpoints: Endpoints,
}

impl NullServer {
    /// Starts it on a free port of this machine.
    pub fn start() -> Result<Self, Error> {
        let machine = |error: std::io::Error| Error::Machine(format!("the null server does not start: {error}"));
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(machine)?.port();
        let address = Address { host: "127.0.0.1".to_owned(), port };
        let endpoints = Endpoints::parse(&address.to_string()).map_err(|error| Error::Machine(error.to_string()))?;
        let program = std::env::current_exe().map_err(machine)?;
        let child = Command::new(program)
            .args(["bench", "null", "--serve", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(machine)?;
        let server = Self { child, endpoints };
        for _ in 0..START_STEPS {
            if process::listener_of(port).is_some() {
                return Ok(server);
            }
            std::thread::sleep(START_STEP);
        }
        Err(Error::Machine(format!("the null server does not listen on {address}")))
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        // It has nothing to lose; if it is gone already, so much the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until the process is ended.
pub fn serve(address: SocketAddr) -> Result<(), Error> {
    let machine = |error: &dyn std::error::Error| Error::Machine(error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| machine(&error))?;
    let service = MessagingServiceServer::new(Null::default()).max_decoding_message_size(usize::MAX);
    let server = tonic::transport::Server::builder().tcp_nodelay(true).add_service(service).serve(address);
    runtime.block_on(server).map_err(|error| machine(&error))
}

#[derive(Default)]
struct Null {
    offset: AtomicI64,
}

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

fn ok() -> Option<v2::Status> {
    Some(v2::Status { code: v2::Code::Ok.into(), message: "OK".to_owned() })
}

fn absent() -> Status {
    Status::unimplemented("the null server only takes sends")
}

#[tonic::async_trait]
impl MessagingService for Null {
    type ReceiveMessageStream = Items<v2::ReceiveMessageResponse>;
    type PullMessageStream = Items<v2::PullMessageResponse>;
    type TelemetryStream = Items<v2::TelemetryCommand>;

    async fn query_route(&self, request: Request<v2::QueryRouteRequest>) -> Answer<v2::QueryRouteResponse> {
        let request = request.into_inner();
        let broker = v2::Broker { name: "null".to_owned(), id: 0, endpoints: request.endpoints };
        let queue = |id| v2::MessageQueue {
            topic: request.topic.clone(),
            id,
            permission: v2::Permission::ReadWrite.into(),
            broker: Some(broker.clone()),
            accept_message_types: vec![v2::MessageType::Normal.into()],
        };
        let message_queues = (0..QUEUES).map(queue).collect();
        Ok(Response::new(v2::QueryRouteResponse { status: ok(), message_queues }))
    }

    async fn heartbeat(&self, _: Request<v2::HeartbeatRequest>) -> Answer<v2::HeartbeatResponse> {
        Ok(Response::new(v2::HeartbeatResponse { status: ok() }))
    }

    async fn send_message(&self, request: Request<v2::SendMessageRequest>) -> Answer<v2::SendMessageResponse> {
        let entries = request.into_inner().messages.into_iter().map(|message| v2::SendResultEntry {
            status: ok(),
            message_id: message.system_properties.unwrap_or_default().message_id,
            offset: self.offset.fetch_add(1, Ordering::Relaxed),
            ..Default::default()
        });
        Ok(Response::new(v2::SendMessageResponse { status: ok(), entries: entries.collect() }))
    }

    async fn telemetry(&self, request: Request<Streaming<v2::TelemetryCommand>>) -> Answer<Self::TelemetryStream> {
        let answers = request.into_inner().map(|command| {
            let command = command?.command;
            Ok(v2::TelemetryCommand { status: ok(), command })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn query_assignment(&self, _: Request<v2::QueryAssignmentRequest>) -> Answer<v2::QueryAssignmentResponse> {
        Err(absent())
    }

    async fn receive_message(&self, _: Request<v2::ReceiveMessageRequest>) -> Answer<Self::ReceiveMessageStream> {
        Err(absent())
    }

    async fn ack_message(&self, _: Request<v2::AckMessageRequest>) -> Answer<v2::AckMessageResponse> {
        Err(absent())
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        _: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<v2::ForwardMessageToDeadLetterQueueResponse> {
        Err(absent())
    }

    async fn pull_message(&self, _: Request<v2::PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        Ok(Response::new(Box::pin(stream::once(std::future::ready(Err(absent()))))))
    }

    async fn update_offset(&self, _: Request<v2::UpdateOffsetRequest>) -> Answer<v2::UpdateOffsetResponse> {
        Err(absent())
    }

    async fn get_offset(&self, _: Request<v2::GetOffsetRequest>) -> Answer<v2::GetOffsetResponse> {
        Err(absent())
    }

    async fn query_offset(&self, _: Request<v2::QueryOffsetRequest>) -> Answer<v2::QueryOffsetResponse> {
        Err(absent())
    }

    async fn end_transaction(&self, _: Request<v2::EndTransactionRequest>) -> Answer<v2::EndTransactionResponse> {
        Err(absent())
    }

    async fn notify_client_termination(
        &self,
        _: Request<v2::NotifyClientTerminationRequest>,
    ) -> Answer<v2::NotifyClientTerminationResponse> {
        Ok(Response::new(v2::NotifyClientTerminationResponse { status: ok() }))
    }

    async fn change_invisible_duration(
        &self,
        _: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Answer<v2::ChangeInvisibleDurationResponse> {
        Err(absent())
    }

    async fn recall_message(&self, _: Request<v2::RecallMessageRequest>) -> Answer<v2::RecallMessageResponse> {
        Err(absent())
    }

    async fn sync_lite_subscription(
        &self,
        _: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Answer<v2::SyncLiteSubscriptionResponse> {
        Err(absent())
    }
}
