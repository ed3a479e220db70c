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
    /// Damage took entries that are in the state, and no peer gives them.
    #[error(
        "damage took the end of this node's log from entry {from} on, the state has applied entry {applied}, and no other \
         node gave what is missing within a minute; start the other nodes of the group, and this one again. If none of them \
         has these entries any more, replace this node (raftmq cluster replace)"
    )]
    LostEntries { from: LogIndex, applied: LogIndex },
    /// The peers know another disk under this node's id, or a newer state of it.
    #[error(transparent)]
    Disowned(Disowned),
    /// The peers are of another shard or cluster.
    #[error(
        "the peers in dLegerPeers know this node as somebody else: {0}; dLegerGroup, brokerClusterName and dLegerPeers must be the same on all of them"
    )]
    Stranger(String),
    /// A newer build raised the cluster version.
    #[error(
        "the state is of cluster version {found}, and this build knows {newest} at most: a newer build has been here, start \
         that one again"
    )]
    TooOld { found: u32, newest: u32 },
    /// The group has another place for this node than its folder says.
    #[error(transparent)]
    Again(StartAgain),
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
    /// The group has another place for this node than its folder says, or its state is damaged.
    #[error(transparent)]
    Again(StartAgain),
}

impl Fatal {
    /// What to do if the state is noted as one that the next start makes anew, from the log or from a peer (D118): a node
    /// whose state alone is damaged needs nobody to start it.
    pub(super) fn with_state_given_up(self) -> Self {
        match self {
            Self::Failed(why) => {
                tracing::error!("this node cannot go on with its state: {why}");
                Self::Again(StartAgain { discards: false, why: "its state is damaged, and is made anew".to_owned() })
            }
            Self::Disowned(_) | Self::Again(_) => self,
        }
    }
}

/// This process is to start again: its place in the group is another one (D112), or its state has to be made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("starts again: {why}")]
pub struct StartAgain {
    /// What is in its folder is to be dropped first.
    pub discards: bool,
    pub why: String,
}

/// Called with the reason when the replica cannot go on; the process must end.
pub type OnFatal = Arc<dyn Fn(Fatal) + Send + Sync>;

/// The peers know this node with another disk, or with a newer state of it (D18, D82).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{by} refuses {node}: {fault}. If that folder is lost, run `raftmq cluster replace {}` and start this node again: it \
     drops what it has and comes back as a new replica (peer: {reason})",
    .node.name()
)]
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
