//! Messages of classic clients: wire → model. Hot path.
//!
//! A classic client puts everything but the body into properties. Those that the model has fields for go there; the others are
//! properties of the message, whatever their names. What a delay is said by stays, as RocketMQ leaves it.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::compressed::{UNPACKED_MAX, as_zlib};
use crate::edge::remoting::put_off;
use crate::edge::remoting::send_marks::{REGION, TRACE_ON};
use crate::edge::rules;
use crate::edge::rules::message::MessageLimits;
use crate::env::panic::contain;
use crate::env::pool::Pool;
use crate::model::limits::TRANSACTION_RECOVERY_MAX;
use crate::model::{BodyEncoding, ClassicMarks, Message, MessageType, Millis, Timestamp};
use crate::proto::remoting::sys_flag::{Compression, TRANSACTION_PREPARED, TRANSACTION_ROLLBACK, compression};
use crate::proto::remoting::{PROPERTIES_BYTES_MAX, ResponseCode, read_properties};

pub(super) const ID: &str = "UNIQ_KEY";
pub(super) const TAG: &str = "TAGS";
pub(super) const KEYS: &str = "KEYS";
/// The message group of FIFO order, as RocketMQ's proxy names it.
pub(super) const SHARDING_KEY: &str = "__SHARDINGKEY";
pub(super) const TRACE: &str = "TRACE_CONTEXT";
/// `true` on a half message.
pub(super) const HALF: &str = "TRAN_MSG";
/// From when it is stored to the first question.
pub(super) const RECOVERY_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
/// Whether the producer waits until the message is stored. It always is before the answer.
const WAIT: &str = "WAIT";

/// What the messages of one request share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub system_flags: i32,
    pub born_at: i64,
    pub born_host: SocketAddr,
    pub reconsume_times: u32,
    pub limits: MessageLimits,
}

/// A body as it is stored: in no other form than all clients read.
pub(super) struct Body {
    bytes: Bytes,
    encoding: BodyEncoding,
}

/// Translates and checks one message. `id` makes one for a message that has none.
pub(super) fn read(
    flag: i32,
    body: Body,
    properties: &str,
    origin: &Origin,
    id: impl FnOnce() -> String,
) -> Result<Message, Refused> {
    if properties.len() > PROPERTIES_BYTES_MAX {
        let text = format!("the properties of {} bytes are longer than {PROPERTIES_BYTES_MAX}", properties.len());
        return Err(Refused::new(ResponseCode::MessageIllegal, text));
    }
    let Body { bytes: body, encoding: body_encoding } = body;
    let mut message = Message {
        message_id: String::new(),
        message_type: MessageType::Normal,
        body_encoding,
        body,
        body_md5: None,
        tag: None,
        keys: Vec::new(),
        properties: Vec::new(),
        born_at: Timestamp(u64::try_from(origin.born_at).unwrap_or(0)),
        born_host: origin.born_host.ip().to_canonical().to_string(),
        message_group: None,
        delivery_at: None,
        trace_context: None,
        priority: None,
        recovery_after: None,
        classic: Some(ClassicMarks {
            flag,
            reconsume_times: origin.reconsume_times,
            born_port: origin.born_host.port(),
        }),
    };
    let mut is_half = origin.system_flags & TRANSACTION_ROLLBACK == TRANSACTION_PREPARED;
    for (name, value) in read_properties(properties) {
        match name {
            ID => value.clone_into(&mut message.message_id),
            TAG => message.tag = Some(value.to_owned()),
            KEYS => message.keys = vec![value.to_owned()],
            SHARDING_KEY => message.message_group = Some(value.to_owned()),
            TRACE => message.trace_context = Some(value.to_owned()),
            HALF => is_half |= value.eq_ignore_ascii_case("true"),
            // What the broker says of itself, a message that is sent again has from its delivery.
            WAIT | REGION | TRACE_ON => {}
            name => message.properties.push((name.to_owned(), value.to_owned())),
        }
    }
    // In order, and of one name the last.
    message.properties.reverse();
    message.properties.sort_by(|(one, _), (other, _)| one.cmp(other));
    message.properties.dedup_by(|(one, _), (other, _)| one == other);
    if message.message_id.is_empty() {
        message.message_id = id();
    }
    message.delivery_at = put_off::delivery_at(&message.properties, origin.limits)?;
    // What a consumer sends to itself for later keeps the marks of its transaction, which is over.
    if is_half && !(origin.reconsume_times > 0 && message.delivery_at.is_some()) {
        begin_transaction(&mut message);
    } else if message.delivery_at.is_some() {
        message.message_type = MessageType::Delay;
    } else if message.message_group.is_some() {
        message.message_type = MessageType::Fifo;
    }
    rules::message::check_essentials(&message, origin.limits)?;
    Ok(message)
}

