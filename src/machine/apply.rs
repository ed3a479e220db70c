//! Applies entries: decodes a batch and runs its commands, one after the other.

use bytes::Bytes;

use crate::machine::batch::Batch;
use crate::machine::command::Command;
use crate::machine::lease_ids::Ordinals;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::send::EntrySends;
use crate::machine::state::failure::Failure;
use crate::machine::state::recent_sends::Recent;
use crate::machine::state::stage::Stage;
use crate::machine::{
    ack, carry, clock, cluster_version, dead_letter, delay, events, groups, handle_key, invisible, key_values, member,
    offset, queue_lock, receive, send, send_back, tick, topics, transaction, trim, write_permission,
};
use crate::model::LogIndex;
use crate::model::codec::Malformed;
use crate::store::kv;

/// Why an entry could not be applied. Both kinds stop the node: a refusal would be an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The local disk failed.
    #[error("state store: {0}")]
    Kv(#[from] kv::Error),
    /// The entry or a stored value does not decode.
    #[error("entry {at} or the state it touches does not decode: {source}")]
    Malformed { at: LogIndex, source: Malformed },
}

impl Error {
    fn at(at: LogIndex, failure: Failure) -> Self {
        match failure {
            Failure::Kv(error) => Self::Kv(error),
            Failure::Malformed(source) => Self::Malformed { at, source },
        }
    }
}

/// Runs one committed entry: all commands of its batch, in order. The only way to change the state.
///
/// `recent` belongs to the state: it was loaded from it, and every entry since was applied with it.
///
/// * Shape: one outcome for each command, in order.
/// * Errors: the node must stop; nothing of this entry may be written.
pub fn apply(stage: &mut Stage<'_>, recent: &mut Recent, at: LogIndex, entry: Bytes) -> Result<Vec<Outcome>, Error> {
    apply_batch(stage, recent, at, entry).map_err(|failure| Error::at(at, failure))
}

fn apply_batch(
    stage: &mut Stage<'_>,
    recent: &mut Recent,
    at: LogIndex,
    entry: Bytes,
) -> Result<Vec<Outcome>, Failure> {
    let batch = Batch::decode(entry)?;
    stage.begin(at, batch.stamp());
    let mut outcomes = Vec::with_capacity(batch.command_count());
    let mut lease_ordinals = Ordinals::default();
    let commands = batch.commands().map(|command| Command::decode(command?)).collect::<Result<Vec<_>, _>>()?;
    let mut sends = EntrySends::new(&batch, &commands, recent);
    for command in &commands {
        stage.begin_command(lease_ordinals.of(command));
        if !matches!(command, Command::Send(_) | Command::SendToQueue(_)) {
            // Every other command reads queues from the stage.
            sends.put_into(stage)?;
        }
        outcomes.push(run(stage, &mut sends, command)?);
    }
    sends.finish(stage)?;
    Ok(outcomes)
}

/// Runs a command, unless the entry has done enough of what writes much.
fn run(stage: &mut Stage<'_>, sends: &mut EntrySends<'_>, command: &Command) -> Result<Outcome, Failure> {
    if !command.writes_much() {
        return run_any(stage, sends, command);
    }
    if stage.keys_left()? == 0 {
        return Ok(Outcome::Rejected(Rejected::EntryIsFull));
    }
    let before = stage.written();
    let outcome = run_any(stage, sends, command)?;
    stage.spend(stage.written() - before);
    Ok(outcome)
}

fn run_any(stage: &mut Stage<'_>, sends: &mut EntrySends<'_>, command: &Command) -> Result<Outcome, Failure> {
    match command {
        Command::CreateTopic(create) => topics::create_topic(stage, create),
        Command::DeleteTopic { topic } => topics::delete_topic(stage, topic),
        Command::UpdateTopic(update) => topics::update_topic(stage, update),
        Command::CreateGroup(create) => groups::create_group(stage, create),
        Command::UpdateGroup(update) => groups::update_group(stage, update),
        Command::DeleteGroup { group } => groups::delete_group(stage, group),
        Command::Subscribe(subscribe) => groups::subscribe(stage, subscribe),
        Command::Send(send) => send::apply(stage, sends, send),
        Command::SendToQueue(send) => send::to_queue(stage, sends, send),
        Command::SendBack(back) => send_back::apply(stage, sends, *back),
        Command::LockQueues(lock) => queue_lock::lock(stage, lock),
        Command::UnlockQueues(unlock) => queue_lock::unlock(stage, unlock),
        Command::SetKeyValue(set) => key_values::set(stage, set),
        Command::SetWritePermission(set) => write_permission::set(stage, *set),
        Command::Grant(grant) => receive::apply(stage, grant),
        Command::Repeat(repeat) => receive::repeat(stage, repeat),
        Command::Ack(ack) => ack::apply(stage, ack),
        Command::Change(change) => invisible::change(stage, change),
        Command::Prolong(prolong) => invisible::prolong(stage, prolong),
        Command::GiveBack(give_back) => invisible::give_back(stage, give_back),
        Command::ReturnUnread { handle } => invisible::return_unread(stage, handle),
        Command::DeadLetter { handle } => dead_letter::apply(stage, handle),
        Command::Redrive(redrive) => dead_letter::redrive(stage, redrive),
        Command::Recall(recall) => delay::recall(stage, recall),
        Command::Reschedule(change) => delay::reschedule(stage, change),
        Command::Decide(decide) => transaction::decide(stage, decide),
        Command::SetGroupOffsets(set) => offset::set(stage, set),
        Command::Announce(announce) => Ok(member::announce(stage, announce)),
        Command::RaiseClusterVersion { to } => cluster_version::raise(stage, *to),
        Command::SetHandleKey(key) => handle_key::set(stage, *key),
        Command::Tick => tick::apply(stage),
        Command::Trim(trim) => trim::apply(stage, trim),
        Command::Carry(carry) => carry::apply(stage, sends, carry),
        Command::BeginMemberChange(kind) => member::begin_change(stage, kind),
        Command::CancelMemberChange { number } => member::cancel_change(stage, *number),
        Command::EndMemberChange { number, end } => member::end_change(stage, *number, end),
        Command::Clock { shift } => Ok(clock::apply(stage, *shift)),
        Command::OfOperator { act, command } => {
            let outcome = run_any(stage, sends, command)?;
            if outcome != Outcome::Rejected(Rejected::EntryIsFull) {
                events::note_act(stage, act, &outcome)?;
            }
            Ok(outcome)
        }
        Command::NoteAct { act, said } => events::note_said(stage, act, said),
        Command::NoteLeader(new) => events::note_leader(stage, *new),
    }
}
