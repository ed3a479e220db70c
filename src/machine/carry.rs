//! Carrying below the log: what lives longer than the entry with its bytes refers to this entry from now on, which has them
//! too (D100). Before: `broker/background/carry`.
//!
//! The key of what is carried stays, so every handle to it keeps working. A reference that changed since it was read is
//! passed over: it was delivered, decided, recalled or carried already.

use crate::machine::command::{CarriedReference, Carry};
use crate::machine::outcome::Outcome;
use crate::machine::send::EntrySends;
use crate::machine::state::due::{DelayedItem, Due};
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::Run;
use crate::machine::state::references::RunPlace;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, due, half, keys, queue, references};
use crate::model::{LogIndex, MessageRef, Timestamp, TopicId};
use crate::store::kv::Space;

pub(super) fn apply(stage: &mut Stage<'_>, sends: &mut EntrySends<'_>, carry: &Carry) -> Result<Outcome, Failure> {
    for reference in &carry.references {
        let slot = sends.take_slots(reference.messages());
        let bytes = |number: u32| sends.message_bytes(slot + number);
        match *reference {
            CarriedReference::Delayed { topic, due_at, message, index } => {
                carry_delayed(stage, topic, due_at, message, (index, slot, bytes(0)))?;
            }
            CarriedReference::Half { topic, message, index } => {
                carry_half(stage, topic, message, (index, slot, bytes(0)))?;
            }
            CarriedReference::Run { topic, queue, first, count, index } => {
                let sizes = (0..count).map(bytes).collect();
                carry_run(stage, RunPlace { topic, queue, first }, (index, slot, sizes))?;
            }
        }
    }
    Ok(Outcome::Done)
}

/// The entry so far, and slot and size in this one.
type Moved<Sizes> = (LogIndex, u32, Sizes);

fn carry_delayed(
    stage: &mut Stage<'_>,
    topic: TopicId,
    due_at: Timestamp,
    message: MessageRef,
    (index, slot, bytes): Moved<u32>,
) -> Result<(), Failure> {
    let at = Due::Message { topic, message };
    let Some(value) = due::get(stage, due_at, at)? else { return Ok(()) };
    let mut delayed = DelayedItem::decode(value)?;
    if delayed.bytes_in(message) != index || delayed.item.bytes != bytes {
        return Ok(());
    }
    references::release(stage, index)?;
    if catalog::topic(stage, topic)?.is_none() {
        // It would be dropped when it is due.
        due::delete(stage, due_at, at);
        return Ok(());
    }
    delayed.item.slot = slot;
    delayed.index = Some(stage.at());
    references::retain(stage, stage.at(), 1)?;
    due::put_message(stage, due_at, topic, message, delayed);
    Ok(())
}

fn carry_half(
    stage: &mut Stage<'_>,
    topic: TopicId,
    message: MessageRef,
    (index, slot, bytes): Moved<u32>,
) -> Result<(), Failure> {
    let Some(mut half) = half::get(stage, topic, message)? else { return Ok(()) };
    if half.bytes_in(message) != Some(index) || half.item.bytes != bytes {
        return Ok(());
    }
    references::release(stage, index)?;
    half.item.slot = slot;
    half.index = Some(stage.at());
    references::retain(stage, stage.at(), 1)?;
    half::put_record(stage, topic, message, &half);
    Ok(())
}

fn carry_run(stage: &mut Stage<'_>, place: RunPlace, (index, slot, sizes): Moved<Vec<u32>>) -> Result<(), Failure> {
    let RunPlace { topic, queue, first } = place;
    let Some(value) = stage.get(Space::Queue, &keys::run(topic, queue, first))? else { return Ok(()) };
    let mut run = Run::decode(value)?;
    let is_same = run.index == index && run.items.iter().map(|item| item.bytes).eq(sizes);
    if !is_same || catalog::topic(stage, topic)?.is_none() {
        return Ok(());
    }
    references::release_run(stage, index, place)?;
    for (item, slot) in run.items.iter_mut().zip(slot..) {
        item.slot = slot;
    }
    run.index = stage.at();
    references::retain_foreign(stage, run.index, place);
    queue::put_run(stage, topic, queue, first, &run);
    Ok(())
}
