//! Rules of one message: body, properties, tag, keys, ids, times. Hot path.
//!
//! The order is RocketMQ's: a message with several faults gets the same answer from both.

use bytes::Bytes;

use crate::edge::rules::{Invalid, InvalidKind};
use crate::model::limits::{
    MESSAGE_GROUP_BYTES_BOUND, PROPERTY_BYTES_MAX, PROPERTY_COUNT_MAX, SHORT_TEXT_BYTES_MAX, TRANSACTION_RECOVERY_MAX,
};
use crate::model::{Message, Millis, Timestamp};

/// 9999-12-31T23:59:59Z, the last second of a protobuf timestamp.
const PROTOBUF_SECONDS_MAX: u64 = 253_402_300_799;

/// Property names RocketMQ keeps to itself.
const RESERVED: [&str; 51] = [
    "TRACE_ON",
    "MSG_REGION",
    "KEYS",
    "TAGS",
    "WAIT",
    "DELAY",
    "RETRY_TOPIC",
    "REAL_TOPIC",
    "REAL_QID",
    "TRAN_MSG",
    "PGROUP",
    "MIN_OFFSET",
    "MAX_OFFSET",
    "BUYER_ID",
    "ORIGIN_MESSAGE_ID",
    "TRANSFER_FLAG",
    "CORRECTION_FLAG",
    "MQ2_FLAG",
    "RECONSUME_TIME",
    "UNIQ_KEY",
    "MAX_RECONSUME_TIMES",
    "CONSUME_START_TIME",
    "POP_CK",
    "POP_CK_OFFSET",
    "1ST_POP_TIME",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INSTANCE_ID",
    "CORRELATION_ID",
    "REPLY_TO_CLIENT",
    "TTL",
    "ARRIVE_TIME",
    "PUSH_REPLY_TIME",
    "CLUSTER",
    "MSG_TYPE",
    "INNER_MULTI_QUEUE_OFFSET",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_DEQUEUE_MS",
    "TIMER_ROLL_TIMES",
    "TIMER_OUT_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DELAY_LEVEL",
    "__BORNHOST",
    "BORN_TIMESTAMP",
    "DLQ_ORIGIN_TOPIC",
    "DLQ_ORIGIN_MESSAGE_ID",
    "__CRC32#",
];

/// What the rules depend on beside the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// `maxMessageSize`.
    pub body_bytes_max: usize,
    /// `timerMaxDelaySec`.
    pub delay_max: Millis,
    pub now: Timestamp,
}

/// Checks a message as its producer sent it.
pub fn check(message: &Message, limits: MessageLimits) -> Result<(), Invalid> {
    body(&message.body, limits.body_bytes_max)?;
    properties(&message.properties)?;
    message.tag.as_deref().map_or(Ok(()), tag)?;
    message.keys.iter().try_for_each(|text| key(text))?;
    total_size(message)?;
    if message.message_id.trim().is_empty() {
        return Err(Invalid::new(InvalidKind::MessageId, "the message id is blank"));
    }
    short("message id", &message.message_id, InvalidKind::MessageId)?;
    if message.recovery_after.is_some_and(|length| length > TRANSACTION_RECOVERY_MAX) {
        let text = format!("the orphaned transaction recovery duration is longer than {TRANSACTION_RECOVERY_MAX}");
        return Err(Invalid::new(InvalidKind::Value, text));
    }
    message.delivery_at.map_or(Ok(()), |at| delivery_at(at, limits))?;
    message.message_group.as_deref().map_or(Ok(()), message_group)?;
    short("born host", &message.born_host, InvalidKind::Value)?;
    message.trace_context.as_deref().map_or(Ok(()), |text| short("trace context", text, InvalidKind::Value))
}

/// Checks what must hold of a message whichever protocol brings it. The classic one has no other rules: names that RocketMQ
/// keeps to itself are how its clients say things.
pub fn check_essentials(message: &Message, limits: MessageLimits) -> Result<(), Invalid> {
    body(&message.body, limits.body_bytes_max)?;
    born_at(message.born_at)?;
    short("message id", &message.message_id, InvalidKind::MessageId)
}

/// Whether RocketMQ keeps a property's name to itself: gRPC clients neither send nor see one.
pub fn is_reserved(property: &str) -> bool {
    RESERVED.contains(&property)
}

