//! One connection of the classic protocol: takes its frames, has them answered side by side, and notifies its clients when the
//! consumers of their groups change. Hot path.
//!
//! Bounded: requests at work and their bytes (beyond that nothing is read), answers that wait for the client, and how long it
//! may say nothing. A malformed frame ends the connection without an answer (remoting §1.1).

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::processors;
use crate::edge::remoting::writing::{Written, write};
use crate::model::GroupName;
use crate::proto::remoting::{FRAME_BYTES_MAX, Frame, Header, HeaderType, RequestCode};

/// Requests of a connection at work; a consumer has a waiting pull for each of its queues.
const REQUESTS_MAX: usize = 10_000;
/// No frame is read while those at work have more bytes than this.
const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Answers that wait until the client takes them.
const ANSWERS_MAX: usize = 64;
/// A connection on which nothing arrives for this long is closed; clients send a heartbeat every thirty seconds.
const IDLE_MAX: Duration = Duration::from_secs(120);
const READ_BYTES: usize = 16 * 1024;

/// Serves a connection until its client or `stop` ends it.
pub(in crate::edge) async fn serve(
    io: impl AsyncRead + AsyncWrite,
    peer: SocketAddr,
    remoting: Remoting,
    stop: CancellationToken,
) -> io::Result<()> {
    let (connection, mut changed) = remoting.connected(peer);
    let connection = Rc::new(connection);
    let (reader, writer) = tokio::io::split(io);
    let mut frames = Frames { reader, read: BytesMut::new(), read_at: Instant::now() };
    let (answers, written) = mpsc::channel(ANSWERS_MAX);
    let mut writing = pin!(write(writer, written));
    let mut is_written = None;
    let mut requests = Requests::default();
    let mut notices = Notices { header_type: HeaderType::Json, opaque: 0 };
    let ended = loop {
        tokio::select! {
            frame = frames.next(), if requests.have_room() => match frame {
                Ok(Some(frame)) => {
                    notices.header_type = frame.header_type;
                    requests.begin(&connection, &answers, frame);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            Some(_) = requests.at_work.join_next() => {}
            Some(group) = changed.recv() => notices.put(&answers, &group),
            written = &mut writing => {
                is_written = Some(written);
                break Ok(());
            }
            () = stop.cancelled() => break Ok(()),
        }
    };
    drop(answers);
    connection.ended();
    // What a client asked one-way before it went is still done; what waits for messages ends.
    let working = async { while requests.at_work.join_next().await.is_some() {} };
    let written = match is_written {
        Some(written) => {
            working.await;
            written
        }
        None => tokio::join!(working, writing).1,
    };
    ended.and(written)
}

/// What arrives.
struct Frames<I> {
    reader: ReadHalf<I>,
    read: BytesMut,
    /// When something arrived last.
    read_at: Instant,
}

impl<I: AsyncRead> Frames<I> {
    /// The next frame; `None` when the client closed. May be dropped and called again.
    async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            if let Some(frame) = Frame::take(&mut self.read, FRAME_BYTES_MAX).map_err(malformed)? {
                return Ok(Some(frame));
            }
            self.read.reserve(READ_BYTES);
            let reading = self.reader.read_buf(&mut self.read);
            match tokio::time::timeout_at(self.read_at + IDLE_MAX, reading).await {
                Ok(Ok(0)) if self.read.is_empty() => return Ok(None),
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read.map(|_| self.read_at = Instant::now())?,
                Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing arrived for two minutes")),
            }
        }
    }
}

/// The requests of a connection that are not answered yet.
#[derive(Default)]
struct Requests {
    at_work: JoinSet<()>,
    /// Of their bodies, together.
    bytes: Rc<Cell<usize>>,
}

impl Requests {
    fn have_room(&self) -> bool {
        self.at_work.len() < REQUESTS_MAX && self.bytes.get() < REQUEST_BYTES_MAX
    }

    fn begin(&mut self, connection: &Rc<Connection>, answers: &mpsc::Sender<Written>, frame: Frame) {
        let Frame { header_type, header, body } = frame;
        if header.is_response() {
            // Nothing is asked of clients that they would answer.
            return;
        }
        let (connection, answers) = (connection.clone(), answers.clone());
        let counted = Counted::new(&self.bytes, body.len());
        self.at_work.spawn_local(async move {
            let (opaque, is_oneway) = (header.opaque, header.is_oneway());
            let mut answer = processors::answer(&connection, Request { header, body }).await;
            drop(counted);
            if is_oneway {
                return;
            }
            // Let go with the end of this task, when the answer is on its way.
            let _room = answer.room.take();
            let frame = Frame { header_type, header: answer.header(opaque), body: answer.body };
            match frame.head() {
                // A connection that is gone takes no answer.
                Ok(head) => drop(answers.send((head, frame.body)).await),
                Err(error) => tracing::error!(%error, "an answer cannot be written, which is a bug in raftmq"),
            }
        });
    }
}

/// Bytes of a request at work.
struct Counted {
    bytes: Rc<Cell<usize>>,
    own: usize,
}

impl Counted {
    fn new(bytes: &Rc<Cell<usize>>, own: usize) -> Self {
        bytes.set(bytes.get() + own);
        Self { bytes: bytes.clone(), own }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.bytes.set(self.bytes.get() - self.own);
    }
}

/// What clients are notified of.
struct Notices {
    /// As the client wrote last.
    header_type: HeaderType,
    opaque: i32,
}

impl Notices {
    /// The consumers of a group changed. A client that does not take its answers misses it, and looks by itself later.
    fn put(&mut self, answers: &mpsc::Sender<Written>, group: &GroupName) {
        self.opaque = self.opaque.wrapping_add(1);
        let fields = [("consumerGroup", group)].into_iter().collect();
        let code = RequestCode::NotifyConsumerIdsChanged as i32;
        let header = Header::oneway(code, self.opaque, fields);
        let frame = Frame { header_type: self.header_type, header, body: Bytes::new() };
        if let Ok(head) = frame.head() {
            let _ = answers.try_send((head, Bytes::new()));
        }
    }
}
