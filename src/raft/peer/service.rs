//! The calls that other replicas may make: heartbeats, votes, transfer of leadership, read index, status, questions.
//!
//! Every call names its sender and receiver; one that is meant for another node is refused before it reaches Raft.

use std::sync::Arc;

use bytes::Bytes;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::proto::peer as proto;
use crate::proto::peer::peer_server::Peer;
use crate::raft::peer::identity::{PeerIdentity, Unusable};
use crate::raft::peer::status;
use crate::raft::peer::status::ReplicaStatus;
use crate::raft::peer::wire;
use crate::raft::propose::proposer::Proposer;
use crate::raft::read_index;
use crate::raft::state_machine::ShardRaft;

/// Gives this node's own marks.
pub(in crate::raft) type OwnStatus = Arc<dyn Fn() -> ReplicaStatus + Send + Sync>;

/// Answers a question of another node's front end.
pub type OnQuestion = Arc<dyn Fn(Bytes) -> Bytes + Send + Sync>;

/// What serves the peers. Cheap to clone.
#[derive(Clone)]
pub(in crate::raft) struct PeerService {
    pub identity: PeerIdentity,
    pub raft: ShardRaft,
    pub proposer: Proposer,
    pub status: OwnStatus,
    pub on_question: OnQuestion,
    /// Notified when a stream of appends ends.
    pub stream_ended: Arc<Notify>,
}

impl PeerService {
    fn disk(&self) -> u64 {
        self.identity.log.disk()
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

pub(super) fn warn(error: &Unusable) {
    tracing::warn!(%error, "peer message refused");
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this replica stopped: {error}"))
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
