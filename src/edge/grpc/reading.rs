//! Reading the messages of requests: bytes are taken from the client's share before there is memory for them, and a body that
//! stops moving ends its request (D237).
//!
//! Hot path. A message that came in one frame is there already, and waits for nobody.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::broker::{Held, NoBytes, Share};
use crate::edge::grpc::codes::Refused;
use crate::edge::grpc::cost::DECODED_TIMES;
use crate::proto::v2::Code;

/// Before each message: whether it is compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;
/// A request waits so long for bytes of its client's share, and reads nothing meanwhile.
const WAIT_FOR_BYTES: Duration = Duration::from_secs(1);
/// Of a body, something must arrive in this time, and all of it in that.
const STILL_MAX: Duration = Duration::from_secs(10);
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// Why a request was not read.
pub(super) enum NotRead {
    /// It breaks gRPC's rules.
    Broken(Status),
    /// It could be read, and is not.
    Refused(Refused),
}

impl From<Status> for NotRead {
    fn from(status: Status) -> Self {
        Self::Broken(status)
    }
}

impl From<NoBytes> for NotRead {
    fn from(none: NoBytes) -> Self {
        Self::Refused(none.into())
    }
}

impl From<NoBytes> for Refused {
    fn from(none: NoBytes) -> Self {
        Self::new(Code::TooManyRequests, none.to_string())
    }
}

/// When a body is given up.
struct Patience {
    still_max: Duration,
    /// Known once it was waited for.
    whole_by: Option<Instant>,
}

impl Patience {
    fn new(still_max: Duration) -> Self {
        Self { still_max, whole_by: None }
    }

    /// The next frame of a body.
    async fn frame<B: Body + Unpin>(&mut self, body: &mut B) -> Result<Option<Frame<B::Data>>, NotRead>
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut next = pin!(std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
        // Most are there: no timer for them.
        let frame = match std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let now = Instant::now();
                let until = *self.whole_by.get_or_insert(now + WHOLE_WITHIN);
                timeout_at(until.min(now + self.still_max), next).await.map_err(|_| self.given_up())?
            }
        };
        frame.transpose().map_err(|error| NotRead::Broken(Status::from_error(error.into())))
    }

    fn given_up(&self) -> NotRead {
        let (still, whole) = (self.still_max.as_secs(), WHOLE_WITHIN.as_secs());
        let text =
            format!("the rest of the request did not come: nothing for {still} s, or not all of it in {whole} s");
        NotRead::Refused(Refused::new(Code::RequestTimeout, text))
    }
}

/// The one message of a request, behind its prefix; what it takes is added to `held`. If it arrived in one frame, it shares the
/// bytes that the connection read.
pub(super) async fn message<B>(body: B, bytes_max: usize, held: &mut Held) -> Result<Bytes, NotRead>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    read(body, bytes_max, held, STILL_MAX).await
}

async fn read<B>(mut body: B, bytes_max: usize, held: &mut Held, still_max: Duration) -> Result<Bytes, NotRead>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut patience = Patience::new(still_max);
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    let mut is_counted = false;
    while let Some(frame) = patience.frame(&mut body).await? {
        // Trailers of a request say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() && whole.is_empty() {
            first = data;
            let missing = length(&first, bytes_max)?.filter(|length| first.len() < PREFIX_BYTES + length);
            if let Some(length) = missing {
                count(held, length).await?;
                is_counted = true;
            }
            continue;
        }
        if whole.is_empty() {
            // Reserves what the prefix says, which was counted.
            whole.reserve(PREFIX_BYTES + length(&first, bytes_max)?.unwrap_or(0));
            whole.put(std::mem::take(&mut first));
        }
        whole.put(data);
        let Some(length) = length(&whole, bytes_max)? else { continue };
        if !is_counted {
            count(held, length).await?;
            is_counted = true;
        }
        if whole.len() > PREFIX_BYTES + length {
            return Err(Status::internal("the request goes on behind its message").into());
        }
    }
    let message = if whole.is_empty() { first } else { whole.freeze() };
    match length(&message, bytes_max)? {
        None => Err(Status::internal("there is no message in the request").into()),
        Some(length) if message.len() != PREFIX_BYTES + length => {
            Err(Status::internal(format!("a message of {length} bytes is not what the request holds")).into())
        }
        Some(length) => {
            if !is_counted {
                count(held, length).await?;
            }
            Ok(message)
        }
    }
}

/// Takes bytes of the client's share, if need be once others of its requests gave them back.
async fn count(held: &mut Held, bytes: usize) -> Result<(), NoBytes> {
    held.grow_until(bytes as u64, Instant::now() + WAIT_FOR_BYTES).await
}

