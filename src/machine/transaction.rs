//! Transactions below the log: half messages, their end, and when their producers are asked about it.
//! Before: `broker/transaction`.
//!
//! The first decision is final, whoever makes it, and is remembered for a while, so that a repeated one hears
//! the same, and a contradicting one that it came too late (contract §10, contract §26). A half message nobody decides about is asked after, a bounded number of
//! times, and then counts as rolled back.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::Failure;
use crate::machine::command::Decide;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::send::{Entering, Sends};
use crate::machine::state::keys;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader};
use crate::model::{MessageRef, Millis, Timestamp, TopicId, TransactionChecks};
use crate::store::kv::Space;

const VERSION: u8 = 1;
/// A decision is remembered for this long.
const DECIDED_KEPT: Millis = Millis::from_secs(600);

/// A half message, or what was decided about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    /// What a run will hold of it.
    pub item: RunItem,
    /// How its producer is asked.
    pub checks: TransactionChecks,
    /// How often it was asked.
    pub asked: u32,
    /// When something is to be done next.
    pub due: Timestamp,
    /// What was decided.
    pub decided: Option<bool>,
}

impl Half {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        self.item.encode(&mut out);
        self.checks.encode(&mut out);
        out.put_u32(self.asked);
        out.put_u64(self.due.0);
        out.put_u8(self.decided.map_or(0, |commit| if commit { 1 } else { 2 }));
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "half message", VERSION)?;
        Ok(Self {
            item: RunItem::decode(&mut reader)?,
            checks: TransactionChecks::decode(&mut reader)?,
            asked: reader.u32()?,
            due: Timestamp(reader.u64()?),
            decided: read_decision(&mut reader)?,
        })
    }
}

fn read_decision(reader: &mut Reader) -> Result<Option<bool>, Malformed> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(true)),
        2 => Ok(Some(false)),
        value => Err(reader.unknown(value.into())),
    }
}

/// Stores a half message: no consumer sees it.
pub(super) fn begin(
    stage: &mut Stage<'_>,
    topic: TopicId,
    message: MessageRef,
    checks: TransactionChecks,
    item: RunItem,
) {
    let due = stage.now().plus(checks.after);
    put(stage, topic, message, &Half { item, checks, asked: 0, due, decided: None });
}

fn put(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef, half: &Half) {
    stage.put(Space::Queue, keys::half(topic, message), half.encode());
    stage.put_due(half.due, keys::due_half(half.due, topic, message));
}

/// Commits or rolls back.
pub(super) fn decide(stage: &mut Stage<'_>, decide: &Decide) -> Result<Outcome, Failure> {
    let Decide { topic, message, commit } = *decide;
    let Some(half) = get(stage, topic, message)? else {
        return Ok(Outcome::Rejected(Rejected::TransactionNotFound));
    };
    match half.decided {
        Some(before) if before == commit => {}
        // Whoever hears OK must get what was asked for.
        Some(_) => return Ok(Outcome::Rejected(Rejected::DecidedOtherwise)),
        None => {
            stage.delete(Space::Due, keys::due_half(half.due, topic, message));
            end(stage, topic, message, half, commit)?;
        }
    }
    Ok(Outcome::Done)
}

fn end(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef, half: Half, commit: bool) -> Result<(), Failure> {
    let due = stage.now().plus(DECIDED_KEPT);
    put(stage, topic, message, &Half { due, decided: Some(commit), ..half });
    if commit {
        let mut sends = Sends::default();
        sends.enter(stage, topic, Entering::plain(message.index, half.item))?;
        sends.settle(stage);
    }
    Ok(())
}

/// Something is due: a question to the producer, the last one's consequence, or the end of a memory.
pub(super) fn due(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef) -> Result<(), Failure> {
    let Some(half) = get(stage, topic, message)? else { return Ok(()) };
    if half.decided.is_some() {
        stage.delete(Space::Queue, keys::half(topic, message));
        return Ok(());
    }
    if half.asked >= half.checks.most {
        return end(stage, topic, message, half, false);
    }
    let due = stage.now().plus(half.checks.every);
    put(stage, topic, message, &Half { asked: half.asked + 1, due, ..half });
    stage.effects().questions.push((topic, message));
    Ok(())
}

fn get(stage: &Stage<'_>, topic: TopicId, message: MessageRef) -> Result<Option<Half>, Failure> {
    Ok(stage.get(Space::Queue, &keys::half(topic, message))?.map(Half::decode).transpose()?)
}
