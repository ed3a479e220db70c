//! Validation of messages: every rule and limit of the contract §5, in the order RocketMQ checks them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::edge::grpc::codes::{Refused, bad_topic};
use crate::model::limits::{
    CLIENT_PROPERTIES_BYTES_MAX, CLIENT_PROPERTY_COUNT_MAX, CLIENT_PROPERTY_KEY_BYTES_MAX,
    CLIENT_PROPERTY_VALUE_BYTES_MAX, MESSAGE_GROUP_BYTES_BOUND, PROPERTY_BYTES_MAX, PROPERTY_COUNT_MAX,
    SEND_MESSAGES_MAX, SHORT_TEXT_BYTES_MAX, TRANSACTION_RECOVERY_MAX,
};
use crate::model::{BodyEncoding, Message, MessageType, Millis, Timestamp, TopicName};
use crate::proto::v2;
use crate::proto::v2::Code;

/// A user property of this name carries the message group, as RocketMQ's own clients of old did.
pub(in crate::edge) const SHARDING_KEY: &str = "__SHARDINGKEY";

/// 9999-12-31T23:59:59Z, the last second of a protobuf timestamp.
const PROTOBUF_SECONDS_MAX: u64 = 253_402_300_799;
/// Client properties of such names are RocketMQ's own.
const CLIENT_PROPERTY_RESERVED: &str = "rocketmq.";

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

/// What the checks depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::edge) struct Rules {
    pub body_bytes_max: usize,
    pub delay_max: Millis,
    pub now: Timestamp,
}

/// A send that may be done.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::edge) struct CheckedSend {
    pub topic: TopicName,
    pub message_type: MessageType,
    pub messages: Vec<Message>,
}

/// Checks a whole request: one topic, one type, every message.
pub(in crate::edge) fn send(request: v2::SendMessageRequest, rules: Rules, peer: &str) -> Result<CheckedSend, Refused> {
    let count = request.messages.len();
    let Some(first) = request.messages.first() else {
        return Err(Refused::new(Code::MessageCorrupted, "the request holds no message"));
    };
    if count > SEND_MESSAGES_MAX {
        let text = format!("{count} messages in one request are more than {SEND_MESSAGES_MAX}; send several requests");
        return Err(Refused::new(Code::BadRequest, text));
    }
    if request.messages.iter().any(|message| message.topic != first.topic) {
        let text = "the messages are for different topics; send one request for each";
        return Err(Refused::new(Code::MessageCorrupted, text));
    }
    let name = first.topic.as_ref().map_or("", |topic| topic.name.as_str());
    let topic = TopicName::parse(name).map_err(|error| bad_topic(&error))?;
    let messages: Vec<Message> =
        request.messages.into_iter().map(|wire| message(wire, rules, peer)).collect::<Result<_, _>>()?;
    let message_type = messages[0].message_type;
    if messages.iter().any(|message| message.message_type != message_type) {
        let text = "the messages are of different types; send one request for each";
        return Err(Refused::new(Code::MessagePropertyConflictWithType, text));
    }
    Ok(CheckedSend { topic, message_type, messages })
}

