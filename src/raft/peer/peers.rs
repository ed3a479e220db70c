//! The peers: who this node is to them, and the calls to each.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::raft::peer::control::ControlClient;
use crate::raft::peer::identity::PeerIdentity;

/// Where the peers are and who this node is to them. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    identity: PeerIdentity,
    control: Arc<BTreeMap<u64, ControlClient>>,
}

impl Peers {
    pub fn new(identity: PeerIdentity) -> Self {
        let client = |(id, address): (&u64, &String)| (*id, ControlClient::new(identity.clone(), *id, address.clone()));
        let control = Arc::new(identity.addresses.iter().map(client).collect());
        Self { identity, control }
    }

    /// For heartbeats, votes and other short calls.
    pub(in crate::raft) fn control(&self) -> Arc<BTreeMap<u64, ControlClient>> {
        self.control.clone()
    }

    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }
}
