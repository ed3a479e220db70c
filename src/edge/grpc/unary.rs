//! Send and ack, straight from hyper: reads the one message of a request and writes the one of its answer, without tonic's
//! router and codec, which cost more than the work itself (D22, D42).
//!
//! Hot path. Types, statuses and handlers are tonic's own. Every other request goes through tonic, and a client sees no
//! difference (`tests/it/unary.rs`).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::broker::Held;
use crate::edge::budgets::{Client, GRPC_COST, Part};
use crate::edge::grpc::codes::Refused;
use crate::edge::grpc::cost;
use crate::edge::grpc::messaging::Messaging;
use crate::edge::grpc::reading::{Messages, NotRead, PREFIX_BYTES, Whole, count_decoded, message};
use crate::edge::peer::RemoteAddress;
use crate::edge::rules;
use crate::env::panic::{Panicked, contain, contained};
use crate::proto::v2;
use crate::proto::v2::messaging_service_server::MessagingService;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const DONE: HeaderValue = HeaderValue::from_static("0");
const INTERNAL: HeaderValue = HeaderValue::from_static("13");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const MESSAGING: &str = "/apache.rocketmq.v2.MessagingService/";
/// Their requests are many messages.
const STREAMS: [&str; 2] =
    ["/apache.rocketmq.v2.MessagingService/Telemetry", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"];

/// The largest message of such a stream: what a client says of itself, with a thousand topics.
const SETTINGS_BYTES_MAX: usize = 256 * 1024;
/// The largest request that is neither a send nor of acknowledgements: it has a few names, a filter at most. Decoding an empty
/// part of two bytes takes longer than anything.
const SHORT_BYTES_MAX: usize = 64 * 1024;

/// What serves requests. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The methods served here.
    pub messaging: Messaging,
    /// The largest message of a send.
    pub send_bytes_max: usize,
    /// The largest one of any other request.
    pub request_bytes_max: usize,
    /// All methods.
    pub routes: Routes,
}

/// The methods served here.
#[derive(Clone, Copy)]
enum Method {
    Send,
    Ack,
}

impl Method {
    /// The method a request is for, if it is one of these and says nothing of compression.
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let method = match request.uri().path() {
            "/apache.rocketmq.v2.MessagingService/SendMessage" => Self::Send,
            "/apache.rocketmq.v2.MessagingService/AckMessage" => Self::Ack,
            _ => return None,
        };
        let is_plain = request.method() == http::Method::POST && !request.headers().contains_key(ENCODING);
        is_plain.then_some(method)
    }
}

/// The body of an answer, with what its request holds.
pub(in crate::edge) struct Answer {
    content: Content,
    client: Client,
    /// `None` for one that was refused.
    _held: Option<Held>,
}

enum Content {
    /// One message, then the trailers.
    Message(Option<Bytes>),
    /// Nothing more: the status is in the headers, or the trailers were sent.
    Ended,
    /// tonic's.
    Common(tonic::body::Body),
}

impl Content {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self {
            Self::Message(message) => Poll::Ready(Some(Ok(match message.take() {
                Some(message) => Frame::data(message),
                None => {
                    *self = Self::Ended;
                    Frame::trailers(HeaderMap::from_iter([(STATUS, DONE)]))
                }
            }))),
            Self::Ended => Poll::Ready(None),
            Self::Common(body) => contain(|| Pin::new(body).poll_frame(cx)).unwrap_or_else(|Panicked| {
                *self = Self::Ended;
                let trailers = HeaderMap::from_iter([(STATUS, INTERNAL)]);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }),
        }
    }
}

