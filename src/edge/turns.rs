//! Turns of a connection of HTTP/2: how much of it is read before everything else on its thread has a turn.
//!
//! Hot path. Each request is a task, and a thread runs tasks in the order in which they became ready: of a client that sends
//! thousands at once all would begin before the one of a client beside it. So in a turn only so many frames are read that may
//! begin one; what comes after them waits, unread, where it takes nobody's memory but the sender's (P20).
//!
//! * Source: RFC 9113 §3.4, §4.1.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::edge::read_through::{ReadThrough, Reader};

/// Bytes that are read in a turn; the last read may give some more.
const BYTES: usize = 32 * 1024;
/// Frames other than data that are read in a turn.
pub(super) const FRAMES: usize = 16;
/// Before the first frame.
const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
const DATA: u8 = 0;

/// What is left of a connection's turn. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::edge) struct Turn(Rc<Left>);

#[derive(Default)]
struct Left {
    bytes: Cell<usize>,
    frames: Cell<usize>,
}

impl Turn {
    /// What comes from `io` is read in turns, by a connection that is within [`Self::run`].
    pub fn of<S>(&self, io: S) -> ReadThrough<InTurns, S> {
        let turn = self.clone();
        let reader = InTurns { turn, skipped: PREFACE_BYTES, header: Vec::new(), unread: BytesMut::new() };
        ReadThrough { reader, io }
    }

    /// Runs a connection, each time that it is polled for one turn.
    pub async fn run<C: Future>(&self, connection: C) -> C::Output {
        let mut connection = pin!(connection);
        std::future::poll_fn(|context| {
            self.begin();
            connection.as_mut().poll(context)
        })
        .await
    }

    fn begin(&self) {
        self.0.bytes.set(BYTES);
        self.0.frames.set(FRAMES);
    }
}

/// Reads only so much of a connection in a turn.
pub(in crate::edge) struct InTurns {
    turn: Turn,
    /// Bytes of the frame, or of the preface, before the next frame's header.
    skipped: usize,
    /// What was read of that header.
    header: Vec<u8>,
    /// What is left for the next turn.
    unread: BytesMut,
}

impl InTurns {
    /// How many of these bytes are for this turn.
    fn for_this_turn(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.skipped > 0 {
                let skipped = self.skipped.min(bytes.len() - at);
                at += skipped;
                self.skipped -= skipped;
                continue;
            }
            let count = (FRAME_HEADER_BYTES - self.header.len()).min(bytes.len() - at);
            self.header.extend_from_slice(&bytes[at..at + count]);
            at += count;
            if let [high, middle, low, kind, ..] = self.header[..]
                && self.header.len() == FRAME_HEADER_BYTES
            {
                self.skipped = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.header.clear();
                if kind != DATA {
                    let frames = self.turn.0.frames.get().saturating_sub(1);
                    self.turn.0.frames.set(frames);
                    if frames == 0 {
                        // Its payload is left, too.
                        self.turn.0.bytes.set(0);
                        return at;
                    }
                }
            }
        }
        at
    }
}

impl Reader for InTurns {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        io: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.turn.0.bytes.get();
        if left == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let from = buf.filled().len();
        if self.unread.is_empty() {
            ready!(io.poll_read(cx, buf))?;
        } else {
            let count = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread[..count]);
            self.unread.advance(count);
        }
        self.turn.0.bytes.set(left.saturating_sub(buf.filled().len() - from));
        let to = from + self.for_this_turn(&buf.filled()[from..]);
        if to < buf.filled().len() {
            // Before what is unread already.
            let mut unread = BytesMut::from(&buf.filled()[to..]);
            unread.extend_from_slice(&self.unread);
            self.unread = unread;
            buf.set_filled(to);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const HEADERS: u8 = 1;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![(payload >> 16) as u8, (payload >> 8) as u8, payload as u8, kind, 0, 0, 0, 0, 1];
        frame.resize(FRAME_HEADER_BYTES + payload, kind);
        frame
    }

    /// What is read in one turn, in pieces of this size.
    fn turn(io: &mut ReadThrough<InTurns, DuplexStream>, piece: usize) -> Vec<u8> {
        io.reader.turn.begin();
        let mut read = Vec::new();
        loop {
            let mut bytes = vec![0; piece];
            match tokio::task::unconstrained(io.read(&mut bytes)).now_or_never() {
                Some(count) => read.extend_from_slice(&bytes[..count.unwrap()]),
                None => return read,
            }
        }
    }

    async fn io_with(sent: &[u8]) -> ReadThrough<InTurns, DuplexStream> {
        let (mut client, server) = tokio::io::duplex(sent.len());
        client.write_all(sent).await.unwrap();
        std::mem::forget(client);
        Turn::default().of(server)
    }

    #[tokio::test]
    async fn p20_in_a_turn_as_many_requests_begin_however_their_bytes_come() {
        let mut sent = vec![0; PREFACE_BYTES];
        let one = [frame(HEADERS, 300), frame(DATA, 40), frame(DATA, 0)].concat();
        (0..3 * FRAMES).for_each(|_| sent.extend_from_slice(&one));
        for piece in [1, 7, 100, 4096, sent.len()] {
            let mut io = io_with(&sent).await;
            let mut all = Vec::new();
            for number in 1..=3 {
                all.extend(turn(&mut io, piece));
                // The last frame's header, and not yet what begins a request.
                let ends = PREFACE_BYTES + (number * FRAMES - 1) * one.len() + FRAME_HEADER_BYTES;
                assert_eq!(all.len(), ends, "turn {number}, pieces of {piece}");
            }
            all.extend(turn(&mut io, piece));
            assert!(all == sent && turn(&mut io, piece).is_empty(), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn p20_a_turn_has_an_end_for_data_too() {
        let sent = [vec![0; PREFACE_BYTES], frame(DATA, 3 * BYTES)].concat();
        let mut io = io_with(&sent).await;
        let read: Vec<_> = std::iter::from_fn(|| Some(turn(&mut io, 4096).len())).take(4).collect();
        assert_eq!(read, [BYTES, BYTES, BYTES, PREFACE_BYTES + FRAME_HEADER_BYTES]);
    }

    #[tokio::test]
    async fn others_have_their_turn_between_two_of_a_connection() {
        let sent = [vec![0; PREFACE_BYTES], frame(DATA, 4 * BYTES)].concat();
        let mut io = io_with(&sent).await;
        let turn = io.reader.turn.clone();
        let mut reading = pin!(turn.run(async {
            let (mut read, mut bytes) = (0, [0; 4096]);
            while read < sent.len() {
                read += io.read(&mut bytes).await.unwrap();
            }
        }));
        let mut turns = 0;
        while reading.as_mut().now_or_never().is_none() {
            turns += 1;
        }
        assert_eq!(turns, 4);
    }
}
