//! Delayed messages below the log: stored, and in no queue before their delivery time.
//!
//! A delayed message is one key in the Due space, ordered by delivery time; its value is the run item that will enter
//! the queue at a tick. The bytes stay in the entry they came with, unless they are carried (`machine/carry`). Before: `broker/send`, `broker/delay`.

use bytes::Bytes;

use crate::machine::command::{Recall, Reschedule};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::due::{DelayedItem, Due};
use crate::machine::state::enqueue::{EnqueueBuffer, EnteringMessage};
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::machine::state::{due, references};
use crate::model::{MessageRef, Millis, QueueId, Timestamp, TopicId};

/// Defers a message until the time of day `at`, which is in the future; then it enters `queue`, if its producer chose one.
pub(super) fn defer(
    stage: &mut Stage<'_>,
    topic: TopicId,
    message: MessageRef,
    at: Timestamp,
    (item, queue): (RunItem, Option<QueueId>),
) -> Result<(), Failure> {
    wait(stage, topic, message, at, DelayedItem { item, shift: Millis(0), index: None, queue })
}

fn wait(
    stage: &mut Stage<'_>,
    topic: TopicId,
    message: MessageRef,
    at: Timestamp,
    delayed: DelayedItem,
) -> Result<(), Failure> {
    let shift = stage.clock().shift();
    references::retain(stage, delayed.bytes_in(message), 1)?;
    due::put_message(stage, at.plus(shift), topic, message, DelayedItem { shift, ..delayed });
    Ok(())
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
            let delayed = DelayedItem::decode(value)?;
            references::release(stage, delayed.bytes_in(message))?;
            return Ok(Some(delayed));
        }
    }
    Ok(None)
}

/// Gives a deferred message another delivery time; one in the past lets it enter its queue at the next tick.
pub(super) fn reschedule(stage: &mut Stage<'_>, change: &Reschedule) -> Result<Outcome, Failure> {
    let Reschedule { topic, at, message, to } = *change;
    let Some(delayed) = take(stage, topic, at, message)? else {
        return Ok(Outcome::Rejected(Rejected::NotWaiting));
    };
    let to = to.max(stage.wall());
    wait(stage, topic, message, to, delayed)?;
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
    let (at, index) = (delayed.wall_of(due_at), delayed.bytes_in(message));
    references::release(stage, index)?;
    if stage.clock().machine_of(at) > stage.now() {
        return wait(stage, topic, message, at, delayed);
    }
    if entering.enqueue(stage, topic, EnteringMessage::deferred(index, delayed.item, delayed.queue))?.is_some() {
        stage.counts().of_topic(topic).delays_ended += 1;
    }
    Ok(())
}