/// A delivery time that a producer chose.
pub fn delivery_at(at: Timestamp, limits: MessageLimits) -> Result<(), Invalid> {
    if at > limits.now.plus(limits.delay_max) {
        let limit = limits.delay_max;
        let text = format!("the delivery timestamp {at} is more than {limit} ahead (timerMaxDelaySec)");
        return Err(Invalid::new(InvalidKind::DeliveryTime, text));
    }
    Ok(())
}

/// A priority level as a client names it.
pub fn priority(level: i64) -> Result<u32, Invalid> {
    u32::try_from(level).map_err(|_| Invalid::new(InvalidKind::Value, "the priority is below 0"))
}

/// Clients refuse to read a timestamp that protobuf does not allow: one such message would stop its consumers.
pub fn born_at(at: Timestamp) -> Result<(), Invalid> {
    let seconds = at.0 / 1000;
    if seconds > PROTOBUF_SECONDS_MAX {
        let text = format!("the born timestamp of {seconds} seconds lies behind the year 9999; is it in milliseconds?");
        return Err(Invalid::new(InvalidKind::Value, text));
    }
    Ok(())
}

fn body(body: &Bytes, limit: usize) -> Result<(), Invalid> {
    if body.is_empty() {
        return Err(Invalid::new(InvalidKind::EmptyBody, "the message body is empty"));
    }
    if body.len() > limit {
        let text = format!("the message body of {} bytes is larger than {limit}; split or compress it", body.len());
        return Err(Invalid::new(InvalidKind::BodyTooLarge, text));
    }
    Ok(())
}

fn properties(properties: &[(String, String)]) -> Result<(), Invalid> {
    if properties.len() > PROPERTY_COUNT_MAX {
        let text = format!("{} user properties are more than {PROPERTY_COUNT_MAX}", properties.len());
        return Err(Invalid::new(InvalidKind::PropertiesTooLarge, text));
    }
    for (key, value) in properties {
        if is_reserved(key) {
            let text = format!("the user property '{key}' is reserved for the system; use another name");
            return Err(Invalid::new(InvalidKind::PropertyName, text));
        }
        if has_control(key) || has_control(value) {
            let text = format!("the user property {key:?} holds a control character");
            return Err(Invalid::new(InvalidKind::PropertyName, text));
        }
    }
    Ok(())
}

fn tag(tag: &str) -> Result<(), Invalid> {
    if tag.trim().is_empty() || tag.contains('|') || has_control(tag) {
        let text = format!("tag {tag:?} is blank or holds a bar or a control character");
        return Err(Invalid::new(InvalidKind::Tag, text));
    }
    Ok(())
}

fn key(key: &str) -> Result<(), Invalid> {
    if key.trim().is_empty() || has_control(key) {
        let text = format!("message key {key:?} is blank or holds a control character");
        return Err(Invalid::new(InvalidKind::Key, text));
    }
    Ok(())
}

fn total_size(message: &Message) -> Result<(), Invalid> {
    let properties: usize = message.properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    let keys: usize = message.keys.iter().map(String::len).sum();
    let total = properties + keys + message.tag.as_deref().map_or(0, str::len);
    if total > PROPERTY_BYTES_MAX {
        let text = format!("properties, tag and keys of {total} bytes are larger than {PROPERTY_BYTES_MAX}");
        return Err(Invalid::new(InvalidKind::PropertiesTooLarge, text));
    }
    Ok(())
}

fn message_group(group: &str) -> Result<(), Invalid> {
    if group.trim().is_empty() || has_control(group) {
        let text = format!("message group {group:?} is blank or holds a control character");
        return Err(Invalid::new(InvalidKind::MessageGroup, text));
    }
    if group.len() >= MESSAGE_GROUP_BYTES_BOUND {
        let text = format!("the message group of {} bytes must be below {MESSAGE_GROUP_BYTES_BOUND}", group.len());
        return Err(Invalid::new(InvalidKind::MessageGroup, text));
    }
    Ok(())
}

fn short(what: &str, text: &str, kind: InvalidKind) -> Result<(), Invalid> {
    if text.len() > SHORT_TEXT_BYTES_MAX {
        let text = format!("the {what} of {} bytes is longer than {SHORT_TEXT_BYTES_MAX}", text.len());
        return Err(Invalid::new(kind, text));
    }
    Ok(())
}

/// ISO control characters: U+0000–001F, 007F–009F.
fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}
