//! Names of topics and consumer groups: parsed once at the edge, trusted below.
//!
//! Source: contract §5, contract §26 (characters, lengths, reserved names of RocketMQ 5.3).

use std::fmt;
use std::sync::Arc;

use crate::model::limits::{GROUP_NAME_BYTES_MAX, TOPIC_NAME_BYTES_MAX};

/// Topics of RocketMQ's own; clients may not use them.
const SYSTEM_TOPICS: [&str; 9] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
];
/// Where classic clients write what became of their messages, if nobody names another topic. RocketMQ keeps it from clients of
/// gRPC alone.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
const DEAD_LETTERS_PREFIX: &str = "%DLQ%";
const RETRIES_PREFIX: &str = "%RETRY%";
/// Every group can have dead letters, also one with the longest name.
const DEAD_LETTERS_BYTES_MAX: usize = DEAD_LETTERS_PREFIX.len() + GROUP_NAME_BYTES_MAX;
const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing but white space.
    #[error("the {0} name is blank")]
    Blank(&'static str),
    /// Longer than allowed.
    #[error("{kind} name of {bytes} bytes is longer than {limit}")]
    TooLong {
        /// "topic" or "group".
        kind: &'static str,
        /// Length found.
        bytes: usize,
        /// Length allowed.
        limit: usize,
    },
    /// A character outside the allowed set.
    #[error("{kind} name '{name}' holds a character other than letters, digits, '%', '|', '_' and '-'")]
    Character {
        /// "topic" or "group".
        kind: &'static str,
        /// The text as given.
        name: String,
    },
    /// Kept for the system.
    #[error("{kind} name '{name}' is reserved for the system")]
    Reserved {
        /// "topic" or "group".
        kind: &'static str,
        /// The text as given.
        name: String,
    },
}

/// A topic's name. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// A consumer group's name. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl TopicName {
    /// Accepts what a client may use as a topic.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let longest = if text.starts_with(DEAD_LETTERS_PREFIX) { DEAD_LETTERS_BYTES_MAX } else { TOPIC_NAME_BYTES_MAX };
        check("topic", text, longest)?;
        if SYSTEM_TOPICS.contains(&text) || text.starts_with(SYSTEM_TOPIC_PREFIX) {
            return Err(NameError::Reserved { kind: "topic", name: text.to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// Whether it has the dead letters of a group.
    pub fn is_dead_letters(&self) -> bool {
        self.0.starts_with(DEAD_LETTERS_PREFIX)
    }

    /// The topic of a group's dead letters, by RocketMQ's name.
    pub fn dead_letters_of(group: &GroupName) -> Self {
        Self(format!("{DEAD_LETTERS_PREFIX}{group}").into())
    }

    /// The group whose dead letters the topic of this name holds.
    pub fn dead_letter_group(&self) -> Option<GroupName> {
        Some(GroupName(self.0.strip_prefix(DEAD_LETTERS_PREFIX)?.into()))
    }

    /// The topic of what a group of consumers that pull has to try again, by RocketMQ's name; `None` if the group's name
    /// leaves no room for the prefix.
    pub fn retries_of(group: &GroupName) -> Option<Self> {
        Self::parse(&format!("{RETRIES_PREFIX}{group}")).ok()
    }

    /// The group whose retries the topic of this name holds.
    pub fn retry_group(&self) -> Option<GroupName> {
        Some(GroupName(self.0.strip_prefix(RETRIES_PREFIX)?.into()))
    }

    /// A name that was checked before it was stored.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl GroupName {
    /// Accepts what a client may use as a consumer group.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check("group", text, GROUP_NAME_BYTES_MAX)?;
        if text.starts_with(SYSTEM_GROUP_PREFIX) {
            return Err(NameError::Reserved { kind: "group", name: text.to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// A name that was checked before it was stored.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(kind: &'static str, text: &str, limit: usize) -> Result<(), NameError> {
    if text.trim().is_empty() {
        return Err(NameError::Blank(kind));
    }
    if text.len() > limit {
        return Err(NameError::TooLong { kind, bytes: text.len(), limit });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '%' | '|' | '_' | '-');
    if !text.chars().all(allowed) {
        return Err(NameError::Character { kind, name: text.to_owned() });
    }
    Ok(())
}

macro_rules! show {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}
show!(TopicName);
show!(GroupName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_rocketmq_s_limits() {
        assert!(TopicName::parse("%RETRY%a_b-1|c").is_ok());
        assert!(TopicName::parse(&"t".repeat(127)).is_ok());
        assert!(matches!(TopicName::parse(&"t".repeat(128)), Err(NameError::TooLong { .. })));
        assert!(GroupName::parse(&"g".repeat(255)).is_ok());
        assert!(matches!(GroupName::parse(&"g".repeat(256)), Err(NameError::TooLong { .. })));
        assert!(matches!(TopicName::parse("  "), Err(NameError::Blank(_))));
        assert!(matches!(TopicName::parse("a.b"), Err(NameError::Character { .. })));
        assert!(matches!(TopicName::parse("rmq_sys_x"), Err(NameError::Reserved { .. })));
        assert!(matches!(TopicName::parse("TBW102"), Err(NameError::Reserved { .. })));
        assert!(matches!(GroupName::parse("CID_RMQ_SYS_a"), Err(NameError::Reserved { .. })));
    }
}
