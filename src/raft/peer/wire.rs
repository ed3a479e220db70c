//! Peer messages: between openraft's types and the wire of `proto/raftmq/peer.proto`.
//!
//! Entries travel as the log stores them; everything that arrives is untrusted until its envelope (`identity`) and
//! checksums are checked.

use bytes::{Bytes, BytesMut};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse};

use crate::proto::peer as proto;
use crate::raft::peer::identity::Unusable;
use crate::raft::types;
use crate::raft::types::{LogId, Types, Vote};
use crate::store::log::record;
use crate::store::log::record::Record;

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

/// A frame without envelope, since on a link the hello has it, and the records that belong into the frame.
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
