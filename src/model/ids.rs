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
/// The name of a member, as `dLegerSelfId` has it: `n2` is 2. It stays when the replica behind it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberName(pub u32);

/// One replica in Raft: a number that is never used again (D110). The lower half is the name of the member, the upper half
/// 0 for those that `dLegerPeers` had at the very first start, and different for every later one. Written `n2`, or `n2.5`
/// for a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u64);

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

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl MemberName {
    /// From `n2`, written as it is shown.
    pub fn parse(text: &str) -> Option<Self> {
        let name = Self(text.strip_prefix('n')?.parse().ok()?);
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            0 => self.name().fmt(f),
            number => write!(f, "{}.{number}", self.name()),
        }
    }
}

impl NodeId {
    /// As it is displayed.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, number) = text.split_once('.').unwrap_or((text, "0"));
        let node = Self::later_of(MemberName::parse(name)?, number.parse().ok()?);
        (node.to_string() == text).then_some(node)
    }

    /// The replica that had this name at the very first start.
    pub fn first_of(name: MemberName) -> Self {
        Self(name.0.into())
    }

    /// A later replica of this name; no two have the same number.
    pub fn later_of(name: MemberName, number: u32) -> Self {
        Self(u64::from(number) << 32 | u64::from(name.0))
    }

    /// The name of the member that it is the replica of.
    pub fn name(self) -> MemberName {
        MemberName(self.0 as u32)
    }

    /// 0 for one of the very first start.
    pub fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_written_with_the_name_of_its_member() {
        assert_eq!(NodeId(2), NodeId::first_of(MemberName(2)), "a replica of an older build keeps its number");
        assert_eq!(NodeId(2).to_string(), "n2");
        let later = NodeId::later_of(MemberName(2), 5);
        assert_eq!((later.name(), later.number(), later.to_string()), (MemberName(2), 5, "n2.5".to_owned()));
        let largest = NodeId::later_of(MemberName(u32::MAX), u32::MAX);
        assert_eq!((largest.name(), largest.number()), (MemberName(u32::MAX), u32::MAX));
        assert_eq!(MemberName::parse("n7"), Some(MemberName(7)));
        for text in ["", "n", "7", "n07", "n+7", "m7", "n4294967296"] {
            assert_eq!(MemberName::parse(text), None, "{text}");
        }
    }
}
