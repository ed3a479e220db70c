//! What every node says of itself, for `cluster status`.

use std::io;
use std::time::Duration;

use futures_util::future::join_all;

use crate::model::NodeId;
use crate::node::Node;
use crate::raft::{ReplicaStatus, StateDigest};

const DIGEST_WITHIN: Duration = Duration::from_secs(5);

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSummary {
    pub id: NodeId,
    /// `n0`, `n1`, …
    pub name: String,
    /// Its marks; `None` if it does not answer.
    pub status: Option<ReplicaStatus>,
    /// Why this node refuses its links, in a word or two.
    pub refusal: Option<&'static str>,
}

impl Node {
    /// Every node, asked at once; one that does not answer is waited for.
    pub async fn cluster_status(&self) -> Vec<NodeSummary> {
        join_all(self.settings.nodes.iter().map(|node| async {
            let status = if node.id == self.settings.self_id {
                Some(self.replica.status((self.facts)()))
            } else {
                self.replica.status_of(node.id).await
            };
            let refusal = self.replica.refusal_of(node.id).filter(|_| status.is_none());
            NodeSummary { id: node.id, name: node.name.clone(), status, refusal }
        }))
        .await
    }

    /// A digest of everything that this node has applied; `None` if it could not be read in five seconds, or entries were
    /// applied all the time.
    ///
    /// * Errors: the disk failed.
    pub async fn state_digest(&self) -> io::Result<Option<StateDigest>> {
        self.replica.state_digest(DIGEST_WITHIN).await
    }
}
