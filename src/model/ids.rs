//! Identities and positions. One newtype per meaning, so that two numbers side by side cannot be
//! swapped.

use std::fmt;

use bytes::BufMut;

use crate::model::codec::{Malformed, Reader};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Position in the Raft log, from 1; 0 is "none".
    LogIndex(u64)
}
number! {
    /// The time in which one node leads, numbered (Raft §5.1).
    Term(u64)
}
number! {
    /// One node: the number in `dLegerSelfId` (`n2` is 2). Never reused.
    NodeId(u64)
}
number! {
    /// Identity of a topic from creation to deletion; a topic created again under the same name gets a new one.
    TopicId(u32)
}
number! {
    /// Identity of a consumer group from creation to deletion.
    GroupId(u32)
}
number! {
    /// Queue of a topic, from 0.
    QueueId(u32)
}
number! {
    /// Position in one queue, from 0, dense, never reused (P5).
    QueueOffset(u64)
}
number! {
    /// One lease, never reused: the log index and an ordinal of the command that made it.
    LeaseId(u64)
}

impl LogIndex {
    /// The next position.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LeaseId {
    /// The entry that made it.
    pub fn made_at(self) -> LogIndex {
        LogIndex(self.0 >> 16)
    }

    /// Its ordinal in that entry.
    pub fn ordinal(self) -> u32 {
        u32::from(self.0 as u16)
    }

    /// The lease made as number `ordinal` by the entry at `at`.
    ///
    /// An entry makes fewer than 65536 leases (`machine/lease_ids`).
    pub fn new(at: LogIndex, ordinal: u32) -> Self {
        assert!(ordinal < 1 << 16, "lease ordinal {ordinal} does not fit 16 bits");
        assert!(at.0 < 1 << 48, "log index {at} does not fit 48 bits");
        Self(at.0 << 16 | u64::from(ordinal))
    }
}

/// Where a message is stored: the entry and the slot in its batch. Equal on all nodes, unlike a log place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageRef {
    pub index: LogIndex,
    /// The message's ordinal in the entry's batch, from 0.
    pub slot: u32,
}

impl MessageRef {
    /// The bytes for the log and for keys of the state.
    pub fn encode(self, out: &mut impl BufMut) {
        out.put_u64(self.index.0);
        out.put_u32(self.slot);
    }

    /// From [`Self::encode`].
    pub fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { index: LogIndex(reader.u64()?), slot: reader.u32()? })
    }
}
