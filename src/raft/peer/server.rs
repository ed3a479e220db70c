//! The port of `dLegerPeers`: links come in, and what comes over them goes to Raft or to the proposer.
//!
//! Hot path. A link names and proves sender and receiver in its greeting; what is meant for another node, or comes from a
//! stranger, is refused before it reaches Raft. Links without a name are few, and the oldest of them makes room for the
//! newest, so that silent strangers do not keep members out; a flood of them can.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::machine::{Inadmissible, Outcome, Proposal, admissible};
use crate::model::NodeId;
use crate::model::limits::LEADER_WAIT;
use crate::proto::peer as proto;
use crate::proto::peer::forward_reply::Result as Reply;
use crate::raft::error::Failed;
use crate::raft::peer::append_server::take_appends;
use crate::raft::peer::forward::put_no_room;
use crate::raft::peer::frame::{FrameReader, FrameWriter};
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::link;
use crate::raft::peer::link::{Accepted, LinkError};
use crate::raft::peer::service::PeerService;
use crate::raft::peer::snapshot_server;
use crate::raft::peer::unusable::Unusable;
use crate::raft::types::Applied;

/// Frames of one follower, and calls of one peer, in flight at once.
const FRAMES_IN_FLIGHT: usize = 64;
/// Parts of snapshots for one peer in flight at once; each takes memory.
const PARTS_IN_FLIGHT: usize = 8;
/// Links whose greeting is not over, at once.
const UNKNOWN_MAX: usize = 64;
/// Links of one peer for one purpose at once: more than one only while it dials anew.
const LINKS_MAX: usize = 4;
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Strangers are reported once in this time: they must not fill the disk with lines.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What serves the peers, once Raft is there; until then links are greeted and held.
pub(in crate::raft) type Service = watch::Receiver<Option<PeerService>>;

/// Serves the peers on a bound port, until dropped.
pub(in crate::raft) fn serve(
    identity: PeerIdentity,
    service: Service,
    listener: std::net::TcpListener,
) -> io::Result<impl Future<Output = Infallible> + Send + 'static> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    Ok(accept(Port { identity, service, links: Arc::default(), reported: Arc::default() }, listener))
}

/// The port. Cheap to clone.
#[derive(Clone)]
struct Port {
    identity: PeerIdentity,
    service: Service,
    links: Arc<Mutex<Links>>,
    reported: Arc<Mutex<Option<Instant>>>,
}

/// The links there are; cancelling a token ends one.
#[derive(Default)]
struct Links {
    /// Whose greeting is not over, oldest first.
    unknown: VecDeque<Link>,
    /// By peer and purpose, oldest first.
    known: BTreeMap<(u64, i32), VecDeque<Link>>,
    last_id: u64,
}

/// One link.
#[derive(Clone)]
struct Link {
    id: u64,
    end: CancellationToken,
}

impl Links {
    /// Adds a connection; the oldest one without a name makes room.
    fn begin(&mut self, end: CancellationToken) -> Link {
        self.last_id += 1;
        let link = Link { id: self.last_id, end };
        push(&mut self.unknown, link.clone(), UNKNOWN_MAX);
        link
    }

    /// Ends the links of those that do not take part any more.
    fn keep(&mut self, takes_part: impl Fn(u64) -> bool) {
        self.known.retain(|(from, _), links| {
            let is_kept = takes_part(*from);
            if !is_kept {
                links.iter().for_each(|link| link.end.cancel());
            }
            is_kept
        });
    }

    /// The greeting is over: no stranger can push this link out.
    fn greeted(&mut self, link: Link, from: u64, purpose: proto::Purpose) {
        self.unknown.retain(|unknown| unknown.id != link.id);
        push(self.known.entry((from, purpose.into())).or_default(), link, LINKS_MAX);
    }
}

fn push(links: &mut VecDeque<Link>, link: Link, max: usize) {
    links.retain(|link| !link.end.is_cancelled());
    if links.len() >= max
        && let Some(oldest) = links.pop_front()
    {
        oldest.end.cancel();
    }
    links.push_back(link);
}

