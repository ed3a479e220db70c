//! Messages for classic clients: model → wire. Hot path.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::{Bytes, BytesMut};

use crate::broker::PulledMessage;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::gunzip::gunzip;
use crate::edge::remoting::message::{ID, KEYS, TAG};
use crate::edge::remoting::physical_offset::physical_offset;
use crate::edge::remoting::store_host::ipv4;
use crate::model::{BodyEncoding, Message, QueueId, TopicName};
use crate::proto::remoting::sys_flag::COMPRESSED;
use crate::proto::remoting::{Malformed, ResponseCode, StoredMessage, put_property};

/// gzip begins so; what does not is in zlib's form, as classic clients write and read it.
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];
/// The message group of FIFO order, as RocketMQ's proxy names it.
const SHARDING_KEY: &str = "__SHARDINGKEY";

/// Adds a message to the body of an answer.
pub(super) fn put(
    body: &mut BytesMut,
    pulled: PulledMessage,
    topic: &TopicName,
    queue: QueueId,
    store_host: SocketAddr,
) -> Result<(), Refused> {
    let PulledMessage { message, offset, stored_at, at } = pulled;
    let properties = properties(&message).map_err(unwritable)?;
    let (encoded, system_flags) = encoded(&message);
    let marks = message.classic.unwrap_or_default();
    let born_at = message.born_at.0;
    let stored = StoredMessage {
        topic: topic.as_str().to_owned(),
        queue: queue.0.cast_signed(),
        queue_offset: offset.0.cast_signed(),
        physical_offset: physical_offset(at),
        flag: marks.flag,
        system_flags,
        born_at: born_at.cast_signed(),
        born_host: born_host(&message.born_host, marks.born_port),
        stored_at: stored_at.0.cast_signed(),
        store_host,
        reconsume_times: marks.reconsume_times.cast_signed(),
        prepared_offset: 0,
        body: encoded,
        properties,
    };
    stored.put(body).map_err(unwritable)
}

fn unwritable(error: Malformed) -> Refused {
    Refused::new(ResponseCode::SystemError, format!("a message cannot be given to a classic client: {error}"))
}

/// The text of a message's properties.
pub(super) fn properties(message: &Message) -> Result<String, Malformed> {
    let mut text = String::with_capacity(
        64 + message.properties.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>(),
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
    put_property(&mut text, ID, &message.message_id)?;
    Ok(text)
}

/// The body and the flags that say how it is compressed. The gzip of gRPC clients is not what classic clients read.
fn encoded(message: &Message) -> (Bytes, i32) {
    match message.body_encoding {
        BodyEncoding::Identity => (message.body.clone(), 0),
        // What cannot be unpacked is given as it is: a message that is refused would stop its consumers.
        BodyEncoding::Gzip if message.body.starts_with(&GZIP_MAGIC) => {
            (gunzip(&message.body).unwrap_or_else(|| message.body.clone()), 0)
        }
        BodyEncoding::Gzip => (message.body.clone(), COMPRESSED),
    }
}

/// Clients of gRPC say any text.
fn born_host(text: &str, port: u16) -> SocketAddr {
    let with_port = text.parse::<SocketAddr>().ok();
    let address = with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port)));
    ipv4(address.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
}