/// A half message has no delay: RocketMQ's clients take it away.
fn begin_transaction(message: &mut Message) {
    message.message_type = MessageType::Transaction;
    message.delivery_at = None;
    message.properties.retain(|(name, _)| name != put_off::LEVEL && !put_off::TIMERS.contains(&name.as_str()));
    let seconds = message.properties.iter().find(|(name, _)| name == RECOVERY_SECONDS);
    let seconds = seconds.and_then(|(_, value)| value.parse::<u64>().ok());
    message.recovery_after = seconds.map(|seconds| Millis(seconds.saturating_mul(1000)).min(TRANSACTION_RECOVERY_MAX));
}

/// The body of a message as it is stored. One of LZ4 or Zstandard is packed anew, away from this thread.
pub(super) async fn body(bytes: Bytes, origin: &Origin) -> Result<Body, Refused> {
    match stored_as(origin)? {
        StoredAs::It { encoding } => Ok(Body { bytes, encoding }),
        StoredAs::Zlib { from } => {
            let mut packed = pack_anew(vec![bytes], from, origin.limits.body_bytes_max).await?;
            packed.pop().ok_or_else(not_packed)
        }
    }
}

/// As [`body`], of the messages of a batch.
pub(super) async fn bodies(bodies: Vec<Bytes>, origin: &Origin) -> Result<Vec<Body>, Refused> {
    match stored_as(origin)? {
        StoredAs::It { encoding } => Ok(bodies.into_iter().map(|bytes| Body { bytes, encoding }).collect()),
        StoredAs::Zlib { from } => pack_anew(bodies, from, origin.limits.body_bytes_max).await,
    }
}

/// How a body is stored: as it is, or as every client reads it.
enum StoredAs {
    It { encoding: BodyEncoding },
    Zlib { from: Compression },
}

/// gRPC clients read both of zlib's forms under the name of gzip.
fn stored_as(origin: &Origin) -> Result<StoredAs, Refused> {
    let flags = origin.system_flags;
    let how = compression(flags)
        .map_err(|number| illegal(format!("the flags {flags} name the compression {number}, which there is not")))?;
    Ok(match how {
        None => StoredAs::It { encoding: BodyEncoding::Identity },
        Some(Compression::Zlib) => StoredAs::It { encoding: BodyEncoding::Gzip },
        Some(from) => StoredAs::Zlib { from },
    })
}

async fn pack_anew(bodies: Vec<Bytes>, from: Compression, max: usize) -> Result<Vec<Body>, Refused> {
    match Pool::Bodies.run(move || contain(|| packed_anew(bodies, from, max))).await {
        Ok(Ok(packed)) => packed,
        Ok(Err(_)) | Err(_) => Err(not_packed()),
    }
}

fn not_packed() -> Refused {
    Refused::new(ResponseCode::SystemError, "the body could not be packed as all clients read it")
}

/// Bodies of a request in zlib's form; all of them together are unpacked to no more than one may be.
fn packed_anew(bodies: Vec<Bytes>, from: Compression, max: usize) -> Result<Vec<Body>, Refused> {
    let mut left = UNPACKED_MAX;
    let pack = |body: Bytes| {
        if body.len() > max {
            // Not unpacked: the rules refuse it by its size.
            return Ok(Body { bytes: body, encoding: BodyEncoding::Gzip });
        }
        let (zlib, unpacked_bytes) = as_zlib(&body, from, left).ok_or_else(|| {
            illegal(format!(
                "the body of {} bytes is no {from:?}, or the request is larger than {UNPACKED_MAX} bytes when it is unpacked",
                body.len()
            ))
        })?;
        left -= unpacked_bytes;
        if zlib.len() > max {
            let bytes = zlib.len();
            return Err(illegal(format!(
                "the body, which is stored in zlib's form so that all clients read it, has {bytes} bytes then, more than {max} \
                 (maxMessageSize); set rocketmq.message.compressType to ZLIB"
            )));
        }
        Ok(Body { bytes: zlib, encoding: BodyEncoding::Gzip })
    };
    bodies.into_iter().map(pack).collect()
}