/// Takes what a message of so many bytes takes beside them once it is decoded.
pub(super) async fn count_decoded(held: &mut Held, bytes: usize, decoded: u64) -> Result<(), NotRead> {
    let more = decoded.saturating_sub(bytes as u64);
    if more > 0 {
        count(held, usize::try_from(more).unwrap_or(usize::MAX)).await?;
    }
    Ok(())
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

/// A body whose messages come one by one. The bytes of each are taken before tonic makes room for them, and given back with
/// the next.
pub(super) struct Messages<B> {
    body: B,
    share: Share,
    bytes_max: usize,
    held: Option<Held>,
    /// Bytes of the next message's prefix, as far as they came, and what is missing of the message before.
    prefix: BytesMut,
    missing: usize,
}

impl<B> Messages<B> {
    pub fn new(body: B, share: Share, bytes_max: usize) -> Self {
        Self { body, share, bytes_max, held: None, prefix: BytesMut::with_capacity(PREFIX_BYTES), missing: 0 }
    }

    /// Sees bytes before tonic does.
    fn see(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            let of_message = data.len().min(self.missing);
            self.missing -= of_message;
            data.advance(of_message);
            if data.is_empty() {
                return Ok(());
            }
            let of_prefix = data.len().min(PREFIX_BYTES - self.prefix.len());
            self.prefix.put_slice(&data[..of_prefix]);
            data.advance(of_prefix);
            if let Some(length) = length(&self.prefix, self.bytes_max)? {
                self.prefix.clear();
                self.missing = length;
                self.held = None;
                let held = self.share.take(length as u64 * DECODED_TIMES);
                self.held = Some(held.map_err(|none| Status::resource_exhausted(none.to_string()))?);
            }
        }
        Ok(())
    }
}

impl<B> Body for Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref()
            && let Err(status) = self.see(data)
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that is there: one message, behind its prefix.
pub(super) struct Whole(pub Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::net::IpAddr;

    use super::*;
    use crate::broker::Budget;

    /// A body that comes in these parts; then nothing, or its end.
    struct Parts(VecDeque<Bytes>, bool);

    impl Parts {
        fn of(parts: &[&[u8]], ends: bool) -> Self {
            Self(parts.iter().map(|part| Bytes::copy_from_slice(part)).collect(), ends)
        }
    }

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    const ALL: u64 = 4000;
    const SOON: Duration = Duration::from_millis(20);

    fn share(budget: &Budget) -> Share {
        budget.share(IpAddr::from([10, 0, 0, 1]))
    }

    async fn read_of(parts: Parts, held: &mut Held) -> Result<Bytes, String> {
        read(parts, 1 << 20, held, SOON).await.map_err(|not_read| match not_read {
            NotRead::Broken(status) => status.to_string(),
            NotRead::Refused(refused) => format!("{:?}: {}", refused.code, refused.text),
        })
    }

    #[tokio::test]
    async fn p20_bytes_of_a_message_are_taken_before_they_are_read() {
        let budget = Budget::new("tests", ALL);
        let share = share(&budget);
        let mut held = share.take(1).unwrap();
        let refused = read_of(Parts::of(&[&[0, 0, 0, 4, 0]], false), &mut held).await.unwrap_err();
        assert!(refused.starts_with("TooManyRequests: too busy: this connection holds 1 of 1000 bytes"), "{refused}");
        assert_eq!(budget.held(), 1);
        for parts in [&[&[0, 0, 0, 0, 3, 7, 8, 9][..]][..], &[&[0, 0], &[0, 0, 3, 7], &[8, 9]]] {
            let read = read_of(Parts::of(parts, true), &mut held).await.unwrap();
            assert_eq!(&read[PREFIX_BYTES..], &[7, 8, 9]);
        }
        assert_eq!(budget.held(), 7);
        drop(held);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn p20_a_body_that_stops_moving_ends_its_request() {
        let budget = Budget::new("tests", ALL);
        let mut held = share(&budget).take(1).unwrap();
        for parts in [&[][..], &[&[0, 0][..]], &[&[0, 0, 0, 0, 3, 7]]] {
            let refused = read_of(Parts::of(parts, false), &mut held).await.unwrap_err();
            assert!(refused.starts_with("RequestTimeout: the rest of the request did not come"), "{refused}");
        }
    }

    #[test]
    fn p20_bytes_of_each_message_of_a_stream_are_taken_and_given_back_with_the_next() {
        let budget = Budget::new("tests", ALL);
        let mut messages = Messages::new((), share(&budget), 100);
        let stream = [&[0, 0, 0, 0, 3, 7, 8, 9][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 62]].concat();
        let mut held = Vec::new();
        for byte in stream {
            messages.see(&[byte]).unwrap();
            held.push(budget.held());
        }
        assert_eq!((held[3], held[4], held[11], held[12], held[17]), (0, 48, 48, 0, 992));
        assert!(messages.see(&[1; 62]).is_ok());
        let refused = messages.see(&[0, 0, 0, 0, 63]).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        let mut messages = Messages::new((), share(&budget), 100);
        assert_eq!(messages.see(&[0, 0, 0, 0, 101]).unwrap_err().code(), tonic::Code::OutOfRange);
    }
}
