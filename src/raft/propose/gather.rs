//! The gathering task: makes batches of whatever waits (D2) and hands them on.
//!
//! Hot path. When a batch begins is decided in `batching`, where it goes in `sink`. While there is no leader, commands are
//! held.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::model::NodeId;
use crate::model::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX};
use crate::raft::error::Failed;
use crate::raft::leadership::Leadership;
use crate::raft::propose::batching::Batching;
use crate::raft::propose::queue::Receiver;
use crate::raft::propose::sink::Sink;
use crate::raft::propose::waiting::{Origin, Waiting, load_of};

/// Pause before a batch that found no leader is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// The task that gathers and hands on.
pub(in crate::raft) struct Gatherer {
    waiting: Receiver<Waiting>,
    /// Taken from the queue and not yet in a batch.
    held: VecDeque<Waiting>,
    /// Batches that came back, and the way back for those in flight.
    given_back: mpsc::Receiver<Vec<Waiting>>,
    give_back: mpsc::Sender<Vec<Waiting>>,
    in_flight: Arc<Semaphore>,
    leadership: watch::Receiver<Leadership>,
    batching: Batching,
    /// The leadership that `batching` counts for.
    batching_under: Leadership,
    sink: Arc<Sink>,
}

/// Raft has ended.
struct Ended;

impl Gatherer {
    /// Over the queue's receiving end, with `in_flight_max` batches handed on at once.
    pub(super) fn new(waiting: Receiver<Waiting>, sink: Sink, in_flight_max: usize) -> Self {
        // A batch in flight holds a permit, so there is always room for it to come back.
        let (give_back, given_back) = mpsc::channel(in_flight_max);
        Self {
            waiting,
            held: VecDeque::new(),
            given_back,
            give_back,
            in_flight: Arc::new(Semaphore::new(in_flight_max)),
            leadership: sink.leadership.clone(),
            batching: Batching::default(),
            batching_under: Leadership::default(),
            sink: Arc::new(sink),
        }
    }

    /// Runs until Raft ends or the future is dropped.
    pub(in crate::raft) async fn run(mut self) {
        while let Ok(permit) = self.in_flight.clone().acquire_owned().await {
            self.take_in().await;
            let leadership = *self.leadership.borrow_and_update();
            let worth_it = match leadership.leader {
                Some(leader) => self.until_worth_it(leadership).await.map(|is_worth_it| is_worth_it.then_some(leader)),
                None => self.without_leader().await.map(|()| None),
            };
            match worth_it {
                Ok(Some(leader)) => self.hand_on(leader, leadership, permit),
                Ok(None) => {}
                Err(Ended) => return,
            }
        }
    }

    /// Takes what came back; if nothing is held, waits for something.
    async fn take_in(&mut self) {
        if self.held.is_empty() {
            tokio::select! {
                biased;
                Some(batch) = self.given_back.recv() => self.held.extend(batch),
                () = self.waiting.any() => self.held.extend(self.waiting.take()),
            }
        }
        while let Ok(batch) = self.given_back.try_recv() {
            self.held.extend(batch);
        }
    }

    /// Holds what waits until a leader may be known. What comes meanwhile is taken in: followers' frames are refused at
    /// once, and what was called off must not fill the queue.
    async fn without_leader(&mut self) -> Result<(), Ended> {
        self.refuse_forwarded();
        self.held.retain(|waiting| !waiting.is_called_off());
        tokio::select! {
            changed = self.leadership.changed() => changed.map_err(|_| Ended),
            () = self.waiting.any() => {
                self.held.extend(self.waiting.take());
                Ok(())
            }
        }
    }

    /// Waits until a batch is worth its cost; false if the leadership changed before.
    async fn until_worth_it(&mut self, leadership: Leadership) -> Result<bool, Ended> {
        if !leadership.is_self {
            self.refuse_forwarded();
        }
        if leadership != self.batching_under {
            // Batches in flight under another leadership hold up nothing.
            (self.batching_under, self.batching) = (leadership, Batching::default());
        }
        tokio::select! {
            biased;
            changed = self.leadership.changed() => changed.map(|()| false).map_err(|_| Ended),
            () = self.batching.until_worth_it(&self.waiting, load_of(self.held.iter())) => Ok(true),
        }
    }

    /// Makes one batch and hands it on in a task of its own; what comes back is tried again.
    fn hand_on(&mut self, leader: NodeId, leadership: Leadership, permit: OwnedSemaphorePermit) {
        let batch = self.gather(leader, leadership);
        if batch.is_empty() {
            return;
        }
        let left = load_of(self.held.iter()) + self.waiting.load();
        let batch_in_flight = self.batching.begin(load_of(batch.iter()).commands, left.commands);
        let (sink, give_back) = (self.sink.clone(), self.give_back.clone());
        tokio::spawn(async move {
            let unsent = if leadership.is_self { sink.propose(batch).await } else { sink.forward(leader, batch).await };
            if !unsent.is_empty() {
                tokio::time::sleep(RETRY_AFTER).await;
                // Fails only when the gatherer has stopped: the callers are then answered NoLeader.
                let _ = give_back.try_send(unsent);
            }
            drop((permit, batch_in_flight));
        });
    }

    /// Takes what waits, up to one batch; leaves out what was called off meanwhile, and refuses what there is no
    /// room for.
    fn gather(&mut self, leader: NodeId, leadership: Leadership) -> Vec<Waiting> {
        let mut batch = Vec::new();
        let (mut bytes, mut commands, mut command_bytes) = (0, 0, 0);
        while bytes < BATCH_BYTES_MAX && commands < BATCH_COMMANDS_MAX {
            let Some(next) = self.held.pop_front().or_else(|| self.waiting.take()) else { break };
            let next_bytes = next.bytes();
            let is_too_much = bytes + next_bytes > BATCH_BYTES_MAX
                || commands + next.proposals.len() > BATCH_COMMANDS_MAX
                || command_bytes + next.command_bytes() > COMMAND_BYTES_MAX;
            if is_too_much && !batch.is_empty() {
                self.held.push_front(next);
                break;
            }
            if next.is_called_off() {
                // Nothing was handed on: it never happens.
                continue;
            }
            if next.origin == Origin::Forwarded && !leadership.is_self {
                let _ = next.reply.send(Err(Failed::NotLeader));
            } else if let Err(no_room) = self.sink.admit(&next, leader, leadership.is_self) {
                let _ = next.reply.send(Err(Failed::NoRoom(no_room)));
            } else if next.ticket.hand_on() {
                bytes += next_bytes;
                commands += next.proposals.len();
                command_bytes += next.command_bytes();
                batch.push(next);
            }
        }
        batch
    }

    /// Answers followers at once that this node cannot take their frames, so that they look further.
    fn refuse_forwarded(&mut self) {
        for waiting in std::mem::take(&mut self.held) {
            match waiting.origin {
                Origin::Own => self.held.push_back(waiting),
                Origin::Forwarded => {
                    let _ = waiting.reply.send(Err(Failed::NotLeader));
                }
            }
        }
    }
}
