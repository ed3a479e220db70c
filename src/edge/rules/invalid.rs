//! What a rule answers when it refuses.

/// A value that a rule refuses; the request ends here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Invalid {
    pub kind: InvalidKind,
    /// For the client: value, limit and remedy.
    pub text: String,
}

/// What a refused value is. There is a kind for each answer that some protocol tells apart from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidKind {
    /// A value without a kind of its own.
    Value,
    TopicName,
    GroupName,
    /// A send without messages.
    NoMessage,
    /// Messages of one send for different topics.
    MixedTopics,
    /// Messages of one send with different types.
    MixedTypes,
    EmptyBody,
    BodyTooLarge,
    PropertiesTooLarge,
    PropertyName,
    Tag,
    Key,
    MessageId,
    MessageGroup,
    DeliveryTime,
    /// An ack without entries.
    NoAckEntry,
    InvisibleTime,
    /// The caller's deadline leaves no time for a poll.
    PollTime,
    Filter,
    ClientId,
    ClientProperties,
}

impl Invalid {
    pub(super) fn new(kind: InvalidKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}
