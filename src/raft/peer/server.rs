//! What the other replicas may ask of this one, on the address of `dLegerPeers`.
//!
//! Hot path. Every call and link names sender and receiver; a message for somebody else is refused before
//! it reaches Raft. gRPC and links come in at the same port and are told apart by their first byte.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use openraft::Raft;
use openraft::raft::TransferLeaderRequest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::machine::{Outcome, Proposal};
use crate::model::limits::LEADER_WAIT;
use crate::proto::peer as proto;
use crate::proto::peer::forward_reply::Result as Reply;
use crate::proto::peer::peer_server::{Peer, PeerServer};
use crate::raft::peer::link;
use crate::raft::peer::link::{FrameReader, FrameWriter, MAGIC};
use crate::raft::peer::status;
use crate::raft::peer::status::ReplicaStatus;
use crate::raft::peer::wire;
use crate::raft::peer::wire::{PeerIdentity, Unusable};
use crate::raft::propose::proposer::{Failed, Proposer};
use crate::raft::read_index;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{Applied, Types};

/// Frames of one follower under way at once.
const FRAMES_IN_FLIGHT: usize = 64;
const PING_EVERY: Duration = Duration::from_secs(2);
/// Connections taken in and not yet served as gRPC.
const ACCEPTED_MAX: usize = 64;
/// Links and connections of undecided kind at once; a group needs a few per peer.
const LINKS_MAX: usize = 256;
/// Time for the first byte of a connection.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Answers put into one write.
const ANSWERS_AT_ONCE: usize = 64;

/// What this node says of itself.
type OwnStatus = Arc<dyn Fn() -> ReplicaStatus + Send + Sync>;

/// How this node's front end answers another's questions.
pub type OnQuestion = Arc<dyn Fn(Bytes) -> Bytes + Send + Sync>;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct PeerService {
    identity: PeerIdentity,
    raft: Raft<Types, StateMachine>,
    proposer: Proposer,
    status: OwnStatus,
    on_question: OnQuestion,
    stream_ended: Arc<Notify>,
}

impl PeerService {
    pub(in crate::raft) fn new(
        identity: PeerIdentity,
        raft: Raft<Types, StateMachine>,
        proposer: Proposer,
        status: OwnStatus,
        on_question: OnQuestion,
        stream_ended: Arc<Notify>,
    ) -> Self {
        Self { identity, raft, proposer, status, on_question, stream_ended }
    }

    fn disk(&self) -> u64 {
        self.identity.log.disk()
    }

