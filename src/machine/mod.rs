//! Below the log: the deterministic state machine. Every node runs the same commands in the same
//! order and arrives at the same state, byte for byte (P15).
//!
//! Synchronous and pure: no clock, randomness, locks, floats or hash-map order. Time is the stamp the
//! leader put into the batch. The state lives in an ordered key-value store ([`crate::store::kv`]);
//! [`Stage`] collects the writes of one entry, which become one batch together with the entry's id.
//!
//! Called by `raft/state_machine`; read by `broker/` through [`view`].
//!
//! Not here: choosing what to deliver and filtering (`broker/receive/poll`), reading bodies (`raft/`),
//! waking those who wait (`broker/arrivals`).

pub mod ack;
pub mod batch;
pub mod command;
mod dead_letter;
mod delay;
pub mod invisible;
mod member;
mod offset;
pub mod outcome;
pub mod receive;
pub mod send;
pub mod state;
pub mod tick;
pub mod topics;
pub mod transaction;

use bytes::Bytes;

pub use batch::{Batch, Proposal};
pub use command::Command;
pub use outcome::{Outcome, Rejected};
pub use state::recent_sends::Recent;
pub use state::stage::{Effects, Stage};

use crate::model::LogIndex;
use crate::store::kv;

/// Why an entry could not be applied. Both kinds stop the node: a refusal would be an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The local disk failed.
    #[error("state store: {0}")]
    Kv(#[from] kv::Error),
    /// The entry or a stored value does not decode.
    #[error("entry {at} or the state it touches does not decode: {source}")]
    Malformed {
        /// The entry.
        at: LogIndex,
        /// What is wrong with it.
        source: crate::model::codec::Malformed,
    },
}

/// Runs one committed entry: all commands of its batch, in order. The only way to change the state.
///
/// `recent` belongs to the state: made from it, and told by every entry applied since.
///
/// * Shape: one outcome per command, in order.
/// * Errors: the node must stop; nothing of this entry may be written.
pub fn apply(stage: &mut Stage<'_>, recent: &mut Recent, at: LogIndex, entry: Bytes) -> Result<Vec<Outcome>, Error> {
    let malformed = |source| Error::Malformed { at, source };
    let batch = Batch::decode(entry).map_err(malformed)?;
    stage.begin(at, batch.stamp());
    let mut outcomes = Vec::with_capacity(batch.command_count());
    let mut slot = 0;
    let mut sends = send::Sends::default();
    for command in batch.commands() {
        let command = Command::decode(command.map_err(malformed)?).map_err(malformed)?;
        stage.begin_command(&command);
        let outcome = run(stage, &command, &batch, &mut slot, &mut sends, recent).map_err(|failure| match failure {
            Failure::Kv(error) => Error::Kv(error),
            Failure::Malformed(source) => malformed(source),
        })?;
        outcomes.push(outcome);
    }
    sends.settle(stage);
    recent.settle(stage);
    Ok(outcomes)
}

/// A local failure inside a command; see [`Error`].
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The local disk failed.
    #[error(transparent)]
    Kv(#[from] kv::Error),
    /// A value does not decode.
    #[error(transparent)]
    Malformed(#[from] crate::model::codec::Malformed),
}

fn run(
    stage: &mut Stage<'_>,
    command: &Command,
    batch: &Batch,
    slot: &mut u32,
    sends: &mut send::Sends,
    recent: &mut Recent,
) -> Result<Outcome, Failure> {
    if !matches!(command, Command::Send(_)) {
        sends.settle(stage);
    }
    match command {
        Command::CreateTopic(create) => topics::create_topic(stage, create),
        Command::DeleteTopic { topic } => topics::delete_topic(stage, topic),
        Command::UpdateTopic(update) => topics::update_topic(stage, update),
        Command::CreateGroup(create) => topics::create_group(stage, create),
        Command::UpdateGroup(update) => topics::update_group(stage, update),
        Command::DeleteGroup { group } => topics::delete_group(stage, group),
        Command::Subscribe(subscribe) => topics::subscribe(stage, subscribe),
        Command::Send(send) => {
            let first = *slot;
            *slot += u32::try_from(send.tag_hashes.len()).expect("a batch holds far fewer than 2^32 messages");
            sends.add(stage, recent, send, batch, first)
        }
        Command::Grant(grant) => receive::apply(stage, grant),
        Command::Ack(ack) => ack::apply(stage, ack),
        Command::Change(change) => invisible::change(stage, change),
        Command::Prolong(prolong) => invisible::prolong(stage, prolong),
        Command::Tick => tick::apply(stage),
        Command::GiveBack(give_back) => invisible::give_back(stage, give_back),
        Command::Announce(announce) => Ok(member::announce(stage, announce)),
        Command::Recall(recall) => delay::recall(stage, recall),
        Command::Reschedule(change) => delay::reschedule(stage, change),
        Command::Redrive(redrive) => dead_letter::redrive(stage, redrive),
        Command::DeadLetter { handle } => dead_letter::apply(stage, handle),
        Command::Decide(decide) => transaction::decide(stage, decide),
        Command::SetPositions(set) => offset::set(stage, set),
        Command::Repeat(repeat) => receive::repeat(stage, repeat),
    }
}
