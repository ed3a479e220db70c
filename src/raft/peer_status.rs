//! What replicas tell each other of themselves, for operators and for routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;

use super::peer_client::Peers;
use super::peer_wire::Identity;
use crate::model::{LogIndex, NodeId, Term};
use crate::proto::peer as wire;
use crate::proto::peer::peer_client::PeerClient;

/// A peer that does not tell its status in this time is unreachable.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// Marks of one replica, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaStatus {
    /// Which replica.
    pub node: NodeId,
    /// Its term.
    pub term: Term,
    /// Who leads, as it knows.
    pub leader: Option<NodeId>,
    /// Last entry in its log.
    pub last_log: LogIndex,
    /// Last entry it knows to be committed.
    pub committed: LogIndex,
    /// Last entry it applied.
    pub applied: LogIndex,
    /// Its process.
    pub process_id: u32,
    /// Where it serves clients.
    pub client_address: String,
    /// Its version.
    pub version: String,
    /// Messages taken in per second by its front end.
    pub in_per_second: f64,
    /// Messages handed out per second by its front end.
    pub out_per_second: f64,
}

/// What a replica says of itself beside its Raft marks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnFacts {
    /// Where it serves clients.
    pub client_address: String,
    /// Messages taken in per second.
    pub in_per_second: f64,
    /// Messages handed out per second.
    pub out_per_second: f64,
}

/// One connection per peer for status calls. Cheap to clone.
#[derive(Clone)]
pub(super) struct StatusClients {
    identity: Identity,
    clients: Arc<BTreeMap<u64, PeerClient<Channel>>>,
}

impl StatusClients {
    pub(super) fn new(peers: &Peers) -> Self {
        let connect = |(id, address): (&u64, &String)| (*id, peers.connect(address));
        let clients = Arc::new(peers.addresses().iter().map(connect).collect());
        Self { identity: peers.identity().clone(), clients }
    }

    pub(super) async fn ask(&self, node: NodeId) -> Option<ReplicaStatus> {
        let mut client = self.clients.get(&node.0)?.clone();
        let call = wire::StatusCall { envelope: Some(self.identity.envelope(node.0)) };
        let answer = tokio::time::timeout(STATUS_TIMEOUT, client.status(call)).await.ok()?.ok()?;
        Some(read_status(answer.into_inner()))
    }

    /// Which peer refuses this node because it knows another disk under its id, and what it says.
    pub(super) async fn refused_by(&self) -> Option<(NodeId, String)> {
        let others = self.clients.iter().filter(|(id, _)| **id != self.identity.node);
        let asked = others.map(async |(id, client)| {
            let call = wire::StatusCall { envelope: Some(self.identity.envelope(*id)) };
            let mut client = client.clone();
            let answer = tokio::time::timeout(STATUS_TIMEOUT, client.status(call)).await.ok()?;
            let status = answer.err().filter(|status| status.code() == tonic::Code::FailedPrecondition)?;
            Some((NodeId(*id), status.message().to_owned()))
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().next()
    }
}

pub(super) fn put_status(status: ReplicaStatus) -> wire::StatusAnswer {
    wire::StatusAnswer {
        node: status.node.0,
        term: status.term.0,
        leader: status.leader.map(|leader| leader.0),
        last_log: status.last_log.0,
        committed: status.committed.0,
        applied: status.applied.0,
        process_id: status.process_id,
        client_address: status.client_address,
        version: status.version,
        in_per_second: status.in_per_second,
        out_per_second: status.out_per_second,
    }
}

fn read_status(answer: wire::StatusAnswer) -> ReplicaStatus {
    ReplicaStatus {
        node: NodeId(answer.node),
        term: Term(answer.term),
        leader: answer.leader.map(NodeId),
        last_log: LogIndex(answer.last_log),
        committed: LogIndex(answer.committed),
        applied: LogIndex(answer.applied),
        process_id: answer.process_id,
        client_address: answer.client_address,
        version: answer.version,
        in_per_second: answer.in_per_second,
        out_per_second: answer.out_per_second,
    }
}
