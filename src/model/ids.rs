//! Identities and positions. One newtype per meaning, so that two numbers side by side cannot be
//! swapped.

use std::fmt;

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
    /// Reign of one leader (Raft §5.1).
    Term(u64)
}
number! {
    /// One replica of the group: the number behind `dLegerSelfId` (`n2` is 2). Never reused.
    NodeId(u64)
}
number! {
    /// Identity of a topic for its whole life; a topic made again under the same name gets a new one.
    TopicId(u32)
}
number! {
    /// Identity of a consumer group for its whole life.
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
    /// One lease. Unique for ever: made of the log index and an ordinal of the command that made it.
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
    /// An entry makes fewer than 65536 leases (`machine/state/lease_ids`).
    pub fn new(at: LogIndex, ordinal: u32) -> Self {
        assert!(ordinal < 1 << 16, "lease ordinal {ordinal} does not fit 16 bits");
        assert!(at.0 < 1 << 48, "log index {at} does not fit 48 bits");
        Self(at.0 << 16 | u64::from(ordinal))
    }
}

/// Where a message lies: the entry and the slot in its batch. Equal on all nodes, unlike a log place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageRef {
    /// The entry.
    pub index: LogIndex,
    /// The message's ordinal in the entry's batch, from 0.
    pub slot: u32,
}
