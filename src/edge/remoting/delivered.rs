//! Messages for classic clients: model → wire. Hot path.
//!
//! Before: `unpacking`. What that left in gzip cannot be unpacked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::BytesMut;

use crate::broker::PulledMessage;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::compressed::is_gzip;
use crate::edge::remoting::message::{ID, KEYS, RECOVERY_SECONDS, SHARDING_KEY, TAG, TRACE};
use crate::edge::remoting::physical_offset::physical_offset;
use crate::edge::remoting::put_off::DELIVER_AT;
use crate::edge::remoting::send_marks::{REGION, THE_REGION};
use crate::edge::remoting::store_host::ipv4;
use crate::model::{BodyEncoding, Message, MessageRef, MessageType, QueueId, QueueOffset, Timestamp, TopicName};
use crate::proto::remoting::sys_flag::{COMPRESSED, TRANSACTION_COMMIT};
use crate::proto::remoting::{Malformed, ResponseCode, StoredMessage, put_property};

const UNKNOWN_HOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// The host that created a message, if it is no address.
const BORN_HOST: &str = "__BORNHOST";

/// Where a message is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub topic: &'a TopicName,
    pub queue: QueueId,
    pub offset: QueueOffset,
    pub stored_at: Timestamp,
    pub at: MessageRef,
    pub store_host: SocketAddr,
}

/// Adds a message to the body of an answer; `marks` are properties beside its own, as far as there is room for them.
pub(super) fn put(
    body: &mut BytesMut,
    pulled: PulledMessage,
    topic: &TopicName,
    queue: QueueId,
    store_host: SocketAddr,
    marks: &[(&str, &str)],
) -> Result<(), Refused> {
    let PulledMessage { message, offset, stored_at, at } = pulled;
    put_at(body, &message, Place { topic, queue, offset, stored_at, at, store_host }, marks)
}

/// The same of a message at a place.
pub(super) fn put_at(
    body: &mut BytesMut,
    message: &Message,
    place: Place<'_>,
    marks: &[(&str, &str)],
) -> Result<(), Refused> {
    let mut stored = stored(message, place, &[])?;
    for (name, value) in marks {
        let _ = put_property(&mut stored.properties, name, value);
    }
    if message.message_type == MessageType::Transaction {
        stored.system_flags |= TRANSACTION_COMMIT;
        stored.prepared_offset = stored.physical_offset;
    }
    stored.put(body).map_err(unwritable)
}

/// A message as classic clients read it, once its body is unpacked; `more` are properties beside its own.
pub(super) fn stored(message: &Message, place: Place<'_>, more: &[(&str, &str)]) -> Result<StoredMessage, Refused> {
    let mut properties = properties(message).map_err(unwritable)?;
    for (name, value) in more {
        put_property(&mut properties, name, value).map_err(unwritable)?;
    }
    // Java 5 writes no trace of a message from nowhere. One whose own properties leave no room goes without: it was taken in.
    let _ = put_property(&mut properties, REGION, THE_REGION);
    let system_flags = if message.body_encoding == BodyEncoding::Gzip && !is_gzip(message) { COMPRESSED } else { 0 };
    let marks = message.classic.unwrap_or_default();
    Ok(StoredMessage {
        topic: place.topic.as_str().to_owned(),
        queue: place.queue.0.cast_signed(),
        queue_offset: place.offset.0.cast_signed(),
        physical_offset: physical_offset(place.at),
        flag: marks.flag,
        system_flags,
        born_at: message.born_at.0.cast_signed(),
        born_host: ipv4(born_host(&message.born_host, marks.born_port).unwrap_or(UNKNOWN_HOST)),
        stored_at: place.stored_at.0.cast_signed(),
        store_host: place.store_host,
        reconsume_times: marks.reconsume_times.cast_signed(),
        prepared_offset: 0,
        body: message.body.clone(),
        properties,
    })
}

pub(super) fn unwritable(error: Malformed) -> Refused {
    Refused::new(ResponseCode::SystemError, format!("a message cannot be given to a classic client: {error}"))
}

/// The text of a message's properties.
pub(super) fn properties(message: &Message) -> Result<String, Malformed> {
    let mut text = String::with_capacity(
        96 + message.properties.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>(),
    );
    for (name, value) in &message.properties {
        put_property(&mut text, name, value)?;
    }
    if let Some(tag) = &message.tag {
        put_property(&mut text, TAG, tag)?;
    }
    if !message.keys.is_empty() {
        put_property(&mut text, KEYS, &message.keys.join(" "))?;
    }
    if let Some(group) = &message.message_group {
        put_property(&mut text, SHARDING_KEY, group)?;
    }
    if let Some(trace) = &message.trace_context {
        put_property(&mut text, TRACE, trace)?;
    }
    if message.classic.is_none() {
        put_what_grpc_says(&mut text, message)?;
    }
    put_property(&mut text, ID, &message.message_id)?;
    Ok(text)
}

/// What a gRPC client has fields for and a classic one properties, which its own messages have.
fn put_what_grpc_says(text: &mut String, message: &Message) -> Result<(), Malformed> {
    if let Some(at) = message.delivery_at {
        put_property(text, DELIVER_AT, &at.0.to_string())?;
    }
    if let Some(after) = message.recovery_after {
        put_property(text, RECOVERY_SECONDS, &(after.0 / 1000).to_string())?;
    }
    if born_host(&message.born_host, 0).is_none() {
        put_property(text, BORN_HOST, &message.born_host)?;
    }
    Ok(())
}

/// Clients of gRPC say any text; `None` for one that is no address.
fn born_host(text: &str, port: u16) -> Option<SocketAddr> {
    let with_port = text.parse::<SocketAddr>().ok();
    with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port)))
}
