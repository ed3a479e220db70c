//! openraft's way to the other replicas: appends over a link of their own, heartbeats and votes on a gRPC connection, so
//! that bulk data never delays a sign of life (D19).

use std::future::Future;
use std::io;
use std::time::Duration;

use futures_util::Stream;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use tonic::transport::Channel;

use crate::proto::peer as proto;
use crate::proto::peer::peer_client::PeerClient;
use crate::raft::peer::append;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::link;
use crate::raft::peer::peers::{Peers, connect};
#[cfg(debug_assertions)]
use crate::raft::peer::planted;
use crate::raft::peer::rpc_error;
use crate::raft::peer::rpc_error::RpcResult;
use crate::raft::peer::wire;
use crate::raft::snapshot::Snapshot;
use crate::raft::types::{Types, Vote};

/// A follower that cannot be reached is tried again after this long.
const REDIAL_AFTER: Duration = Duration::from_millis(50);

impl RaftNetworkFactory<Types> for Peers {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        PeerNetwork::new(self, target, node, Appends::Streamed)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        PeerNetwork::new(self, target, node, Appends::Called)
    }
}

/// The connections to one peer.
pub struct PeerNetwork {
    identity: PeerIdentity,
    target: u64,
    address: String,
    control: PeerClient<Channel>,
    appends: Appends,
}

/// How appends travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Appends {
    /// Over one link.
    Streamed,
    /// Each as a call: heartbeats.
    Called,
}

impl PeerNetwork {
    /// The configured address counts, not the one the shard was made with: hosts move (D30).
    fn new(peers: &Peers, target: u64, node: &BasicNode, appends: Appends) -> Self {
        let address = peers.addresses().get(&target).unwrap_or(&node.addr).clone();
        let control = peers.control().get(&target).cloned().unwrap_or_else(|| connect(&address));
        Self { identity: peers.identity().clone(), target, address, control, appends }
    }

    fn envelope(&self) -> proto::Envelope {
        self.identity.envelope(self.target)
    }

    /// Whether the answer comes from the peer that this node knows: neither its vote nor its ack counts otherwise.
    async fn meet(&self, disk: u64) -> RpcResult<()> {
        self.identity.meet(self.target, disk).await.map_err(rpc_error::of_message)
    }

    /// Runs a call within its time.
    async fn within<T>(
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> RpcResult<T> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(rpc_error::of_call(&status)),
            Err(elapsed) => Err(rpc_error::of_silence(&elapsed)),
        }
    }
}

impl RaftNetworkV2<Types> for PeerNetwork {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        let (mut frame, records) = wire::put_append(request);
        frame.records = wire::records(&records);
        frame.envelope = Some(self.envelope());
        let ack = Self::within(option.hard_ttl(), self.control.heartbeat(frame)).await?;
        self.meet(ack.disk).await?;
        Ok(wire::ack(ack).map_err(rpc_error::of_message)?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.appends == Appends::Called {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let dialled = link::dial(&self.identity, self.target, &self.address, proto::Purpose::Append).await;
            let (reader, writer) = match dialled {
                Ok(link) => link,
                Err(error) => {
                    // openraft waits its backoff out in the requests, and a link that does not open never asks for one:
                    // without this pause a dead follower costs the leader a core.
                    tokio::time::sleep(REDIAL_AFTER).await;
                    return Err(rpc_error::of_link(&error));
                }
            };
            #[cfg(debug_assertions)]
            if planted::acks_before_commit() {
                return Ok(planted::acknowledge_what_is_sent(input, reader, writer));
            }
            Ok(append::stream(input, reader, writer))
        })
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        let call = wire::put_vote_call(self.envelope(), &request);
        let answer = Self::within(option.hard_ttl(), self.control.request_vote(call)).await?;
        self.meet(answer.disk).await?;
        wire::vote_answer(answer).map_err(rpc_error::of_message)
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        let call = wire::put_vote_call(self.envelope(), &request);
        let answer = Self::within(option.hard_ttl(), self.control.pre_vote(call)).await?;
        self.meet(answer.disk).await?;
        wire::vote_answer(answer).map_err(rpc_error::of_message)
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: openraft::type_config::alias::SnapshotOf<Types, Snapshot>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        // No log is purged yet, so every follower can be served from the log.
        let reason = io::Error::other("snapshots are not sent: the log holds everything");
        Err(StreamingError::Unreachable(Unreachable::new(&reason)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        let call = proto::TransferCall {
            envelope: Some(self.envelope()),
            from_leader: wire::put_vote(request.from_leader()),
            to_node: *request.to_node_id(),
            last: wire::put_log_id(&request.last_log_id().cloned()),
        };
        Self::within(option.hard_ttl(), self.control.transfer_leader(call)).await?;
        Ok(Ok(()))
    }
}