fn illegal(text: String) -> Refused {
    Refused::new(ResponseCode::MessageIllegal, text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::Millis;

    fn origin(system_flags: i32) -> Origin {
        Origin {
            system_flags,
            born_at: 5,
            born_host: "[::ffff:10.0.0.9]:77".parse().unwrap(),
            reconsume_times: 2,
            limits: MessageLimits { body_bytes_max: 4, delay_max: Millis::from_secs(7200), now: Timestamp(9) },
        }
    }

    fn read_as(properties: &str, system_flags: i32) -> Result<Message, ResponseCode> {
        let origin = origin(system_flags);
        let read = read_body(Bytes::from_static(b"body"), &origin)
            .and_then(|body| read(-7, body, properties, &origin, || "made".into()));
        read.map_err(|refused| refused.code)
    }

    fn read_body(bytes: Bytes, origin: &Origin) -> Result<Body, Refused> {
        match stored_as(origin)? {
            StoredAs::It { encoding } => Ok(Body { bytes, encoding }),
            StoredAs::Zlib { from } => {
                Ok(packed_anew(vec![bytes], from, origin.limits.body_bytes_max)?.pop().expect("as many as there were"))
            }
        }
    }

    fn as_it_is(bytes: &'static [u8]) -> Body {
        Body { bytes: Bytes::from_static(bytes), encoding: BodyEncoding::Identity }
    }

    /// Some message.
    pub fn plain() -> Message {
        read_as("", 0).unwrap()
    }

    #[test]
    fn properties_become_what_the_model_has_for_them() {
        let text = "b\u{1}2\u{2}UNIQ_KEY\u{1}ID\u{2}TAGS\u{1}TagA\u{2}KEYS\u{1}k1 k2\u{2}WAIT\u{1}false\u{2}a\u{1}1\u{2}b\u{1}3\u{2}TTL\u{1}9";
        let message = read_as(text, 0).unwrap();
        assert_eq!((message.message_id.as_str(), message.tag.as_deref()), ("ID", Some("TagA")));
        assert_eq!((message.keys, message.born_host.as_str()), (vec!["k1 k2".to_owned()], "10.0.0.9"));
        let pairs = [("TTL", "9"), ("a", "1"), ("b", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(message.properties, pairs, "in order, and the last of one name");
        assert_eq!(message.classic, Some(ClassicMarks { flag: -7, reconsume_times: 2, born_port: 77 }));
        let message = read_as("", 0x301).unwrap();
        assert_eq!((message.message_id.as_str(), message.body_encoding), ("made", BodyEncoding::Gzip));
    }

    #[test]
    fn delays_and_transactions_are_what_the_properties_say() {
        let message = read_as("DELAY\u{1}2\u{2}", 0).unwrap();
        assert_eq!((message.message_type, message.delivery_at), (MessageType::Delay, Some(Timestamp(5009))));
        assert_eq!(message.properties, [("DELAY".to_owned(), "2".to_owned())], "as RocketMQ leaves it");
        let half = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}p\u{2}DELAY\u{1}2\u{2}CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}7";
        let mut plain = origin(0);
        plain.reconsume_times = 0;
        let read_plain = |text| read(0, as_it_is(b"body"), text, &plain, String::new).unwrap();
        let message = read_plain(half);
        assert_eq!((message.message_type, message.delivery_at), (MessageType::Transaction, None));
        assert_eq!(message.recovery_after, Some(Millis(7000)));
        assert!(message.properties.iter().all(|(name, _)| name != "DELAY" && name != HALF), "{message:?}");
        assert_eq!(read_plain("TRAN_MSG\u{1}false").message_type, MessageType::Normal);
        assert_eq!(read_as("TRAN_MSG\u{1}True", 0).unwrap().message_type, MessageType::Transaction);
        assert_eq!(read_as(half, 0).unwrap().message_type, MessageType::Delay, "a retry of a consumer");
        for (flags, message_type) in
            [(4, MessageType::Transaction), (8, MessageType::Normal), (12, MessageType::Normal)]
        {
            assert_eq!(read_as("", flags).unwrap().message_type, message_type, "{flags}");
        }
        let message = read_as("__SHARDINGKEY\u{1}g\u{2}TRACE_CONTEXT\u{1}t\u{2}", 0).unwrap();
        assert_eq!((message.message_type, message.message_group.as_deref()), (MessageType::Fifo, Some("g")));
        assert_eq!((message.trace_context.as_deref(), message.properties), (Some("t"), Vec::new()));
        assert_eq!(read_as("DELAY\u{1}soon", 0), Err(ResponseCode::MessageIllegal));
        assert_eq!(
            read_as("TIMER_DELAY_MS\u{1}7200001", 0),
            Err(ResponseCode::MessageIllegal),
            "later than is allowed"
        );
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        for flags in [0x101, 0x201, 0x401] {
            assert_eq!(read_as("", flags), Err(ResponseCode::MessageIllegal), "{flags:#x}");
        }
        let long = format!("a\u{1}{}", "v".repeat(PROPERTIES_BYTES_MAX));
        assert_eq!(read_as(&long, 0), Err(ResponseCode::MessageIllegal));
        let id = format!("UNIQ_KEY\u{1}{}", "i".repeat(1025));
        assert_eq!(read_as(&id, 0), Err(ResponseCode::MessageIllegal));
        let large = read(0, as_it_is(b"large"), "", &origin(0), String::new).unwrap_err();
        let empty = read(0, as_it_is(b""), "", &origin(0), String::new).unwrap_err();
        assert_eq!([large.code, empty.code], [ResponseCode::MessageIllegal; 2]);
    }
}
