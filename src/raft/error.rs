//! Why a replica does not start, why a running one cannot go on, and why a command has no outcome.

use std::io;
use std::sync::Arc;

use crate::model::{LogIndex, NoRoom, NodeId};

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state is ahead of the log, or of another log, and the log no longer reaches back to its beginning.
    #[error(
        "the state store has applied entry {applied}, which the commit log (from {first} up to {last}) does not have, and \
         the log no longer reaches back to entry 1, from which the state could be applied anew; put state/ and log/ back \
         from the same copy, the newest there is"
    )]
    ForeignState { applied: LogIndex, first: LogIndex, last: LogIndex },
    /// The state lacks entries that the log no longer has.
    #[error(
        "the state store has applied the log up to entry {applied}, and the commit log begins after entry {purged}: what is \
         between them is deleted on this node, and the state cannot be brought up to date; put state/ back as it was with \
         this log/, or both from the same copy, the newest there is"
    )]
    StateBehindLog { applied: LogIndex, purged: LogIndex },
    /// The peers know another disk under this node's id, or a newer state of it.
    #[error(transparent)]
    Disowned(Disowned),
    /// The peers are of another shard or cluster.
    #[error(
        "the peers in dLegerPeers know this node as somebody else: {0}; dLegerGroup, brokerClusterName and dLegerPeers must be the same on all of them"
    )]
    Stranger(String),
    /// The shard has other members than the configuration.
    #[error("the group was made with the members {made}, dLegerPeers says {configured}; members cannot be changed yet")]
    OtherMembers {
        /// As the log says.
        made: String,
        configured: String,
    },
    #[error("storage: {0}")]
    Storage(#[from] io::Error),
    /// openraft refused.
    #[error("raft: {0}")]
    Raft(String),
}

/// Why a running replica cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The disk, or Raft over it, failed: nothing may be acknowledged any more.
    #[error("{0}")]
    Failed(String),
    /// The peers know another disk under this node's id, or a newer state of it.
    #[error(transparent)]
    Disowned(Disowned),
}

/// Called with the reason when the replica cannot go on; the process must end.
pub type OnFatal = Arc<dyn Fn(Fatal) + Send + Sync>;

/// The peers know this node with another disk, or with a newer state of it (D18, D82).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("n{by} refuses n{node}: {fault} (peer: {reason})")]
pub struct Disowned {
    /// This node.
    pub node: NodeId,
    /// The peer that says so.
    pub by: NodeId,
    pub fault: DiskFault,
    /// The peer's words.
    pub reason: String,
}

/// What is wrong with a disk that the peers refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiskFault {
    /// They know another one under this id.
    #[error(
        "it knows another data folder under this id than this one. Either another process runs with this id: give each \
         node a dLegerSelfId of its own. Or the disk was replaced: a replica that lost its disk must not vote under its \
         old id, it could undo what it once acknowledged; bring the old folder back"
    )]
    Other,
    /// They know a newer state of it.
    #[error(
        "the data folder was rolled back: it was put back from a copy, a backup or a snapshot and lacks what this node \
         said or acknowledged since. It must not vote: it could undo that; bring the newest folder back"
    )]
    Older,
}

/// Why a command has no outcome (D17).
///
/// All but [`Self::Ambiguous`] are definite: the command is not in the log and never will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// No leader was found in time. Definite.
    #[error("no leader was found in time")]
    NoLeader,
    /// A follower forwarded it, and this node does not lead. Definite.
    #[error("this node does not lead")]
    NotLeader,
    /// Too much is waiting. Definite.
    #[error("too much is waiting for the log")]
    Busy,
    /// The cluster does not take such a command: nodes of an older build are still in it, or the command is not in order.
    /// Definite.
    #[error("the cluster does not take such a command: nodes of an older build may still be in it")]
    Unusable,
    /// Too few nodes have room on their disks for it. Definite.
    #[error("too few nodes have room on their disks")]
    NoRoom(NoRoom),
    /// It was handed on, to Raft or to the leader, and nobody here can know what became of it.
    #[error("the outcome is unknown")]
    Ambiguous,
}
