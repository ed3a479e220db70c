//! openraft's way to the other replicas: appends over a link of their own, heartbeats and votes as short calls on another,
//! so that bulk data never delays a sign of life (D19).

use std::future::Future;
use std::io;
use std::sync::Arc;
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
use tokio::time::Instant;

use crate::model::{LogIndex, NodeId};
use crate::proto::peer as proto;
use crate::proto::peer::answer::Answer;
use crate::proto::peer::call::Call;
use crate::raft::peer::append;
use crate::raft::peer::control::{CallError, ControlClient};
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::link;
use crate::raft::peer::peers::Peers;
#[cfg(debug_assertions)]
use crate::raft::peer::planted;
use crate::raft::peer::rpc_error;
use crate::raft::peer::rpc_error::RpcResult;
use crate::raft::peer::unusable::Unusable;
use crate::raft::peer::wire;
use crate::raft::snapshot::handle::Snapshot;
use crate::raft::types;
use crate::raft::types::{Types, Vote};

/// A follower that cannot be reached is tried again after this long.
pub(super) const REDIAL_AFTER: Duration = Duration::from_millis(50);
/// A follower behind the start of the log is told so this often while it pulls a snapshot, and it is written down this often.
const TELL_BEHIND_EVERY: Duration = Duration::from_secs(1);
const REPORT_BEHIND_EVERY: Duration = Duration::from_secs(60);
const BEHIND_TIMEOUT: Duration = Duration::from_millis(500);

impl RaftNetworkFactory<Types> for Peers {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        PeerNetwork::new(self, target, node, Appends::Streamed)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        PeerNetwork::new(self, target, node, Appends::Called)
    }
}

/// The links to one peer.
pub struct PeerNetwork {
    identity: PeerIdentity,
    target: u64,
    /// From the membership.
    address: String,
    /// For as long as the target is no member that is known.
    control: ControlClient,
    peers: Peers,
    appends: Appends,
    /// When it was last reported that the target is behind the start of this node's log.
    reported_behind: Option<Instant>,
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
    fn new(peers: &Peers, target: u64, node: &BasicNode, appends: Appends) -> Self {
        let (peers, identity) = (peers.clone(), peers.identity().clone());
        let address = node.addr.clone();
        let control = ControlClient::new(identity.clone(), target, address.clone());
        Self { identity, target, address, control, peers, appends, reported_behind: None }
    }

    /// Where the target is: hosts move (D30).
    fn address(&self) -> String {
        self.identity.members.address_of(NodeId(self.target)).unwrap_or_else(|| self.address.clone())
    }

    async fn call(&self, call: Call, option: &RPCOption) -> RpcResult<Answer> {
        let control = self.peers.control(NodeId(self.target)).unwrap_or_else(|| self.control.clone());
        control.call(call, option.hard_ttl()).await.map_err(|error| rpc_error::of_call(&error))
    }

    /// Tells the follower what its state needs; gives its vote, and what its state has applied.
    async fn tell_behind(&self, vote: &Vote, needs: LogIndex) -> Result<(Vote, LogIndex), CallError> {
        let call = proto::BehindCall { vote: wire::put_vote(vote), needs: needs.0 };
        let unusable = |error: Unusable| CallError::Link(Arc::new(error.into()));
        let Answer::Behind(answer) = self.control.call(Call::Behind(call), BEHIND_TIMEOUT).await? else {
            return Err(unusable(Unusable::Lacks("answer to this call")));
        };
        let own = wire::vote(answer.vote).map_err(unusable)?;
        wire::check_term(&own, self.identity.term()).map_err(unusable)?;
        Ok((own, LogIndex(answer.applied)))
    }

    /// The answer to a request for a vote. A term that no shard can have reached is not believed.
    fn vote_answer(&self, answer: Answer) -> RpcResult<VoteResponse<Types>> {
        let Answer::Vote(answer) = answer else { return Err(unexpected()) };
        let answer = wire::vote_answer(answer).map_err(rpc_error::of_message)?;
        wire::check_term(&answer.vote, self.identity.term()).map_err(rpc_error::of_message)?;
        Ok(answer)
    }
}

fn unexpected() -> openraft::errors::RPCError<Types> {
    rpc_error::of_message(Unusable::Lacks("answer to this call"))
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
        let Answer::Heartbeat(ack) = self.call(Call::Heartbeat(frame), &option).await? else {
            return Err(unexpected());
        };
        Ok(wire::ack(ack, self.identity.term()).map_err(rpc_error::of_message)?.into())
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
            let dialled = link::dial(&self.identity, self.target, &self.address(), proto::Purpose::Append).await;
            let (reader, writer) = match dialled {
                Ok(link) => {
                    self.identity.note_reached(self.target);
                    link
                }
                Err(error) => {
                    self.identity.note_unreachable(self.target, &error);
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
            let pace = self.peers.pace_of(NodeId(self.target));
            Ok(append::stream(input, (reader, writer), pace, self.identity.clone(), self.target))
        })
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.vote_answer(self.call(Call::Vote(wire::put_vote_call(&request)), &option).await?)
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.vote_answer(self.call(Call::PreVote(wire::put_vote_call(&request)), &option).await?)
    }

    /// Nothing is sent: the follower is told to pull, and once its state has what this node's log lacks, it goes on with the log.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<Types, Snapshot>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let needs = snapshot.meta.last_log_id.map_or(LogIndex(0), |id| types::index_in(id.index));
        let not_yet = match self.tell_behind(&vote, needs).await {
            Ok((own, applied)) if applied >= needs => return Ok(SnapshotResponse { vote: own }),
            Ok(_) => "it pulls a snapshot".to_owned(),
            Err(CallError::Refused(_)) => {
                "its build cannot pull a snapshot: install this node's build there".to_owned()
            }
            Err(error) => error.to_string(),
        };
        if self.reported_behind.is_none_or(|at| at.elapsed() > REPORT_BEHIND_EVERY) {
            self.reported_behind = Some(Instant::now());
            tracing::warn!(
                member = NodeId(self.target).to_string(),
                "a follower is behind the start of this leader's log: {not_yet}; until it has caught up, one more failure can \
                 stop the group"
            );
        }
        // openraft tries again at once, or soon, for as long as this node leads.
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            () = tokio::time::sleep(TELL_BEHIND_EVERY) => {
                Err(StreamingError::Unreachable(Unreachable::new(&io::Error::other(not_yet))))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        let call = proto::TransferCall {
            from_leader: wire::put_vote(request.from_leader()),
            to_node: *request.to_node_id(),
            last: wire::put_log_id(&request.last_log_id().cloned()),
        };
        self.call(Call::Transfer(call), &option).await?;
        Ok(Ok(()))
    }
}
