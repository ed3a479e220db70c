//! What the other replicas may ask of this one, on the address of `dLegerPeers`.
//!
//! Hot path. Every call names sender and receiver; a message for somebody else is refused before it
//! reaches Raft.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::Raft;
use openraft::raft::TransferLeaderRequest;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::apply::StateMachine;
use super::peer_client::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES};
use super::peer_status::{self, ReplicaStatus};
use super::peer_wire::{self, Identity, Unusable};
use super::proposer::{Failed, Proposer};
use super::read_index;
use super::types::{Applied, Types};
use crate::machine::{Outcome, Proposal};
use crate::model::limits::LEADER_WAIT;
use crate::proto::peer as wire;
use crate::proto::peer::forward_reply::Result as Reply;
use crate::proto::peer::peer_server::{Peer, PeerServer};

/// Frames of one follower under way at once.
const FRAMES_IN_FLIGHT: usize = 64;
const PING_EVERY: Duration = Duration::from_secs(2);

/// What this node says of itself.
type OwnStatus = Arc<dyn Fn() -> ReplicaStatus + Send + Sync>;

/// See the module.
pub struct PeerService {
    identity: Identity,
    raft: Raft<Types, StateMachine>,
    proposer: Proposer,
    status: OwnStatus,
    stream_ended: Arc<Notify>,
}

impl PeerService {
    pub(super) fn new(
        identity: Identity,
        raft: Raft<Types, StateMachine>,
        proposer: Proposer,
        status: OwnStatus,
        stream_ended: Arc<Notify>,
    ) -> Self {
        Self { identity, raft, proposer, status, stream_ended }
    }

    fn disk(&self) -> u64 {
        self.identity.log.disk()
    }

    /// Serves the peers on a bound port, until dropped.
    pub(super) fn serve(
        self,
        listener: std::net::TcpListener,
    ) -> std::io::Result<impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static> {
        listener.set_nonblocking(true)?;
        // tonic's own setting is for sockets it accepts itself. Without this every answer waits 40 ms for
        // the peer's delayed acknowledgement.
        let incoming = TcpListenerStream::new(TcpListener::from_std(listener)?).map(|accepted| {
            let stream = accepted?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        });
        let service =
            PeerServer::new(self).max_decoding_message_size(FRAME_BYTES_MAX).max_encoding_message_size(FRAME_BYTES_MAX);
        Ok(tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_EVERY))
            .add_service(service)
            .serve_with_incoming(incoming))
    }
}

