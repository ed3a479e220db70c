//! One connection of the classic protocol: takes its frames, has them answered side by side, and passes notices and
//! questions on to its clients (`notices`). Hot path.
//!
//! Bounded: requests at work (beyond that nothing is read) and their bytes (beyond that they are refused), answers that wait for
//! the client, and how long it may say nothing. When the node stops, what still comes is turned away (remoting §1.6). A malformed
//! frame ends the connection without an answer (remoting §1.1).

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{Held, NoBytes};
use crate::edge::budgets::{CLASSIC_COST, Client};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::notices::Notices;
use crate::edge::remoting::processors;
use crate::edge::remoting::reading::{Arrived, Frames};
use crate::edge::remoting::writing::{Written, write};
use crate::edge::turns::FRAMES;
use crate::proto::remoting::{Fields, Frame, Header, HeaderType, RequestCode, ResponseCode};

/// Requests of a connection at work; a consumer has a waiting pull for each of its queues.
const REQUESTS_MAX: usize = 10_000;
/// Refused requests of a connection whose answers have not gone out; no frame is read meanwhile.
const REFUSED_MAX: usize = 64;
/// Largest body of a request that is no send, and what its text takes once it is decoded.
const OTHER_BODY_BYTES_MAX: usize = 1024 * 1024;
const DECODED_TIMES: usize = 16;
/// Answers that wait until the client takes them.
const ANSWERS_MAX: usize = 64;
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
    client: Client,
    remoting: Remoting,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut notices = Notices::new(&remoting.node.settings().broker_name);
    let (connection, mut noticed) = remoting.connected(peer, client.clone());
    let connection = Rc::new(connection);
    let (reader, writer) = tokio::io::split(io);
    let mut frames = Frames::new(reader, client);
    let (answers, written) = mpsc::channel(ANSWERS_MAX);
    let mut writing = pin!(write(writer, written));
    let mut is_written = None;
    let mut requests = Requests::default();
    let mut begun = 0;
    let ended = loop {
        tokio::select! {
            arrived = frames.next(), if requests.have_room() => match arrived {
                Ok(Some(Arrived::Frame(frame, held))) => {
                    notices.header_type = frame.header_type;
                    if frame.header.is_response() {
                        notices.answered(frame);
                    } else {
                        requests.begin(&connection, &answers, frame, held);
                        begun += 1;
                        if begun % FRAMES == 0 {
                            // Other connections have their turn.
                            tokio::task::yield_now().await;
                        }
                    }
                }
                Ok(Some(Arrived::Refused(header_type, header, none))) => {
                    requests.refuse(&connection.client, &answers, header_type, &header, busy(&none));
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            Some(_) = requests.at_work.join_next() => {}
            Some(notice) = noticed.recv() => notices.put(&answers, &connection, notice).await,
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
            arrived = frames.next() => {
                quiet_at = Instant::now() + QUIET;
                let (header_type, header) = match arrived {
                    Ok(Some(Arrived::Frame(frame, held))) if frame.header.is_oneway() && requests.have_room() => {
                        requests.begin(connection, answers, frame, held);
                        continue;
                    }
                    Ok(Some(Arrived::Frame(frame, _))) => (frame.header_type, frame.header),
                    Ok(Some(Arrived::Refused(header_type, header, _))) => (header_type, header),
                    Ok(None) | Err(_) => return None,
                };
                if !header.is_response() && !header.is_oneway() {
                    let refused = turned_away(header_type, &header);
                    let written = |head| Written { head, body: Bytes::new(), held: None, room: None };
                    // One that does not take its answers sees the end of its connection.
                    let _ = refused.head().map(|head| answers.try_send(written(head)));
                }
            }
            Some(_) = requests.at_work.join_next() => {}
            written = writing.as_mut() => return Some(written),
            () = tokio::time::sleep_until(quiet_at.min(end)) => return None,
        }
    }
}

fn turned_away(header_type: HeaderType, asked: &Header) -> Frame {
    let knows_go_away = asked.version > KNOWS_NOT_GO_AWAY;
    let code = if knows_go_away { ResponseCode::GoAway } else { ResponseCode::ServiceNotAvailable };
    let header = Header::answer(asked.opaque, code, Fields::default());
    let remark = Some("this node is stopping: another one serves the same".to_owned());
    Frame { header_type, header: Header { remark, ..header }, body: Bytes::new() }
}

/// The requests of a connection that are not answered yet.
#[derive(Default)]
struct Requests {
    at_work: JoinSet<()>,
    /// Refusals on their way.
    refused: Rc<()>,
}

impl Requests {
    fn have_room(&self) -> bool {
        self.at_work.len() < REQUESTS_MAX && Rc::strong_count(&self.refused) <= REFUSED_MAX
    }

    fn begin(&mut self, connection: &Rc<Connection>, answers: &mpsc::Sender<Written>, frame: Frame, mut held: Held) {
        let Frame { header_type, header, body } = frame;
        let begun = match begin(connection, &header, body.len(), &mut held) {
            Ok(begun) => begun,
            Err(refused) => return self.refuse(&connection.client, answers, header_type, &header, refused),
        };
        let (connection, answers) = (connection.clone(), answers.clone());
        self.at_work.spawn_local(async move {
            let (opaque, is_oneway) = (header.opaque, header.is_oneway());
            let answer = processors::answer(&connection, Request { header, body }).await;
            drop((begun, held));
            if !is_oneway {
                put(&connection.client, &answers, header_type, opaque, answer).await;
            }
        });
    }

    /// Says why a request is not served.
    fn refuse(
        &mut self,
        client: &Client,
        answers: &mpsc::Sender<Written>,
        header_type: HeaderType,
        header: &Header,
        refused: Refused,
    ) {
        if header.is_oneway() {
            return;
        }
        let (client, answers, opaque) = (client.clone(), answers.clone(), header.opaque);
        let counted = self.refused.clone();
        self.at_work.spawn_local(async move {
            put(&client, &answers, header_type, opaque, Answer::from(refused)).await;
            drop(counted);
        });
    }
}

/// Takes what a request takes beside its bytes.
fn begin(connection: &Connection, header: &Header, body: usize, held: &mut Held) -> Result<Held, Refused> {
    let begun = connection.client.begin(CLASSIC_COST).map_err(|none| busy(&none))?;
    if RequestCode::of_number(header.code).is_some_and(RequestCode::brings_messages) {
        return Ok(begun);
    }
    if body > OTHER_BODY_BYTES_MAX {
        let text = format!("a body of {body} bytes is larger than {OTHER_BODY_BYTES_MAX}, the most but for messages");
        return Err(Refused::new(ResponseCode::InvalidParameter, text));
    }
    held.grow((body * DECODED_TIMES) as u64).map_err(|none| busy(&none))?;
    Ok(begun)
}

/// As for `Error::Busy`: producers try another node.
fn busy(none: &NoBytes) -> Refused {
    Refused::new(ResponseCode::ServiceNotAvailable, none.to_string())
}

/// Has an answer written. What it holds is let go of when the client took it.
async fn put(
    client: &Client,
    answers: &mpsc::Sender<Written>,
    header_type: HeaderType,
    opaque: i32,
    mut answer: Answer,
) {
    let room = answer.room.take();
    let frame = Frame { header_type, header: answer.header(opaque), body: answer.body };
    match frame.head() {
        // A connection that is gone takes no answer.
        Ok(head) => {
            let held = client.answers().take_anyway((head.len() + frame.body.len()) as u64);
            drop(answers.send(Written { head, body: frame.body, held: Some(held), room }).await);
        }
        Err(error) => tracing::error!(%error, "an answer cannot be written, which is a bug in raftmq"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::budgets::Budgets;

    #[tokio::test]
    async fn nothing_more_is_read_while_too_much_is_at_work() {
        let mut requests = Requests::default();
        assert!(requests.have_room());
        let local = tokio::task::LocalSet::new();
        let _guard = local.enter();
        for _ in 0..REQUESTS_MAX {
            requests.at_work.spawn_local(std::future::pending());
        }
        assert!(!requests.have_room());
        requests.at_work.abort_all();
    }

    #[tokio::test]
    async fn p20_nothing_more_is_read_while_refusals_wait_for_the_client() {
        let mut requests = Requests::default();
        let (answers, mut taken) = mpsc::channel(1);
        let client = Budgets::new(1 << 20, 1 << 20).client(SocketAddr::from(([10, 0, 0, 1], 1)));
        let local = tokio::task::LocalSet::new();
        let refuse = |requests: &mut Requests, header| {
            let refused = Refused::new(ResponseCode::ServiceNotAvailable, "too busy");
            requests.refuse(&client, &answers, HeaderType::Json, &header, refused);
        };
        let work = async {
            for _ in 0..REFUSED_MAX {
                assert!(requests.have_room());
                refuse(&mut requests, Header::request(10, 7, Fields::default()));
            }
            assert!(!requests.have_room());
            refuse(&mut requests, Header::oneway(10, 7, Fields::default()));
            for _ in 0..REFUSED_MAX {
                assert!(taken.recv().await.is_some());
            }
            while requests.at_work.join_next().await.is_some() {}
            assert!(requests.have_room());
            assert!(taken.try_recv().is_err(), "nobody waits for an answer to what was sent one-way");
        };
        local.run_until(work).await;
    }
}
