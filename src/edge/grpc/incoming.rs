//! Send requests: wire → model. Hot path.

use crate::edge::grpc::codes::Refused;
use crate::edge::grpc::convert::{SHARDING_KEY, millis, timestamp, topic};
use crate::edge::grpc::digest;
use crate::edge::rules;
use crate::edge::rules::message::MessageLimits;
use crate::model::{BodyEncoding, Message, MessageType, TopicName};
use crate::proto::v2;

/// A send that keeps every rule.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckedSend {
    pub topic: TopicName,
    pub message_type: MessageType,
    pub messages: Vec<Message>,
}

/// Translates and checks a whole request. `peer` stands for the host of messages that name none, `namespace` for that of a
/// topic that names none.
pub fn send(
    request: v2::SendMessageRequest,
    limits: MessageLimits,
    peer: &str,
    namespace: &str,
) -> Result<CheckedSend, Refused> {
    rules::send::count(request.messages.len())?;
    rules::send::one_topic(request.messages.iter().map(|message| &message.topic))?;
    let topic = topic(request.messages.first().and_then(|message| message.topic.as_ref()), namespace)?;
    let messages: Vec<Message> =
        request.messages.into_iter().map(|wire| message(wire, limits, peer)).collect::<Result<_, _>>()?;
    let message_type = rules::send::one_type(&messages)?;
    Ok(CheckedSend { topic, message_type, messages })
}

fn message(wire: v2::Message, limits: MessageLimits, peer: &str) -> Result<Message, Refused> {
    let system = wire.system_properties.unwrap_or_default();
    let (priority, has_lite_topic) = (system.priority, system.lite_topic.is_some());
    let is_half = system.message_type() == v2::MessageType::Transaction;
    let mut message = Message {
        message_type: MessageType::Normal,
        body_encoding: match system.body_encoding() {
            v2::Encoding::Gzip => BodyEncoding::Gzip,
            v2::Encoding::Identity | v2::Encoding::Unspecified => BodyEncoding::Identity,
        },
        body: wire.body,
        body_md5: None,
        tag: system.tag.filter(|tag| !tag.is_empty()),
        keys: system.keys,
        properties: wire.user_properties.into_iter().collect(),
        born_at: system.born_timestamp.map_or(limits.now, |at| timestamp(&at)),
        born_host: system.born_host,
        message_id: system.message_id,
        message_group: system.message_group.filter(|group| !group.is_empty()),
        delivery_at: system.delivery_timestamp.map(|at| timestamp(&at)),
        trace_context: system.trace_context,
        priority: None,
        recovery_after: system.orphaned_transaction_recovery_duration.map(|length| millis(&length)),
        classic: None,
    };
    message.keys.retain(|key| !key.is_empty());
    if message.message_group.is_none() {
        let property = message.properties.iter().find(|(key, value)| key == SHARDING_KEY && !value.is_empty());
        message.message_group = property.map(|(_, value)| value.clone());
    }
    rules::message::check(&message, limits)?;
    message.body_md5 = Some(digest::check(&message.message_id, &message.body, system.body_digest.as_ref())?);
    message.priority = priority.map(|level| rules::message::priority(level.into())).transpose()?;
    rules::message::born_at(message.born_at)?;
    // What stands in for a field that was not set is not held to the field's limits.
    if message.born_host.trim().is_empty() {
        peer.clone_into(&mut message.born_host);
    }
    message.message_type = derive_type(&message, is_half, has_lite_topic);
    Ok(message)
}

/// The first that applies (contract §9.2).
fn derive_type(message: &Message, is_half: bool, has_lite_topic: bool) -> MessageType {
    if is_half {
        MessageType::Transaction
    } else if message.delivery_at.is_some() {
        MessageType::Delay
    } else if message.message_group.is_some() {
        MessageType::Fifo
    } else if has_lite_topic {
        MessageType::Lite
    } else if message.priority.is_some() {
        MessageType::Priority
    } else {
        MessageType::Normal
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Millis, Timestamp};
    use crate::proto::v2::Code;

    const LIMITS: MessageLimits =
        MessageLimits { body_bytes_max: 8, delay_max: Millis::from_secs(86_400), now: Timestamp(1_000_000) };

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
        send(request, LIMITS, "peer", "").map_or_else(|refused| refused.code, |_| Code::Ok)
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
        let by_property = |group: &str| code(|m| drop(m.user_properties.insert(SHARDING_KEY.into(), group.into())));
        assert_eq!(by_property(&"g".repeat(63)), Code::Ok);
        for group in [&"g".repeat(64), " "] {
            assert_eq!(by_property(group), Code::IllegalMessageGroup, "{group:?}");
        }
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
            send(v2::SendMessageRequest { messages }, LIMITS, "peer", "").map(|_| ()).map_err(|refused| refused.code)
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
            send(v2::SendMessageRequest { messages: vec![wire] }, LIMITS, "peer", "").unwrap().message_type
        };
        assert_eq!(of(|_| {}), MessageType::Normal);
        assert_eq!(of(|m| system(m).message_group = Some("g".into())), MessageType::Fifo);
        assert_eq!(of(|m| drop(m.user_properties.insert(SHARDING_KEY.into(), "g".into()))), MessageType::Fifo);
        assert_eq!(of(|m| drop(m.user_properties.insert(SHARDING_KEY.into(), String::new()))), MessageType::Normal);
        assert_eq!(of(|m| system(m).delivery_timestamp = Some(Default::default())), MessageType::Delay);
        assert_eq!(of(|m| system(m).priority = Some(1)), MessageType::Priority);
        assert_eq!(of(|m| system(m).set_message_type(v2::MessageType::Transaction)), MessageType::Transaction);
    }

    #[test]
    fn fuzz_protobuf_to_model() {
        use prost::Message as _;
        let mut full = sample();
        full.user_properties.insert("key".into(), "value".into());
        *system(&mut full) = v2::SystemProperties {
            tag: Some("tag".into()),
            keys: vec!["a key".into()],
            message_id: "01133B20544BB2013C0B172FA700000000".into(),
            body_digest: Some(v2::Digest { r#type: v2::DigestType::Crc32.into(), checksum: "DC5F4E5B".into() }),
            born_timestamp: Some(prost_types::Timestamp { seconds: 1, nanos: 5 }),
            born_host: "host".into(),
            delivery_timestamp: Some(prost_types::Timestamp { seconds: 1000, nanos: 0 }),
            trace_context: Some("trace".into()),
            orphaned_transaction_recovery_duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        };
        let mut ordered = sample();
        system(&mut ordered).message_group = Some("a group".into());
        let mut urgent = sample();
        system(&mut urgent).priority = Some(3);
        let requests = [vec![sample()], vec![full], vec![ordered], vec![urgent], vec![sample(), sample()]];
        let corpus = requests.map(|messages| v2::SendMessageRequest { messages }.encode_to_vec());
        odd_bytes::Fuzz::of("protobuf_to_model", corpus).words([SHARDING_KEY, "%DLQ%", "t", "gzip"]).run(|bytes| {
            let request = v2::SendMessageRequest::decode(bytes).map_err(|error| format!("protobuf: {error}"))?;
            let checked = send(request, LIMITS, "peer", "space").map_err(|refused| {
                assert!(refused.text.len() > 10, "a refusal says why: {refused:?}");
                refused.text
            })?;
            for message in &checked.messages {
                let stored = message.encode();
                let read = Message::decode(stored).unwrap_or_else(|error| panic!("{message:?}: {error}"));
                assert_eq!(read, *message, "what is stored is what was checked");
            }
            Ok(format!("{:?}", checked.message_type))
        });
    }
}
