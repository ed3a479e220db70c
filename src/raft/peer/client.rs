//! The way to the other replicas: appends on a link of their own, heartbeats and votes on a gRPC
//! connection, so that bulk data never delays a sign of life (D19).
//!
//! Hot path. Appends are one long link per reign with many frames in flight; a link that owes answers and
//! gives none is ended, because a half-open one would hold replication for ever.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, Fuse};
use futures_util::{Stream, StreamExt};
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
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};

use crate::env::fault::planted_bug;
use crate::env::fault::planted_bug::PlantedBug;
use crate::proto::peer as proto;
use crate::proto::peer::peer_client::PeerClient;
use crate::raft::peer::link;
use crate::raft::peer::link::{FrameReader, FrameWriter, LinkError};
use crate::raft::peer::wire;
use crate::raft::peer::wire::{PeerIdentity, Unusable};
use crate::raft::snapshot::Snapshot;
use crate::raft::types;
use crate::raft::types::{Types, Vote};

/// Append frames sent and not yet answered, per follower: their bytes, in KiB. Below what the follower's log
/// takes in without waiting for its disk.
const KIB_IN_FLIGHT: u32 = 32 * 1024;
/// What a frame costs beside its entries.
const FRAME_KIB: u32 = 1;
/// A link that owes an answer for this long is ended.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// A frame that only says what is committed waits this long for entries to travel with, while the follower
/// is at work anyway. The shortest time the runtime's timer knows.
const COMMIT_WAIT: Duration = Duration::from_millis(1);
const DIAL_TIMEOUT: Duration = Duration::from_millis(200);
/// A follower that cannot be reached is tried again after this long.
const REDIAL_AFTER: Duration = Duration::from_millis(50);
const PING_EVERY: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, RPCError<Types>>;

/// Where the peers are and who we are to them.
#[derive(Clone)]
pub struct Peers {
    identity: PeerIdentity,
    addresses: Arc<BTreeMap<u64, String>>,
    /// For heartbeats, votes and hand-overs: one connection per peer, open before it is needed.
    control: Arc<BTreeMap<u64, PeerClient<Channel>>>,
}

impl Peers {
    /// `addresses` are `host:port` by node id, ourselves included.
    pub fn new(identity: PeerIdentity, addresses: BTreeMap<u64, String>) -> Self {
        let control = addresses.iter().map(|(id, address)| (*id, connect(address))).collect();
        Self { identity, addresses: Arc::new(addresses), control: Arc::new(control) }
    }

    /// The connections for heartbeats, votes and other short calls.
    pub(in crate::raft) fn control(&self) -> Arc<BTreeMap<u64, PeerClient<Channel>>> {
        self.control.clone()
    }

    /// Who we are.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// All node ids with their addresses.
    pub fn addresses(&self) -> &BTreeMap<u64, String> {
        &self.addresses
    }

    /// The configured address counts, not the one the group was made with: hosts move.
    fn network(&self, target: u64, node: &BasicNode, streams: bool) -> PeerNetwork {
        let address = self.addresses.get(&target).unwrap_or(&node.addr).clone();
        let control = self.control.get(&target).cloned().unwrap_or_else(|| connect(&address));
        PeerNetwork { identity: self.identity.clone(), target, address, control, streams }
    }
}

/// A connection; dialled when first used, again when it broke.
fn connect(address: &str) -> PeerClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .expect("peer addresses are checked when the configuration is read")
        .connect_timeout(DIAL_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .keep_alive_while_idle(true);
    PeerClient::new(endpoint.connect_lazy())
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
    identity: PeerIdentity,
    target: u64,
    address: String,
    control: PeerClient<Channel>,
    /// Appends as one link; otherwise each is a call, as heartbeats are.
    streams: bool,
}

impl PeerNetwork {
    fn envelope(&self) -> proto::Envelope {
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

/// The frames of one link that wait for their answers.
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

    fn is_empty(&self) -> bool {
        self.frames.lock().sizes.is_empty()
    }

    /// When the peer counts as gone unless it answers.
    fn answer_due(&self) -> Instant {
        self.frames.lock().since.unwrap_or_else(Instant::now) + SILENCE_MAX
    }
}

/// Writes openraft's requests to the link, in order, until they end.
async fn send_frames<S>(requests: S, mut link: FrameWriter, in_flight: Arc<InFlight>) -> io::Result<()>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    let mut requests = requests.fuse();
    while let Some(request) = requests.next().await {
        let (request, next) = fold(request, &mut requests, &in_flight).await;
        for request in std::iter::once(request).chain(next) {
            in_flight.add(&request).await;
            let (frame, records) = wire::put_append(request);
            link.put_append(&frame, &records);
            link.flush().await?;
        }
    }
    link.close().await
}

/// Under load the next entries come before a follower needs to know what is committed: then one frame tells
/// both, and a round costs a frame and an answer less per follower. A request is only dropped for a later one,
/// which says at least as much.
async fn fold<S>(
    mut request: AppendEntriesRequest<Types>,
    requests: &mut Fuse<S>,
    in_flight: &InFlight,
) -> (AppendEntriesRequest<Types>, Option<AppendEntriesRequest<Types>>)
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    let until = Instant::now() + COMMIT_WAIT;
    while request.entries.is_empty() && !in_flight.is_empty() {
        let Ok(Some(next)) = tokio::time::timeout_at(until, requests.next()).await else { break };
        let is_after = next.vote == request.vote && next.prev_log_id == request.prev_log_id;
        if !is_after {
            return (request, Some(next));
        }
        request = next;
    }
    (request, None)
}

