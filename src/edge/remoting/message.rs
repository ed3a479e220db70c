//! Messages of classic clients: wire → model. Hot path.
//!
//! A classic client puts everything but the body into properties. Those that the model has fields for go there; the others are
//! properties of the message, whatever their names.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::edge::remoting::codes::Refused;
use crate::edge::rules;
use crate::edge::rules::message::MessageLimits;
use crate::model::{BodyEncoding, ClassicMarks, Message, MessageType, Timestamp};
use crate::proto::remoting::sys_flag::{Compression, compression};
use crate::proto::remoting::{PROPERTIES_BYTES_MAX, ResponseCode, read_properties};

pub(super) const ID: &str = "UNIQ_KEY";
pub(super) const TAG: &str = "TAGS";
pub(super) const KEYS: &str = "KEYS";
/// Whether the producer waits until the message is stored. It always is before the answer.
const WAIT: &str = "WAIT";
/// What would put a message off or into a transaction. Not served yet, and never taken for a plain message.
const NOT_SERVED: [&str; 5] = ["DELAY", "TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS", "TRAN_MSG"];

/// What the messages of one request share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub system_flags: i32,
    pub born_at: i64,
    pub born_host: SocketAddr,
    pub reconsume_times: u32,
    pub limits: MessageLimits,
}

/// Translates and checks one message. `id` makes one for a message that has none.
pub(super) fn read(
    flag: i32,
    body: Bytes,
    properties: &str,
    origin: &Origin,
    id: impl FnOnce() -> String,
) -> Result<Message, Refused> {
    let illegal = |text: String| Refused::new(ResponseCode::MessageIllegal, text);
    if properties.len() > PROPERTIES_BYTES_MAX {
        let bytes = properties.len();
        return Err(illegal(format!("the properties of {bytes} bytes are longer than {PROPERTIES_BYTES_MAX}")));
    }
    let mut message = Message {
        message_id: String::new(),
        message_type: MessageType::Normal,
        body_encoding: encoding(origin.system_flags)?,
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
    for (name, value) in read_properties(properties) {
        match name {
            ID => value.clone_into(&mut message.message_id),
            TAG => message.tag = Some(value.to_owned()),
            KEYS => message.keys = vec![value.to_owned()],
            WAIT => {}
            name if NOT_SERVED.contains(&name) => {
                let text = format!(
                    "the property {name} is not served over the classic protocol yet: delayed and transactional messages \
                     are sent over gRPC"
                );
                return Err(illegal(text));
            }
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
    rules::message::check_essentials(&message, origin.limits)?;
    Ok(message)
}

/// gRPC clients read both of zlib's forms under the name of gzip; the other kinds no other client reads.
fn encoding(system_flags: i32) -> Result<BodyEncoding, Refused> {
    match compression(system_flags) {
        Ok(None) => Ok(BodyEncoding::Identity),
        Ok(Some(Compression::Zlib)) => Ok(BodyEncoding::Gzip),
        other => {
            let text =
                format!("a body compressed by {other:?} is not served: set rocketmq.message.compressType to ZLIB");
            Err(Refused::new(ResponseCode::MessageIllegal, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Millis;

    fn origin(system_flags: i32) -> Origin {
        Origin {
            system_flags,
            born_at: 5,
            born_host: "[::ffff:10.0.0.9]:77".parse().unwrap(),
            reconsume_times: 2,
            limits: MessageLimits { body_bytes_max: 4, delay_max: Millis(0), now: Timestamp(9) },
        }
    }

    fn read_as(properties: &str, system_flags: i32) -> Result<Message, ResponseCode> {
        let read = read(-7, Bytes::from_static(b"body"), properties, &origin(system_flags), || "made".into());
        read.map_err(|refused| refused.code)
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
    fn what_is_not_served_is_never_stored_as_a_plain_message() {
        for name in NOT_SERVED {
            assert_eq!(read_as(&format!("{name}\u{1}1"), 0), Err(ResponseCode::MessageIllegal), "{name}");
        }
        for flags in [0x101, 0x201, 0x401] {
            assert_eq!(read_as("", flags), Err(ResponseCode::MessageIllegal), "{flags:#x}");
        }
        let long = format!("a\u{1}{}", "v".repeat(PROPERTIES_BYTES_MAX));
        assert_eq!(read_as(&long, 0), Err(ResponseCode::MessageIllegal));
        let id = format!("UNIQ_KEY\u{1}{}", "i".repeat(1025));
        assert_eq!(read_as(&id, 0), Err(ResponseCode::MessageIllegal));
        let large = read(0, Bytes::from_static(b"large"), "", &origin(0), String::new).unwrap_err();
        let empty = read(0, Bytes::new(), "", &origin(0), String::new).unwrap_err();
        assert_eq!([large.code, empty.code], [ResponseCode::MessageIllegal; 2]);
    }
}
