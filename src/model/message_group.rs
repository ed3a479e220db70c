//! The hash that stands for a message group, the key of FIFO order.

use std::fmt;

use crate::model::text_hash::text_hash;

/// Hash of a message group's name. Two groups of one hash are delivered as one: in order, only less in parallel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageGroupHash(pub u64);

impl MessageGroupHash {
    /// Stands for messages that have no message group; no name has this hash.
    pub const NONE: Self = Self(0);

    /// The hash of a name.
    pub fn of(message_group: &str) -> Self {
        Self(text_hash(message_group))
    }
}

impl fmt::Display for MessageGroupHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