fn message(wire: v2::Message, rules: Rules, peer: &str) -> Result<Message, Refused> {
    let mut system = wire.system_properties.unwrap_or_default();
    body(&wire.body, rules.body_bytes_max)?;
    properties(&wire.user_properties)?;
    let tag = system.tag.take().filter(|tag| !tag.is_empty());
    if let Some(tag) = &tag {
        check_tag(tag)?;
    }
    let mut keys = std::mem::take(&mut system.keys);
    keys.retain(|key| !key.is_empty());
    for key in &keys {
        if key.trim().is_empty() || has_control(key) {
            return Err(Refused::new(
                Code::IllegalMessageKey,
                format!("message key {key:?} is blank or holds a control character"),
            ));
        }
    }
    total_size(&wire.user_properties, tag.as_deref(), &keys)?;
    if system.message_id.trim().is_empty() {
        return Err(Refused::new(Code::IllegalMessageId, "the message id is blank"));
    }
    short("message id", &system.message_id, Code::IllegalMessageId)?;
    let recovery_after = system.orphaned_transaction_recovery_duration.map(|length| millis(&length));
    if recovery_after.is_some_and(|length| length > TRANSACTION_RECOVERY_MAX) {
        let text = format!("the orphaned transaction recovery duration is longer than {TRANSACTION_RECOVERY_MAX}");
        return Err(Refused::new(Code::BadRequest, text));
    }
    let delivery_at = system.delivery_timestamp.map(|at| timestamp(&at));
    if let Some(at) = delivery_at
        && at > rules.now.plus(rules.delay_max)
    {
        let limit = rules.delay_max;
        let text = format!("the delivery timestamp {at} is more than {limit} ahead (timerMaxDelaySec)");
        return Err(Refused::new(Code::IllegalDeliveryTime, text));
    }
    let group = system.message_group.take().filter(|group| !group.is_empty());
    if let Some(group) = &group {
        check_group(group)?;
    }
    short("born host", &system.born_host, Code::BadRequest)?;
    if let Some(context) = &system.trace_context {
        short("trace context", context, Code::BadRequest)?;
    }
    let priority = system.priority.map(u32::try_from).transpose();
    let priority = priority.map_err(|_| Refused::new(Code::BadRequest, "the priority is below 0"))?;
    let message_group = group.or_else(|| wire.user_properties.get(SHARDING_KEY).cloned());
    let message_type = derive_type(&system, message_group.is_some());
    Ok(Message {
        message_type,
        body_encoding: match system.body_encoding() {
            v2::Encoding::Gzip => BodyEncoding::Gzip,
            v2::Encoding::Identity | v2::Encoding::Unspecified => BodyEncoding::Identity,
        },
        body: wire.body,
        tag,
        keys,
        properties: wire.user_properties.into_iter().collect(),
        born_at: system.born_timestamp.map_or(Ok(rules.now), |at| born_at(&at))?,
        born_host: if system.born_host.trim().is_empty() { peer.to_owned() } else { system.born_host },
        message_id: system.message_id,
        message_group,
        delivery_at,
        trace_context: system.trace_context,
        priority,
        recovery_after,
    })
}

/// Contract §9.2: the first that applies.
fn derive_type(system: &v2::SystemProperties, has_group: bool) -> MessageType {
    if system.message_type() == v2::MessageType::Transaction {
        MessageType::Transaction
    } else if system.delivery_timestamp.is_some() {
        MessageType::Delay
    } else if has_group {
        MessageType::Fifo
    } else if system.lite_topic.is_some() {
        MessageType::Lite
    } else if system.priority.is_some() {
        MessageType::Priority
    } else {
        MessageType::Normal
    }
}

fn body(body: &Bytes, limit: usize) -> Result<(), Refused> {
    if body.is_empty() {
        return Err(Refused::new(Code::MessageBodyEmpty, "the message body is empty"));
    }
    if body.len() > limit {
        let text = format!("the message body of {} bytes is larger than {limit}; split or compress it", body.len());
        return Err(Refused::new(Code::MessageBodyTooLarge, text));
    }
    Ok(())
}

fn properties(properties: &BTreeMap<String, String>) -> Result<(), Refused> {
    if properties.len() > PROPERTY_COUNT_MAX {
        let text = format!("{} user properties are more than {PROPERTY_COUNT_MAX}", properties.len());
        return Err(Refused::new(Code::MessagePropertiesTooLarge, text));
    }
    for (key, value) in properties {
        if RESERVED.contains(&key.as_str()) {
            let text = format!("the user property '{key}' is reserved for the system; use another name");
            return Err(Refused::new(Code::IllegalMessagePropertyKey, text));
        }
        if has_control(key) || has_control(value) {
            let text = format!("the user property {key:?} holds a control character");
            return Err(Refused::new(Code::IllegalMessagePropertyKey, text));
        }
    }
    Ok(())
}