    /// Serves the peers on a bound port, until dropped.
    pub(in crate::raft) fn serve(
        self,
        listener: std::net::TcpListener,
    ) -> io::Result<impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (calls, incoming) = mpsc::channel(ACCEPTED_MAX);
        let accepting = self.clone().accept(listener, calls);
        let serving = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_EVERY))
            .add_service(PeerServer::new(self))
            .serve_with_incoming(ReceiverStream::new(incoming));
        Ok(async move {
            tokio::select! {
                served = serving => served,
                never = accepting => match never {},
            }
        })
    }

    /// Takes connections for as long as it is run; links end with it.
    async fn accept(
        self,
        listener: TcpListener,
        calls: mpsc::Sender<io::Result<TcpStream>>,
    ) -> std::convert::Infallible {
        let mut links = JoinSet::new();
        loop {
            while links.try_join_next().is_some() {}
            if links.len() >= LINKS_MAX {
                links.join_next().await;
            }
            match listener.accept().await {
                Ok((stream, _)) => drop(links.spawn(self.clone().take(stream, calls.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "a peer's connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn take(self, stream: TcpStream, calls: mpsc::Sender<io::Result<TcpStream>>) {
        let mut first = [0];
        match tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await {
            Ok(Ok(1)) => {}
            Ok(_) | Err(_) => return,
        }
        if first[0] != MAGIC[0] {
            // tonic's own setting is for sockets it accepts itself. Without this every answer waits 40 ms
            // for the peer's delayed acknowledgement.
            let stream = stream.set_nodelay(true).map(|()| stream);
            // Fails only when the server ends.
            let _ = calls.send(stream).await;
            return;
        }
        let ended = match link::accept(&self.identity, stream).await {
            Ok((proto::Purpose::Append, reader, writer)) => self.take_appends(reader, writer).await,
            Ok((_, reader, writer)) => self.take_forwards(reader, writer).await,
            Err(error) => return tracing::warn!(%error, "a peer's link is not taken"),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a peer's link ended");
        }
    }

    async fn take_appends(self, reader: FrameReader, mut writer: FrameWriter) -> io::Result<()> {
        let _ended = Ended(self.stream_ended.clone());
        // The first frame that cannot be used ends the link: skipping it would leave a hole.
        let frames = stream::unfold(reader, |mut reader| async move {
            let frame = reader.next::<proto::AppendFrame>().await.ok()??;
            Some((wire::append(frame).inspect_err(warn).ok()?, reader))
        });
        let mut acks = std::pin::pin!(self.raft.stream_append(Box::pin(frames)).fuse());
        while let Some(ack) = acks.next().await {
            writer.put(&wire::put_ack(&ack.map_err(io::Error::other)?, 0));
            for _ in 1..ANSWERS_AT_ONCE {
                let Some(Some(ack)) = acks.next().now_or_never() else { break };
                writer.put(&wire::put_ack(&ack.map_err(io::Error::other)?, 0));
            }
            writer.flush().await?;
        }
        writer.close().await
    }

    /// Ends with the follower's link or when its replies are no longer taken.
    async fn take_forwards(self, mut reader: FrameReader, mut writer: FrameWriter) -> io::Result<()> {
        let (replies, mut outgoing) = mpsc::channel::<proto::ForwardReply>(FRAMES_IN_FLIGHT);
        let writing = async {
            while let Some(reply) = outgoing.recv().await {
                writer.put(&reply);
                while let Ok(reply) = outgoing.try_recv() {
                    writer.put(&reply);
                }
                writer.flush().await?;
            }
            Ok(())
        };
        let reading = async move {
            let room = Arc::new(Semaphore::new(FRAMES_IN_FLIGHT));
            while let Some(frame) = reader.next::<proto::ForwardFrame>().await? {
                let proposals = frame.proposals.into_iter().map(Proposal::decode).collect::<Result<Vec<_>, _>>();
                let proposals = proposals.map_err(io::Error::other)?;
                let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
                let (proposer, replies) = (self.proposer.clone(), replies.clone());
                tokio::spawn(async move {
                    let result = reply(proposer.propose_forwarded(proposals, LEADER_WAIT.into()).await);
                    // A follower that is gone counts the frame as ambiguous.
                    let _ = replies.send(proto::ForwardReply { id: frame.id, result: Some(result) }).await;
                    drop(permit);
                });
            }
            Ok(())
        };
        // When the follower has closed, what it still waits for is answered first.
        tokio::try_join!(reading, writing).map(|_| ())
    }
}

fn refuse(error: Unusable) -> Status {
    warn(&error);
    match error {
        Unusable::Misdirected { .. } => Status::new(status::MISDIRECTED, error.to_string()),
        Unusable::Replaced { .. } => Status::new(status::REPLACED, error.to_string()),
        Unusable::Memory(_) => Status::unavailable(error.to_string()),
        Unusable::Lacks(_) | Unusable::Record(_) => Status::invalid_argument(error.to_string()),
    }
}

fn warn(error: &Unusable) {
    tracing::warn!(%error, "peer message refused");
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this replica stopped: {error}"))
}

/// Rings when the link of appends it stands for ends.
struct Ended(Arc<Notify>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn heartbeat(&self, request: Request<proto::AppendFrame>) -> Result<Response<proto::AppendAck>, Status> {
        let mut frame = request.into_inner();
        self.identity.check(frame.envelope.take()).await.map_err(refuse)?;
        let request = wire::append(frame).map_err(refuse)?;
        let (prev, last) = (request.prev_log_id, request.prev_log_id);
        let answer = self.raft.append_entries(request).await.map_err(stopped)?;
        if answer.is_conflict() && prev.is_none() {
            return Err(Status::internal("a heartbeat without a previous entry cannot conflict"));
        }
        Ok(Response::new(wire::put_ack(&answer.into_stream_result(prev, last), self.disk())))
    }

    async fn request_vote(&self, request: Request<proto::VoteCall>) -> Result<Response<proto::VoteAnswer>, Status> {
        let mut call = request.into_inner();
        self.identity.check(call.envelope.take()).await.map_err(refuse)?;
        let request = wire::vote_call(call).map_err(refuse)?;
        let answer = self.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(wire::put_vote_answer(&answer, self.disk())))
    }

    async fn pre_vote(&self, request: Request<proto::VoteCall>) -> Result<Response<proto::VoteAnswer>, Status> {
        let mut call = request.into_inner();
        self.identity.check(call.envelope.take()).await.map_err(refuse)?;
        let request = wire::vote_call(call).map_err(refuse)?;
        let answer = self.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(wire::put_vote_answer(&answer, self.disk())))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferCall>,
    ) -> Result<Response<proto::TransferAnswer>, Status> {
        let call = request.into_inner();
        self.identity.check(call.envelope).await.map_err(refuse)?;
        let from = wire::vote(call.from_leader).map_err(refuse)?;
        let request = TransferLeaderRequest::new(from, call.to_node, wire::log_id(call.last));
        match self.raft.handle_transfer_leader(request).await.map_err(stopped)? {
            Ok(()) => Ok(Response::new(proto::TransferAnswer {})),
            Err(refused) => Err(Status::failed_precondition(refused.to_string())),
        }
    }

    async fn read_index(
        &self,
        request: Request<proto::ReadIndexCall>,
    ) -> Result<Response<proto::ReadIndexAnswer>, Status> {
        self.identity.check(request.into_inner().envelope).await.map_err(refuse)?;
        match read_index::of_leader(&self.raft).await {
            Some(index) => Ok(Response::new(proto::ReadIndexAnswer { index: index.0 })),
            None => Err(Status::unavailable("this node does not lead")),
        }
    }

    async fn status(&self, request: Request<proto::StatusCall>) -> Result<Response<proto::StatusAnswer>, Status> {
        self.identity.check(request.into_inner().envelope).await.map_err(refuse)?;
        Ok(Response::new(status::put_status((self.status)())))
    }

    async fn ask(&self, request: Request<proto::AskCall>) -> Result<Response<proto::AskAnswer>, Status> {
        let call = request.into_inner();
        self.identity.check(call.envelope).await.map_err(refuse)?;
        Ok(Response::new(proto::AskAnswer { answer: (self.on_question)(call.question) }))
    }
}

fn reply(fate: Result<Applied, Failed>) -> Reply {
    match fate {
        Ok(applied) => Reply::Outcomes(proto::Outcomes {
            index: applied.index.0,
            outcomes: applied.outcomes.iter().map(Outcome::encode).collect(),
        }),
        Err(Failed::NotLeader | Failed::NoLeader) => Reply::NotLeader(proto::NotLeader { leader: None }),
        Err(Failed::Busy) => Reply::Busy(proto::Busy {}),
        Err(Failed::Ambiguous) => Reply::Ambiguous(proto::Ambiguous {}),
    }
}
