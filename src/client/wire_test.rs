//! The client against a scripted server on a real socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::model::Timestamp;
use crate::proto::v2;
use crate::proto::v2::messaging_service_server::{MessagingService, MessagingServiceServer};
use crate::proto::v2::receive_message_response::Content;

use crate::client::{ClientIdentity, Connection, Consumer, Endpoints, Error, FilterText, Outgoing, Producer};

type Stream<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// What the server was asked, and which message it refuses the first time.
#[derive(Default)]
struct Script {
    sends: Mutex<Vec<Vec<String>>>,
    acks: Mutex<Vec<String>>,
    hold_for: Duration,
}

fn status(code: v2::Code) -> Option<v2::Status> {
    Some(v2::Status { code: code as i32, message: code.as_str_name().into() })
}

#[tonic::async_trait]
impl MessagingService for Arc<Script> {
    type ReceiveMessageStream = Stream<v2::ReceiveMessageResponse>;
    type PullMessageStream = Stream<v2::PullMessageResponse>;
    type TelemetryStream = Stream<v2::TelemetryCommand>;

    /// Refuses the second message of the first request, as while a leader is elected.
    async fn send_message(
        &self,
        request: Request<v2::SendMessageRequest>,
    ) -> Result<Response<v2::SendMessageResponse>, Status> {
        tokio::time::sleep(self.hold_for).await;
        assert!(request.metadata().contains_key("x-mq-client-id"));
        let messages = request.into_inner().messages;
        if messages.iter().any(|message| message.topic.as_ref().unwrap().name == "nope") {
            let response = v2::SendMessageResponse { status: status(v2::Code::TopicNotFound), entries: Vec::new() };
            return Ok(Response::new(response));
        }
        let ids: Vec<String> =
            messages.into_iter().map(|message| message.system_properties.unwrap().message_id).collect();
        let mut sends = self.sends.lock();
        sends.push(ids.clone());
        let is_first = sends.len() == 1;
        let entries = ids
            .into_iter()
            .enumerate()
            .map(|(at, message_id)| {
                let code = if is_first && at == 1 { v2::Code::HaNotAvailable } else { v2::Code::Ok };
                v2::SendResultEntry { status: status(code), message_id, offset: at as i64, ..Default::default() }
            })
            .collect();
        let code = if is_first { v2::Code::MultipleResults } else { v2::Code::Ok };
        Ok(Response::new(v2::SendMessageResponse { status: status(code), entries }))
    }

    /// Hands out one message, then nothing once it is acknowledged.
    async fn receive_message(
        &self,
        _: Request<v2::ReceiveMessageRequest>,
    ) -> Result<Response<Self::ReceiveMessageStream>, Status> {
        let item = |content| Ok(v2::ReceiveMessageResponse { content: Some(content) });
        let items = if self.acks.lock().is_empty() {
            let system = v2::SystemProperties {
                message_id: "id".into(),
                queue_offset: Some(4),
                receipt_handle: Some("h1".into()),
                ..Default::default()
            };
            vec![
                item(Content::Status(status(v2::Code::Ok).unwrap())),
                item(Content::Message(v2::Message {
                    system_properties: Some(system),
                    body: Bytes::from_static(b"hi"),
                    ..Default::default()
                })),
                item(Content::DeliveryTimestamp(prost_types::Timestamp::default())),
            ]
        } else {
            vec![item(Content::Status(status(v2::Code::MessageNotFound).unwrap()))]
        };
        Ok(Response::new(tokio_stream::iter(items)))
    }

    async fn ack_message(
        &self,
        request: Request<v2::AckMessageRequest>,
    ) -> Result<Response<v2::AckMessageResponse>, Status> {
        let mut acks = self.acks.lock();
        let entries = request
            .into_inner()
            .entries
            .into_iter()
            .map(|entry| {
                let code = if entry.receipt_handle == "old" { v2::Code::InvalidReceiptHandle } else { v2::Code::Ok };
                acks.push(entry.receipt_handle.clone());
                v2::AckMessageResultEntry {
                    status: status(code),
                    message_id: entry.message_id,
                    receipt_handle: entry.receipt_handle,
                }
            })
            .collect();
        Ok(Response::new(v2::AckMessageResponse { status: status(v2::Code::MultipleResults), entries }))
    }

