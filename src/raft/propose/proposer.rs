//! The way into the log: gathers whatever waits into one entry (D2), here on the leader or, as a frame,
//! over to it (D15).
//!
//! Hot path. A batch costs the same whether it carries one command or a hundred, so the next one gathers until it
//! is worth as much as what is under way (`raft/propose/batching`). A lone command never waits for others to come. While there
//! is no leader, commands are held.
//!
//! What became of a command is told honestly (D17): [`Failed::NoLeader`], [`Failed::Busy`] and
//! [`Failed::NotLeader`] mean it is not and will never be in the log; [`Failed::Ambiguous`] means
//! nobody here can know.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use openraft::Raft;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::env::clock::Clock;
use crate::machine::{Batch, Outcome, Proposal};
use crate::model::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX};
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::peer::forward::{Forwarded, Forwarder};
use crate::raft::propose::batching::Batching;
use crate::raft::propose::queue;
use crate::raft::propose::queue::{Carries, Load, NotTaken, Receiver, Sender};
use crate::raft::propose::replies;
use crate::raft::propose::replies::{Mailbox, OfThread, ReplyBatch};
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{Applied, Body, Types};

/// Commands waiting to be gathered, at most.
const QUEUE_MAX: usize = 16 * 1024;
/// Their bytes, in KiB, at most; also covers what is under way.
const QUEUE_KIB_MAX: usize = 64 * 1024;
/// A stop looks this often whether anything is still under way.
const DRAIN_STEP: Duration = Duration::from_millis(5);
/// Pause before a batch that found no leader is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// A leader that was followed by another may still answer frames for this long. One that hangs must not hold
/// up what the next one could take.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Who leads, as this node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: Term,
    /// Whether it is this node.
    pub is_self: bool,
}

/// Why a command has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// No leader was found in time. It will never be in the log.
    #[error("no leader was found in time")]
    NoLeader,
    /// It came as a frame and this node does not lead. It will never be in the log.
    #[error("this node does not lead")]
    NotLeader,
    /// Too much is waiting. It will never be in the log.
    #[error("too much is waiting for the log")]
    Busy,
    /// It was handed on and its fate is unknown.
    #[error("the outcome is unknown")]
    Ambiguous,
}

type Reply = Result<Applied, Failed>;

thread_local! {
    static MAILBOX: OfThread<Reply> = const { OfThread::new(None) };
}

/// Commands of one caller, proposed together.
struct Waiting {
    proposals: Vec<Proposal>,
    ticket: Arc<Ticket>,
    reply: oneshot::Sender<Reply>,
    mailbox: Mailbox<Reply>,
    /// From a follower's frame: not to be handed on again.
    is_forwarded: bool,
    /// Given back when the fate is known.
    _room: OwnedSemaphorePermit,
}

impl Carries for Waiting {
    fn load(&self) -> Load {
        let messages = self.proposals.iter().map(|proposal| proposal.messages.len().max(1)).sum::<usize>();
        // A frame without commands is answered too.
        Load { commands: self.proposals.len().max(1), messages: messages.max(1) }
    }
}

/// Whether the commands were handed on: until then their caller can call them off.
#[derive(Default)]
struct Ticket(AtomicU8);

impl Ticket {
    const WAITING: u8 = 0;
    const HANDED_ON: u8 = 1;
    const CALLED_OFF: u8 = 2;

