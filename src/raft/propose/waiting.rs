//! Commands that wait for the log, and the answer that each caller gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::machine::{Command, Outcome, Proposal};
use crate::raft::error::Failed;
use crate::raft::propose::queue::{Carries, Load};
use crate::raft::propose::replies::{ReplyBatch, ReplySender};
use crate::raft::types::Applied;

/// What a caller is answered.
pub(in crate::raft) type Reply = Result<Applied, Failed>;

/// Who proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This node.
    Own,
    /// A follower, in a frame: not to be forwarded again.
    Forwarded,
}

/// Commands of one caller, proposed together.
pub(super) struct Waiting {
    pub proposals: Vec<Proposal>,
    pub ticket: Arc<Ticket>,
    pub reply: oneshot::Sender<Reply>,
    /// The way back to the caller's thread.
    pub replies: ReplySender<Reply>,
    pub origin: Origin,
    /// Given back when the fate is known.
    pub _room: OwnedSemaphorePermit,
}

impl Waiting {
    pub fn bytes(&self) -> usize {
        self.proposals.iter().map(Proposal::bytes).sum()
    }

    /// Without the messages.
    pub fn command_bytes(&self) -> usize {
        self.proposals.iter().map(|proposal| proposal.command.len()).sum()
    }

    /// Whether one of the commands adds messages.
    pub fn adds_messages(&self) -> bool {
        self.proposals.iter().any(|proposal| Command::adds_messages(&proposal.command))
    }

    /// Whether the caller gave up.
    pub fn is_called_off(&self) -> bool {
        self.reply.is_closed()
    }
}

impl Carries for Waiting {
    fn load(&self) -> Load {
        let messages = self.proposals.iter().map(|proposal| proposal.messages.len().max(1)).sum::<usize>();
        // A frame without commands is answered too.
        Load { commands: self.proposals.len().max(1), messages: messages.max(1) }
    }
}

pub(super) fn load_of<'a>(waiting: impl Iterator<Item = &'a Waiting>) -> Load {
    waiting.map(Carries::load).sum()
}

/// Whether the commands were handed on: until then their caller can call them off.
#[derive(Default)]
pub(super) struct Ticket(AtomicU8);

impl Ticket {
    const WAITING: u8 = 0;
    const HANDED_ON: u8 = 1;
    const CALLED_OFF: u8 = 2;

    /// True unless the caller was faster.
    pub fn hand_on(&self) -> bool {
        self.turn(Self::WAITING, Self::HANDED_ON)
    }

    /// True unless the commands were handed on.
    pub fn call_off(&self) -> bool {
        self.turn(Self::WAITING, Self::CALLED_OFF)
    }

    /// What was handed on came back and can be called off again.
    pub fn take_back(&self) {
        self.turn(Self::HANDED_ON, Self::WAITING);
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Gives each caller the outcomes of its own commands.
pub(super) fn answer(batch: Vec<Waiting>, applied: Applied) {
    let Applied { index, term, times, .. } = applied;
    let mut outcomes = applied.outcomes.into_iter();
    let mut replies = ReplyBatch::default();
    for waiting in batch {
        let own: Vec<Outcome> = outcomes.by_ref().take(waiting.proposals.len()).collect();
        let is_whole = own.len() == waiting.proposals.len();
        let reply = if is_whole { Ok(Applied { index, term, outcomes: own, times }) } else { Err(Failed::Ambiguous) };
        replies.add(waiting.replies, waiting.reply, reply);
    }
    replies.send();
}

pub(super) fn fail(batch: Vec<Waiting>, failed: Failed) {
    let mut replies = ReplyBatch::default();
    for waiting in batch {
        replies.add(waiting.replies, waiting.reply, Err(failed));
    }
    replies.send();
}

/// Makes the commands wait again; their callers may call them off again.
pub(super) fn release(mut batch: Vec<Waiting>) -> Vec<Waiting> {
    batch.retain(|waiting| !waiting.is_called_off());
    for waiting in &batch {
        waiting.ticket.take_back();
    }
    batch
}
