//! How openraft's types are set for us, and the conversions at the border.
//!
//! openraft counts log entries from 0, we from 1 ([`LogIndex`] 0 is "none"): [`index_out`] and
//! [`index_in`] are the only places that know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::entry::RaftPayload;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::{BasicNode, EntryPayload, Membership};
use tokio::time::Instant;

use crate::machine::Outcome;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::members::{Member, Members};
use crate::store::log::record::{Record, RecordId, RecordKind};

openraft::declare_raft_types!(
    /// Our choice of openraft's types.
    pub Types:
        D = Body,
        R = Applied,
);

/// Identity of an entry.
pub type LogId = openraft::type_config::alias::LogIdOf<Types>;
/// A vote.
pub type Vote = openraft::type_config::alias::VoteOf<Types>;
/// An entry.
pub type Entry = openraft::type_config::alias::EntryOf<Types>;
/// A membership with the entry that set it.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;

/// The body of an entry: an encoded [`crate::machine::Batch`]. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(pub Bytes);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The entry that a command is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandPlace {
    pub index: LogIndex,
    /// Its term; 0 from a leader of an older build.
    pub term: Term,
}

/// What became of an entry.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The entry.
    pub index: LogIndex,
    /// Its term; 0 from a leader of an older build.
    pub term: Term,
    /// The answers to its commands, in order; empty for an entry that is not a batch.
    pub outcomes: Vec<Outcome>,
    pub times: Times,
}

/// When the parts of an entry's way were over, as far as this node saw them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Handed to Raft, or to the leader.
    pub handed_on: Option<Instant>,
    /// `None`, if it was applied for this node by another one.
    pub applying: Option<Applying>,
}

#[derive(Debug, Clone, Copy)]
pub struct Applying {
    /// A majority had it, and everything before was applied.
    pub committed: Instant,
    /// Synced on this node.
    pub durable: Instant,
    pub done: Instant,
}

/// Our index of an openraft index.
pub fn index_in(index: u64) -> LogIndex {
    LogIndex(index + 1)
}

/// The openraft index of ours; `None` for "none".
pub fn index_out(index: LogIndex) -> Option<u64> {
    index.0.checked_sub(1)
}

/// An openraft log id.
pub fn log_id(term: Term, node: NodeId, index: LogIndex) -> Option<LogId> {
    let index = index_out(index)?;
    Some(LogId { leader_id: LeaderId { term: term.0, node_id: node.0 }, index })
}

/// Our id of an entry.
pub fn record_id(id: &LogId) -> RecordId {
    RecordId { term: Term(id.leader_id.term), node: NodeId(id.leader_id.node_id), index: index_in(id.index) }
}

/// A vote of openraft's.
pub fn vote(term: u64, node: u64, committed: bool) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: node }, committed }
}

/// Bytes of an entry's body.
pub fn body_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(body) => body.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// The record the log stores for an entry.
pub fn to_record(entry: Entry) -> Record {
    let (kind, body) = match entry.payload {
        EntryPayload::Blank => (RecordKind::Blank, Bytes::new()),
        EntryPayload::Normal(body) => (RecordKind::Batch, body.0),
        EntryPayload::Membership(membership) => (RecordKind::Membership, encode_membership(&membership)),
    };
    Record {
        term: Term(entry.log_id.leader_id.term),
        node: NodeId(entry.log_id.leader_id.node_id),
        index: index_in(entry.log_id.index),
        kind,
        body,
    }
}

/// The entry a record stands for.
pub fn to_entry(record: Record) -> Result<Entry, Malformed> {
    let payload = match record.kind {
        RecordKind::Blank => EntryPayload::blank(),
        RecordKind::Batch => EntryPayload::Normal(Body(record.body)),
        RecordKind::Membership => EntryPayload::Membership(decode_membership(record.body)?),
    };
    let log_id =
        log_id(record.term, record.node, record.index).ok_or(Malformed::Unknown { what: "log index", value: 0 })?;
    Ok(Entry { log_id, payload })
}

/// The members of a membership.
pub fn members(stored: &StoredMembership) -> Members {
    let voters: BTreeSet<u64> = stored.voter_ids().collect();
    let member = |(id, node): (&u64, &BasicNode)| Member {
        node: NodeId(*id),
        address: node.addr.clone(),
        is_voter: voters.contains(id),
    };
    let at = stored.log_id().as_ref().map_or(LogIndex(0), |id| index_in(id.index));
    let mut members = Members::new(at, stored.membership().nodes().map(member));
    if let Some(id) = stored.log_id() {
        members.by = (Term(id.leader_id.term), NodeId(id.leader_id.node_id));
    }
    members.is_joint = stored.membership().get_joint_config().len() > 1;
    members
}

const MEMBERSHIP_VERSION: u8 = 1;

/// Shape: version, configs (each a list of ids), nodes (id, address).
pub fn encode_membership(membership: &Membership<u64, BasicNode>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(MEMBERSHIP_VERSION);
    out.put_list(membership.get_joint_config(), |out, config| {
        let ids: Vec<u64> = config.iter().copied().collect();
        out.put_list(&ids, |out, id| out.put_u64(*id));
    });
    let nodes: Vec<_> = membership.nodes().collect();
    out.put_list(&nodes, |out, (id, node)| {
        out.put_u64(**id);
        out.put_text(&node.addr);
    });
    out.freeze()
}

/// See [`encode_membership`].
pub fn decode_membership(bytes: Bytes) -> Result<Membership<u64, BasicNode>, Malformed> {
    let mut reader = Reader::new(bytes, "membership");
    let version = reader.u8()?;
    if version != MEMBERSHIP_VERSION {
        return Err(reader.unknown(version.into()));
    }
    let configs: Vec<BTreeSet<u64>> = reader.list(|reader| Ok(reader.list(Reader::u64)?.into_iter().collect()))?;
    let nodes: BTreeMap<u64, BasicNode> =
        reader.list(|reader| Ok((reader.u64()?, BasicNode::new(reader.text()?))))?.into_iter().collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    let count = configs.len() as u64;
    Membership::new(configs, nodes).map_err(|_| Malformed::Unknown { what: "membership configs", value: count })
}

/// A log id as stored beside the applied state: term, node, index.
pub fn encode_log_id(id: &Option<LogId>) -> Bytes {
    let mut out = BytesMut::with_capacity(25);
    out.put_option(id.as_ref(), |out, id| {
        out.put_u64(id.leader_id.term);
        out.put_u64(id.leader_id.node_id);
        out.put_u64(id.index);
    });
    out.freeze()
}

/// See [`encode_log_id`].
pub fn read_log_id(reader: &mut Reader) -> Result<Option<LogId>, Malformed> {
    reader.option(|reader| {
        let leader_id = LeaderId { term: reader.u64()?, node_id: reader.u64()? };
        Ok(LogId { leader_id, index: reader.u64()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_survives_the_log() {
        let nodes =
            BTreeMap::from([(0, BasicNode::new("a:1")), (1, BasicNode::new("b:2")), (2, BasicNode::new("c:3"))]);
        let joint = vec![BTreeSet::from([0, 1]), BTreeSet::from([1, 2])];
        let membership = Membership::new(joint, nodes).unwrap();
        assert_eq!(decode_membership(encode_membership(&membership)), Ok(membership));
        assert_eq!(decode_membership(encode_membership(&Membership::default())), Ok(Membership::default()));
    }
}
