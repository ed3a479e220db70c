//! Peer messages: between openraft's types and the wire of `proto/raftmq/peer.proto`.
//!
//! Entries travel as the log stores them; everything that arrives is untrusted until the link's greeting
//! (`identity`), the checksums and what is said here are checked.

use bytes::{Bytes, BytesMut};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse};

use crate::proto::peer as proto;
use crate::raft::peer::unusable::{TERM_JUMP_MAX, Unusable};
use crate::raft::types;
use crate::raft::types::{Entry, LogId, Types, Vote};
use crate::store::log::record;
use crate::store::log::record::{BadRecord, Record};

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

/// Refuses a vote whose term no shard can have reached.
pub(in crate::raft) fn check_term(vote: &Vote, own: u64) -> Result<(), Unusable> {
    let term = vote.leader_id.term;
    if term <= own.saturating_add(TERM_JUMP_MAX) { Ok(()) } else { Err(Unusable::Term { term, own }) }
}

/// The frame, and the records that belong into it.
pub(in crate::raft) fn put_append(request: AppendEntriesRequest<Types>) -> (proto::AppendFrame, Vec<Record>) {
    let frame = proto::AppendFrame {
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

/// See [`records`].
pub(in crate::raft) fn read_records(mut bytes: Bytes) -> Result<Vec<Record>, BadRecord> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        records.push(record::decode_wire(&mut bytes)?);
    }
    Ok(records)
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
    let (vote, prev_log_id) = (vote(frame.vote)?, log_id(frame.prev));
    if !follow_each_other(prev_log_id, &entries, &vote) {
        return Err(damaged(&"the entries do not follow each other"));
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit: log_id(frame.committed) })
}

/// Whether entries are what a leader sends: one index after the other, no term above its own, none below the one before.
/// openraft relies on it.
fn follow_each_other(prev: Option<LogId>, entries: &[Entry], vote: &Vote) -> bool {
    let mut before = prev;
    for entry in entries {
        let id = entry.log_id;
        let index = before.map_or(Some(0), |before| before.index.checked_add(1));
        let term = before.map_or(0, |before| before.leader_id.term);
        if Some(id.index) != index || id.leader_id.term < term || id.leader_id.term > vote.leader_id.term {
            return false;
        }
        before = Some(id);
    }
    true
}

pub(in crate::raft) fn put_ack(result: &StreamAppendResult<Types>) -> proto::AppendAck {
    use proto::append_ack::Outcome;
    let (outcome, matching, vote, conflict) = match result {
        Ok(matching) => (Outcome::Success, put_log_id(matching), None, None),
        Err(StreamAppendError::Conflict(id)) => (Outcome::Conflict, None, None, put_log_id(&Some(*id))),
        Err(StreamAppendError::HigherVote(vote)) => (Outcome::HigherVote, None, put_vote(vote), None),
    };
    proto::AppendAck { outcome: outcome.into(), matching, vote, conflict }
}

/// What a follower says that reads no further for lack of room.
pub(in crate::raft) fn put_paused() -> proto::AppendAck {
    proto::AppendAck { outcome: proto::append_ack::Outcome::Paused.into(), ..proto::AppendAck::default() }
}

/// `own` is this node's term: one that no shard can have reached is not believed.
pub(in crate::raft) fn ack(ack: proto::AppendAck, own: u64) -> Result<StreamAppendResult<Types>, Unusable> {
    use proto::append_ack::Outcome;
    match ack.outcome() {
        Outcome::Success | Outcome::Partial => Ok(Ok(log_id(ack.matching))),
        Outcome::Conflict => {
            let id = log_id(ack.conflict).ok_or(Unusable::Lacks("conflicting id"))?;
            Ok(Err(StreamAppendError::Conflict(id)))
        }
        Outcome::HigherVote => {
            let higher = vote(ack.vote)?;
            check_term(&higher, own)?;
            Ok(Err(StreamAppendError::HigherVote(higher)))
        }
        // Read where the answers come in.
        Outcome::Paused | Outcome::Unspecified => Err(Unusable::Lacks("outcome")),
    }
}

pub(in crate::raft) fn put_vote_call(request: &VoteRequest<Types>) -> proto::VoteCall {
    proto::VoteCall {
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

pub(in crate::raft) fn put_vote_answer(answer: &VoteResponse<Types>) -> proto::VoteAnswer {
    proto::VoteAnswer {
        vote: put_vote(&answer.vote),
        granted: answer.vote_granted,
        last: put_log_id(&answer.last_log_id),
    }
}

pub(in crate::raft) fn vote_answer(answer: proto::VoteAnswer) -> Result<VoteResponse<Types>, Unusable> {
    Ok(VoteResponse::new(vote(answer.vote)?, log_id(answer.last), answer.granted))
}
