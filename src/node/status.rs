//! What every node says of itself, for `cluster status`.

use std::io;
use std::time::Duration;

use futures_util::future::join_all;

use crate::model::NodeId;
use crate::node::Node;
use crate::raft::{Member, ReplicaMeasures, ReplicaStatus, StateDigest};

const DIGEST_WITHIN: Duration = Duration::from_secs(5);

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSummary {
    pub id: NodeId,
    /// Otherwise it only follows.
    pub is_voter: bool,
    /// Its marks; `None` if it does not answer.
    pub status: Option<ReplicaStatus>,
    /// Why this node refuses its links, in a word or two.
    pub refusal: Option<&'static str>,
}

impl Node {
    /// This node alone. Asks nobody and does not wait.
    pub fn own_status(&self) -> ReplicaStatus {
        self.replica.status((self.facts)())
    }

    /// The members as this node knows them, and whether each votes.
    pub fn voters(&self) -> Vec<(NodeId, bool)> {
        self.replica.members().all().map(|member| (member.node, member.is_voter)).collect()
    }

    /// Whether messages may be added: there is room for them on a majority of the disks.
    pub fn has_room(&self) -> bool {
        self.replica.takes_messages()
    }

    /// What this node's replica measured.
    pub fn measures(&self) -> ReplicaMeasures {
        self.replica.measures()
    }

    /// Every node, asked at once; one that does not answer is waited for.
    pub async fn cluster_status(&self) -> Vec<NodeSummary> {
        let members = self.replica.members();
        join_all(members.all().map(|member| (member.node, member.is_voter)).map(async |(id, is_voter)| {
            let status =
                if id == self.replica.node() { Some(self.own_status()) } else { self.replica.status_of(id).await };
            let refusal = self.replica.refusal_of(id).filter(|_| status.is_none());
            NodeSummary { id, is_voter, status, refusal }
        }))
        .await
    }

    /// The members, as `dLegerPeers` would have them.
    pub fn peers(&self) -> String {
        let members = self.replica.members();
        let member = |member: &Member| format!("{}-{}", member.node.name(), member.address);
        members.all().map(member).collect::<Vec<_>>().join(";")
    }

    /// What `dLegerPeers` says otherwise than the log, for people; `None` if they agree.
    pub fn members_differ(&self) -> Option<String> {
        self.replica.members_differ()
    }

    /// A digest of everything that this node has applied; `None` if it could not be read in five seconds, or entries were
    /// applied all the time.
    ///
    /// * Errors: the disk failed.
    pub async fn state_digest(&self) -> io::Result<Option<StateDigest>> {
        self.replica.state_digest(DIGEST_WITHIN).await
    }
}
