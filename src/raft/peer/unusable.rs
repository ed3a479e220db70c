//! Why what a peer says cannot be used, and what the peer is told of it.

use crate::model::NodeId;
use crate::proto::peer as proto;

/// A peer message that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is meant for another node, shard or cluster.
    #[error("a message for node {} of group {group} (shard {shard}) in cluster {cluster} reached {me}", NodeId(*.to))]
    Misdirected {
        cluster: String,
        group: String,
        shard: u64,
        to: u64,
        /// Who got it.
        me: String,
    },
    /// It is meant for another replica of this node's name, and nothing is in this node's folder yet.
    #[error("{} has nothing in its folder, and is not, or not yet, {}", NodeId(*.me), NodeId(*.to))]
    NotYet { me: u64, to: u64 },
    /// Its sender is not among the members.
    #[error("{} is no member", NodeId(*.node))]
    NoMember { node: u64 },
    /// It comes from another disk than the one known under this id (D18).
    #[error("{} runs on another disk than this node knows: another process has its id, or its disk was replaced", NodeId(*.node))]
    Replaced {
        /// Whose id it is.
        node: u64,
    },
    /// Its disk is older than it once was (D82).
    #[error("{} runs on an older state of its disk: {why}; its folder was put back from a copy or a snapshot", NodeId(*.node))]
    RolledBack {
        node: u64,
        /// What it lacks.
        why: String,
    },
    /// Its build is older than what the cluster's log has.
    #[error("{} runs a build for cluster version {theirs}, the log has {ours}: install this node's build there", NodeId(*.node))]
    TooOld { node: u64, theirs: u32, ours: u32 },
    /// One of the two groups was made from a backup of the other, or of what both were made from (D155).
    #[error(
        "{} is of another group of this name (lineage {theirs:x}, and this node's is {ours:x}): {OTHER_LINEAGE}", NodeId(*.node)
    )]
    OtherLineage { node: u64, theirs: u64, ours: u64 },
    /// It did not prove who it is.
    #[error("whoever calls itself {} did not prove it: peerSecret or certificate differ, or it is a stranger", NodeId(*.node))]
    Unproven { node: u64 },
    /// What is new about it could not be confirmed at its configured address.
    #[error("whoever calls itself {} is not, or not yet, who answers at that member's address", NodeId(*.node))]
    Unconfirmed { node: u64 },
    /// The log that remembers the peers' disks is closed.
    #[error("the peers' disks cannot be remembered: {0}")]
    Memory(String),
    /// A field is missing.
    #[error("the message lacks its {0}")]
    Lacks(&'static str),
    /// A record does not decode, or entries do not follow each other.
    #[error("a record in the message is damaged: {0}")]
    Record(String),
    /// A command that this cluster does not take.
    #[error("a forwarded command is refused: {0}")]
    Command(String),
    /// A vote or an append in the name of another node.
    #[error("{} sent a vote of {}", NodeId(*.from), NodeId(*.of))]
    VoteOfAnother { from: u64, of: u64 },
    /// A term that no shard can have reached.
    #[error(
        "term {term} lies more than {TERM_JUMP_MAX} above this node's {own}; whoever sends it is no member in order"
    )]
    Term { term: u64, own: u64 },
}

const OTHER_LINEAGE: &str = "one of the two was restored from a backup, and they never work together. Give them addresses of \
     their own, or stop one of them; to take a node from one into the other, empty its folder and run raftmq cluster add or \
     replace there";

/// So far at most a peer's term may lie above this node's: days of elections without a pause. A term that is believed is
/// written down, and the last one there is would be the end of all elections.
pub(in crate::raft) const TERM_JUMP_MAX: u64 = 1 << 20;

impl Unusable {
    /// What the other side is told: nothing that helps a stranger to go on.
    pub(in crate::raft) fn to_peer(&self) -> String {
        match self {
            Self::Misdirected { .. } | Self::NoMember { .. } => {
                "it is meant for another node, or its sender is no member; the log of the node that was dialled says more"
                    .to_owned()
            }
            Self::OtherLineage { .. } => format!("this node is of another group of this name: {OTHER_LINEAGE}"),
            Self::Memory(_) => "this node cannot remember its peers".to_owned(),
            error => error.to_string(),
        }
    }

    /// How the other side is to take it.
    pub(in crate::raft) fn kind(&self) -> proto::Refusal {
        match self {
            Self::Replaced { .. } => proto::Refusal::Replaced,
            Self::RolledBack { .. } => proto::Refusal::RolledBack,
            Self::Misdirected { .. } | Self::NoMember { .. } | Self::TooOld { .. } => proto::Refusal::Stranger,
            Self::OtherLineage { .. } => proto::Refusal::OtherLineage,
            Self::NotYet { .. }
            | Self::Unproven { .. }
            | Self::Unconfirmed { .. }
            | Self::Memory(_)
            | Self::Lacks(_)
            | Self::Record(_)
            | Self::Command(_)
            | Self::VoteOfAnother { .. }
            | Self::Term { .. } => proto::Refusal::Unspecified,
        }
    }
}
