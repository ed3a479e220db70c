//! Peer messages: between openraft's types and the wire of `proto/raftmq/peer.proto`.
//!
//! Entries travel as the log stores them; everything that arrives is untrusted until its envelope and
//! checksums are checked.

use bytes::{Bytes, BytesMut};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse};

use crate::model::NodeId;
use crate::proto::peer as proto;
use crate::raft::types;
use crate::raft::types::{LogId, Types, Vote};
use crate::store::log::CommitLog;
use crate::store::log::record;
use crate::store::log::record::Record;

/// Who this node is to its peers, and who they are to it.
#[derive(Clone)]
pub struct PeerIdentity {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    /// This node.
    pub node: u64,
    /// Remembers which disks the peers are on.
    pub log: CommitLog,
}

/// A peer message that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is meant for another node, group or cluster.
    #[error("a message for node n{to} of group {group} in cluster {cluster} reached {me}")]
    Misdirected {
        /// As the message says.
        cluster: String,
        /// As the message says.
        group: String,
        /// As the message says.
        to: u64,
        /// Who got it.
        me: String,
    },
    /// It comes from another disk than the one known under this id (D18).
    #[error("n{node} has lost its disk: what runs under its id now is not what this node knows")]
    Replaced {
        /// Whose id it is.
        node: u64,
    },
    /// The log that remembers the peers' disks is closed.
    #[error("the peers' disks cannot be remembered: {0}")]
    Memory(String),
    /// A field is missing.
    #[error("the message lacks its {0}")]
    Lacks(&'static str),
    /// A record does not decode.
    #[error("a record in the message is damaged: {0}")]
    Record(String),
}

impl PeerIdentity {
    pub(in crate::raft) fn envelope(&self, to: u64) -> proto::Envelope {
        let (cluster, group) = (self.cluster.clone(), self.group.clone());
        proto::Envelope { cluster, group, from: self.node, to, disk: self.log.disk() }
    }

    /// Whether a message is meant for us and comes from who it says.
    pub(in crate::raft) async fn check(&self, envelope: Option<proto::Envelope>) -> Result<(), Unusable> {
        let envelope = envelope.ok_or(Unusable::Lacks("envelope"))?;
        if envelope.cluster == self.cluster && envelope.group == self.group && envelope.to == self.node {
            return self.meet(envelope.from, envelope.disk).await;
        }
        Err(Unusable::Misdirected {
            cluster: envelope.cluster,
            group: envelope.group,
            to: envelope.to,
            me: format!("node n{} of group {} in cluster {}", self.node, self.group, self.cluster),
        })
    }

    /// Whether a peer is still on the disk it was on when this node first heard of it.
    pub(in crate::raft) async fn meet(&self, node: u64, disk: u64) -> Result<(), Unusable> {
        if disk == 0 {
            return Err(Unusable::Lacks("disk"));
        }
        let known = match self.log.known_disk(NodeId(node)) {
            Some(known) => known,
            None => {
                let log = self.log.clone();
                let knowing = tokio::task::spawn_blocking(move || log.know_disk(NodeId(node), disk));
                let known = knowing.await.map_err(|panic| Unusable::Memory(panic.to_string()))?;
                known.map_err(|error| Unusable::Memory(error.to_string()))?
            }
        };
        if known == disk { Ok(()) } else { Err(Unusable::Replaced { node }) }
    }
}

pub(in crate::raft) fn put_log_id(id: &Option<LogId>) -> Option<proto::LogId> {
    id.as_ref().map(|id| proto::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index })
}

pub(in crate::raft) fn log_id(id: Option<proto::LogId>) -> Option<LogId> {
    id.map(|id| LogId { leader_id: LeaderId { term: id.term, node_id: id.node }, index: id.index })
}

pub(in crate::raft) fn put_vote(vote: &Vote) -> Option<proto::Vote> {
    Some(proto::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed })
}

pub(in crate::raft) fn vote(vote: Option<proto::Vote>) -> Result<Vote, Unusable> {
    let vote = vote.ok_or(Unusable::Lacks("vote"))?;
    Ok(types::vote(vote.term, vote.node, vote.committed))
}

