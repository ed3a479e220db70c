//! Short calls to other replicas beside the log: their status, their read index, questions of the front end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Channel;

use crate::model::{LogIndex, NodeId, Term, Timestamp};
use crate::proto::peer as proto;
use crate::proto::peer::peer_client::PeerClient;
use crate::raft::clock::samples::ClockSamples;
use crate::raft::error::Replaced;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::peers::Peers;

/// A peer that does not answer in this time is unreachable.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// Marks of one replica, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaStatus {
    pub node: NodeId,
    pub term: Term,
    /// Who leads, as it knows.
    pub leader: Option<NodeId>,
    /// Last entry in its log.
    pub last_log: LogIndex,
    /// Last entry it knows to be committed.
    pub committed: LogIndex,
    /// Last entry it applied.
    pub applied: LogIndex,
    pub process_id: u32,
    /// Where it serves clients.
    pub client_address: String,
    pub version: String,
    /// Messages that its front end receives from producers per second.
    pub in_per_second: f64,
    /// Messages that its front end delivers to consumers per second.
    pub out_per_second: f64,
    /// Its time of day; an older build does not say it.
    pub wall: Option<Timestamp>,
    /// What its clock is ahead of what most nodes agree on, as it knows.
    pub clock_offset_ms: Option<i64>,
}

/// What a replica says of itself beside its Raft marks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnFacts {
    /// Where it serves clients.
    pub client_address: String,
    /// Messages received from producers per second.
    pub in_per_second: f64,
    /// Messages delivered to consumers per second.
    pub out_per_second: f64,
}

/// How a peer refuses a node that it knows with another disk.
pub(in crate::raft) const REPLACED: tonic::Code = tonic::Code::DataLoss;
/// How a peer refuses a message meant for another node, shard or cluster.
pub(in crate::raft) const MISDIRECTED: tonic::Code = tonic::Code::PermissionDenied;

/// What a peer answers.
pub(in crate::raft) enum StatusReply {
    Status(ReplicaStatus),
    /// It refuses this node for good.
    Replaced(Replaced),
    /// It is of another shard or cluster, or has another id; its words.
    Stranger(String),
    /// Nothing, in time.
    Silent,
}

/// One connection per peer for short calls beside the log. Cheap to clone.
#[derive(Clone)]
pub(in crate::raft) struct StatusClients {
    identity: PeerIdentity,
    clock_samples: Arc<ClockSamples>,
    clients: Arc<BTreeMap<u64, PeerClient<Channel>>>,
}

impl StatusClients {
    pub(in crate::raft) fn new(peers: &Peers, clock_samples: Arc<ClockSamples>) -> Self {
        // These calls come every second and keep the connection of heartbeats and votes open.
        Self { identity: peers.identity().clone(), clock_samples, clients: peers.control() }
    }

    /// Asks a peer for its marks, and notes what its clock says.
    pub(in crate::raft) async fn ask(&self, node: NodeId) -> StatusReply {
        let Some(mut client) = self.clients.get(&node.0).cloned() else { return StatusReply::Silent };
        let call = proto::StatusCall { envelope: Some(self.identity.envelope(node.0)) };
        let asked = self.clock_samples.mono();
        match tokio::time::timeout(STATUS_TIMEOUT, client.status(call)).await {
            Ok(Ok(answer)) => {
                let status = read_status(answer.into_inner());
                if let Some(wall) = status.wall {
                    self.clock_samples.note(node, wall, asked);
                }
                StatusReply::Status(status)
            }
            Ok(Err(status)) if status.code() == REPLACED => {
                let reason = status.message().to_owned();
                StatusReply::Replaced(Replaced { node: NodeId(self.identity.node), by: node, reason })
            }
            Ok(Err(status)) if status.code() == MISDIRECTED => StatusReply::Stranger(status.message().to_owned()),
            Ok(Err(_)) | Err(_) => StatusReply::Silent,
        }
    }

    /// The read index of a peer; `None` if it does not lead or does not answer.
    pub(in crate::raft) async fn read_index(&self, leader: NodeId) -> Option<LogIndex> {
        let mut client = self.clients.get(&leader.0)?.clone();
        let call = proto::ReadIndexCall { envelope: Some(self.identity.envelope(leader.0)) };
        let answer = tokio::time::timeout(STATUS_TIMEOUT, client.read_index(call)).await.ok()?.ok()?;
        Some(LogIndex(answer.into_inner().index))
    }

    /// A question of the front end.
    pub(in crate::raft) async fn question(&self, node: NodeId, question: Bytes) -> Option<Bytes> {
        let mut client = self.clients.get(&node.0)?.clone();
        let call = proto::AskCall { envelope: Some(self.identity.envelope(node.0)), question };
        let answer = tokio::time::timeout(STATUS_TIMEOUT, client.ask(call)).await.ok()?.ok()?;
        Some(answer.into_inner().answer)
    }

    /// Asks all peers at once.
    pub(in crate::raft) async fn ask_all(&self) -> Vec<StatusReply> {
        let others = self.clients.keys().filter(|id| **id != self.identity.node);
        futures_util::future::join_all(others.map(async |id| self.ask(NodeId(*id)).await)).await
    }
}

pub(in crate::raft) fn put_status(status: ReplicaStatus) -> proto::StatusAnswer {
    proto::StatusAnswer {
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
        wall_ms: status.wall.map(|wall| wall.0),
        clock_offset_ms: status.clock_offset_ms,
    }
}

fn read_status(answer: proto::StatusAnswer) -> ReplicaStatus {
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
        wall: answer.wall_ms.map(Timestamp),
        clock_offset_ms: answer.clock_offset_ms,
    }
}