    async fn change_invisible_duration(
        &self,
        _: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Result<Response<v2::ChangeInvisibleDurationResponse>, Status> {
        let response =
            v2::ChangeInvisibleDurationResponse { status: status(v2::Code::Ok), receipt_handle: "h2".into() };
        Ok(Response::new(response))
    }

    async fn heartbeat(&self, _: Request<v2::HeartbeatRequest>) -> Result<Response<v2::HeartbeatResponse>, Status> {
        Ok(Response::new(v2::HeartbeatResponse { status: status(v2::Code::Ok) }))
    }

    async fn pull_message(
        &self,
        _: Request<v2::PullMessageRequest>,
    ) -> Result<Response<Self::PullMessageStream>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn telemetry(
        &self,
        _: Request<tonic::Streaming<v2::TelemetryCommand>>,
    ) -> Result<Response<Self::TelemetryStream>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn query_route(&self, _: Request<v2::QueryRouteRequest>) -> Result<Response<v2::QueryRouteResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn query_assignment(
        &self,
        _: Request<v2::QueryAssignmentRequest>,
    ) -> Result<Response<v2::QueryAssignmentResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        _: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<Response<v2::ForwardMessageToDeadLetterQueueResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn update_offset(
        &self,
        _: Request<v2::UpdateOffsetRequest>,
    ) -> Result<Response<v2::UpdateOffsetResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn get_offset(&self, _: Request<v2::GetOffsetRequest>) -> Result<Response<v2::GetOffsetResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn query_offset(
        &self,
        _: Request<v2::QueryOffsetRequest>,
    ) -> Result<Response<v2::QueryOffsetResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn end_transaction(
        &self,
        _: Request<v2::EndTransactionRequest>,
    ) -> Result<Response<v2::EndTransactionResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn notify_client_termination(
        &self,
        _: Request<v2::NotifyClientTerminationRequest>,
    ) -> Result<Response<v2::NotifyClientTerminationResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn recall_message(
        &self,
        _: Request<v2::RecallMessageRequest>,
    ) -> Result<Response<v2::RecallMessageResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn sync_lite_subscription(
        &self,
        _: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Result<Response<v2::SyncLiteSubscriptionResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }
}

/// Serves `script` on a free port; dropping the sender of the answer ends it.
async fn serve(script: Arc<Script>) -> (String, tokio::sync::oneshot::Sender<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let stopped = async {
            // An error means the test has ended, which is as good.
            let _ = stopped.await;
        };
        Server::builder()
            .add_service(MessagingServiceServer::new(script))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped)
            .await
            .unwrap();
    });
    (address, stop)
}

fn connect(endpoints: &str, timeout: Duration) -> Arc<Connection> {
    let identity = ClientIdentity {
        host: "test".into(),
        process_id: 1,
        unique: 2,
        now: || Timestamp(1_795_255_331_000),
        tls: None,
    };
    Arc::new(Connection::new(&Endpoints::parse(endpoints).unwrap(), timeout, identity).unwrap())
}

/// An address where nobody listens.
fn dead_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn message(text: &'static str) -> Outgoing {
    Outgoing { body: Bytes::from_static(text.as_bytes()), ..Default::default() }
}

const TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn only_the_refused_message_is_sent_again_and_under_its_id() {
    let script = Arc::new(Script::default());
    let (address, _stop) = serve(script.clone()).await;
    // The first node is dead, so each request also has to go on to the next.
    let producer = Producer::new(connect(&format!("{};{address}", dead_address()), TIMEOUT));
    let results = producer.send("demo", vec![message("a"), message("b"), message("c")], TIMEOUT).await;
    let sent: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    let sends = script.sends.lock().clone();
    assert_eq!(sends.len(), 2);
    assert_eq!(sends[0].len(), 3);
    assert_eq!(sends[1], [sends[0][1].clone()]);
    assert_eq!(sent.iter().map(|sent| sent.message_id.clone()).collect::<Vec<_>>(), sends[0]);
    assert_eq!(sent.iter().map(|sent| sent.queue_offset).collect::<Vec<_>>(), [0, 0, 2]);
}

#[tokio::test]
async fn a_refused_request_is_each_message_s_refusal_and_is_not_repeated() {
    let (address, _stop) = serve(Arc::new(Script::default())).await;
    let producer = Producer::new(connect(&address, TIMEOUT));
    let results = producer.send("nope", vec![message("a"), message("b")], TIMEOUT).await;
    assert_eq!(results.len(), 2);
    for result in results {
        assert!(result.unwrap_err().is_refusal(v2::Code::TopicNotFound));
    }
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_not_a_lost_connection() {
    let script = Arc::new(Script { hold_for: Duration::from_secs(30), ..Default::default() });
    let (address, _stop) = serve(script).await;
    let timeout = Duration::from_millis(200);
    let producer = Producer::new(connect(&address, timeout));
    let results = producer.send("demo", vec![message("a")], Duration::ZERO).await;
    assert!(matches!(results[0], Err(Error::TimedOut { .. })), "{results:?}");
}

#[tokio::test]
async fn a_message_is_received_prolonged_and_acknowledged() {
    let script = Arc::new(Script::default());
    let (address, _stop) = serve(script.clone()).await;
    let consumer = Consumer::new(connect(&address, TIMEOUT), "g", "demo", &FilterText::Tags("*".to_owned()));
    let mut messages = consumer.receive(32, Duration::from_secs(30), TIMEOUT).await.unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].queue_offset, messages[0].body.as_ref()), (4, b"hi".as_slice()));
    consumer.change_invisible(&mut messages[0], Duration::from_secs(60)).await.unwrap();
    let mut stale = messages[0].clone();
    stale.handle = "old".into();
    let acks = consumer.ack(&[messages[0].clone(), stale], TIMEOUT).await;
    assert!(acks[0].is_ok());
    assert!(acks[1].as_ref().unwrap_err().is_refusal(v2::Code::InvalidReceiptHandle));
    assert_eq!(*script.acks.lock(), ["h2", "old"]);
    assert!(consumer.receive(32, Duration::from_secs(30), TIMEOUT).await.unwrap().is_empty());
}
