//! Send and ack, straight from hyper: reads the one message of a request and writes the one of its answer, without tonic's
//! router and codec, which cost more than the work itself (D22, D42).
//!
//! Hot path. Types, statuses and handlers are tonic's own. Every other request goes through tonic, and a client sees no
//! difference (`tests/it/unary.rs`).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::edge::grpc::messaging::Messaging;
use crate::edge::peer::RemoteAddress;
use crate::env::panic::{Panicked, contain, contained};
use crate::proto::v2::messaging_service_server::MessagingService;

/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const DONE: HeaderValue = HeaderValue::from_static("0");
const INTERNAL: HeaderValue = HeaderValue::from_static("13");

/// What serves requests. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The methods served here.
    pub messaging: Messaging,
    /// A request's largest message.
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
        let is_plain = request.method() == http::Method::POST && !request.headers().contains_key("grpc-encoding");
        is_plain.then_some(method)
    }
}

/// The body of an answer.
#[derive(Default)]
pub(in crate::edge) enum Answer {
    /// One message, then the trailers.
    Message(Option<Bytes>),
    /// Nothing more: the status is in the headers, or the trailers were sent.
    #[default]
    Ended,
    /// tonic's.
    Common(tonic::body::Body),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
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

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Message(_) => false,
            Self::Ended => true,
            Self::Common(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // An exact one would become a header, which gRPC has no use for.
            Self::Message(_) | Self::Ended => SizeHint::default(),
            Self::Common(body) => body.size_hint(),
        }
    }
}

/// Serves one request of a connection. If its handler panics, it alone fails (D74).
pub(in crate::edge) async fn serve(
    services: Services,
    peer: RemoteAddress,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let served = contained(serve_request(services, peer, request)).await;
    served.unwrap_or_else(|Panicked| Ok(Status::internal("a bug in raftmq; the node's log says more").into_http()))
}

async fn serve_request(
    services: Services,
    peer: RemoteAddress,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    request.extensions_mut().insert(peer);
    let Some(method) = Method::of(&request) else {
        let served = services.routes.oneshot(request.map(tonic::body::Body::new)).await;
        return served.map(|response| response.map(Answer::Common));
    };
    let (head, body) = request.into_parts();
    let message = match read(body, services.request_bytes_max).await {
        Ok(message) => message,
        Err(status) => return Ok(status.into_http()),
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
    Ok(answered.unwrap_or_else(Status::into_http))
}

/// The answer, with what is added to it: fields back to back are one message of all of them.
async fn answer<Q, A, B, F>(message: Bytes, handle: impl FnOnce(Q) -> F) -> Result<Response<Answer>, Status>
where
    Q: Message + Default,
    A: Message,
    B: Message,
    F: Future<Output = Result<(A, B), Status>>,
{
    let message = Q::decode(message).map_err(|error| Status::internal(error.to_string()))?;
    let (answer, added) = handle(message).await?;
    let length = answer.encoded_len() + added.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).map_err(|_| Status::resource_exhausted("an answer of more than 4 GiB"))?);
    answer.encode(&mut bytes).expect("a BytesMut grows");
    added.encode(&mut bytes).expect("a BytesMut grows");
    let mut response = Response::new(Answer::Message(Some(bytes.freeze())));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    Ok(response)
}

/// The one message of a request. If it arrived in one frame, it shares the bytes that the connection read.
async fn read(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Status> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Status::from_error(Box::new(error)))?;
        // Trailers of a request say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            // Reserves what the prefix says; `length` has checked it against the limit.
            whole.reserve(PREFIX_BYTES + length(&first, bytes_max)?.unwrap_or(0));
            whole.put(std::mem::take(&mut first));
        }
        whole.put(data);
        if length(&whole, bytes_max)?.is_some_and(|length| whole.len() > PREFIX_BYTES + length) {
            return Err(Status::internal("the request goes on behind its message"));
        }
    }
    let mut message = if whole.is_empty() { first } else { whole.freeze() };
    match length(&message, bytes_max)? {
        None => Err(Status::internal("there is no message in the request")),
        Some(length) if message.len() != PREFIX_BYTES + length => {
            Err(Status::internal(format!("a message of {length} bytes is not what the request holds")))
        }
        Some(_) => {
            message.advance(PREFIX_BYTES);
            Ok(message)
        }
    }
}

/// The length of the message by its prefix, once that is complete.
fn length(mut bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, Status> {
    if bytes.len() < PREFIX_BYTES {
        return Ok(None);
    }
    if bytes.get_u8() != 0 {
        return Err(Status::internal("the message is compressed, and grpc-encoding does not say how"));
    }
    let length = bytes.get_u32() as usize;
    if length > bytes_max {
        return Err(Status::out_of_range(format!("a message of {length} bytes is larger than {bytes_max}")));
    }
    Ok(Some(length))
}
