//! Messages: model → wire, with everything that every official client needs to find (contract §9.3).
//!
//! Hot path. The body is sent as the bytes that are stored in the log, without a copy.

use crate::broker::Delivery;
use crate::edge::grpc::convert::{SHARDING_KEY, message_type, wire_timestamp};
use crate::edge::grpc::digest;
use crate::edge::rules;
use crate::edge::rules::names::without_namespace;
use crate::model::{BodyEncoding, HandleKey, Message, Timestamp};
use crate::proto::v2;

/// A delivered message. `topic` is as the client names it, `key` that of the cluster's handles.
pub(in crate::edge) fn delivery(delivery: Delivery, topic: &v2::Resource, key: &HandleKey) -> v2::Message {
    let dead_letter_queue = delivery.died_in.map(|died_in| v2::DeadLetterQueue {
        topic: without_namespace(&topic.resource_namespace, died_in.as_str()).into_owned(),
        message_id: delivery.message.message_id.clone(),
    });
    // Those before it was sent again by its consumers.
    let before = delivery.message.classic.map_or(0, |classic| classic.reconsume_times);
    let mut wire = stored(delivery.message, topic, delivery.stored_at, delivery.store_host);
    let system_properties = wire.system_properties.get_or_insert_default();
    system_properties.receipt_handle = Some(delivery.handle.to_text(key));
    system_properties.queue_id = i32::try_from(delivery.queue.0).unwrap_or(i32::MAX);
    system_properties.queue_offset = Some(i64::try_from(delivery.offset.0).unwrap_or(i64::MAX));
    system_properties.delivery_attempt =
        Some(i32::try_from(delivery.attempt.saturating_add(before)).unwrap_or(i32::MAX));
    system_properties.dead_letter_queue = dead_letter_queue;
    wire
}

/// A stored message, without what belongs to a delivery.
pub(in crate::edge) fn stored(
    message: Message,
    topic: &v2::Resource,
    stored_at: Timestamp,
    store_host: String,
) -> v2::Message {
    let digest = digest::md5_of(&message);
    // A key with a space comes back as several keys, as from RocketMQ, which joins them with spaces.
    let keys = message.keys.iter().flat_map(|keys| keys.split(' ')).filter(|key| !key.is_empty());
    let keys = keys.map(str::to_owned).collect();
    // Those of a classic client hold what RocketMQ keeps to itself.
    let is_plain = |(name, _): &(String, String)| message.classic.is_none() || !rules::message::is_reserved(name);
    let mut user_properties: std::collections::BTreeMap<_, _> =
        message.properties.into_iter().filter(is_plain).collect();
    if let Some(group) = &message.message_group {
        user_properties.insert(SHARDING_KEY.to_owned(), group.clone());
    }
    let system_properties = v2::SystemProperties {
        tag: message.tag,
        keys,
        message_id: message.message_id,
        body_digest: Some(v2::Digest { r#type: v2::DigestType::Md5.into(), checksum: digest }),
        body_encoding: match message.body_encoding {
            BodyEncoding::Identity => v2::Encoding::Identity.into(),
            BodyEncoding::Gzip => v2::Encoding::Gzip.into(),
        },
        message_type: message_type(message.message_type).into(),
        born_timestamp: Some(wire_timestamp(message.born_at)),
        born_host: message.born_host,
        store_timestamp: Some(wire_timestamp(stored_at)),
        store_host,
        delivery_timestamp: message.delivery_at.map(wire_timestamp),
        receipt_handle: None,
        queue_id: 0,
        queue_offset: None,
        invisible_duration: None,
        delivery_attempt: None,
        message_group: message.message_group,
        trace_context: message.trace_context,
        orphaned_transaction_recovery_duration: None,
        dead_letter_queue: None,
        lite_topic: None,
        priority: message.priority.map(|priority| i32::try_from(priority).unwrap_or(i32::MAX)),
    };
    v2::Message {
        topic: Some(topic.clone()),
        user_properties,
        system_properties: Some(system_properties),
        body: message.body,
    }
}
