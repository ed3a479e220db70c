//! The peers: their addresses, and one gRPC connection to each for short calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::proto::peer::peer_client::PeerClient;
use crate::raft::peer::identity::PeerIdentity;

const DIAL_TIMEOUT: Duration = Duration::from_millis(200);
const PING_EVERY: Duration = Duration::from_secs(1);

/// Where the peers are and who this node is to them. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    identity: PeerIdentity,
    addresses: Arc<BTreeMap<u64, String>>,
    /// For heartbeats, votes and other short calls: one connection per peer, open before it is needed.
    control: Arc<BTreeMap<u64, PeerClient<Channel>>>,
}

impl Peers {
    /// `addresses` are `host:port` by node id, this one included.
    pub fn new(identity: PeerIdentity, addresses: BTreeMap<u64, String>) -> Self {
        let control = addresses.iter().map(|(id, address)| (*id, connect(address))).collect();
        Self { identity, addresses: Arc::new(addresses), control: Arc::new(control) }
    }

    /// The connections for heartbeats, votes and other short calls.
    pub(in crate::raft) fn control(&self) -> Arc<BTreeMap<u64, PeerClient<Channel>>> {
        self.control.clone()
    }

    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// All node ids with their addresses.
    pub fn addresses(&self) -> &BTreeMap<u64, String> {
        &self.addresses
    }
}

/// A connection; dialled when first used, and again when it broke.
pub(super) fn connect(address: &str) -> PeerClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .expect("peer addresses are checked when the configuration is read")
        .connect_timeout(DIAL_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .keep_alive_while_idle(true);
    PeerClient::new(endpoint.connect_lazy())
}