/// What a client tells of itself in its settings.
pub(in crate::edge) fn client_properties(properties: &BTreeMap<String, String>) -> Result<(), Refused> {
    let refuse = |text: String| Err(Refused::new(Code::InvalidClientProperties, text));
    if properties.len() > CLIENT_PROPERTY_COUNT_MAX {
        return refuse(format!("{} client properties are more than {CLIENT_PROPERTY_COUNT_MAX}", properties.len()));
    }
    for (key, value) in properties {
        let is_name = key.starts_with(|first: char| first.is_ascii_alphabetic())
            && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if !is_name || key.len() > CLIENT_PROPERTY_KEY_BYTES_MAX {
            return refuse(format!(
                "the client property name {key:?} is not a letter followed by letters, digits, '_', '.' and '-', at \
                 most {CLIENT_PROPERTY_KEY_BYTES_MAX} in all"
            ));
        }
        if key.starts_with(CLIENT_PROPERTY_RESERVED) {
            return refuse(format!(
                "the client property '{key}': names with '{CLIENT_PROPERTY_RESERVED}' are reserved"
            ));
        }
        if value.len() > CLIENT_PROPERTY_VALUE_BYTES_MAX {
            let bytes = value.len();
            return refuse(format!(
                "the client property '{key}' has {bytes} of {CLIENT_PROPERTY_VALUE_BYTES_MAX} bytes"
            ));
        }
    }
    let total: usize = properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    if total > CLIENT_PROPERTIES_BYTES_MAX {
        return refuse(format!("client properties of {total} bytes are larger than {CLIENT_PROPERTIES_BYTES_MAX}"));
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), Refused> {
    if tag.trim().is_empty() || tag.contains('|') || has_control(tag) {
        return Err(Refused::new(
            Code::IllegalMessageTag,
            format!("tag {tag:?} is blank or holds a bar or a control character"),
        ));
    }
    Ok(())
}

fn check_group(group: &str) -> Result<(), Refused> {
    if group.trim().is_empty() || has_control(group) {
        let text = format!("message group {group:?} is blank or holds a control character");
        return Err(Refused::new(Code::IllegalMessageGroup, text));
    }
    if group.len() >= MESSAGE_GROUP_BYTES_BOUND {
        let text = format!("the message group of {} bytes must be below {MESSAGE_GROUP_BYTES_BOUND}", group.len());
        return Err(Refused::new(Code::IllegalMessageGroup, text));
    }
    Ok(())
}

/// Clients refuse to read a timestamp that protobuf does not allow: one such message would stop its consumers.
fn born_at(at: &prost_types::Timestamp) -> Result<Timestamp, Refused> {
    let born_at = timestamp(at);
    if born_at.0 / 1000 > PROTOBUF_SECONDS_MAX {
        let text =
            format!("the born timestamp of {} seconds lies behind the year 9999; is it in milliseconds?", at.seconds);
        return Err(Refused::new(Code::BadRequest, text));
    }
    Ok(born_at)
}

fn total_size(properties: &BTreeMap<String, String>, tag: Option<&str>, keys: &[String]) -> Result<(), Refused> {
    let properties: usize = properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    let keys: usize = keys.iter().map(String::len).sum();
    let total = properties + keys + tag.map_or(0, str::len);
    if total > PROPERTY_BYTES_MAX {
        let text = format!("properties, tag and keys of {total} bytes are larger than {PROPERTY_BYTES_MAX}");
        return Err(Refused::new(Code::MessagePropertiesTooLarge, text));
    }
    Ok(())
}

fn short(what: &str, text: &str, code: Code) -> Result<(), Refused> {
    if text.len() > SHORT_TEXT_BYTES_MAX {
        let text = format!("the {what} of {} bytes is longer than {SHORT_TEXT_BYTES_MAX}", text.len());
        return Err(Refused::new(code, text));
    }
    Ok(())
}

/// ISO control characters: U+0000–001F, 007F–009F.
fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// A wire timestamp; before 1970 counts as 1970.
pub(in crate::edge) fn timestamp(at: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(at.seconds).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000).saturating_add(u64::try_from(at.nanos / 1_000_000).unwrap_or(0)))
}