impl Body for Answer {
    type Data = Part;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Part>, Status>>> {
        let frame = ready!(self.content.poll(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| self.client.part(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Message(_) => false,
            Content::Ended => true,
            Content::Common(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            // An exact one would become a header, which gRPC has no use for.
            Content::Message(_) | Content::Ended => SizeHint::default(),
            Content::Common(body) => body.size_hint(),
        }
    }
}

/// Serves one request of a connection. If its handler panics, it alone fails (D74).
pub(in crate::edge) async fn serve(
    services: Services,
    peer: RemoteAddress,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let mut held = None;
    let served = match client.begin(GRPC_COST) {
        Ok(begun) => {
            let held = held.insert(begun);
            let served = contained(serve_request(services, peer, &client, held, request)).await;
            served.unwrap_or_else(|Panicked| status(&Status::internal("a bug in raftmq; the node's log says more")))
        }
        Err(none) => refused(request.uri().path(), &none.into()),
    };
    Ok(served.map(|content| Answer { content, client, _held: held }))
}

async fn serve_request(
    services: Services,
    peer: RemoteAddress,
    client: &Client,
    held: &mut Held,
    mut request: Request<Incoming>,
) -> Response<Content> {
    request.extensions_mut().insert(peer);
    let Some(method) = Method::of(&request) else { return serve_by_tonic(services, client, held, request).await };
    let (head, body) = request.into_parts();
    let message = match read(&services, head.uri.path(), held, body).await {
        Ok(message) => message,
        Err(not_read) => return unread(head.uri.path(), not_read),
    };
    let metadata = MetadataMap::from_headers(head.headers);
    let answered = match method {
        Method::Send => {
            answer(message, |message| {
                let request = tonic::Request::from_parts(metadata, head.extensions, message);
                async { Ok(services.messaging.send_with_addition(request).await) }
            })
            .await
        }
        Method::Ack => {
            answer(message, |message| {
                let request = tonic::Request::from_parts(metadata, head.extensions, message);
                async { Ok((services.messaging.ack_message(request).await?.into_inner(), ())) }
            })
            .await
        }
    };
    answered.unwrap_or_else(|error| status(&error))
}

/// Any other method, and requests that say something of compression. What tonic reads was read before, but streams.
async fn serve_by_tonic(
    services: Services,
    client: &Client,
    held: &mut Held,
    request: Request<Incoming>,
) -> Response<Content> {
    let (head, body) = request.into_parts();
    let is_compressed = head.headers.get(ENCODING).is_some_and(|encoding| encoding != "identity");
    let path = head.uri.path();
    let body = if STREAMS.contains(&path) {
        tonic::body::Body::new(Messages::new(
            body,
            client.requests().clone(),
            SETTINGS_BYTES_MAX.min(services.request_bytes_max),
        ))
    } else if is_compressed {
        // Refused for that.
        tonic::body::Body::empty()
    } else {
        match read(&services, path, held, body).await {
            Ok(message) => tonic::body::Body::new(Whole(Some(message))),
            Err(not_read) => return unread(path, not_read),
        }
    };
    let Ok(served) = services.routes.oneshot(Request::from_parts(head, body)).await;
    served.map(Content::Common)
}

/// The message of a request behind its prefix, once there are bytes for what it will take.
async fn read(services: &Services, path: &str, held: &mut Held, body: Incoming) -> Result<Bytes, NotRead> {
    let method = path.strip_prefix(MESSAGING);
    let bytes_max = match method {
        Some("SendMessage") => services.send_bytes_max,
        Some("AckMessage") | None => services.request_bytes_max,
        Some(_) => SHORT_BYTES_MAX.min(services.request_bytes_max),
    };
    let message = message(body, bytes_max, held).await?;
    let bytes = message.len() - PREFIX_BYTES;
    let decoded = if method == Some("SendMessage") {
        let too_many = |count| match rules::send::count(count) {
            Err(invalid) => NotRead::Refused(invalid.into()),
            Ok(()) => NotRead::Broken(Status::internal("a send of so many messages")),
        };
        cost::of_send(&message[PREFIX_BYTES..]).map_err(too_many)?
    } else {
        if method == Some("AckMessage") {
            // None at all is said to be none by its handler.
            let count = cost::acks(&message[PREFIX_BYTES..]).max(1);
            rules::consume::ack_entries(count).map_err(|invalid| NotRead::Refused(invalid.into()))?;
        }
        bytes as u64 * cost::DECODED_TIMES
    };
    count_decoded(held, bytes, decoded).await?;
    Ok(message)
}

fn status(status: &Status) -> Response<Content> {
    status.clone().into_http().map(|()| Content::Ended)
}

fn unread(path: &str, not_read: NotRead) -> Response<Content> {
    match not_read {
        NotRead::Broken(error) => status(&error),
        NotRead::Refused(refusal) => refused(path, &refusal),
    }
}

/// The answer to a request that was not read: every answer of RocketMQ's begins with its status.
fn refused(path: &str, refusal: &Refused) -> Response<Content> {
    if !path.starts_with(MESSAGING) {
        return status(&Status::resource_exhausted(refusal.text.as_str()));
    }
    let answer = v2::HeartbeatResponse { status: Some(refusal.status()) };
    encoded(&answer, &()).unwrap_or_else(|error| status(&error))
}

/// The answer, with what is added to it: fields back to back are one message of all of them.
async fn answer<Q, A, B, F>(mut message: Bytes, handle: impl FnOnce(Q) -> F) -> Result<Response<Content>, Status>
where
    Q: Message + Default,
    A: Message,
    B: Message,
    F: Future<Output = Result<(A, B), Status>>,
{
    message.advance(PREFIX_BYTES);
    let message = Q::decode(message).map_err(|error| Status::internal(error.to_string()))?;
    let (answer, added) = handle(message).await?;
    encoded(&answer, &added)
}

fn encoded(answer: &impl Message, added: &impl Message) -> Result<Response<Content>, Status> {
    let length = answer.encoded_len() + added.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).map_err(|_| Status::resource_exhausted("an answer of more than 4 GiB"))?);
    answer.encode(&mut bytes).expect("a BytesMut grows");
    added.encode(&mut bytes).expect("a BytesMut grows");
    let mut response = Response::new(Content::Message(Some(bytes.freeze())));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    Ok(response)
}
