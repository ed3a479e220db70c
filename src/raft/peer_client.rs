//! The way to the other replicas: appends on one connection, heartbeats and votes on another, so that
//! bulk data never delays a sign of life (D19).
//!
//! Hot path. Appends are one long stream per reign with many frames in flight; a stream that owes
//! answers and gives none is ended, because a half-open link would hold replication for ever.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::peer_wire::{self, Identity, Unusable};
use super::snapshot::Snapshot;
use super::types::{self, Types, Vote};
use crate::env::plant::{self, Plant};
use crate::proto::peer as wire;
use crate::proto::peer::peer_client::PeerClient;

/// Largest message between peers: two full reads of the log.
pub(super) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Append frames sent and not yet answered, per follower: their bytes, in KiB. Below what the follower's log
/// takes in without waiting for its disk.
const KIB_IN_FLIGHT: u32 = 32 * 1024;
/// What a frame costs beside its entries.
const FRAME_KIB: u32 = 1;
/// A stream that owes an answer for this long is ended.
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
    /// For heartbeats, votes and hand-overs: one connection per peer, open before it is needed.
    control: Arc<BTreeMap<u64, PeerClient<Channel>>>,
}

impl Peers {
    /// `addresses` are `host:port` by node id, ourselves included.
    pub fn new(identity: Identity, addresses: BTreeMap<u64, String>) -> Self {
        let control = addresses.iter().map(|(id, address)| (*id, connect(address))).collect();
        Self { identity, addresses: Arc::new(addresses), control: Arc::new(control) }
    }

    /// The connections for heartbeats, votes and other short calls.
    pub(super) fn control(&self) -> Arc<BTreeMap<u64, PeerClient<Channel>>> {
        self.control.clone()
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
        // Dialled when it is first used: a network made for a vote never is.
        let append = self.connect(address);
        let control = self.control.get(&target).cloned().unwrap_or_else(|| append.clone());
        PeerNetwork { identity: self.identity.clone(), target, append, control, streams }
    }

    /// A connection of its own to a peer.
    pub(super) fn connect(&self, address: &str) -> PeerClient<Channel> {
        connect(address)
    }
}

/// A connection; dialled when first used, again when it broke.
fn connect(address: &str) -> PeerClient<Channel> {
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

impl RaftNetworkFactory<Types> for Peers {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.network(target, node, true)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.network(target, node, false)
    }
}

/// The connections to one peer.
pub struct PeerNetwork {
    identity: Identity,
    target: u64,
    append: PeerClient<Channel>,
    control: PeerClient<Channel>,
    /// Appends as one stream; otherwise each is a call, as heartbeats are.
    streams: bool,
}

impl PeerNetwork {
    fn envelope(&self) -> wire::Envelope {
        self.identity.envelope(self.target)
    }

    /// A planted bug: once the follower has agreed to the stream, what goes out counts as if it had it.
    fn acknowledge_what_is_sent<'s, S>(&self, input: S) -> BoxStream<'s, Result<StreamAppendResult<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let (told, heard) = tokio::sync::mpsc::unbounded_channel();
        let has_agreed = Arc::new(AtomicBool::new(false));
        let (envelope, agreed, answer) = (self.envelope(), has_agreed.clone(), told.clone());
        let frames = input.map(move |request| {
            if agreed.load(Ordering::Relaxed) {
                let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
                let _ = answer.send(Ok(Ok(last)));
            }
            peer_wire::put_append(envelope.clone(), request)
        });
        let mut append = self.append.clone();
        tokio::spawn(async move {
            let mut acks = match append.append(frames).await {
                Ok(acks) => acks.into_inner(),
                Err(status) => {
                    tokio::time::sleep(REDIAL_AFTER).await;
                    let _ = told.send(Err(failed(&status)));
                    return;
                }
            };
            while let Some(Ok(ack)) = acks.next().await {
                let result = peer_wire::ack(ack).map_err(unusable);
                let is_success = matches!(result, Ok(Ok(_)));
                let is_news = !has_agreed.swap(has_agreed.load(Ordering::Relaxed) || is_success, Ordering::Relaxed);
                if (is_news || !is_success) && told.send(result).is_err() {
                    return;
                }
            }
        });
        Box::pin(stream::unfold(heard, |mut heard| async move { Some((heard.recv().await?, heard)) }))
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

/// The frames of one stream that wait for their answers.
struct InFlight {
    room: Semaphore,
    frames: Mutex<Frames>,
}

#[derive(Default)]
struct Frames {
    /// KiB of each, oldest first.
    sizes: VecDeque<u32>,
    /// Since when the oldest of them, or the one answered last, keeps us waiting.
    since: Option<Instant>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { room: Semaphore::new(KIB_IN_FLIGHT as usize), frames: Mutex::default() }
    }
}

