//! Why a replica does not start, why a running one cannot go on, and why a command has no outcome.

use std::io;
use std::sync::Arc;

use crate::model::{LogIndex, NodeId};

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state is ahead of the log and the log no longer reaches back to its beginning.
    #[error("the state store has applied entry {applied} but the commit log ends at {last}")]
    StateAheadOfLog { applied: LogIndex, last: LogIndex },
    /// The peers know another disk under this node's id.
    #[error(transparent)]
    Replaced(Replaced),
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
    /// The peers know another disk under this node's id.
    #[error(transparent)]
    Replaced(Replaced),
}

/// Called with the reason when the replica cannot go on; the process must end.
pub type OnFatal = Arc<dyn Fn(Fatal) + Send + Sync>;

/// The peers know another disk under this node's id (D18).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "n{by} knows n{node} with another data folder than this. Either another process runs with this id: give each node a \
     dLegerSelfId of its own. Or the disk was replaced: a replica that lost its disk must not vote under its old id, it \
     could undo what it once acknowledged; bring the old folder back. (peer: {reason})"
)]
pub struct Replaced {
    /// This node.
    pub node: NodeId,
    /// The peer that says so.
    pub by: NodeId,
    /// The peer's words.
    pub reason: String,
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
    /// It was handed on, to Raft or to the leader, and nobody here can know what became of it.
    #[error("the outcome is unknown")]
    Ambiguous,
}
