//! The peers: who this node is to them, and the calls to each.

use std::sync::Arc;

use crate::model::NodeId;
use crate::raft::peer::by_member::ByMember;
use crate::raft::peer::control::ControlClient;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::learner_pace::LearnerPace;
use crate::raft::snapshot::rate::RateLimit;

/// Where the peers are and who this node is to them. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    identity: PeerIdentity,
    control: ByMember<ControlClient>,
    /// `snapshotRate`.
    rate: Arc<RateLimit>,
}

impl Peers {
    pub(in crate::raft) fn new(identity: PeerIdentity, rate: Arc<RateLimit>) -> Self {
        let control = ByMember::new(identity.members.clone());
        Self { identity, control, rate }
    }

    /// For heartbeats, votes and other short calls to a member.
    pub(in crate::raft) fn control(&self, node: NodeId) -> Option<ControlClient> {
        self.control.of(node, |address| ControlClient::new(self.identity.clone(), node.0, address.to_owned()))
    }

    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// Of a new stream of appends to a member.
    pub(in crate::raft) fn pace_of(&self, node: NodeId) -> LearnerPace {
        LearnerPace::new(&self.identity, node, self.rate.clone())
    }
}
