//! One connection of the classic protocol: takes its frames, has them answered side by side, and passes notices and
//! questions on to its clients (`notices`). Hot path.
//!
//! Bounded: requests at work and their bytes (beyond that nothing is read), answers that wait for the client, and how long it
//! may say nothing. When the node stops, what still comes is turned away (remoting §1.6). A malformed frame ends the connection
//! without an answer (remoting §1.1).

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::notices::Notices;
use crate::edge::remoting::processors;
use crate::edge::remoting::writing::{Written, write};
use crate::proto::remoting::{FRAME_BYTES_MAX, Fields, Frame, Header, ResponseCode};

/// Requests of a connection at work; a consumer has a waiting pull for each of its queues.
const REQUESTS_MAX: usize = 10_000;
/// No frame is read while those at work have more bytes than this.
const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Answers that wait until the client takes them.
const ANSWERS_MAX: usize = 64;
/// A connection on which nothing arrives for this long is closed; clients send a heartbeat every thirty seconds.
const IDLE_MAX: Duration = Duration::from_secs(120);
const READ_BYTES: usize = 16 * 1024;
/// A connection on which nothing comes for this long while the node stops has nothing more to say.
const QUIET: Duration = Duration::from_millis(100);
/// Requests are turned away for this long at most.
const TURNS_AWAY_MAX: Duration = Duration::from_secs(1);
/// The newest version of a client that does not know GO_AWAY (RocketMQ 5.3.1).
const KNOWS_NOT_GO_AWAY: i32 = 475;

/// Serves a connection until its client or `stop` ends it.
pub(in crate::edge) async fn serve(
    io: impl AsyncRead + AsyncWrite,
    peer: SocketAddr,
    remoting: Remoting,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut notices = Notices::new(&remoting.node.settings().broker_name);
    let (connection, mut noticed) = remoting.connected(peer);
    let connection = Rc::new(connection);
    let (reader, writer) = tokio::io::split(io);
    let mut frames = Frames { reader, read: BytesMut::new(), read_at: Instant::now(), idle_max: IDLE_MAX };
    let (answers, written) = mpsc::channel(ANSWERS_MAX);
    let mut writing = pin!(write(writer, written));
    let mut is_written = None;
    let mut requests = Requests::default();
    let ended = loop {
        tokio::select! {
            frame = frames.next(), if requests.have_room() => match frame {
                Ok(Some(frame)) => {
                    notices.header_type = frame.header_type;
                    if frame.header.is_response() {
                        notices.answered(frame);
                    } else {
                        requests.begin(&connection, &answers, frame);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            Some(_) = requests.at_work.join_next() => {}
            Some(notice) = noticed.recv() => notices.put(&answers, &connection.remoting, notice),
            written = &mut writing => {
                is_written = Some(written);
                break Ok(());
            }
            () = stop.cancelled() => break Ok(()),
        }
    };
    if is_written.is_none() && ended.is_ok() && stop.is_cancelled() {
        is_written = turn_away(&connection, &mut frames, &mut requests, &answers, writing.as_mut()).await;
    }
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

/// Answers what still comes while the node stops, so that clients try another node at once: those that know it by GO_AWAY, which
/// has them connect anew, all others by a code after which every producer tries elsewhere. Ends when nothing came for a moment.
/// What a client asks one-way is still done. Gives how writing ended, if it did.
async fn turn_away<I: AsyncRead, W: Future<Output = io::Result<()>>>(
    connection: &Rc<Connection>,
    frames: &mut Frames<I>,
    requests: &mut Requests,
    answers: &mpsc::Sender<Written>,
    mut writing: Pin<&mut W>,
) -> Option<io::Result<()>> {
    let end = Instant::now() + TURNS_AWAY_MAX;
    let mut quiet_at = Instant::now() + QUIET;
    loop {
        tokio::select! {
            frame = frames.next() => {
                let Ok(Some(frame)) = frame else { return None };
                quiet_at = Instant::now() + QUIET;
                if frame.header.is_oneway() && requests.have_room() {
                    requests.begin(connection, answers, frame);
                } else if !frame.header.is_response() && !frame.header.is_oneway() {
                    let refused = turned_away(&frame);
                    // One that does not take its answers sees the end of its connection.
                    let _ = refused.head().map(|head| answers.try_send((head, refused.body)));
                }
            }
            Some(_) = requests.at_work.join_next() => {}
            written = writing.as_mut() => return Some(written),
            () = tokio::time::sleep_until(quiet_at.min(end)) => return None,
        }
    }
}

fn turned_away(asked: &Frame) -> Frame {
    let knows_go_away = asked.header.version > KNOWS_NOT_GO_AWAY;
    let code = if knows_go_away { ResponseCode::GoAway } else { ResponseCode::ServiceNotAvailable };
    let header = Header::answer(asked.header.opaque, code, Fields::default());
    let remark = Some("this node is stopping: another one serves the same".to_owned());
    Frame { header_type: asked.header_type, header: Header { remark, ..header }, body: Bytes::new() }
}

/// What arrives.
struct Frames<I> {
    reader: ReadHalf<I>,
    read: BytesMut,
    /// When something arrived last.
    read_at: Instant,
    idle_max: Duration,
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
            match tokio::time::timeout_at(self.read_at + self.idle_max, reading).await {
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::proto::remoting::HeaderType;

    fn frames<I: AsyncRead + AsyncWrite>(io: I, idle_max: Duration) -> Frames<I> {
        let (reader, _writer) = tokio::io::split(io);
        Frames { reader, read: BytesMut::new(), read_at: Instant::now(), idle_max }
    }

    #[tokio::test]
    async fn a_connection_on_which_nothing_arrives_is_given_up_and_what_arrived_is_taken_before() {
        let (mut client, node) = tokio::io::duplex(1024);
        let mut frames = frames(node, Duration::from_millis(50));
        let frame = Frame {
            header_type: HeaderType::Json,
            header: Header::request(34, 7, Fields::default()),
            body: Bytes::new(),
        };
        let bytes = frame.encode().unwrap();
        client.write_all(&bytes).await.unwrap();
        // A part of a frame is nothing that could be waited for for ever.
        client.write_all(&bytes[..5]).await.unwrap();
        assert_eq!(frames.next().await.unwrap().unwrap().header.opaque, 7);
        assert_eq!(frames.next().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    #[tokio::test]
    async fn nothing_more_is_read_while_too_much_is_at_work() {
        let mut requests = Requests::default();
        assert!(requests.have_room());
        let counted = Counted::new(&requests.bytes, REQUEST_BYTES_MAX);
        assert!(!requests.have_room());
        drop(counted);
        assert!(requests.have_room());
        let local = tokio::task::LocalSet::new();
        let _guard = local.enter();
        for _ in 0..REQUESTS_MAX {
            requests.at_work.spawn_local(std::future::pending());
        }
        assert!(!requests.have_room());
        requests.at_work.abort_all();
    }
}
