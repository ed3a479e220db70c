//! Half messages as stored: undecided ones, and for a while what was decided.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::due::Due;
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::RunItem;
use crate::machine::state::stage::Stage;
use crate::machine::state::{due, keys};
use crate::model::codec::{Malformed, Reader};
use crate::model::{MessageRef, Timestamp, TopicId, TransactionChecks};
use crate::store::kv::Space;

const VERSION: u8 = 1;

/// A half message, or what was decided about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    /// What a run will hold of it.
    pub item: RunItem,
    pub checks: TransactionChecks,
    /// How often its producer was asked.
    pub asked: u32,
    /// When the producer is asked next, or the record of a decision is removed.
    pub due: Timestamp,
    /// Whether it was committed; `None` while it is undecided.
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

pub(in crate::machine) fn get(stage: &Stage<'_>, topic: TopicId, message: MessageRef) -> Result<Option<Half>, Failure> {
    Ok(stage.get(Space::Queue, &keys::half(topic, message))?.map(Half::decode).transpose()?)
}

/// Stores the record, and when it is due.
pub(in crate::machine) fn put(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef, half: &Half) {
    stage.put(Space::Queue, keys::half(topic, message), half.encode());
    due::put(stage, half.due, Due::Half { topic, message });
}

pub(in crate::machine) fn delete(stage: &mut Stage<'_>, topic: TopicId, message: MessageRef) {
    stage.delete(Space::Queue, keys::half(topic, message));
}
