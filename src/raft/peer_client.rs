//! The way to the other replicas: appends on one connection, heartbeats and votes on another, so that
//! bulk data never delays a sign of life (D19).
//!
//! Hot path. Appends are one long stream per reign with many frames in flight; a stream that owes
//! answers and gives none is ended, because a half-open link would hold replication for ever.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};

use super::peer_wire::{self, Identity, Unusable};
use super::snapshot::Snapshot;
use super::types::{Types, Vote};
use crate::proto::peer as wire;
use crate::proto::peer::peer_client::PeerClient;

/// Largest message between peers: two full reads of the log.
pub(super) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Append frames sent and not yet answered, per follower.
const FRAMES_IN_FLIGHT: usize = 64;
/// A stream that owes answers and gives none for this long is ended.
const SILENCE_MAX: Duration = Duration::from_secs(2);
const DIAL_TIMEOUT: Duration = Duration::from_millis(200);
/// A follower that cannot be reached is tried again after this long.
const REDIAL_AFTER: Duration = Duration::from_millis(50);
pub(super) const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, RPCError<Types>>;

/// Where the peers are and who we are to them.
#[derive(Clone)]
pub struct Peers {
    identity: Identity,
    addresses: Arc<BTreeMap<u64, String>>,
}

impl Peers {
    /// `addresses` are `host:port` by node id, ourselves included.
    pub fn new(identity: Identity, addresses: BTreeMap<u64, String>) -> Self {
        Self { identity, addresses: Arc::new(addresses) }
    }

    /// Who we are.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// All node ids with their addresses.
    pub fn addresses(&self) -> &BTreeMap<u64, String> {
        &self.addresses
    }

    /// The configured address counts, not the one the group was made with: hosts move.
    fn network(&self, target: u64, node: &BasicNode, streams: bool) -> PeerNetwork {
        let address = self.addresses.get(&target).unwrap_or(&node.addr);
        PeerNetwork { identity: self.identity.clone(), target, client: self.connect(address), streams }
    }

    /// A connection of its own to a peer; dialled when first used, again when it broke.
    pub(super) fn connect(&self, address: &str) -> PeerClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .expect("peer addresses are checked when the configuration is read")
            .connect_timeout(DIAL_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .keep_alive_while_idle(true);
        PeerClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX)
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.network(target, node, true)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.network(target, node, false)
    }
}

/// One connection to one peer.
pub struct PeerNetwork {
    identity: Identity,
    target: u64,
    client: PeerClient<Channel>,
    /// Appends as one stream; otherwise each is a call, as heartbeats are.
    streams: bool,
}

impl PeerNetwork {
    fn envelope(&self) -> wire::Envelope {
        self.identity.envelope(self.target)
    }

    /// Whether the answer comes from the peer we know: neither its vote nor its ack counts otherwise.
    async fn meet(&self, disk: u64) -> Result<()> {
        self.identity.meet(self.target, disk).await.map_err(unusable)
    }

    /// Runs a call within its time.
    async fn within<T>(
        limit: Duration,
        call: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(failed(&status)),
            Err(elapsed) => Err(RPCError::Network(NetworkError::new(&elapsed))),
        }
    }
}

/// A peer that cannot be reached is left alone for a moment; anything else is tried again at once.
fn failed(status: &tonic::Status) -> RPCError<Types> {
    match status.code() {
        tonic::Code::Unavailable => RPCError::Unreachable(Unreachable::new(status)),
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

fn unusable(error: Unusable) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetworkV2<Types> for PeerNetwork {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>> {
        let frame = peer_wire::put_append(self.envelope(), request);
        let ack = Self::within(option.hard_ttl(), self.client.heartbeat(frame)).await?;
        self.meet(ack.disk).await?;
        Ok(peer_wire::ack(ack).map_err(unusable)?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if !self.streams {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let envelope = self.envelope();
            let room = Arc::new(Semaphore::new(FRAMES_IN_FLIGHT));
            let frames = {
                let room = room.clone();
                input.then(move |request| {
                    let room = room.clone();
                    let envelope = envelope.clone();
                    async move {
                        // Given back by the answer; the semaphore is never closed.
                        if let Ok(permit) = room.acquire().await {
                            permit.forget();
                        }
                        peer_wire::put_append(envelope, request)
                    }
                })
            };
            let acks = match Self::within(SILENCE_MAX, self.client.append(frames)).await {
                Ok(acks) => acks,
                Err(error) => {
                    // openraft waits its backoff out in the requests, and a stream that does not open
                    // never asks for one: without this pause a dead follower costs the leader a core.
                    tokio::time::sleep(REDIAL_AFTER).await;
                    return Err(error);
                }
            };
            let from = (self.identity.clone(), self.target);
            let answers = stream::unfold(Some((acks, room, from)), |state| async move {
                let (mut acks, room, (identity, target)) = state?;
                let answer = loop {
                    match tokio::time::timeout(SILENCE_MAX, acks.next()).await {
                        Ok(answer) => break answer?,
                        Err(_) if room.available_permits() == FRAMES_IN_FLIGHT => {}
                        Err(elapsed) => return Some((Err(RPCError::Network(NetworkError::new(&elapsed))), None)),
                    }
                };
                room.add_permits(1);
                let result = match answer {
                    Ok(ack) => {
                        identity.meet(target, ack.disk).await.and_then(|()| peer_wire::ack(ack)).map_err(unusable)
                    }
                    Err(status) => Err(failed(&status)),
                };
                match result {
                    Ok(result) => Some((Ok(result), Some((acks, room, (identity, target))))),
                    Err(error) => Some((Err(error), None)),
                }
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>> {
        let call = peer_wire::put_vote_call(self.envelope(), &request);
        let answer = Self::within(option.hard_ttl(), self.client.request_vote(call)).await?;
        self.meet(answer.disk).await?;
        peer_wire::vote_answer(answer).map_err(unusable)
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>> {
        let call = peer_wire::put_vote_call(self.envelope(), &request);
        let answer = Self::within(option.hard_ttl(), self.client.pre_vote(call)).await?;
        self.meet(answer.disk).await?;
        peer_wire::vote_answer(answer).map_err(unusable)
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: openraft::type_config::alias::SnapshotOf<Types, Snapshot>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> std::result::Result<SnapshotResponse<Types>, StreamingError<Types>> {
        // No log is purged yet, so every follower can be served from the log.
        let reason = std::io::Error::other("snapshots are not sent: the log holds everything");
        Err(StreamingError::Unreachable(Unreachable::new(&reason)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>> {
        let call = wire::TransferCall {
            envelope: Some(self.envelope()),
            from_leader: peer_wire::put_vote(request.from_leader()),
            to_node: *request.to_node_id(),
            last: peer_wire::put_log_id(&request.last_log_id().cloned()),
        };
        Self::within(option.hard_ttl(), self.client.transfer_leader(call)).await?;
        Ok(Ok(()))
    }
}
