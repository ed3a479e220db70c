//! What one client may hold of a node's memory: requests that say much and send little are refused, and others go on.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::send;
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::message;
use crate::fixture::wire::{CALL, SOON};

const SEND: &str = "SendMessage";
const HEARTBEAT: &str = "Heartbeat";
const ACK: &str = "AckMessage";
const MIB: usize = 1024 * 1024;

/// A body that begins so, and then stops or ends.
struct Begun {
    begin: Option<Bytes>,
    ends: bool,
}

impl Body for Begun {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.begin.take() {
            Some(begin) => Poll::Ready(Some(Ok(Frame::data(begin)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// A connection of its own.
async fn connection(address: &str) -> SendRequest<Begun> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (connection, driving) = opened.unwrap();
    tokio::spawn(driving);
    connection
}

/// What a message of so many bytes begins with, and some of it.
fn begin(length: usize, some: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap());
    bytes.put_slice(some);
    bytes.freeze()
}

/// The status of an answer.
async fn ask(connection: &SendRequest<Begun>, method: &str, begin: Bytes, ends: bool) -> v2::Status {
    let uri = format!("http://127.0.0.1/apache.rocketmq.v2.MessagingService/{method}");
    let request = http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    let request = request.header("x-mq-client-id", "c").header("x-mq-language", "RUST");
    let body = Begun { begin: Some(begin), ends };
    let answer = connection.clone().send_request(request.body(body).unwrap()).await.unwrap();
    let in_headers = answer.headers().get("grpc-status").cloned();
    assert_eq!(in_headers, None, "{:?}", answer.headers());
    let answer = read(answer.into_body()).await;
    // Every answer begins with its status.
    v2::HeartbeatResponse::decode(answer.slice(5..)).unwrap().status.unwrap()
}

async fn read(mut body: Incoming) -> Bytes {
    let mut bytes = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.unwrap().into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    bytes.freeze()
}

fn send_of(id: &str) -> Bytes {
    let request = v2::SendMessageRequest { messages: vec![message("t", id, "body")] }.encode_to_vec();
    begin(request.len(), &request)
}

#[test]
fn p20_requests_that_say_more_than_their_share_are_refused_before_they_are_read_and_others_go_on() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let greedy = connection(&cluster.address(0)).await;
        let stops = |length| ask(&greedy, SEND, begin(length, b"some"), false);
        let mut holds = Box::pin(stops(15 * MIB));
        // It is begun, and there is no answer yet.
        assert!(tokio::time::timeout(SOON / 10, &mut holds).await.is_err());
        let refused = tokio::time::timeout(CALL, stops(15 * MIB)).await.expect("an answer before the body is there");
        assert_eq!(refused.code(), Code::TooManyRequests, "{}", refused.message);
        assert!(refused.message.contains("this connection holds"), "{}", refused.message);
        // What fits goes on, on the same connection, and on others.
        assert_eq!(ask(&greedy, SEND, send_of("small"), true).await.code(), Code::Ok);
        send(&cluster.wire(0).within(CALL), message("t", "other", "body")).await;
        // A body that does not move ends its request, and what it held is free again.
        let given_up = holds.await;
        assert_eq!(given_up.code(), Code::RequestTimeout, "{}", given_up.message);
        assert!(given_up.message.contains("the rest of the request did not come"), "{}", given_up.message);
        let again = tokio::time::timeout(SOON / 10, stops(15 * MIB)).await;
        assert!(again.is_err(), "there is room for it now, and it is waited for");
    });
}

#[test]
fn p20_requests_of_many_tiny_fields_are_refused_before_they_are_decoded() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let greedy = connection(&cluster.address(0)).await;
        let whole = |bytes: &[u8]| begin(bytes.len(), bytes);
        // An empty message takes two bytes here, and hundreds of them in memory.
        let many = ask(&greedy, SEND, whole(&[0x0A, 0].repeat(MIB / 2)), true).await;
        assert!(many.message.contains("messages in one request are more than 1024"), "{many:?}");
        // One message with half a million empty keys.
        let keys = v2::SystemProperties { keys: vec![String::new(); MIB], ..Default::default() };
        let keys = v2::SendMessageRequest {
            messages: vec![v2::Message { system_properties: Some(keys), ..message("t", "k", "k") }],
        };
        let refused = ask(&greedy, SEND, whole(&keys.encode_to_vec()), true).await;
        assert_eq!(refused.code(), Code::TooManyRequests, "{}", refused.message);
        // Half a million empty acknowledgements.
        let acks = ask(&greedy, ACK, whole(&[0x1A, 0].repeat(MIB / 2)), true).await;
        assert_eq!(acks.code(), Code::BadRequest, "{}", acks.message);
        assert!(acks.message.contains("1025 entries in one request are more than 1024"), "{}", acks.message);
        assert_eq!(ask(&greedy, HEARTBEAT, whole(&[]), true).await.code(), Code::Ok);
    });
}