/// A frame without envelope, for on a link the hello said it, and the records that belong into it.
pub(in crate::raft) fn put_append(request: AppendEntriesRequest<Types>) -> (proto::AppendFrame, Vec<Record>) {
    let frame = proto::AppendFrame {
        envelope: None,
        vote: put_vote(&request.vote),
        prev: put_log_id(&request.prev_log_id),
        committed: put_log_id(&request.leader_commit),
        records: Bytes::new(),
        record_count: u32::try_from(request.entries.len()).expect("openraft caps the entries of a request"),
    };
    (frame, request.entries.into_iter().map(types::to_record).collect())
}

/// Records as they are in a frame.
pub(in crate::raft) fn records(records: &[Record]) -> Bytes {
    let mut bytes = BytesMut::new();
    for record in records {
        record::encode_wire(record, &mut bytes);
    }
    bytes.freeze()
}

pub(in crate::raft) fn append(frame: proto::AppendFrame) -> Result<AppendEntriesRequest<Types>, Unusable> {
    let damaged = |error: &dyn std::fmt::Display| Unusable::Record(error.to_string());
    let mut records: Bytes = frame.records;
    let mut entries = Vec::with_capacity(frame.record_count.min(4096) as usize);
    for _ in 0..frame.record_count {
        let record = record::decode_wire(&mut records).map_err(|error| damaged(&error))?;
        entries.push(types::to_entry(record).map_err(|error| damaged(&error))?);
    }
    if !records.is_empty() {
        return Err(damaged(&"bytes left over"));
    }
    Ok(AppendEntriesRequest {
        vote: vote(frame.vote)?,
        prev_log_id: log_id(frame.prev),
        entries,
        leader_commit: log_id(frame.committed),
    })
}

pub(in crate::raft) fn put_ack(result: &StreamAppendResult<Types>, disk: u64) -> proto::AppendAck {
    use proto::append_ack::Outcome;
    let (outcome, matching, vote, conflict) = match result {
        Ok(matching) => (Outcome::Success, put_log_id(matching), None, None),
        Err(StreamAppendError::Conflict(id)) => (Outcome::Conflict, None, None, put_log_id(&Some(*id))),
        Err(StreamAppendError::HigherVote(vote)) => (Outcome::HigherVote, None, put_vote(vote), None),
    };
    proto::AppendAck { outcome: outcome.into(), matching, vote, conflict, disk }
}

pub(in crate::raft) fn ack(ack: proto::AppendAck) -> Result<StreamAppendResult<Types>, Unusable> {
    use proto::append_ack::Outcome;
    match ack.outcome() {
        Outcome::Success | Outcome::Partial => Ok(Ok(log_id(ack.matching))),
        Outcome::Conflict => {
            let id = log_id(ack.conflict).ok_or(Unusable::Lacks("conflicting id"))?;
            Ok(Err(StreamAppendError::Conflict(id)))
        }
        Outcome::HigherVote => Ok(Err(StreamAppendError::HigherVote(vote(ack.vote)?))),
        Outcome::Unspecified => Err(Unusable::Lacks("outcome")),
    }
}

pub(in crate::raft) fn put_vote_call(envelope: proto::Envelope, request: &VoteRequest<Types>) -> proto::VoteCall {
    proto::VoteCall {
        envelope: Some(envelope),
        vote: put_vote(&request.vote),
        last: put_log_id(&request.last_log_id),
        leader_transfer: request.leadership_transfer,
    }
}

pub(in crate::raft) fn vote_call(call: proto::VoteCall) -> Result<VoteRequest<Types>, Unusable> {
    let mut request = VoteRequest::new(vote(call.vote)?, log_id(call.last));
    request.leadership_transfer = call.leader_transfer;
    Ok(request)
}

pub(in crate::raft) fn put_vote_answer(answer: &VoteResponse<Types>, disk: u64) -> proto::VoteAnswer {
    proto::VoteAnswer {
        vote: put_vote(&answer.vote),
        granted: answer.vote_granted,
        last: put_log_id(&answer.last_log_id),
        disk,
    }
}

pub(in crate::raft) fn vote_answer(answer: proto::VoteAnswer) -> Result<VoteResponse<Types>, Unusable> {
    Ok(VoteResponse::new(vote(answer.vote)?, log_id(answer.last), answer.granted))
}
