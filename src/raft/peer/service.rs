//! The short calls that other replicas may make: heartbeats, votes, transfer of leadership, read index, status, questions.
//!
//! They come over a link whose greeting named the sender (`link`); what is in a call is checked here before it reaches Raft.

use std::sync::Arc;

use bytes::Bytes;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::Notify;

use crate::proto::peer as proto;
use crate::proto::peer::answer::Answer;
use crate::proto::peer::call::Call;
use crate::raft::leadership::LeaderContact;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::status;
use crate::raft::peer::status::ReplicaStatus;
use crate::raft::peer::unusable::Unusable;
use crate::raft::peer::wire;
use crate::raft::propose::proposer::Proposer;
use crate::raft::read_index;
use crate::raft::room::VoterRooms;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types::Vote;

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
    pub rooms: Arc<VoterRooms>,
    /// Notified when a stream of appends ends.
    pub stream_ended: Arc<Notify>,
    /// Noted whenever a leader is heard that this node follows.
    pub contact: LeaderContact,
}

impl PeerService {
    /// Answers one call; what cannot be used is refused in words.
    pub async fn answer(&self, from: u64, call: Option<Call>) -> Answer {
        let answered = match call {
            Some(Call::Heartbeat(frame)) => self.heartbeat(from, frame).await,
            Some(Call::Vote(call)) => self.vote(from, call).await,
            Some(Call::PreVote(call)) => self.pre_vote(from, call).await,
            Some(Call::Transfer(call)) => self.transfer(from, call).await,
            Some(Call::Status(_)) => Ok(Answer::Status(status::put_status((self.status)()))),
            Some(Call::Ask(call)) => Ok(Answer::Ask(proto::AskAnswer { answer: (self.on_question)(call.question) })),
            Some(Call::ReadIndex(_)) => self.read_index().await,
            None => Err(Refusal::Unusable(Unusable::Lacks("call"))),
        };
        answered.unwrap_or_else(|refusal| {
            if let Refusal::Unusable(error) = &refusal {
                self.identity.note_refusal(from, error);
            }
            Answer::Refused(refusal.to_string())
        })
    }

    /// Whether a vote is its sender's own, of a term that this shard can have reached.
    pub fn check(&self, from: u64, vote: &Vote) -> Result<(), Unusable> {
        let of = vote.leader_id.node_id;
        if of != from {
            return Err(Unusable::VoteOfAnother { from, of });
        }
        wire::check_term(vote, self.identity.term())
    }

    /// Notes that a leader speaks, unless it was deposed. At once: openraft answers only after the disk.
    pub fn note_leader(&self, vote: &Vote) {
        if vote.committed && vote.leader_id.term >= self.identity.term() {
            self.contact.note();
        }
    }

    async fn heartbeat(&self, from: u64, frame: proto::AppendFrame) -> Result<Answer, Refusal> {
        let request = wire::append(frame)?;
        self.check(from, &request.vote)?;
        self.note_leader(&request.vote);
        let (prev, last) = (request.prev_log_id, request.prev_log_id);
        let answer = self.raft.append_entries(request).await.map_err(stopped)?;
        if answer.is_conflict() && prev.is_none() {
            return Err(Unusable::Lacks("previous entry").into());
        }
        Ok(Answer::Heartbeat(wire::put_ack(&answer.into_stream_result(prev, last))))
    }

    async fn vote(&self, from: u64, call: proto::VoteCall) -> Result<Answer, Refusal> {
        let request = wire::vote_call(call)?;
        self.check(from, &request.vote)?;
        let answer = self.raft.vote(request).await.map_err(stopped)?;
        Ok(Answer::Vote(wire::put_vote_answer(&answer)))
    }

    async fn pre_vote(&self, from: u64, call: proto::VoteCall) -> Result<Answer, Refusal> {
        let request = wire::vote_call(call)?;
        self.check(from, &request.vote)?;
        let answer = self.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Answer::Vote(wire::put_vote_answer(&answer)))
    }

    async fn transfer(&self, from: u64, call: proto::TransferCall) -> Result<Answer, Refusal> {
        let leads = wire::vote(call.from_leader)?;
        self.check(from, &leads)?;
        let request = TransferLeaderRequest::new(leads, call.to_node, wire::log_id(call.last));
        match self.raft.handle_transfer_leader(request).await.map_err(stopped)? {
            Ok(()) => Ok(Answer::Transfer(proto::TransferAnswer {})),
            Err(refused) => Err(Refusal::Now(refused.to_string())),
        }
    }

    async fn read_index(&self) -> Result<Answer, Refusal> {
        let index = read_index::of_leader(&self.raft).await;
        let index = index.ok_or_else(|| Refusal::Now("this node does not lead".to_owned()))?;
        Ok(Answer::ReadIndex(proto::ReadIndexAnswer { index: index.0 }))
    }
}

/// Why a call is not answered.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// It may be answered later, or by another node.
    #[error("{0}")]
    Now(String),
}

fn stopped(error: impl std::fmt::Display) -> Refusal {
    Refusal::Now(format!("this replica stopped: {error}"))
}
