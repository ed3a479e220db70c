//! The handle that proposes commands: puts them into the queue and waits for their outcome.
//!
//! Hot path. What became of a command is answered honestly (D17): every error of [`Failed`] but [`Failed::Ambiguous`]
//! means that the command is not in the log and never will be.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::machine::{Command, Outcome, Proposal};
use crate::raft::clock::cluster_clock::ClusterClock;
use crate::raft::error::Failed;
use crate::raft::leadership::Leadership;
use crate::raft::peer::forward::Forwarder;
use crate::raft::propose::gather::Gatherer;
use crate::raft::propose::queue;
use crate::raft::propose::queue::{NotTaken, Sender};
use crate::raft::propose::replies;
use crate::raft::propose::replies::PerThread;
use crate::raft::propose::sink::Sink;
use crate::raft::propose::slow::{Asked, SlowRequests};
use crate::raft::propose::waiting::{Origin, Reply, Ticket, Waiting};
use crate::raft::room::VoterRooms;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types::CommandPlace;

/// Callers waiting to be gathered, at most.
const QUEUE_MAX: usize = 16 * 1024;
/// Bytes of their commands, in KiB, at most; also covers what is in flight.
const QUEUE_KIB_MAX: usize = 64 * 1024;
/// A stop looks this often whether anything is still in flight.
const DRAIN_STEP: Duration = Duration::from_millis(5);

thread_local! {
    static REPLIES: PerThread<Reply> = const { PerThread::new(None) };
}

/// Hands commands to the gathering task. Cheap to clone.
#[derive(Clone)]
pub(in crate::raft) struct Proposer {
    queue: Sender<Waiting>,
    room: Arc<Semaphore>,
    slow: Arc<SlowRequests>,
}

impl Proposer {
    /// The handle, and its gathering task to be run.
    pub fn new(
        raft: ShardRaft,
        forwarder: Arc<Forwarder>,
        leadership: watch::Receiver<Leadership>,
        clock: Arc<ClusterClock>,
        rooms: Arc<VoterRooms>,
        in_flight_max: usize,
        slow_request: Option<Duration>,
    ) -> (Self, Gatherer) {
        let (queue, waiting) = queue::channel(QUEUE_MAX);
        let sink = Sink { raft, forwarder, clock, leadership, rooms, refused: Mutex::default() };
        let gatherer = Gatherer::new(waiting, sink, in_flight_max);
        let room = Arc::new(Semaphore::new(QUEUE_KIB_MAX));
        (Self { queue, room, slow: Arc::new(SlowRequests::new(slow_request)) }, gatherer)
    }

    /// Proposes one command and waits for its outcome, `wait` at most.
    pub async fn propose(&self, proposal: Proposal, wait: Duration) -> Result<(CommandPlace, Outcome), Failed> {
        let mut applied = self.submit(vec![proposal], wait, Origin::Own).await?;
        let place = CommandPlace { index: applied.index, term: applied.term };
        Ok((place, applied.outcomes.pop().expect("one outcome per command")))
    }

    /// Proposes a follower's commands, if this node leads. The time of the log is the leader's business alone.
    pub async fn propose_forwarded(&self, proposals: Vec<Proposal>, wait: Duration) -> Reply {
        if proposals.iter().any(|proposal| Command::is_clock(&proposal.command)) {
            return Err(Failed::NotLeader);
        }
        self.submit(proposals, wait, Origin::Forwarded).await
    }

    /// What waits to become an entry, and how much may.
    pub fn waiting_bytes(&self) -> (u64, u64) {
        let kib = |count: usize| count as u64 * 1024;
        (kib(QUEUE_KIB_MAX - self.room.available_permits()), kib(QUEUE_KIB_MAX))
    }

    /// Waits until nothing is in flight, `limit` at most.
    pub async fn drain(&self, limit: Duration) {
        // Waiting for all the room would take it from those that still come and are to be answered "not leader".
        let until = Instant::now() + limit;
        while self.room.available_permits() < QUEUE_KIB_MAX && Instant::now() < until {
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }

    async fn submit(&self, proposals: Vec<Proposal>, wait: Duration, origin: Origin) -> Reply {
        let kib = proposals.iter().map(Proposal::bytes).sum::<usize>().div_ceil(1024);
        let kib = u32::try_from(kib).expect("a request is far below 4 TiB");
        let room = self.room.clone().try_acquire_many_owned(kib).map_err(|_| Failed::Busy)?;
        let asked_at = Instant::now();
        let asked = Asked::of(&proposals, asked_at);
        let ticket = Arc::new(Ticket::default());
        let (reply, answer) = oneshot::channel();
        let replies = REPLIES.with(replies::of_thread);
        let waiting = Waiting { proposals, ticket: ticket.clone(), reply, replies, origin, _room: room };
        self.queue.put(waiting).map_err(|not_taken| match not_taken {
            NotTaken::Full => Failed::Busy,
            // The node is stopping: another one takes it.
            NotTaken::Closed => Failed::NotLeader,
        })?;
        let answered = tokio::time::timeout_at(asked_at + wait, answer).await;
        self.slow.look(asked, answered.as_ref().ok().and_then(|answer| answer.as_ref().ok()));
        match answered {
            Ok(Ok(reply)) => reply,
            // The gatherer stopped or the time is over: either way the ticket knows whether it was handed on.
            Ok(Err(_)) | Err(_) if ticket.call_off() => Err(Failed::NoLeader),
            Ok(Err(_)) | Err(_) => Err(Failed::Ambiguous),
        }
    }
}
