//! Retention below the log: the oldest messages of a queue go. Before: `broker/trim`.
//!
//! Bounded: one trim removes at most [`RUNS_MAX`] runs, or those of [`MESSAGES_MAX`] messages, and says whether more is to
//! go. What refers to a message by its offset (leases, FIFO lines, group offsets) is not searched for: it finds the queue's
//! new beginning when it comes to it.

use crate::machine::command::Trim;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::Run;
use crate::machine::state::references::RunPlace;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, keys, queue, references};
use crate::model::QueueOffset;
use crate::store::kv::Space;

/// Runs that one trim removes at most.
const RUNS_MAX: usize = 256;
/// Once so many messages are removed, the rest waits for the next trim.
const MESSAGES_MAX: u64 = 4096;
/// Marks of redriven dead letters that one trim removes at most.
const MARKS_MAX: usize = 4096;

pub(super) fn apply(stage: &mut Stage<'_>, trim: &Trim) -> Result<Outcome, Failure> {
    let Trim { topic, queue, before } = *trim;
    if catalog::topic(stage, topic)?.is_none() {
        // What is left of it goes with the sweep, which a new head would outlive.
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    }
    let mut head = queue::head(stage, topic, queue)?;
    let first_kept = head.min;
    let (from, to) = (keys::run(topic, queue, head.min), keys::run(topic, queue, head.max));
    let mut more = false;
    let found = stage.scan(Space::Queue, &from, &to, RUNS_MAX + 1)?;
    for (number, (key, value)) in found.into_iter().enumerate() {
        let run = Run::decode(value)?;
        if run.stored_at >= before {
            break;
        }
        if number == RUNS_MAX || head.min.0 - first_kept.0 >= MESSAGES_MAX || stage.keys_left()? == 0 {
            more = true;
            break;
        }
        let before = stage.written();
        let place = RunPlace::of_key(&key)?;
        references::release_run(stage, run.index, place)?;
        stage.delete(Space::Queue, key);
        for (offset, group) in (place.first.0..).zip(&run.message_groups) {
            stage.delete(Space::Queue, keys::message_of_group(topic, queue, *group, QueueOffset(offset)));
        }
        head.min = QueueOffset(place.first.0 + run.items.len() as u64);
        stage.spend(stage.written() - before);
    }
    let count = head.min.0 - first_kept.0;
    if count > 0 {
        queue::put_head(stage, topic, queue, &head);
        more |= remove_marks(stage, trim, head.min)?;
    }
    Ok(Outcome::Trimmed { count, more })
}

/// Of dead letters below `min`, that they were redriven; whether there are more.
fn remove_marks(stage: &mut Stage<'_>, trim: &Trim, min: QueueOffset) -> Result<bool, Failure> {
    let (from, to) = (keys::redriven(trim.topic, QueueOffset(0)), keys::redriven(trim.topic, min));
    let limit = MARKS_MAX.min(stage.keys_left()?).max(1);
    let found = stage.scan(Space::Queue, &from, &to, limit)?;
    let more = found.len() == limit;
    stage.spend(found.len());
    for (key, _) in found {
        stage.delete(Space::Queue, key);
    }
    Ok(more)
}