impl InFlight {
    /// Waits for room; one frame alone always has it.
    async fn add(&self, request: &AppendEntriesRequest<Types>) {
        let bytes: usize = request.entries.iter().map(types::body_bytes).sum();
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(FRAME_KIB).min(KIB_IN_FLIGHT);
        // Given back by the answer; the semaphore is never closed.
        if let Ok(permit) = self.room.acquire_many(kib).await {
            permit.forget();
        }
        let mut frames = self.frames.lock();
        frames.sizes.push_back(kib);
        frames.since.get_or_insert_with(Instant::now);
    }

    fn answered(&self) {
        let mut frames = self.frames.lock();
        if let Some(kib) = frames.sizes.pop_front() {
            self.room.add_permits(kib as usize);
        }
        frames.since = (!frames.sizes.is_empty()).then(Instant::now);
    }

    /// When the peer counts as gone unless it answers.
    fn answer_due(&self) -> Instant {
        self.frames.lock().since.unwrap_or_else(Instant::now) + SILENCE_MAX
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
        let ack = Self::within(option.hard_ttl(), self.control.heartbeat(frame)).await?;
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
        if plant::is(Plant::AckBeforeCommit) {
            return Box::pin(std::future::ready(Ok(self.acknowledge_what_is_sent(input))));
        }
        Box::pin(async move {
            let envelope = self.envelope();
            let in_flight = Arc::new(InFlight::default());
            // Dropping the answers ends the frames: hyper would keep the request open for as long as it lives.
            let ended = CancellationToken::new();
            let end = ended.clone().drop_guard();
            let sent = in_flight.clone();
            let frames = input.then(move |request| {
                let (sent, envelope) = (sent.clone(), envelope.clone());
                async move {
                    sent.add(&request).await;
                    peer_wire::put_append(envelope, request)
                }
            });
            let frames = frames.take_until(ended.cancelled_owned());
            let acks = match Self::within(SILENCE_MAX, self.append.append(frames)).await {
                Ok(acks) => acks,
                Err(error) => {
                    // openraft waits its backoff out in the requests, and a stream that does not open
                    // never asks for one: without this pause a dead follower costs the leader a core.
                    tokio::time::sleep(REDIAL_AFTER).await;
                    return Err(error);
                }
            };
            let from = (self.identity.clone(), self.target);
            let answers = stream::unfold(Some((acks, in_flight, from, end)), |state| async move {
                let (mut acks, in_flight, (identity, target), end) = state?;
                let answer = loop {
                    match tokio::time::timeout_at(in_flight.answer_due(), acks.next()).await {
                        Ok(answer) => break answer?,
                        Err(_) if in_flight.answer_due() > Instant::now() => {}
                        Err(elapsed) => return Some((Err(RPCError::Network(NetworkError::new(&elapsed))), None)),
                    }
                };
                in_flight.answered();
                let result = match answer {
                    Ok(ack) => {
                        identity.meet(target, ack.disk).await.and_then(|()| peer_wire::ack(ack)).map_err(unusable)
                    }
                    Err(status) => Err(failed(&status)),
                };
                match result {
                    Ok(result) => Some((Ok(result), Some((acks, in_flight, (identity, target), end)))),
                    Err(error) => Some((Err(error), None)),
                }
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>> {
        let call = peer_wire::put_vote_call(self.envelope(), &request);
        let answer = Self::within(option.hard_ttl(), self.control.request_vote(call)).await?;
        self.meet(answer.disk).await?;
        peer_wire::vote_answer(answer).map_err(unusable)
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>> {
        let call = peer_wire::put_vote_call(self.envelope(), &request);
        let answer = Self::within(option.hard_ttl(), self.control.pre_vote(call)).await?;
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
        Self::within(option.hard_ttl(), self.control.transfer_leader(call)).await?;
        Ok(Ok(()))
    }
}
