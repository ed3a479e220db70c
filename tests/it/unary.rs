//! The methods that are served without tonic's router, byte by byte: the same requests through it are answered alike.

use std::collections::VecDeque;
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

use crate::fixture::cluster::Cluster;
use crate::fixture::messages::message;
use crate::fixture::requests::resource;

const SEND: &str = "SendMessage";
const ACK: &str = "AckMessage";
const OK: &str = "0";
const OUT_OF_RANGE: &str = "11";
const INTERNAL: &str = "13";

/// A body that comes in these parts.
struct Parts(VecDeque<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }
}

struct Asking {
    connection: SendRequest<Parts>,
    address: String,
}

impl Asking {
    async fn open(address: String) -> Self {
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (connection, driving) = opened.unwrap();
        tokio::spawn(driving);
        Self { connection, address }
    }

    /// The `grpc-status` and the message of the answer; through tonic's router or not.
    async fn ask(&mut self, method: &str, parts: &[&[u8]], through_router: bool) -> (String, Bytes) {
        let uri = format!("http://{}/apache.rocketmq.v2.MessagingService/{method}", self.address);
        let request = http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        let request = request.header("x-mq-client-id", "c").header("x-mq-language", "RUST");
        let request = if through_router { request.header("grpc-encoding", "identity") } else { request };
        let parts = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
        let answer = self.connection.send_request(request.body(Parts(parts)).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let in_headers = answer.headers().get("grpc-status").cloned();
        let (body, trailers) = read(answer.into_body()).await;
        let status = in_headers.or_else(|| trailers?.get("grpc-status").cloned()).expect("a status");
        (status.to_str().unwrap().to_owned(), body)
    }
}

async fn read(mut body: Incoming) -> (Bytes, Option<http::HeaderMap>) {
    let (mut bytes, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.unwrap().into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    (bytes.freeze(), trailers)
}

/// A message with its prefix, which claims so many bytes more than there are.
fn framed(flag: u8, message: &[u8], more: u32) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.put_u32(u32::try_from(message.len()).unwrap() + more);
    bytes.put_slice(message);
    bytes
}

fn send_of(id: &str) -> Vec<u8> {
    let request = v2::SendMessageRequest { messages: vec![message("t", id, &"b".repeat(100))] };
    framed(0, &request.encode_to_vec(), 0)
}

async fn asked(cluster: &Cluster) {
    let mut asking = Asking::open(cluster.address(0)).await;
    for through_router in [false, true] {
        let id = |name: &str| format!("{name}-{through_router}");
        let (whole, bytes, cut) = (send_of(&id("whole")), send_of(&id("bytes")), send_of(&id("cut")));
        let bytes: Vec<&[u8]> = bytes.chunks(1).collect();
        let (head, rest) = cut.split_at(3);
        for parts in [&[&whole[..]][..], &bytes, &[head, b"", rest, b""]] {
            let (status, answer) = asking.ask(SEND, parts, through_router).await;
            assert_eq!(status, OK);
            let answer = v2::SendMessageResponse::decode(answer.slice(5..)).unwrap();
            assert_eq!(answer.status.unwrap().code(), Code::Ok);
            assert_eq!(answer.entries.len(), 1);
        }
        let message = send_of(&id("never"))[5..].to_vec();
        let cases = [
            ("nothing", vec![], INTERNAL),
            ("less than a prefix", vec![0, 0, 0], INTERNAL),
            ("less than it says", framed(0, &message, 1), INTERNAL),
            ("compressed, nobody knows how", framed(1, &message, 0), INTERNAL),
            ("more than is allowed", framed(0, &message, 1 << 30), OUT_OF_RANGE),
            ("no protobuf", framed(0, &[0xff; 9], 0), INTERNAL),
        ];
        for (what, bytes, expected) in cases {
            for parts in [vec![&bytes[..]], bytes.chunks(1).collect()] {
                let (status, answer) = asking.ask(SEND, &parts, through_router).await;
                assert_eq!((status.as_str(), answer.len()), (expected, 0), "{what}, router: {through_router}");
            }
        }
    }
    let request = v2::AckMessageRequest {
        group: Some(resource("g")),
        topic: Some(resource("t")),
        entries: vec![v2::AckMessageEntry { receipt_handle: "no handle".into(), ..Default::default() }],
    };
    let request = framed(0, &request.encode_to_vec(), 0);
    let direct = asking.ask(ACK, &[&request], false).await;
    assert_eq!(direct, asking.ask(ACK, &[&request], true).await);
    let answer = v2::AckMessageResponse::decode(direct.1.slice(5..)).unwrap();
    assert_eq!(answer.status.unwrap().code(), Code::ConsumerGroupNotFound);
    // What goes on behind its message is refused: it is read before tonic sees it.
    let twice = [send_of("twice"), send_of("twice")].concat();
    for through_router in [false, true] {
        assert_eq!(asking.ask(SEND, &[&twice], through_router).await.0, INTERNAL);
    }
    // Nothing that was refused is stored.
    let stored = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "7"]);
    let count = |what: &str| stored.lines().filter(|line| line.contains(what)).count();
    assert_eq!(["whole-", "bytes-", "cut-", "twice"].map(count), [2, 2, 2, 0], "{stored}");
    assert!(cluster.raftmq_ok(&["topic", "describe", "t"]).contains("messages 6 "));
}

#[test]
fn a_request_is_read_however_its_bytes_come_on_threads_of_the_front_end_and_on_rafts() {
    for threads in ["frontendThreads=0", "frontendThreads=2"] {
        let cluster = Cluster::start_with(&[threads]);
        cluster.raftmq_ok(&["topic", "create", "t"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(asked(&cluster));
    }
}