/// Accepts connections for as long as it is run; links end with it.
async fn accept(port: Port, listener: TcpListener) -> Infallible {
    let all = CancellationToken::new();
    let _ended: DropGuard = all.clone().drop_guard();
    let (mut members, mut version) = (port.identity.members.watch(), port.identity.watch_version());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The table is there as long as the port.
            _ = members.changed() => {
                let members = members.borrow_and_update();
                port.links.lock().keep(|from| members.get(NodeId(from)).is_some());
                continue;
            }
            // What was judged when the link was opened does not hold any more.
            _ = version.changed() => {
                port.links.lock().keep(|from| match port.identity.check_version(from) {
                    Ok(()) => true,
                    Err(error) => {
                        port.identity.note_refusal(from, &error);
                        false
                    }
                });
                continue;
            }
        };
        match accepted {
            Ok((stream, address)) => {
                let link = port.links.lock().begin(all.child_token());
                let port = port.clone();
                tokio::spawn(async move {
                    let serving = take(port.clone(), stream, link.clone());
                    if let Some(Err(error)) = link.end.run_until_cancelled(serving).await {
                        port.report(address, &error);
                    }
                    link.end.cancel();
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a peer's connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Port {
    /// Members that were refused are reported where they were judged.
    fn report(&self, address: std::net::SocketAddr, error: &LinkError) {
        let is_stranger = matches!(
            error,
            LinkError::OtherProtocol(_)
                | LinkError::Unusable(
                    Unusable::Misdirected { .. } | Unusable::NoMember { .. } | Unusable::OtherLineage { .. }
                )
        );
        let mut reported = self.reported.lock();
        if is_stranger && reported.is_none_or(|at| at.elapsed() > REPORT_EVERY) {
            *reported = Some(Instant::now());
            tracing::warn!(%address, %error, "a connection to the peer port is refused");
        } else {
            tracing::debug!(%address, %error, "a peer's link ended");
        }
    }
}

/// Greets whoever dialled, and serves its link.
async fn take(mut port: Port, stream: TcpStream, link: Link) -> Result<(), LinkError> {
    let named = |from, purpose| port.links.lock().greeted(link, from, purpose);
    let Accepted { from, purpose, reader, writer } = link::accept(&port.identity, stream, named).await?;
    if matches!(purpose, proto::Purpose::Probe | proto::Purpose::Enquire) {
        return Ok(());
    }
    let service = port.service.wait_for(Option::is_some).await.ok().and_then(|service| service.clone());
    // The node ends before Raft was there.
    let Some(service) = service else { return Ok(()) };
    match purpose {
        proto::Purpose::Append => take_appends(service, from, reader, writer).await?,
        proto::Purpose::Forward => take_forwards(service, from, reader, writer).await?,
        proto::Purpose::Control => take_calls(service, from, reader, writer).await?,
        proto::Purpose::Snapshot => {
            let answering = |call| snapshot_server::answer(service.sources.clone(), from, call);
            take_requests(reader, writer, PARTS_IN_FLIGHT, answering).await?;
        }
        proto::Purpose::Probe | proto::Purpose::Enquire | proto::Purpose::Unspecified => {}
    }
    Ok(())
}

/// Commands of a follower, until its link ends or takes no more replies.
async fn take_forwards(service: PeerService, from: u64, reader: FrameReader, writer: FrameWriter) -> io::Result<()> {
    take_requests(reader, writer, FRAMES_IN_FLIGHT, |frame: proto::ForwardFrame| {
        let (proposer, identity) = (service.proposer.clone(), service.identity.clone());
        async move {
            let proposals = frame.proposals.into_iter().map(Proposal::decode).collect::<Result<Vec<_>, _>>();
            let checked = proposals.map_err(Inadmissible::from).and_then(|proposals| {
                admissible::check_all(&proposals, identity.applied_version())?;
                Ok(proposals)
            });
            let result = match checked {
                Ok(proposals) => reply(proposer.propose_forwarded(proposals, LEADER_WAIT.into()).await),
                // This node may have raised the version a moment ago and not know it yet: the follower tries again.
                Err(Inadmissible::TooNew { .. }) => Reply::NotLeader(proto::NotLeader { leader: None }),
                Err(error) => {
                    let error = Unusable::Command(error.to_string());
                    identity.note_refusal(from, &error);
                    Reply::Unusable(proto::Unusable { reason: error.to_string() })
                }
            };
            proto::ForwardReply { id: frame.id, result: Some(result) }
        }
    })
    .await
}

/// Short calls of a peer, until its link ends.
async fn take_calls(service: PeerService, from: u64, reader: FrameReader, writer: FrameWriter) -> io::Result<()> {
    take_requests(reader, writer, FRAMES_IN_FLIGHT, |call: proto::Call| {
        let service = service.clone();
        async move { proto::Answer { id: call.id, answer: Some(service.answer(from, call.call).await) } }
    })
    .await
}

/// Answers the requests of a link, each in a task of its own, so many at once.
async fn take_requests<Q, A, F>(
    mut reader: FrameReader,
    mut writer: FrameWriter,
    in_flight_max: usize,
    answer: impl Fn(Q) -> F,
) -> io::Result<()>
where
    Q: prost::Message + Default,
    A: prost::Message + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let (answers, mut outgoing) = mpsc::channel::<A>(in_flight_max);
    let writing = async {
        while let Some(answer) = outgoing.recv().await {
            writer.put(&answer);
            while let Ok(answer) = outgoing.try_recv() {
                writer.put(&answer);
            }
            writer.flush().await?;
        }
        Ok(())
    };
    let reading = async move {
        let room = Arc::new(Semaphore::new(in_flight_max));
        while let Some(request) = reader.next::<Q>().await? {
            let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
            let (answering, answers) = (answer(request), answers.clone());
            tokio::spawn(async move {
                // A peer that is gone counts its request as unanswered.
                let _ = answers.send(answering.await).await;
                drop(permit);
            });
        }
        Ok(())
    };
    // When the peer has closed, what it still waits for is answered first.
    tokio::try_join!(reading, writing).map(|_| ())
}

/// The fate of a follower's commands, as its frame is answered.
fn reply(fate: Result<Applied, Failed>) -> Reply {
    match fate {
        Ok(applied) => Reply::Outcomes(proto::Outcomes {
            index: applied.index.0,
            term: applied.term.0,
            outcomes: applied.outcomes.iter().map(Outcome::encode).collect(),
        }),
        Err(Failed::NotLeader | Failed::NoLeader) => Reply::NotLeader(proto::NotLeader { leader: None }),
        Err(Failed::Busy) => Reply::Busy(proto::Busy {}),
        Err(Failed::NoRoom(no_room)) => Reply::NoRoom(put_no_room(no_room)),
        Err(Failed::Unusable) => Reply::Unusable(proto::Unusable { reason: Failed::Unusable.to_string() }),
        Err(Failed::Ambiguous) => Reply::Ambiguous(proto::Ambiguous {}),
    }
}