fn refuse(error: Unusable) -> Status {
    warn(&error);
    match error {
        Unusable::Misdirected { .. } => Status::new(peer_status::MISDIRECTED, error.to_string()),
        Unusable::Replaced { .. } => Status::new(peer_status::REPLACED, error.to_string()),
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

/// Rings when the stream of appends it travels with ends.
struct Ended(Arc<Notify>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = Answers<wire::AppendAck>;
    type ForwardStream = ReceiverStream<Result<wire::ForwardReply, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendFrame>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let identity = Arc::new(self.identity.clone());
        let disk = identity.log.disk();
        let ended = Ended(self.stream_ended.clone());
        // The first frame that cannot be used ends the stream: skipping it would leave a hole.
        let frames = request.into_inner().scan(ended, move |_, frame| {
            let identity = identity.clone();
            async move {
                let mut frame = frame.ok()?;
                let checked = identity.check(frame.envelope.take()).await;
                checked.and_then(|()| peer_wire::append(frame)).inspect_err(warn).ok()
            }
        });
        let acks = self.raft.stream_append(Box::pin(frames)).map(move |answer| match answer {
            Ok(result) => Ok(peer_wire::put_ack(&result, disk)),
            Err(fatal) => Err(stopped(fatal)),
        });
        Ok(Response::new(Box::pin(acks)))
    }

    async fn heartbeat(&self, request: Request<wire::AppendFrame>) -> Result<Response<wire::AppendAck>, Status> {
        let mut frame = request.into_inner();
        self.identity.check(frame.envelope.take()).await.map_err(refuse)?;
        let request = peer_wire::append(frame).map_err(refuse)?;
        let (prev, last) = (request.prev_log_id, request.prev_log_id);
        let answer = self.raft.append_entries(request).await.map_err(stopped)?;
        if answer.is_conflict() && prev.is_none() {
            return Err(Status::internal("a heartbeat without a previous entry cannot conflict"));
        }
        Ok(Response::new(peer_wire::put_ack(&answer.into_stream_result(prev, last), self.disk())))
    }

    async fn request_vote(&self, request: Request<wire::VoteCall>) -> Result<Response<wire::VoteAnswer>, Status> {
        let mut call = request.into_inner();
        self.identity.check(call.envelope.take()).await.map_err(refuse)?;
        let request = peer_wire::vote_call(call).map_err(refuse)?;
        let answer = self.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(peer_wire::put_vote_answer(&answer, self.disk())))
    }

    async fn pre_vote(&self, request: Request<wire::VoteCall>) -> Result<Response<wire::VoteAnswer>, Status> {
        let mut call = request.into_inner();
        self.identity.check(call.envelope.take()).await.map_err(refuse)?;
        let request = peer_wire::vote_call(call).map_err(refuse)?;
        let answer = self.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(peer_wire::put_vote_answer(&answer, self.disk())))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferCall>,
    ) -> Result<Response<wire::TransferAnswer>, Status> {
        let call = request.into_inner();
        self.identity.check(call.envelope).await.map_err(refuse)?;
        let from = peer_wire::vote(call.from_leader).map_err(refuse)?;
        let request = TransferLeaderRequest::new(from, call.to_node, peer_wire::log_id(call.last));
        match self.raft.handle_transfer_leader(request).await.map_err(stopped)? {
            Ok(()) => Ok(Response::new(wire::TransferAnswer {})),
            Err(refused) => Err(Status::failed_precondition(refused.to_string())),
        }
    }

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardFrame>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let (replies, outgoing) = mpsc::channel(FRAMES_IN_FLIGHT);
        let (identity, proposer) = (self.identity.clone(), self.proposer.clone());
        let mut frames = request.into_inner();
        // Ends with the follower's stream or when its replies are no longer taken.
        tokio::spawn(async move {
            let room = Arc::new(Semaphore::new(FRAMES_IN_FLIGHT));
            while let Ok(Some(frame)) = frames.message().await {
                let proposals = identity.check(frame.envelope).await.and_then(|()| {
                    let read = frame.proposals.into_iter().map(Proposal::decode).collect::<Result<Vec<_>, _>>();
                    read.map_err(|error| Unusable::Record(error.to_string()))
                });
                let proposals = match proposals {
                    Ok(proposals) => proposals,
                    Err(error) => {
                        let _ = replies.send(Err(refuse(error))).await;
                        return;
                    }
                };
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                let (proposer, replies) = (proposer.clone(), replies.clone());
                tokio::spawn(async move {
                    let result = reply(proposer.propose_forwarded(proposals, LEADER_WAIT.into()).await);
                    let _ = replies.send(Ok(wire::ForwardReply { id: frame.id, result: Some(result) })).await;
                    drop(permit);
                });
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexCall>,
    ) -> Result<Response<wire::ReadIndexAnswer>, Status> {
        self.identity.check(request.into_inner().envelope).await.map_err(refuse)?;
        match read_index::of_leader(&self.raft).await {
            Some(index) => Ok(Response::new(wire::ReadIndexAnswer { index: index.0 })),
            None => Err(Status::unavailable("this node does not lead")),
        }
    }

    async fn status(&self, request: Request<wire::StatusCall>) -> Result<Response<wire::StatusAnswer>, Status> {
        self.identity.check(request.into_inner().envelope).await.map_err(refuse)?;
        Ok(Response::new(peer_status::put_status((self.status)())))
    }
}

fn reply(fate: Result<Applied, Failed>) -> Reply {
    match fate {
        Ok(applied) => Reply::Outcomes(wire::Outcomes {
            index: applied.index.0,
            outcomes: applied.outcomes.iter().map(Outcome::encode).collect(),
        }),
        Err(Failed::NotLeader | Failed::NoLeader) => Reply::NotLeader(wire::NotLeader { leader: None }),
        Err(Failed::Busy) => Reply::Busy(wire::Busy {}),
        Err(Failed::Ambiguous) => Reply::Ambiguous(wire::Ambiguous {}),
    }
}
