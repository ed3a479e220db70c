//! Above the log: what a request means. Chooses, stamps, plans, waits; everything that changes state
//! becomes a command and goes through `raft/`.
//!
//! One `Broker` per node, shared by all front-end threads. It reads the applied state of its own node
//! and proposes through whoever leads, so every node serves every request (D15).
//!
//! Not here: wire types and status codes (`edge/`), deciding what is still free (`machine/receive`).

mod ack;
mod arrivals;
mod error;
mod invisible;
mod members;
mod node;
mod overview;
mod plan;
mod receive;
mod send;
mod sessions;
mod timer;
mod topics;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use ack::Acked;
pub use arrivals::Arrivals;
pub use error::Error;
pub use node::{Node, StartError};
pub use overview::{GroupSummary, NodeSummary, Position, QueueSummary, TopicSummary};
pub use receive::{Delivery, Receive};
pub use send::Sent;
pub use sessions::{ClientInfo, ClientKind, SessionSettings, Sessions};
pub use topics::{GroupView, TopicView};

use crate::env::clock::Clock;
use crate::machine::{Command, Outcome, Proposal};
use crate::model::limits::POLLS_WAITING_MAX;
use crate::model::{LogIndex, NodeId, Timestamp};
use crate::raft::{Failed, Leadership, Replica};
use members::Members;
use plan::Plans;
use traffic::Traffic;

/// Time left for the caller, if it said.
pub type Deadline = Option<Duration>;

/// An answer leaves this long before the caller's deadline.
const DEADLINE_MARGIN: Duration = Duration::from_millis(200);
/// A retry of something safe to repeat waits this long.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Where this node stands in its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `brokerName`.
    pub broker_name: String,
    /// This node.
    pub self_id: NodeId,
    /// All nodes, this one included, by id.
    pub members: Vec<MemberAddress>,
    /// Where this node stores messages, as told to clients: `host:port`.
    pub store_host: String,
}

/// One node's name and address for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAddress {
    /// Node.
    pub id: NodeId,
    /// `n0`, `n1`, …
    pub name: String,
    /// Host.
    pub host: String,
    /// gRPC port, once known.
    pub grpc_port: Option<u16>,
}

/// Settings that decide what a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// `leaderWaitMs`: how long a request waits for a leader.
    pub leader_wait: Duration,
    /// `autoCreateSubscriptionGroup`.
    pub creates_groups: bool,
    /// `defaultTopicQueueNums`.
    pub topic_queues: u32,
}

/// See the module.
pub struct Broker {
    place: Place,
    settings: BrokerSettings,
    replica: Replica,
    clock: Arc<dyn Clock>,
    arrivals: Arc<Arrivals>,
    plans: Plans,
    polls: Arc<Semaphore>,
    sessions: Sessions,
    members: Members,
    traffic: Arc<Traffic>,
    stopping: CancellationToken,
}

impl Broker {
    /// Over a running replica whose effects go to `arrivals`.
    fn new(
        place: Place,
        settings: BrokerSettings,
        replica: Replica,
        clock: Arc<dyn Clock>,
        arrivals: Arc<Arrivals>,
    ) -> Arc<Self> {
        Arc::new(Self {
            place,
            settings,
            replica,
            sessions: Sessions::new(clock.clone()),
            members: Members::default(),
            traffic: Arc::new(Traffic::new(clock.clone())),
            clock,
            arrivals,
            plans: Plans::default(),
            polls: Arc::new(Semaphore::new(POLLS_WAITING_MAX)),
            stopping: CancellationToken::new(),
        })
    }

    /// Where this node stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// This node's clock; for display and deadlines, never for what is stored.
    pub fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    /// The clients of this node.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Cancelled when the node is told to stop: polls and streams that would wait end then.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Who leads the group.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.replica.leadership()
    }

    /// How long a command may take: until just before the caller's deadline, or as long as a request is
    /// held.
    fn patience(&self, deadline: Deadline) -> Duration {
        let left = deadline.map_or(Duration::MAX, |left| left.saturating_sub(DEADLINE_MARGIN));
        left.min(self.settings.leader_wait)
    }

    async fn propose(&self, command: &Command, wait: Duration) -> Result<(LogIndex, Outcome), Error> {
        let proposal = Proposal { command: command.encode(), messages: Vec::new() };
        Ok(self.replica.propose(proposal, wait).await?)
    }

    /// Proposes what is safe to repeat: tries again while its fate is unknown and time is left.
    async fn propose_repeatable(&self, command: &Command, wait: Duration) -> Result<(LogIndex, Outcome), Error> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let proposal = Proposal { command: command.encode(), messages: Vec::new() };
            match self.replica.propose(proposal, left).await {
                Err(Failed::Ambiguous) if left > RETRY_AFTER => tokio::time::sleep(RETRY_AFTER).await,
                Err(failed) => return Err(failed.into()),
                Ok(done) => return Ok(done),
            }
        }
    }

    /// Waits until this node has applied an entry, so that its view shows what was answered.
    async fn caught_up(&self, index: LogIndex, wait: Duration) {
        let mut applied = self.replica.applied();
        // Not in time is no failure: the change is made, only this node's view is behind.
        let _ = tokio::time::timeout(wait, applied.wait_for(|applied| *applied >= index)).await;
    }
}
