//! Recall handles: opaque to clients, and readable by any node, because a handle says where its message is stored.
//!
//! * Shape: URL-safe base64 of `v1 topic delivery-ms index slot message-id`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::{LogIndex, MessageRef, Timestamp, TopicName};

const VERSION: &str = "v1";

/// What a handle says of a delayed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecallHandle {
    topic: String,
    pub delivery_at: Timestamp,
    pub message: MessageRef,
    pub message_id: String,
}

impl RecallHandle {
    pub fn new(topic: &TopicName, delivery_at: Timestamp, message: MessageRef, message_id: &str) -> Self {
        Self { topic: topic.to_string(), delivery_at, message, message_id: message_id.to_owned() }
    }

    pub fn to_text(&self) -> String {
        let Self { topic, delivery_at, message: MessageRef { index, slot }, message_id } = self;
        URL_SAFE_NO_PAD.encode(format!("{VERSION} {topic} {} {index} {slot} {message_id}", delivery_at.0))
    }

    /// Reads a handle of a message of `topic`; the error is a text for the client.
    pub fn parse(topic: &TopicName, text: &str) -> Result<Self, String> {
        let Some(handle) = Self::read(text) else {
            return Err("this is not a recall handle of this cluster: no delayed message has it".to_owned());
        };
        if handle.topic != topic.as_str() {
            return Err(format!("this recall handle belongs to a message of another topic than '{topic}'"));
        }
        Ok(handle)
    }

    fn read(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        // The message id is the last of the six because it may hold spaces.
        let mut words = text.splitn(6, ' ');
        if words.next()? != VERSION {
            return None;
        }
        let topic = words.next()?.to_owned();
        let delivery_at = Timestamp(words.next()?.parse().ok()?);
        let message = MessageRef { index: LogIndex(words.next()?.parse().ok()?), slot: words.next()?.parse().ok()? };
        Some(Self { topic, delivery_at, message, message_id: words.next()?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_where_its_message_waits_and_nothing_else_is_one() {
        let topic = TopicName::parse("t").unwrap();
        let message = MessageRef { index: LogIndex(7), slot: 3 };
        let handle = RecallHandle::new(&topic, Timestamp(99), message, "an id");
        let text = handle.to_text();
        assert_eq!(RecallHandle::parse(&topic, &text), Ok(handle));
        for bad in ["", "?", &text[1..], &text[..text.len() / 2]] {
            let error = RecallHandle::parse(&topic, bad).unwrap_err();
            assert!(error.contains("not a recall handle of this cluster"), "{bad}: {error}");
        }
        let other = TopicName::parse("u").unwrap();
        let error = RecallHandle::parse(&other, &text).unwrap_err();
        assert!(error.contains("another topic than 'u'"), "{error}");
    }
}