    fn turn(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Hands commands to the gathering task. Cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    queue: Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Proposer {
    /// The handle, and the task behind it to be run.
    pub(in crate::raft) fn new(
        raft: Raft<Types, StateMachine>,
        forwarder: Arc<Forwarder>,
        leadership: watch::Receiver<Leadership>,
        clock: Arc<dyn Clock>,
        in_flight_max: usize,
    ) -> (Self, Gatherer) {
        let (queue, waiting) = queue::channel(QUEUE_MAX);
        let gatherer = Gatherer {
            waiting,
            leadership: leadership.clone(),
            in_flight: Arc::new(Semaphore::new(in_flight_max)),
            in_flight_max,
            batching: Batching::default(),
            sink: Arc::new(Sink { raft, forwarder, clock, leadership }),
        };
        (Self { queue, room: Arc::new(Semaphore::new(QUEUE_KIB_MAX)) }, gatherer)
    }

    /// Proposes one command and waits for its outcome, `wait` at most.
    pub async fn propose(&self, proposal: Proposal, wait: Duration) -> Result<(LogIndex, Outcome), Failed> {
        let mut applied = self.submit(vec![proposal], wait, false).await?;
        Ok((applied.index, applied.outcomes.pop().expect("one outcome per command")))
    }

    /// Proposes a follower's commands, if this node leads.
    pub(in crate::raft) async fn propose_forwarded(&self, proposals: Vec<Proposal>, wait: Duration) -> Reply {
        self.submit(proposals, wait, true).await
    }

    /// Waits until nothing is under way, `limit` at most.
    pub(in crate::raft) async fn drain(&self, limit: Duration) {
        // Waiting for all the room would take it from those that still come and are to hear "not leader".
        let until = tokio::time::Instant::now() + limit;
        while self.room.available_permits() < QUEUE_KIB_MAX && tokio::time::Instant::now() < until {
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }

    async fn submit(&self, proposals: Vec<Proposal>, wait: Duration, is_forwarded: bool) -> Reply {
        let kib = proposals.iter().map(Proposal::bytes).sum::<usize>().div_ceil(1024);
        let kib = u32::try_from(kib).expect("a request is far below 4 TiB");
        let room = self.room.clone().try_acquire_many_owned(kib).map_err(|_| Failed::Busy)?;
        let ticket = Arc::new(Ticket::default());
        let (reply, answer) = oneshot::channel();
        let mailbox = MAILBOX.with(replies::of_thread);
        let waiting = Waiting { proposals, ticket: ticket.clone(), reply, mailbox, is_forwarded, _room: room };
        self.queue.put(waiting).map_err(|not_taken| match not_taken {
            NotTaken::Full => Failed::Busy,
            // The node is stopping: another one takes it.
            NotTaken::Closed => Failed::NotLeader,
        })?;
        match tokio::time::timeout(wait, answer).await {
            Ok(Ok(reply)) => reply,
            // The gatherer stopped or the time is over: honest either way about whether it was handed on.
            Ok(Err(_)) | Err(_) if ticket.turn(Ticket::WAITING, Ticket::CALLED_OFF) => Err(Failed::NoLeader),
            Ok(Err(_)) | Err(_) => Err(Failed::Ambiguous),
        }
    }
}

/// The task that gathers and hands on.
pub(in crate::raft) struct Gatherer {
    waiting: Receiver<Waiting>,
    leadership: watch::Receiver<Leadership>,
    in_flight: Arc<Semaphore>,
    in_flight_max: usize,
    batching: Batching,
    sink: Arc<Sink>,
}

impl Gatherer {
    /// Runs until it is dropped.
    pub(in crate::raft) async fn run(mut self) {
        // A batch under way holds a permit, so there is always room for it to come back.
        let (give_back, mut given_back) = mpsc::channel::<Vec<Waiting>>(self.in_flight_max);
        let mut held: VecDeque<Waiting> = VecDeque::new();
        let mut reign = Leadership::default();
        loop {
            let Ok(permit) = self.in_flight.clone().acquire_owned().await else { return };
            if held.is_empty() {
                tokio::select! {
                    biased;
                    Some(batch) = given_back.recv() => held.extend(batch),
                    () = self.waiting.any() => held.extend(self.waiting.take()),
                }
            }
            while let Ok(batch) = given_back.try_recv() {
                held.extend(batch);
            }
            let leadership = *self.leadership.borrow_and_update();
            let Some(leader) = leadership.leader else {
                refuse_forwarded(&mut held);
                held.retain(|waiting| !waiting.reply.is_closed());
                // What comes meanwhile is taken in: followers' frames are refused at once, and what nobody
                // waits for any more must not fill the queue.
                tokio::select! {
                    changed = self.leadership.changed() => if changed.is_err() { return },
                    () = self.waiting.any() => held.extend(self.waiting.take()),
                }
                continue;
            };
            if !leadership.is_self {
                refuse_forwarded(&mut held);
            }
            if leadership != reign {
                // What is under way to another leader, or was to be led by another, holds nothing up.
                (reign, self.batching) = (leadership, Batching::default());
            }
            tokio::select! {
                biased;
                changed = self.leadership.changed() => if changed.is_err() { return } else { continue },
                () = self.batching.until_worth_it(&self.waiting, load_of(held.iter())) => {}
            }
            let batch = self.gather(&mut held, leadership.is_self);
            if batch.is_empty() {
                continue;
            }
            let left = load_of(held.iter()) + self.waiting.load();
            let batch_in_flight = self.batching.begin(load_of(batch.iter()).commands, left.commands);
            let sink = self.sink.clone();
            let give_back = give_back.clone();
            // Ends by itself: a proposal ends with its reign, a frame with its link.
            tokio::spawn(async move {
                let unsent =
                    if leadership.is_self { sink.propose(batch).await } else { sink.forward(leader, batch).await };
                if !unsent.is_empty() {
                    tokio::time::sleep(RETRY_AFTER).await;
                    // Fails only when the gatherer has stopped: the callers then hear NoLeader.
                    let _ = give_back.try_send(unsent);
                }
                drop((permit, batch_in_flight));
            });
        }
    }

    /// Takes what waits, up to one batch; leaves out what was called off meanwhile.
    fn gather(&self, held: &mut VecDeque<Waiting>, is_leader: bool) -> Vec<Waiting> {
        let mut batch = Vec::new();
        let (mut bytes, mut commands) = (0, 0);
        while bytes < BATCH_BYTES_MAX && commands < BATCH_COMMANDS_MAX {
            let Some(next) = held.pop_front().or_else(|| self.waiting.take()) else { break };
            let next_bytes: usize = next.proposals.iter().map(Proposal::bytes).sum();
            let is_too_much =
                bytes + next_bytes > BATCH_BYTES_MAX || commands + next.proposals.len() > BATCH_COMMANDS_MAX;
            if is_too_much && !batch.is_empty() {
                held.push_front(next);
                break;
            }
            if next.reply.is_closed() {
                // Its caller gave up, and nothing was handed on: it never happens.
                continue;
            }
            if next.is_forwarded && !is_leader {
                let _ = next.reply.send(Err(Failed::NotLeader));
            } else if next.ticket.turn(Ticket::WAITING, Ticket::HANDED_ON) {
                bytes += next_bytes;
                commands += next.proposals.len();
                batch.push(next);
            }
        }
        batch
    }
}

fn load_of<'a>(waiting: impl Iterator<Item = &'a Waiting>) -> Load {
    waiting.map(Carries::load).sum()
}

/// Tells followers at once that this node cannot take their frames, so that they look further.
fn refuse_forwarded(held: &mut VecDeque<Waiting>) {
    for waiting in std::mem::take(held) {
        if waiting.is_forwarded {
            let _ = waiting.reply.send(Err(Failed::NotLeader));
        } else {
            held.push_back(waiting);
        }
    }
}

/// Where batches go. Both ways return what is certainly not in the log.
struct Sink {
    raft: Raft<Types, StateMachine>,
    forwarder: Arc<Forwarder>,
    clock: Arc<dyn Clock>,
    leadership: watch::Receiver<Leadership>,
}

impl Sink {
    async fn propose(&self, batch: Vec<Waiting>) -> Vec<Waiting> {
        let proposals: Vec<&Proposal> = batch.iter().flat_map(|waiting| &waiting.proposals).collect();
        let body = Batch::encode(self.clock.wall(), proposals.iter().copied());
        match self.raft.client_write(Body(body)).await {
            Ok(written) => answer(batch, written.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => return release(batch),
            Err(_) => fail(batch, Failed::Ambiguous),
        }
        Vec::new()
    }

    async fn forward(&self, leader: NodeId, batch: Vec<Waiting>) -> Vec<Waiting> {
        let proposals = batch.iter().flat_map(|waiting| &waiting.proposals).map(Proposal::encode).collect();
        let mut leadership = self.leadership.clone();
        let deposed = async {
            // Ends with the replica; then nobody waits for the answer either.
            let _ = leadership.wait_for(|now| now.leader.is_some_and(|now| now != leader)).await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        match self.forwarder.forward(leader, proposals, deposed).await {
            Forwarded::Applied(applied) => answer(batch, applied),
            Forwarded::NotSent | Forwarded::NotLeader => return release(batch),
            Forwarded::Busy => fail(batch, Failed::Busy),
            Forwarded::Ambiguous => fail(batch, Failed::Ambiguous),
        }
        Vec::new()
    }
}

fn answer(batch: Vec<Waiting>, applied: Applied) {
    let index = applied.index;
    let mut outcomes = applied.outcomes.into_iter();
    let mut replies = ReplyBatch::default();
    for waiting in batch {
        let own: Vec<Outcome> = outcomes.by_ref().take(waiting.proposals.len()).collect();
        let is_whole = own.len() == waiting.proposals.len();
        let reply = if is_whole { Ok(Applied { index, outcomes: own }) } else { Err(Failed::Ambiguous) };
        replies.add(waiting.mailbox, waiting.reply, reply);
    }
    replies.send();
}

fn fail(batch: Vec<Waiting>, failed: Failed) {
    let mut replies = ReplyBatch::default();
    for waiting in batch {
        replies.add(waiting.mailbox, waiting.reply, Err(failed));
    }
    replies.send();
}

/// Makes the commands wait again; their callers may call them off again.
fn release(mut batch: Vec<Waiting>) -> Vec<Waiting> {
    batch.retain(|waiting| !waiting.reply.is_closed());
    for waiting in &batch {
        waiting.ticket.turn(Ticket::HANDED_ON, Ticket::WAITING);
    }
    batch
}
