//! The peers: who this node is to them, and the calls to each.

use crate::model::NodeId;
use crate::raft::peer::by_member::ByMember;
use crate::raft::peer::control::ControlClient;
use crate::raft::peer::identity::PeerIdentity;

/// Where the peers are and who this node is to them. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    identity: PeerIdentity,
    control: ByMember<ControlClient>,
}

impl Peers {
    pub fn new(identity: PeerIdentity) -> Self {
        let control = ByMember::new(identity.members.clone());
        Self { identity, control }
    }

    /// For heartbeats, votes and other short calls to a member.
    pub(in crate::raft) fn control(&self, node: NodeId) -> Option<ControlClient> {
        self.control.of(node, |address| ControlClient::new(self.identity.clone(), node.0, address.to_owned()))
    }

    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }
}
