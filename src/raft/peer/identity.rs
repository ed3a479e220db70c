//! Who sent a peer message, and for whom: cluster, `dLegerGroup`, node and disk.
//!
//! A node is known by the disk it was on when its peers first met it. A node that lost its disk is refused, for its vote
//! or acknowledgement could undo what it once acknowledged (D18).

use crate::model::NodeId;
use crate::proto::peer as proto;
use crate::store::log::CommitLog;

/// Who this node is to its peers, and who they are to it. Cheap to clone.
#[derive(Clone)]
pub struct PeerIdentity {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    pub node: u64,
    /// Remembers which disks the peers are on.
    pub log: CommitLog,
}

/// A peer message that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is meant for another node, shard or cluster.
    #[error("a message for node n{to} of group {group} in cluster {cluster} reached {me}")]
    Misdirected {
        cluster: String,
        group: String,
        to: u64,
        /// Who got it.
        me: String,
    },
    /// It comes from another disk than the one known under this id (D18).
    #[error("n{node} runs on another disk than this node knows: another process has its id, or its disk was replaced")]
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
    /// The envelope of a message of this node.
    pub(in crate::raft) fn envelope(&self, to: u64) -> proto::Envelope {
        let (cluster, group) = (self.cluster.clone(), self.group.clone());
        proto::Envelope { cluster, group, from: self.node, to, disk: self.log.disk() }
    }

    /// Whether a message is meant for this node and comes from the disk that its sender is known by.
    ///
    /// * Errors: the message must not be used.
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

    /// Whether a peer is still on the disk it was on when this node first met it; a disk met first is remembered
    /// durably.
    ///
    /// * Errors: nothing of this peer counts.
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
