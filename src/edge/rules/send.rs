//! A send as a whole: how many messages, for one topic, of one type. Hot path.

use crate::edge::rules::{Invalid, InvalidKind};
use crate::model::limits::SEND_MESSAGES_MAX;
use crate::model::{Message, MessageType};

/// Refuses a send without messages, and one with too many.
pub fn count(messages: usize) -> Result<(), Invalid> {
    if messages == 0 {
        return Err(Invalid::new(InvalidKind::NoMessage, "the request holds no message"));
    }
    if messages > SEND_MESSAGES_MAX {
        let text =
            format!("{messages} messages in one request are more than {SEND_MESSAGES_MAX}; send several requests");
        return Err(Invalid::new(InvalidKind::Value, text));
    }
    Ok(())
}

/// Refuses messages for different topics; `topics` are what the messages say, in any form that can be compared.
pub fn one_topic<T: PartialEq>(mut topics: impl Iterator<Item = T>) -> Result<(), Invalid> {
    let first = topics.next();
    if topics.any(|topic| Some(&topic) != first.as_ref()) {
        let text = "the messages are for different topics; send one request for each";
        return Err(Invalid::new(InvalidKind::MixedTopics, text));
    }
    Ok(())
}

/// The type of all messages; refuses different ones.
pub fn one_type(messages: &[Message]) -> Result<MessageType, Invalid> {
    let Some(first) = messages.first() else {
        return Err(Invalid::new(InvalidKind::NoMessage, "the request holds no message"));
    };
    if messages.iter().any(|message| message.message_type != first.message_type) {
        let text = "the messages are of different types; send one request for each";
        return Err(Invalid::new(InvalidKind::MixedTypes, text));
    }
    Ok(first.message_type)
}
