//! The short calls that other replicas may make: heartbeats, votes, transfer of leadership and the wish for one, read
//! index, status, questions.
//!
//! They come over a link whose greeting named the sender (`link`); what is in a call is checked here before it reaches Raft.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::model::{LogIndex, NodeId};
use crate::proto::peer as proto;
use crate::proto::peer::answer::Answer;
use crate::proto::peer::call::Call;
use crate::raft::leadership::{GivenVote, LeaderContact};
use crate::raft::lost_tail;
use crate::raft::lost_tail::LostTail;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::status;
use crate::raft::peer::status::{PassAnswer, ReplicaStatus, StatusClients};
use crate::raft::peer::unusable::Unusable;
use crate::raft::peer::wire;
use crate::raft::propose::proposer::Proposer;
use crate::raft::read_index;
use crate::raft::room::VoterRooms;
use crate::raft::snapshot::progress::Behind;
use crate::raft::snapshot::sources::SnapshotSources;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types::{Types, Vote};

/// Gives this node's own marks.
pub(in crate::raft) type OwnStatus = Arc<dyn Fn() -> ReplicaStatus + Send + Sync>;

/// Makes another node the leader, if this one leads; why not, or an empty text.
pub(in crate::raft) type OnPassLeadership = Arc<dyn Fn(NodeId) -> BoxFuture<'static, PassAnswer> + Send + Sync>;

/// Why a node refuses a vote.
const LACKS_TAIL: &str = "damage took the end of this node's log: it does not vote until it has that again";

const VOTED: &str = "this node has just voted for another one, which has to have time to lead";

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
    pub on_pass_leadership: OnPassLeadership,
    pub rooms: Arc<VoterRooms>,
    pub sources: SnapshotSources,
    /// Told when the log of the leader does not reach this node.
    pub behind: Arc<watch::Sender<Option<Behind>>>,
    /// Notified when a stream of appends ends.
    pub stream_ended: Arc<Notify>,
    /// Noted whenever a leader is heard that this node follows.
    pub contact: LeaderContact,
    pub lost_tail: LostTail,
    pub given_vote: GivenVote,
    pub status_clients: StatusClients,
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
            Some(Call::PassLeadership(call)) => {
                let PassAnswer { refusal, elected } = (self.on_pass_leadership)(NodeId(call.to)).await;
                Ok(Answer::PassLeadership(proto::PassLeadershipAnswer { refusal, elected }))
            }
            Some(Call::Behind(call)) => self.behind(from, call),
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
        self.check_lost_tail(from, &request).await?;
        // Before: it is given at once, and answered after the disk.
        self.given_vote.note(from);
        let answer = self.raft.vote(request).await.map_err(stopped)?;
        if !answer.vote_granted {
            self.given_vote.forget(from);
        }
        Ok(Answer::Vote(wire::put_vote_answer(&answer)))
    }

    async fn pre_vote(&self, from: u64, call: proto::VoteCall) -> Result<Answer, Refusal> {
        let request = wire::vote_call(call)?;
        self.check(from, &request.vote)?;
        self.check_lost_tail(from, &request).await?;
        if self.given_vote.holder().is_some_and(|holder| holder != from) {
            return Err(Refusal::Now(VOTED.to_owned()));
        }
        let answer = self.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Answer::Vote(wire::put_vote_answer(&answer)))
    }

    async fn transfer(&self, from: u64, call: proto::TransferCall) -> Result<Answer, Refusal> {
        let leads = wire::vote(call.from_leader)?;
        self.check(from, &leads)?;
        if self.lost_tail.is_lost() {
            return Err(Refusal::Now(LACKS_TAIL.to_owned()));
        }
        let request = TransferLeaderRequest::new(leads, call.to_node, wire::log_id(call.last));
        match self.raft.handle_transfer_leader(request).await.map_err(stopped)? {
            Ok(()) => Ok(Answer::Transfer(proto::TransferAnswer {})),
            Err(refused) => Err(Refusal::Now(refused.to_string())),
        }
    }

    /// The leader's log does not reach this node, unless what it says is old: then this node has what it needs.
    fn behind(&self, from: u64, call: proto::BehindCall) -> Result<Answer, Refusal> {
        let leads = wire::vote(call.vote)?;
        self.check(from, &leads)?;
        let own = self.raft.metrics().borrow_watched().vote;
        let applied = (self.status)().applied;
        if leads.committed && leads >= own && applied.0 < call.needs {
            self.behind.send_replace(Some(Behind { needs: LogIndex(call.needs), said_at: Instant::now() }));
        }
        Ok(Answer::Behind(proto::BehindAnswer { vote: wire::put_vote(&own), applied: applied.0 }))
    }

    /// A vote of this node counts for what its log has; while it lacks some of it, others have to speak for it.
    async fn check_lost_tail(&self, from: u64, request: &VoteRequest<Types>) -> Result<(), Refusal> {
        let known = lost_tail::known_voters(&self.raft, &self.identity.members);
        let may = self.lost_tail.may_vote_for(NodeId(from), &request.last_log_id, known, &self.status_clients).await;
        if may { Ok(()) } else { Err(Refusal::Now(LACKS_TAIL.to_owned())) }
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