/// A peer that cannot be reached is left alone for a moment; anything else is tried again at once.
fn failed(status: &tonic::Status) -> RPCError<Types> {
    match status.code() {
        tonic::Code::Unavailable => RPCError::Unreachable(Unreachable::new(status)),
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

fn broken(error: &LinkError) -> RPCError<Types> {
    match error {
        LinkError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(error)),
        LinkError::Broken(_) | LinkError::Refused(_) | LinkError::Unusable(_) => {
            RPCError::Network(NetworkError::new(error))
        }
    }
}

fn unusable(error: Unusable) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&error))
}

/// The answers of a link, from its reading side. Dropping it ends the link.
struct Answers {
    link: FrameReader,
    in_flight: Arc<InFlight>,
    _sender: AbortOnDropHandle<()>,
}

impl Answers {
    /// The next answer; `None` when the peer has answered everything and closed.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>>> {
        let read = loop {
            match tokio::time::timeout_at(self.in_flight.answer_due(), self.link.next::<proto::AppendAck>()).await {
                Ok(read) => break read,
                Err(_) if self.in_flight.answer_due() > Instant::now() => {}
                Err(elapsed) => return Some(Err(RPCError::Network(NetworkError::new(&elapsed)))),
            }
        };
        match read {
            Ok(Some(ack)) => {
                self.in_flight.answered();
                Some(wire::ack(ack).map_err(unusable))
            }
            Ok(None) => None,
            Err(error) => Some(Err(broken(&error.into()))),
        }
    }
}

impl RaftNetworkV2<Types> for PeerNetwork {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>> {
        let (mut frame, records) = wire::put_append(request);
        frame.records = wire::records(&records);
        frame.envelope = Some(self.envelope());
        let ack = Self::within(option.hard_ttl(), self.control.heartbeat(frame)).await?;
        self.meet(ack.disk).await?;
        Ok(wire::ack(ack).map_err(unusable)?.into())
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
            let dialled = link::dial(&self.identity, self.target, &self.address, proto::Purpose::Append).await;
            let (reader, writer) = match dialled {
                Ok(link) => link,
                Err(error) => {
                    // openraft waits its backoff out in the requests, and a link that does not open
                    // never asks for one: without this pause a dead follower costs the leader a core.
                    tokio::time::sleep(REDIAL_AFTER).await;
                    return Err(broken(&error));
                }
            };
            let in_flight = Arc::new(InFlight::default());
            if planted_bug::is(PlantedBug::AckBeforeCommit) {
                return Ok(acknowledge_what_is_sent(input, reader, writer));
            }
            let sent = in_flight.clone();
            let sender = tokio::spawn(async move {
                // The reading side hears of a broken link too.
                let _ = send_frames(input, writer, sent).await;
            });
            let answers = Answers { link: reader, in_flight, _sender: AbortOnDropHandle::new(sender) };
            let answers = stream::unfold(Some(answers), |answers| async move {
                let mut answers = answers?;
                let answer = answers.next().await?;
                let goes_on = answer.is_ok();
                Some((answer, goes_on.then_some(answers)))
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>> {
        let call = wire::put_vote_call(self.envelope(), &request);
        let answer = Self::within(option.hard_ttl(), self.control.request_vote(call)).await?;
        self.meet(answer.disk).await?;
        wire::vote_answer(answer).map_err(unusable)
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>> {
        let call = wire::put_vote_call(self.envelope(), &request);
        let answer = Self::within(option.hard_ttl(), self.control.pre_vote(call)).await?;
        self.meet(answer.disk).await?;
        wire::vote_answer(answer).map_err(unusable)
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

/// A planted bug: once the follower has agreed to the link, what goes out counts as if it had it.
fn acknowledge_what_is_sent<'s, S>(
    mut requests: S,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> BoxStream<'s, Result<StreamAppendResult<Types>>>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
{
    let (told, heard) = tokio::sync::mpsc::unbounded_channel();
    let has_agreed = Arc::new(AtomicBool::new(false));
    let (agreed, answer) = (has_agreed.clone(), told.clone());
    let sending = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if agreed.load(Ordering::Relaxed) {
                let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
                let _ = answer.send(Ok(Ok(last)));
            }
            let (frame, records) = wire::put_append(request);
            writer.put_append(&frame, &records);
            if writer.flush().await.is_err() {
                return;
            }
        }
    });
    let reading = tokio::spawn(async move {
        loop {
            let ack = match reader.next::<proto::AppendAck>().await {
                Ok(Some(ack)) => ack,
                // The follower has answered everything there was.
                Ok(None) => return,
                Err(error) => {
                    let _ = told.send(Err(broken(&error.into())));
                    return;
                }
            };
            let result = wire::ack(ack).map_err(unusable);
            let is_success = matches!(result, Ok(Ok(_)));
            let is_news = !has_agreed.swap(has_agreed.load(Ordering::Relaxed) || is_success, Ordering::Relaxed);
            if (is_news || !is_success) && told.send(result).is_err() {
                return;
            }
        }
    });
    let tasks = [AbortOnDropHandle::new(sending), AbortOnDropHandle::new(reading)];
    Box::pin(stream::unfold(
        (heard, tasks),
        |(mut heard, tasks)| async move { Some((heard.recv().await?, (heard, tasks))) },
    ))
}
