//! Delayed messages below the log: stored, and in no queue before their time.
//!
//! What waits lies among the due things, by time, with all a run needs of it; a tick lets it enter its queue.
//! The bytes stay in the entry they came with, so a delay costs one key. Before: `broker/send`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::Failure;
use crate::machine::command::{Recall, Reschedule};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::send::{Entering, Sends};
use crate::machine::state::keys;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::model::codec::Reader;
use crate::model::{MessageRef, Timestamp, TopicId};
use crate::store::kv::Space;

const VERSION: u8 = 1;

/// Defers a message until `at`, which is to come.
pub(super) fn wait(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef, at: Timestamp, item: RunItem) {
    let mut value = BytesMut::with_capacity(17);
    value.put_u8(VERSION);
    item.encode(&mut value);
    stage.put_due_with(at, keys::due_message(at, topic, message), value.freeze());
}

/// Takes a waiting message back: it enters no queue (contract §11).
pub(super) fn recall(stage: &mut Stage<'_>, recall: &Recall) -> Result<Outcome, Failure> {
    let key = keys::due_message(recall.at, recall.topic, recall.message);
    if stage.get(Space::Due, &key)?.is_none() {
        return Ok(Outcome::Rejected(Rejected::NotWaiting));
    }
    stage.delete(Space::Due, key);
    Ok(Outcome::Done)
}

/// Gives a waiting message another delivery time; one that has come is let in by the next tick.
pub(super) fn reschedule(stage: &mut Stage<'_>, change: &Reschedule) -> Result<Outcome, Failure> {
    let key = keys::due_message(change.at, change.topic, change.message);
    let Some(value) = stage.get(Space::Due, &key)? else { return Ok(Outcome::Rejected(Rejected::NotWaiting)) };
    stage.delete(Space::Due, key);
    let to = change.to.max(stage.now());
    stage.put_due_with(to, keys::due_message(to, change.topic, change.message), value);
    Ok(Outcome::Done)
}

/// Lets a message enter its queue, if its topic is still there.
pub(super) fn come(
    stage: &mut Stage<'_>,
    sends: &mut Sends,
    topic: TopicId,
    message: MessageRef,
    value: Bytes,
) -> Result<(), Failure> {
    let item = RunItem::decode(&mut Reader::versioned(value, "delayed message", VERSION)?)?;
    sends.enter(stage, topic, Entering::plain(message.index, item))?;
    Ok(())
}
