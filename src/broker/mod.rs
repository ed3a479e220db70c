//! Above the log: what a request means. Chooses, stamps, plans, waits; everything that changes state
//! becomes a command and goes through `raft/`.
//!
//! One `Broker` per node, shared by all front-end threads. It reads the applied state of its own node
//! and proposes through whoever leads, so every node serves every request (D15).
//!
//! Not here: wire types and status codes (`edge/`), deciding what is still free (`machine/receive`).

mod ack;
mod arrivals;
pub mod background;
mod dead_letter;
mod delay;
mod error;
pub mod inspect;
mod invisible;
mod members;
mod node;
mod offset;
pub mod receive;
mod send;
mod sessions;
mod topics;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use ack::Acked;
pub use arrivals::Arrivals;
pub use error::Error;
pub use inspect::message_query::{Found, MessageQuery, QueryCursor, StoredMessage};
pub use inspect::overview::{GroupDescription, GroupSummary, NodeSummary, Position, QueueSummary, TopicSummary};
pub use inspect::trace::{Event, EventKind, GroupTrace, Trace};
pub use node::{Node, StartError};
pub use offset::{Moved, Pull, Pulled, Where};
pub use receive::lease_guard::UndeliveredLeases;
pub use receive::poll::{Delivery, Receive, Received};
pub use send::Sent;
pub use sessions::{ClientHeader, ClientInfo, GroupMember, SessionSettings, Sessions, Subscription};
pub use topics::{GroupView, TopicView};
pub use transaction::Question;

use crate::env::clock::Clock;
pub use crate::machine::command::{UpdateGroup, UpdateTopic};
use crate::machine::{Command, Outcome, Proposal};
use crate::model::limits::POLLS_WAITING_MAX;
pub use crate::model::{ConsumeFrom, GroupSettings};
use crate::model::{LogIndex, NodeId, Timestamp, TransactionChecks};
pub use crate::raft::{Fatal, ReplicaStatus};
use crate::raft::{Leadership, Replica};
use inspect::traffic::Traffic;
use members::Members;
use receive::lease_guard::Renewals;
use receive::plan::Plans;

/// When the caller stops waiting, if it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// The caller waits for as long as it takes.
    pub const NONE: Self = Self(None);

    /// The caller waits until then.
    pub fn at(until: Instant) -> Self {
        Self(Some(until))
    }
}

/// An answer leaves this long before the caller's deadline.
const DEADLINE_MARGIN: Duration = Duration::from_millis(200);
/// A retry of something safe to repeat waits this long.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Where this node stands in its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlace {
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
    /// `autoCreateTopicEnable`.
    pub creates_topics: bool,
    /// `autoCreateSubscriptionGroup`.
    pub creates_groups: bool,
    /// `defaultTopicQueueNums`.
    pub topic_queues: u32,
    /// `transactionTimeOut`, `transactionCheckInterval`, `transactionCheckMax`.
    pub checks: TransactionChecks,
}

/// See the module.
pub struct Broker {
    place: NodePlace,
    settings: BrokerSettings,
    replica: Replica,
    clock: Arc<dyn Clock>,
    arrivals: Arc<Arrivals>,
    plans: Plans,
    polls: Arc<Semaphore>,
    /// Plans whose filter reads whole messages, at once.
    filter_reads: Semaphore,
    renewals: Renewals,
    tasks: TaskTracker,
    /// The Raft runtime.
    runtime: Handle,
    sessions: Sessions,
    members: Members,
    traffic: Arc<Traffic>,
    stopping: CancellationToken,
}

impl Broker {
    /// Over a running replica whose effects go to `arrivals`; on its runtime.
    fn new(
        place: NodePlace,
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
            filter_reads: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            renewals: Renewals::default(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            stopping: CancellationToken::new(),
        })
    }

    /// Where this node stands.
    pub fn place(&self) -> &NodePlace {
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

    /// Until when a request is held, all its steps together: for as long as there may be no leader, but its
    /// answer leaves just before the caller's deadline.
    fn held_until(&self, deadline: Deadline) -> Instant {
        let now = Instant::now();
        let held = now + self.settings.leader_wait;
        deadline.0.map_or(held, |at| held.min(at.checked_sub(DEADLINE_MARGIN).unwrap_or(now)))
    }

    async fn propose(&self, command: &Command, until: Instant) -> Result<(LogIndex, Outcome), Error> {
        let proposal = Proposal { command: command.encode(), messages: Vec::new() };
        Ok(self.replica.propose(proposal, until.saturating_duration_since(Instant::now())).await?)
    }

    /// Proposes what is safe to repeat: tries again while its fate is unknown and time is left.
    async fn propose_repeatable(&self, command: &Command, until: Instant) -> Result<(LogIndex, Outcome), Error> {
        let mut is_ambiguous = false;
        loop {
            match self.propose(command, until).await {
                Err(Error::TimedOut) if until > Instant::now() + RETRY_AFTER => {
                    is_ambiguous = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                // What an earlier try did is not undone by a later one that was refused.
                Err(_) if is_ambiguous => return Err(Error::TimedOut),
                result => return result,
            }
        }
    }

    /// Waits until this node's view shows everything that was answered, anywhere, before now (P14).
    async fn read_barrier(&self, until: Instant) -> Result<(), Error> {
        let index = self.replica.read_index(until).await?;
        if self.caught_up(index, until).await { Ok(()) } else { Err(Error::NoLeader) }
    }

    /// Waits until this node has applied an entry, so that its view shows what was answered; false if it
    /// has not in time.
    async fn caught_up(&self, index: LogIndex, until: Instant) -> bool {
        let mut applied = self.replica.applied();
        matches!(tokio::time::timeout_at(until, applied.wait_for(|applied| *applied >= index)).await, Ok(Ok(_)))
    }
}
