//! Transactions below the log: half messages, the decision about each, and the checks of their producers.
//! Before: `broker/transaction`.
//!
//! The first decision is final, whoever makes it, and is remembered for a while: the same decision again is answered
//! as before, a contradicting one is refused (contract §10, contract §26). The producer of an undecided half message is
//! asked a bounded number of times; after that the transaction counts as rolled back.

use crate::machine::command::Decide;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::due::Due;
use crate::machine::state::enqueue::{EnqueueBuffer, EnteringMessage};
use crate::machine::state::failure::Failure;
use crate::machine::state::half::Half;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::machine::state::{due, half, references};
use crate::model::{MessageRef, Millis, QueueId, TopicId, TransactionChecks};

/// A decision is remembered for this long.
const DECIDED_KEPT: Millis = Millis::from_secs(600);

/// Stores a half message: it enters no queue before it is committed, and then `queue`, if its producer chose one.
pub(super) fn begin(
    stage: &mut Stage<'_>,
    topic: TopicId,
    message: MessageRef,
    checks: TransactionChecks,
    (item, queue): (RunItem, Option<QueueId>),
) -> Result<(), Failure> {
    let due = stage.now().plus(checks.after);
    half::put(stage, topic, message, &Half { item, checks, asked: 0, due, decided: None, index: None, queue });
    references::retain(stage, message.index, 1)
}

/// Commits or rolls back.
pub(super) fn decide(stage: &mut Stage<'_>, decide: &Decide) -> Result<Outcome, Failure> {
    let Decide { topic, message, commit } = *decide;
    let Some(half) = half::get(stage, topic, message)? else {
        return Ok(Outcome::Rejected(Rejected::TransactionNotFound));
    };
    match half.decided {
        Some(before) if before == commit => {}
        // An OK must mean that this decision holds.
        Some(_) => return Ok(Outcome::Rejected(Rejected::DecidedOtherwise)),
        None => {
            due::delete(stage, half.due, Due::Half { topic, message });
            end(stage, topic, message, half, commit)?;
        }
    }
    Ok(Outcome::Done)
}

fn end(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef, half: Half, commit: bool) -> Result<(), Failure> {
    let due = stage.now().plus(DECIDED_KEPT);
    let bytes_in = half.bytes_at(message).index;
    references::release(stage, bytes_in)?;
    half::put(stage, topic, message, &Half { due, decided: Some(commit), ..half });
    let counts = stage.counts().of_topic(topic);
    *(if commit { &mut counts.commits } else { &mut counts.rollbacks }) += 1;
    if commit {
        let mut entering = EnqueueBuffer::default();
        entering.enqueue(stage, topic, EnteringMessage::deferred(bytes_in, half.item, half.queue))?;
        entering.put_into(stage)?;
    }
    Ok(())
}

/// The half message is due: its producer is asked, or it is rolled back after the last check, or the record of its
/// decision is removed.
pub(super) fn due(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef) -> Result<(), Failure> {
    let Some(half) = half::get(stage, topic, message)? else { return Ok(()) };
    if half.decided.is_some() {
        half::delete(stage, topic, message);
        return Ok(());
    }
    if half.asked >= half.checks.most {
        return end(stage, topic, message, half, false);
    }
    let due = stage.now().plus(half.checks.every);
    half::put(stage, topic, message, &Half { asked: half.asked + 1, due, ..half });
    stage.effects().questions.push((topic, message));
    Ok(())
}
