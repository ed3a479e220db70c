//! One answer: its code, its type and its bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The body of an answer.
pub(super) struct Page {
    bytes: Option<Bytes>,
    /// What follows, as it comes.
    frames: Option<mpsc::Receiver<Bytes>>,
    /// Held until the connection has taken all of it, or ended.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match (self.bytes.take(), &mut self.frames) {
            (None, Some(frames)) => ready!(frames.poll_recv(context)),
            (bytes, _) => bytes,
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.frames.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.frames {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

/// A page of text for people.
pub(super) fn text(code: StatusCode, text: impl Into<String>) -> Response<Page> {
    let mut text: String = text.into();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    of(code, TEXT, text.into(), None)
}

/// A page for programs.
pub(super) fn json(code: StatusCode, value: &serde_json::Value) -> Response<Page> {
    of(code, JSON, format!("{value}\n").into(), None)
}

/// A large page; `permit` is given back when it was taken.
pub(super) fn large(content_type: &'static str, bytes: Bytes, permit: OwnedSemaphorePermit) -> Response<Page> {
    of(StatusCode::OK, HeaderValue::from_static(content_type), bytes, Some(permit))
}

/// A file of this binary.
pub(super) fn file(content_type: &'static str, bytes: &'static [u8]) -> Response<Page> {
    of(StatusCode::OK, HeaderValue::from_static(content_type), Bytes::from_static(bytes), None)
}

/// A page without an end; `permit` is given back when the connection ends.
pub(super) fn stream(
    content_type: &'static str,
    frames: mpsc::Receiver<Bytes>,
    permit: OwnedSemaphorePermit,
) -> Response<Page> {
    let page = Page { bytes: None, frames: Some(frames), _permit: Some(permit) };
    file(content_type, &[]).map(|_| page)
}

/// Only reading is served.
pub(super) fn not_allowed() -> Response<Page> {
    let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here");
    page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    page
}

fn of(
    code: StatusCode,
    content_type: HeaderValue,
    bytes: Bytes,
    permit: Option<OwnedSemaphorePermit>,
) -> Response<Page> {
    let mut response = Response::new(Page { bytes: Some(bytes), frames: None, _permit: permit });
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
