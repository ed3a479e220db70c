//! Reads the frames of a connection: bytes are taken from the client's share before there is memory for them, a frame for which
//! there are none is answered and passed over, and one that stops moving ends the connection (D237). Hot path.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf};
use tokio::time::{Instant, timeout_at};

use crate::broker::{Held, NoBytes};
use crate::edge::budgets::Client;
use crate::proto::remoting::{FRAME_BYTES_MAX, Frame, Header, HeaderType, Malformed};

/// A connection on which nothing arrives for this long is closed; clients send a heartbeat every thirty seconds.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// Of a frame that has begun, something must arrive in this time, and all of it in that.
const STILL_MAX: Duration = Duration::from_secs(10);
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// A frame waits so long for bytes of its client's share, and nothing is read meanwhile.
const WAIT_FOR_BYTES: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 16 * 1024;
/// Longest header of a frame that is passed over.
const PASSED_HEADER_BYTES_MAX: usize = 64 * 1024;

/// What arrives.
pub(super) struct Frames<I> {
    reader: ReadHalf<I>,
    read: BytesMut,
    client: Client,
    /// When something arrived last, and when the frame began of which it is a part.
    read_at: Instant,
    began_at: Option<Instant>,
    /// For the frame that is read.
    held: Option<Held>,
    /// If it waits for bytes, until when.
    waits_until: Option<Instant>,
    passed_over: Option<PassedOver>,
    times: Times,
}

#[derive(Clone, Copy)]
struct Times {
    idle_max: Duration,
    still_max: Duration,
}

/// A frame that is not kept.
struct PassedOver {
    none: NoBytes,
    /// Once it came.
    header: Option<(HeaderType, Header)>,
    /// Bytes that are still to come.
    missing: usize,
}

/// What arrived.
pub(super) enum Arrived {
    /// A frame, with the bytes that it holds.
    Frame(Frame, Held),
    /// The header of one for which there were none.
    Refused(HeaderType, Header, NoBytes),
}

impl<I: AsyncRead> Frames<I> {
    pub fn new(reader: ReadHalf<I>, client: Client) -> Self {
        let (read, read_at) = (BytesMut::new(), Instant::now());
        let (began_at, held, waits_until, passed_over) = (None, None, None, None);
        let times = Times { idle_max: IDLE_MAX, still_max: STILL_MAX };
        Self { reader, read, client, read_at, began_at, held, waits_until, passed_over, times }
    }