/// A wire duration; below 0 counts as 0.
pub(in crate::edge) fn millis(length: &prost_types::Duration) -> Millis {
    let seconds = u64::try_from(length.seconds).unwrap_or(0);
    Millis(seconds.saturating_mul(1000).saturating_add(u64::try_from(length.nanos / 1_000_000).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { body_bytes_max: 8, delay_max: Millis::from_secs(86_400), now: Timestamp(1_000_000) };

    fn sample() -> v2::Message {
        v2::Message {
            topic: Some(v2::Resource { resource_namespace: String::new(), name: "t".into() }),
            body: Bytes::from_static(b"body"),
            user_properties: Default::default(),
            system_properties: Some(v2::SystemProperties { message_id: "id".into(), ..Default::default() }),
        }
    }

    fn system(message: &mut v2::Message) -> &mut v2::SystemProperties {
        message.system_properties.get_or_insert_default()
    }

    fn code(change: impl FnOnce(&mut v2::Message)) -> Code {
        let mut wire = sample();
        change(&mut wire);
        let request = v2::SendMessageRequest { messages: vec![wire] };
        send(request, RULES, "peer").map_or_else(|refused| refused.code, |_| Code::Ok)
    }

    #[test]
    fn every_limit_holds_at_its_edge() {
        assert_eq!(code(|_| {}), Code::Ok);
        assert_eq!(code(|m| m.body = Bytes::new()), Code::MessageBodyEmpty);
        assert_eq!(code(|m| m.body = vec![0; 8].into()), Code::Ok);
        assert_eq!(code(|m| m.body = vec![0; 9].into()), Code::MessageBodyTooLarge);
        let properties = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(code(|m| m.user_properties = properties(128)), Code::Ok);
        assert_eq!(code(|m| m.user_properties = properties(129)), Code::MessagePropertiesTooLarge);
        assert_eq!(code(|m| system(m).tag = Some("t".repeat(16_384))), Code::Ok);
        assert_eq!(code(|m| system(m).tag = Some("t".repeat(16_385))), Code::MessagePropertiesTooLarge);
        assert_eq!(code(|m| system(m).message_group = Some("g".repeat(63))), Code::Ok);
        assert_eq!(code(|m| system(m).message_group = Some("g".repeat(64))), Code::IllegalMessageGroup);
        let at = |millis: i64| {
            Some(prost_types::Timestamp { seconds: millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 })
        };
        assert_eq!(code(|m| system(m).delivery_timestamp = at(1_000_000 + 86_400_000)), Code::Ok);
        assert_eq!(code(|m| system(m).delivery_timestamp = at(1_000_001 + 86_400_000)), Code::IllegalDeliveryTime);
        let hour = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(code(|m| system(m).orphaned_transaction_recovery_duration = hour(3600)), Code::Ok);
        assert_eq!(code(|m| system(m).orphaned_transaction_recovery_duration = hour(3601)), Code::BadRequest);
    }

    #[test]
    fn texts_follow_rocketmq_s_rules() {
        assert_eq!(code(|m| system(m).message_id = " ".into()), Code::IllegalMessageId);
        assert_eq!(code(|m| system(m).tag = Some(String::new())), Code::Ok);
        assert_eq!(code(|m| system(m).tag = Some(" ".into())), Code::IllegalMessageTag);
        assert_eq!(code(|m| system(m).tag = Some("a|b".into())), Code::IllegalMessageTag);
        assert_eq!(code(|m| system(m).tag = Some("a\0".into())), Code::IllegalMessageTag);
        assert_eq!(code(|m| system(m).tag = Some("标签".into())), Code::Ok);
        assert_eq!(code(|m| system(m).keys = vec![String::new()]), Code::Ok);
        assert_eq!(code(|m| system(m).keys = vec![" ".into()]), Code::IllegalMessageKey);
        assert_eq!(code(|m| system(m).keys = vec!["a\u{7f}".into()]), Code::IllegalMessageKey);
        assert_eq!(code(|m| system(m).message_group = Some(" ".into())), Code::IllegalMessageGroup);
        assert_eq!(
            code(|m| drop(m.user_properties.insert("UNIQ_KEY".into(), "x".into()))),
            Code::IllegalMessagePropertyKey
        );
        assert_eq!(code(|m| drop(m.user_properties.insert("a".into(), "\n".into()))), Code::IllegalMessagePropertyKey);
        assert_eq!(code(|m| drop(m.user_properties.insert("中文 😀 %|&&".into(), "😀".into()))), Code::Ok);
        assert_eq!(code(|m| m.topic = None), Code::IllegalTopic);
        assert_eq!(
            code(|m| m.topic = Some(v2::Resource { name: "a b".into(), ..Default::default() })),
            Code::IllegalTopic
        );
    }

    #[test]
    fn a_request_is_for_one_topic() {
        let refused = |messages| {
            send(v2::SendMessageRequest { messages }, RULES, "peer").map(|_| ()).map_err(|refused| refused.code)
        };
        assert_eq!(refused(vec![]), Err(Code::MessageCorrupted));
        let mut other = sample();
        other.topic = Some(v2::Resource { name: "u".into(), ..Default::default() });
        assert_eq!(refused(vec![sample(), other]), Err(Code::MessageCorrupted));
        assert_eq!(refused(vec![sample(), sample()]), Ok(()));
    }

    #[test]
    fn the_type_follows_from_what_is_set() {
        let of = |change: fn(&mut v2::Message)| {
            let mut wire = sample();
            change(&mut wire);
            send(v2::SendMessageRequest { messages: vec![wire] }, RULES, "peer").unwrap().message_type
        };
        assert_eq!(of(|_| {}), MessageType::Normal);
        assert_eq!(of(|m| system(m).message_group = Some("g".into())), MessageType::Fifo);
        assert_eq!(of(|m| drop(m.user_properties.insert(SHARDING_KEY.into(), "g".into()))), MessageType::Fifo);
        assert_eq!(of(|m| system(m).delivery_timestamp = Some(Default::default())), MessageType::Delay);
        assert_eq!(of(|m| system(m).priority = Some(1)), MessageType::Priority);
        assert_eq!(of(|m| system(m).set_message_type(v2::MessageType::Transaction)), MessageType::Transaction);
    }

    #[test]
    fn client_properties_keep_to_their_limits() {
        let check = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            client_properties(&owned.collect()).map_err(|refused| refused.code)
        };
        let refused = Err(Code::InvalidClientProperties);
        assert_eq!(check(&[("zone", "a"), ("app.version", ""), ("a-b_C9", &"x".repeat(256))]), Ok(()));
        assert_eq!(check(&[(&"k".repeat(64), "")]), Ok(()));
        for key in ["", "9a", "a b", "ä", "rocketmq.zone", &"k".repeat(65)] {
            assert_eq!(check(&[(key, "")]), refused, "{key}");
        }
        assert_eq!(check(&[("zone", &"x".repeat(257))]), refused);
        let many = |count: usize, size: usize| {
            let pairs = (0..count).map(|number| (format!("k{number:02}"), "x".repeat(size)));
            client_properties(&pairs.collect()).map_err(|refused| refused.code)
        };
        assert_eq!(many(32, 125), Ok(()), "32 × (3 + 125) = 4096");
        assert_eq!(many(32, 126), refused);
        assert_eq!(many(33, 1), refused);
    }
}
