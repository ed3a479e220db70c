//! Delayed messages below the log: stored, and in no queue before their delivery time.
//!
//! A delayed message is one key in the Due space, ordered by delivery time; its value is the run item that will enter
//! the queue at a tick. The bytes stay in the entry they came with. Before: `broker/send`, `broker/delay`.

use bytes::Bytes;

use crate::machine::command::{Recall, Reschedule};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::due;
use crate::machine::state::due::Due;
use crate::machine::state::enqueue::{EnqueueBuffer, EnteringMessage};
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::model::{MessageRef, Timestamp, TopicId};

/// Defers a message until `at`, which is in the future.
pub(super) fn defer(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef, at: Timestamp, item: RunItem) {
    due::put_message(stage, at, topic, message, item);
}

/// Takes a deferred message back: it enters no queue (contract §11).
pub(super) fn recall(stage: &mut Stage<'_>, recall: &Recall) -> Result<Outcome, Failure> {
    let Recall { topic, at, message } = *recall;
    Ok(match due::take(stage, at, Due::Message { topic, message })? {
        Some(_) => Outcome::Done,
        None => Outcome::Rejected(Rejected::NotWaiting),
    })
}

/// Gives a deferred message another delivery time; one in the past lets it enter its queue at the next tick.
pub(super) fn reschedule(stage: &mut Stage<'_>, change: &Reschedule) -> Result<Outcome, Failure> {
    let Reschedule { topic, at, message, to } = *change;
    let due = Due::Message { topic, message };
    let Some(value) = due::take(stage, at, due)? else { return Ok(Outcome::Rejected(Rejected::NotWaiting)) };
    let to = to.max(stage.now());
    due::put_value(stage, to, due, value);
    Ok(Outcome::Done)
}

/// The delivery time has come: the message enters its queue, if its topic still exists.
pub(super) fn deliver(
    stage: &Stage<'_>,
    entering: &mut EnqueueBuffer,
    topic: TopicId,
    message: MessageRef,
    value: Bytes,
) -> Result<(), Failure> {
    let item = due::message_item(value)?;
    entering.enqueue(stage, topic, EnteringMessage::plain(message.index, item))?;
    Ok(())
}