    /// What arrives next; `None` when the client closed. May be dropped and called again.
    pub async fn next(&mut self) -> io::Result<Option<Arrived>> {
        loop {
            if let Some(refused) = self.pass_over().map_err(malformed)? {
                return Ok(Some(refused));
            }
            if self.passed_over.is_none() {
                let stated = Frame::stated_bytes(&self.read, FRAME_BYTES_MAX).map_err(malformed)?;
                match stated {
                    Some(bytes) if self.held.is_none() => {
                        self.hold(bytes).await;
                        continue;
                    }
                    Some(_) => {
                        if let Some(frame) = Frame::take(&mut self.read, FRAME_BYTES_MAX).map_err(malformed)? {
                            self.began_at = None;
                            return Ok(self.held.take().map(|held| Arrived::Frame(frame, held)));
                        }
                    }
                    None => {}
                }
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        }
    }

    /// Takes the bytes of the frame that comes next, or has it passed over.
    async fn hold(&mut self, bytes: usize) {
        let share = self.client.requests();
        match share.try_hold(bytes as u64) {
            Some(held) => self.held = Some(held),
            None => {
                let until = *self.waits_until.get_or_insert_with(|| Instant::now() + WAIT_FOR_BYTES);
                match share.take_until(bytes as u64, until).await {
                    Ok(held) => self.held = Some(held),
                    Err(none) => self.passed_over = Some(PassedOver { none, header: None, missing: bytes }),
                }
                self.waits_until = None;
            }
        }
    }

    /// Lets go of what arrived of a frame that is passed over; its header at its end.
    fn pass_over(&mut self) -> Result<Option<Arrived>, Malformed> {
        let Some(passed) = &mut self.passed_over else { return Ok(None) };
        if passed.header.is_none() {
            passed.header = Frame::header_of(&self.read, PASSED_HEADER_BYTES_MAX)?;
        }
        if passed.header.is_some() {
            let gone = passed.missing.min(self.read.len());
            self.read.advance(gone);
            passed.missing -= gone;
        }
        if passed.missing > 0 {
            return Ok(None);
        }
        self.began_at = None;
        let Some(PassedOver { none, header: Some((header_type, header)), .. }) = self.passed_over.take() else {
            return Ok(None);
        };
        Ok(Some(Arrived::Refused(header_type, header, none)))
    }

    /// Reads what is there; false at the end.
    async fn read_more(&mut self) -> io::Result<bool> {
        self.read.reserve(READ_BYTES);
        let is_within = !self.read.is_empty() || self.passed_over.is_some();
        let until = if is_within {
            let began_at = *self.began_at.get_or_insert(self.read_at);
            (began_at + WHOLE_WITHIN).min(self.read_at + self.times.still_max)
        } else {
            self.read_at + self.times.idle_max
        };
        match timeout_at(until, self.reader.read_buf(&mut self.read)).await {
            Ok(Ok(0)) if !is_within => Ok(false),
            Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                read?;
                self.read_at = Instant::now();
                Ok(true)
            }
            Err(_) if is_within => Err(io::Error::new(io::ErrorKind::TimedOut, "the rest of a frame did not come")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing arrived for two minutes")),
        }
    }
}

fn malformed(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::edge::budgets::Budgets;
    use crate::proto::remoting::Fields;

    const SOON: Duration = Duration::from_millis(50);

    fn budgets() -> Budgets {
        Budgets::new(96 << 20, 1 << 20)
    }

    fn frames(budgets: &Budgets) -> (DuplexStream, Frames<DuplexStream>) {
        let (client, node) = tokio::io::duplex(64 * 1024);
        let (reader, _) = tokio::io::split(node);
        let mut frames = Frames::new(reader, budgets.client(SocketAddr::from(([10, 0, 0, 1], 1))));
        frames.times = Times { idle_max: SOON, still_max: SOON };
        (client, frames)
    }

    fn bytes_of(opaque: i32, body: usize) -> Bytes {
        let header = Header::request(34, opaque, Fields::default());
        Frame { header_type: HeaderType::Json, header, body: vec![7; body].into() }.encode().unwrap()
    }

    async fn opaque_of_next(frames: &mut Frames<DuplexStream>) -> (i32, bool) {
        match frames.next().await.unwrap().unwrap() {
            Arrived::Frame(frame, _) => (frame.header.opaque, true),
            Arrived::Refused(_, header, _) => (header.opaque, false),
        }
    }

    #[tokio::test]
    async fn a_connection_on_which_nothing_arrives_is_given_up_and_what_arrived_is_taken_before() {
        for part in [0, 5] {
            let (mut client, mut frames) = frames(&budgets());
            client.write_all(&bytes_of(7, 0)).await.unwrap();
            // A part of a frame is nothing that could be waited for for ever.
            client.write_all(&bytes_of(8, 0)[..part]).await.unwrap();
            assert_eq!(opaque_of_next(&mut frames).await, (7, true));
            assert_eq!(frames.next().await.err().unwrap().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test]
    async fn p20_a_frame_that_states_its_length_holds_it_before_it_comes() {
        let budgets = budgets();
        let (mut client, mut frames) = frames(&budgets);
        client.write_all(&16_000_000_i32.to_be_bytes()).await.unwrap();
        assert!(frames.next().await.is_err(), "the rest does not come");
        assert_eq!(budgets.requests.held(), 16_000_004);
        assert!(frames.read.capacity() < 1024 * 1024);
        drop(frames);
        assert_eq!(budgets.requests.held(), 0);
    }

    #[tokio::test]
    async fn p20_a_frame_without_bytes_for_it_is_passed_over_and_its_header_known() {
        let budgets = budgets();
        let (mut client, mut frames) = frames(&budgets);
        frames.times.still_max = Duration::from_secs(60);
        let other = frames.client.requests().take(budgets.requests.most() / 4 - 1000).unwrap();
        let writing = async {
            for (opaque, body) in [(1, 10), (2, 300_000), (3, 10)] {
                client.write_all(&bytes_of(opaque, body)).await.unwrap();
            }
        };
        let reading = async {
            assert_eq!(opaque_of_next(&mut frames).await, (1, true));
            assert_eq!(opaque_of_next(&mut frames).await, (2, false));
            assert_eq!(opaque_of_next(&mut frames).await, (3, true));
        };
        tokio::join!(writing, reading);
        drop(other);
        assert_eq!(budgets.requests.held(), 0);
    }
}
