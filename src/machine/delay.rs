//! Delayed messages below the log: stored, and in no queue before their delivery time.
//!
//! A delayed message is one key in the Due space, ordered by delivery time; its value is the run item that will enter
//! the queue at a tick. The bytes stay in the entry they came with. Before: `broker/send`, `broker/delay`.

use bytes::Bytes;

use crate::machine::command::{Recall, Reschedule};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::due;
use crate::machine::state::due::{DelayedItem, Due};
use crate::machine::state::enqueue::{EnqueueBuffer, EnteringMessage};
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::model::{MessageRef, Timestamp, TopicId};

/// Defers a message until the time of day `at`, which is in the future.
pub(super) fn defer(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef, at: Timestamp, item: RunItem) {
    let shift = stage.clock().shift();
    due::put_message(stage, at.plus(shift), topic, message, DelayedItem { item, shift });
}

/// Takes a deferred message back: it enters no queue (contract §11).
pub(super) fn recall(stage: &mut Stage<'_>, recall: &Recall) -> Result<Outcome, Failure> {
    let Recall { topic, at, message } = *recall;
    Ok(match take(stage, topic, at, message)? {
        Some(_) => Outcome::Done,
        None => Outcome::Rejected(Rejected::NotWaiting),
    })
}

/// Takes out a message that waits for the time of day `at`, whichever shift made a key of that.
fn take(
    stage: &mut Stage<'_>,
    topic: TopicId,
    at: Timestamp,
    message: MessageRef,
) -> Result<Option<DelayedItem>, Failure> {
    for shift in stage.clock().shifts() {
        if let Some(value) = due::take(stage, at.plus(shift), Due::Message { topic, message })? {
            return Ok(Some(DelayedItem::decode(value)?));
        }
    }
    Ok(None)
}

/// Gives a deferred message another delivery time; one in the past lets it enter its queue at the next tick.
pub(super) fn reschedule(stage: &mut Stage<'_>, change: &Reschedule) -> Result<Outcome, Failure> {
    let Reschedule { topic, at, message, to } = *change;
    let Some(DelayedItem { item, .. }) = take(stage, topic, at, message)? else {
        return Ok(Outcome::Rejected(Rejected::NotWaiting));
    };
    let to = to.max(stage.wall());
    defer(stage, topic, message, to, item);
    Ok(Outcome::Done)
}

/// A message that was due at a machine time: it enters its queue, if its topic still exists. If machine time was shifted
/// since it was deferred, it may have to wait on.
pub(super) fn deliver(
    stage: &mut Stage<'_>,
    entering: &mut EnqueueBuffer,
    topic: TopicId,
    message: MessageRef,
    (due_at, value): (Timestamp, Bytes),
) -> Result<(), Failure> {
    let delayed = DelayedItem::decode(value)?;
    let (at, item) = (delayed.wall_of(due_at), delayed.item);
    if stage.clock().machine_of(at) > stage.now() {
        defer(stage, topic, message, at, item);
        return Ok(());
    }
    entering.enqueue(stage, topic, EnteringMessage::plain(message.index, item))?;
    Ok(())
}
