//! What a node says of its disk in the greeting of a link.

use crate::model::LogIndex;
use crate::proto::peer as proto;
use crate::raft::peer::unusable::Unusable;
use crate::store::log::StartMark;

/// What a node says of its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::raft) struct Facts {
    /// Never 0.
    pub disk: u64,
    /// Oldest first.
    pub starts: Vec<StartMark>,
    /// Last entry in its log.
    pub last: LogIndex,
    /// Newest cluster version that its build can take part in.
    pub cluster_version: u32,
    /// `ASYNC_FLUSH`: a power loss may take what it acknowledged.
    pub may_lose_tail: bool,
    /// A hash of its `dLegerPeers`.
    pub members: u64,
    /// It asks its peers whether it may take part: nothing of it is to be remembered yet.
    pub is_starting: bool,
    /// It knows that it lost what it acknowledged, and does not vote until it has it again.
    pub lacks_tail: bool,
    /// Which group of its name it is of (D155).
    pub lineage: u64,
}

impl Facts {
    pub fn to_wire(&self) -> proto::Facts {
        let start = |start: &StartMark| proto::Start { number: start.number, nonce: start.nonce };
        proto::Facts {
            disk: self.disk,
            starts: self.starts.iter().map(start).collect(),
            last: self.last.0,
            cluster_version: self.cluster_version,
            may_lose_tail: self.may_lose_tail,
            members: self.members,
            is_starting: self.is_starting,
            lacks_tail: self.lacks_tail,
            lineage: self.lineage,
        }
    }

    /// * Errors: the facts, or the disk in them, are missing.
    pub fn from_wire(facts: Option<proto::Facts>) -> Result<Self, Unusable> {
        let facts = facts.ok_or(Unusable::Lacks("facts"))?;
        if facts.disk == 0 {
            return Err(Unusable::Lacks("disk"));
        }
        let start = |start: &proto::Start| StartMark { number: start.number, nonce: start.nonce };
        Ok(Self {
            disk: facts.disk,
            starts: facts.starts.iter().map(start).collect(),
            last: LogIndex(facts.last),
            cluster_version: facts.cluster_version,
            may_lose_tail: facts.may_lose_tail,
            members: facts.members,
            is_starting: facts.is_starting,
            lacks_tail: facts.lacks_tail,
            lineage: facts.lineage,
        })
    }
}
