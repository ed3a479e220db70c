//! What a topic may be used for.

/// RocketMQ's permission of a topic. Stored and sent as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission(pub u8);

impl Permission {
    /// Producers may send.
    pub const WRITE: Self = Self(2);
    /// Consumers may receive.
    pub const READ: Self = Self(4);
    /// Both.
    pub const READ_WRITE: Self = Self(6);

    /// Whether producers may send.
    pub fn can_write(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    /// Whether consumers may receive.
    pub fn can_read(self) -> bool {
        self.0 & Self::READ.0 != 0
    }
}
