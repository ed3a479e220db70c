//! A message as the log stores it.
//!
//! Hot path. The body is shared, never copied, between request, log record, tail cache and delivery.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::time::{Millis, Timestamp};

const VERSION: u8 = 2;
/// With what classic clients say beside.
const VERSION_CLASSIC: u8 = 3;
/// Where the id begins: version, type and the bits are before it.
const ID_AT: usize = 3;
/// Bits of what a message has.
const GZIP: u8 = 1;
const TAG: u8 = 1 << 1;
const GROUP: u8 = 1 << 2;
const DELIVERY: u8 = 1 << 3;
const TRACE: u8 = 1 << 4;
const PRIORITY: u8 = 1 << 5;
const RECOVERY: u8 = 1 << 6;
const MD5: u8 = 1 << 7;

/// What kind of delivery the message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageType {
    /// Delivered at once, in no particular order.
    Normal = 1,
    /// Ordered inside its message group.
    Fifo = 2,
    /// Delivered at its delivery time.
    Delay = 3,
    /// Delivered after its transaction is committed.
    Transaction = 4,
    /// For lite topics of RocketMQ 5.4; known by name, not served.
    Lite = 5,
    /// The highest priority first.
    Priority = 6,
}

impl MessageType {
    /// From the stored byte.
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Normal,
            2 => Self::Fifo,
            3 => Self::Delay,
            4 => Self::Transaction,
            5 => Self::Lite,
            6 => Self::Priority,
            _ => return None,
        })
    }

    /// RocketMQ's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Fifo => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
            Self::Lite => "LITE",
            Self::Priority => "PRIORITY",
        }
    }
}

/// Which messages a topic takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicType {
    /// Messages of this type only.
    Only(MessageType),
    /// NORMAL, FIFO, DELAY and TRANSACTION.
    Mixed,
}

impl TopicType {
    const MIXED: u8 = 7;
    /// Those that can be created.
    pub const SERVED: [Self; 6] = [
        Self::Only(MessageType::Normal),
        Self::Only(MessageType::Fifo),
        Self::Only(MessageType::Delay),
        Self::Only(MessageType::Transaction),
        Self::Only(MessageType::Priority),
        Self::Mixed,
    ];

    /// The stored byte.
    pub fn to_u8(self) -> u8 {
        match self {
            Self::Only(message_type) => message_type as u8,
            Self::Mixed => Self::MIXED,
        }
    }

    /// From the stored byte.
    pub fn from_u8(value: u8) -> Option<Self> {
        if value == Self::MIXED { Some(Self::Mixed) } else { MessageType::from_u8(value).map(Self::Only) }
    }

    /// RocketMQ's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Only(message_type) => message_type.name(),
            Self::Mixed => "MIXED",
        }
    }

    /// From RocketMQ's name, in upper or lower case, of a type that can be created.
    pub fn parse(text: &str) -> Option<Self> {
        Self::SERVED.into_iter().find(|known| known.name().eq_ignore_ascii_case(text))
    }

    /// The types of message it takes.
    pub fn accepted(self) -> Vec<MessageType> {
        match self {
            Self::Only(message_type) => vec![message_type],
            Self::Mixed => {
                vec![MessageType::Normal, MessageType::Fifo, MessageType::Delay, MessageType::Transaction]
            }
        }
    }

    /// Whether it takes messages of this type.
    pub fn accepts(self, message_type: MessageType) -> bool {
        match self {
            Self::Only(only) => only == message_type,
            Self::Mixed => self.accepted().contains(&message_type),
        }
    }

    /// Whether it takes messages of this type into a queue that their producer chose. Topics of classic clients have no types,
    /// so it does, unless the order of its queues depends on the type.
    pub fn accepts_in_queue(self, message_type: MessageType) -> bool {
        match self {
            Self::Only(MessageType::Fifo) => message_type == MessageType::Fifo,
            Self::Only(MessageType::Priority) => message_type == MessageType::Normal,
            Self::Only(_) | Self::Mixed => true,
        }
    }

    /// Whether every group consumes it in order.
    pub fn is_fifo(self) -> bool {
        self == Self::Only(MessageType::Fifo)
    }

    /// Whether messages of a higher priority are delivered first.
    pub fn is_priority(self) -> bool {
        self == Self::Only(MessageType::Priority)
    }
}

/// How the body is encoded; the broker passes it through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEncoding {
    /// As the application wrote it.
    Identity = 1,
    /// Compressed by the client (gzip or zlib frames).
    Gzip = 2,
}

/// What a client of the classic protocol says of a message and no other has a field for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassicMarks {
    /// The application's own.
    pub flag: i32,
    /// How often its group could not consume it.
    pub reconsume_times: u32,
    /// Of the host that created it.
    pub born_port: u16,
}

/// One message as its producer sent it. Where it was stored is not part of it.
///
/// * Shape: version, type, a bit for each optional field, id, born, host, keys, properties, the optional fields that
///   there are, in version 3 the marks of a classic client, body. Most messages are small, so a field that is missing takes
///   no byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Chosen by the client; opaque.
    pub message_id: String,
    pub message_type: MessageType,
    pub body_encoding: BodyEncoding,
    /// As transmitted.
    pub body: Bytes,
    /// The MD5 of the body, computed where the message entered; earlier builds stored none.
    pub body_md5: Option<[u8; 16]>,
    /// Tag for filtering.
    pub tag: Option<String>,
    /// Search keys.
    pub keys: Vec<String>,
    /// User properties, sorted by key.
    pub properties: Vec<(String, String)>,
    /// When the client created it.
    pub born_at: Timestamp,
    /// The host that created it.
    pub born_host: String,
    /// Key of FIFO order.
    pub message_group: Option<String>,
    /// When a delayed message can be delivered.
    pub delivery_at: Option<Timestamp>,
    /// Opaque.
    pub trace_context: Option<String>,
    /// For messages of type PRIORITY.
    pub priority: Option<u32>,
    /// From when a half message is stored to its first check.
    pub recovery_after: Option<Millis>,
    /// If a classic client sent it.
    pub classic: Option<ClassicMarks>,
}

impl Message {
    /// The bytes for the log.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_bytes_hint());
        out.put_u8(if self.classic.is_some() { VERSION_CLASSIC } else { VERSION });
        out.put_u8(self.message_type as u8);
        let has = [
            (self.body_encoding == BodyEncoding::Gzip, GZIP),
            (self.tag.is_some(), TAG),
            (self.message_group.is_some(), GROUP),
            (self.delivery_at.is_some(), DELIVERY),
            (self.trace_context.is_some(), TRACE),
            (self.priority.is_some(), PRIORITY),
            (self.recovery_after.is_some(), RECOVERY),
            (self.body_md5.is_some(), MD5),
        ];
        out.put_u8(has.into_iter().filter(|(has, _)| *has).map(|(_, bit)| bit).sum());
        put_id(&mut out, &self.message_id);
        out.put_varint(self.born_at.0);
        out.put_text(&self.born_host);
        out.put_list(&self.keys, |out, key| out.put_text(key));
        out.put_list(&self.properties, |out, (key, value)| {
            out.put_text(key);
            out.put_text(value);
        });
        for text in [&self.tag, &self.message_group, &self.trace_context].into_iter().flatten() {
            out.put_text(text);
        }
        if let Some(at) = self.delivery_at {
            out.put_varint(at.0);
        }
        if let Some(priority) = self.priority {
            out.put_varint(priority.into());
        }
        if let Some(length) = self.recovery_after {
            out.put_varint(length.0);
        }
        if let Some(md5) = &self.body_md5 {
            out.put_slice(md5);
        }
        if let Some(classic) = self.classic {
            classic.encode(&mut out);
        }
        out.put_bytes_field(&self.body);
        out.freeze()
    }

    /// The bytes of the message id in an encoded message, without decoding the rest: equal for equal ids.
    pub fn id_in(bytes: &[u8]) -> Option<&[u8]> {
        let id = bytes.get(ID_AT..)?;
        let (low, high) = (*id.first()?, id.get(1).copied().unwrap_or(0));
        let (head, size) =
            if low < 0x80 { (1, low.into()) } else { (2, usize::from(low & 0x7f) | usize::from(high) << 7) };
        id.get(..head + (size >> 1))
    }

    /// From the bytes of the log; the body shares them.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let is_classic = bytes.first() == Some(&VERSION_CLASSIC);
        let mut reader = Reader::versioned(bytes, "message", if is_classic { VERSION_CLASSIC } else { VERSION })?;
        let message_type = reader.u8()?;
        let message_type = MessageType::from_u8(message_type).ok_or_else(|| reader.unknown(message_type.into()))?;
        let has = reader.u8()?;
        let has = |bit: u8| has & bit != 0;
        Ok(Self {
            message_type,
            body_encoding: if has(GZIP) { BodyEncoding::Gzip } else { BodyEncoding::Identity },
            message_id: read_id(&mut reader)?,
            born_at: Timestamp(reader.varint()?),
            born_host: reader.text()?,
            keys: reader.list(Reader::text)?,
            properties: reader.list(|reader| Ok((reader.text()?, reader.text()?)))?,
            tag: has(TAG).then(|| reader.text()).transpose()?,
            message_group: has(GROUP).then(|| reader.text()).transpose()?,
            trace_context: has(TRACE).then(|| reader.text()).transpose()?,
            delivery_at: has(DELIVERY).then(|| reader.varint()).transpose()?.map(Timestamp),
            priority: has(PRIORITY).then(|| reader.varint_u32()).transpose()?,
            recovery_after: has(RECOVERY).then(|| reader.varint()).transpose()?.map(Millis),
            body_md5: has(MD5).then(|| read_md5(&mut reader)).transpose()?,
            classic: is_classic.then(|| ClassicMarks::decode(&mut reader)).transpose()?,
            body: reader.bytes()?,
        })
    }

    fn encoded_bytes_hint(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let keys: usize = self.keys.iter().map(|key| key.len() + 4).sum();
        let properties: usize = self.properties.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        112 + self.body.len()
            + self.message_id.len()
            + self.born_host.len()
            + text(&self.tag)
            + text(&self.message_group)
            + text(&self.trace_context)
            + keys
            + properties
    }
}

impl ClassicMarks {
    fn encode(self, out: &mut BytesMut) {
        out.put_varint(u64::from(self.flag.cast_unsigned()));
        out.put_varint(self.reconsume_times.into());
        out.put_varint(self.born_port.into());
    }

    fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        let flag = reader.varint_u32()?.cast_signed();
        let reconsume_times = reader.varint_u32()?;
        let port = reader.varint_u32()?;
        let born_port = u16::try_from(port).map_err(|_| reader.unknown(port.into()))?;
        Ok(Self { flag, reconsume_times, born_port })
    }
}

/// Ids of the official clients are upper-case hex digits and are stored in half as many bytes. The size before the id is
/// that of its bytes, doubled, plus one for hex.
fn put_id(out: &mut BytesMut, id: &str) {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let pairs = id.as_bytes().chunks_exact(2);
    let is_hex = pairs.remainder().is_empty() && id.bytes().all(|byte| digit(&byte).is_some());
    if is_hex {
        out.put_varint(id.len() as u64 | 1);
        out.extend(pairs.filter_map(|pair| Some(digit(&pair[0])? << 4 | digit(&pair[1])?)));
    } else {
        out.put_varint((id.len() as u64) << 1);
        out.put_slice(id.as_bytes());
    }
}

fn read_md5(reader: &mut Reader) -> Result<[u8; 16], Malformed> {
    Ok(*reader.take(16)?.first_chunk().expect("sixteen bytes were taken"))
}

fn read_id(reader: &mut Reader) -> Result<String, Malformed> {
    let size = reader.varint_u32()?;
    let bytes = reader.take((size >> 1) as usize)?;
    if size & 1 == 0 {
        return String::from_utf8(bytes.into()).map_err(|_| Malformed::Utf8("message id"));
    }
    let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value & 15)]);
    Ok(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Message {
        Message {
            message_id: "01A2".into(),
            message_type: MessageType::Normal,
            body_encoding: BodyEncoding::Identity,
            body: Bytes::from_static(b"hi"),
            body_md5: Some([7; 16]),
            tag: Some("TagA".into()),
            keys: vec!["k1".into(), "k2".into()],
            properties: vec![("a".into(), "b".into())],
            born_at: Timestamp(5),
            born_host: "h".into(),
            message_group: None,
            delivery_at: Some(Timestamp(9)),
            trace_context: None,
            priority: Some(3),
            recovery_after: None,
            classic: None,
        }
    }

    #[test]
    fn a_message_survives_the_log_byte_for_byte() {
        let message = sample();
        assert_eq!(Message::decode(message.encode()), Ok(message));
    }

    #[test]
    fn ids_of_any_kind_come_back_and_differ_in_the_bytes_of_the_log() {
        let long = ["7", &"x".repeat(1023)].concat();
        let ids = ["01A2", "", "01a2", "01A", "1A2", "\u{1}\u{a2}", "\u{1}", "01A2 ", "äö", &long, &"0F".repeat(512)];
        let mut seen = std::collections::BTreeSet::new();
        for id in ids {
            let message = Message { message_id: id.to_owned(), ..sample() };
            let bytes = message.encode();
            let stands_for_it = Message::id_in(&bytes).unwrap();
            assert!(seen.insert(stands_for_it.to_vec()), "{id} has the bytes of another id");
            assert_eq!(Message::id_in(&bytes[..ID_AT + stands_for_it.len()]), Some(stands_for_it));
            assert_eq!(Message::id_in(&bytes[..ID_AT + stands_for_it.len() - 1]), None, "{id}");
            assert_eq!(Message::decode(bytes), Ok(message));
        }
    }

    #[test]
    fn every_mix_of_what_there_is_comes_back() {
        for bits in 0..=u8::MAX {
            let has = |bit: u8| bits & bit != 0;
            let message = Message {
                body_encoding: if has(GZIP) { BodyEncoding::Gzip } else { BodyEncoding::Identity },
                tag: has(TAG).then(|| "TagA".into()),
                message_group: has(GROUP).then(|| "g".into()),
                delivery_at: has(DELIVERY).then_some(Timestamp(1 << 41)),
                trace_context: has(TRACE).then(|| "00-1-2".into()),
                priority: has(PRIORITY).then_some(300),
                recovery_after: has(RECOVERY).then_some(Millis(60_000)),
                body_md5: has(MD5).then_some([0xFE; 16]),
                ..sample()
            };
            assert_eq!(Message::decode(message.encode()), Ok(message.clone()));
            let classic = Some(ClassicMarks { flag: -1 - i32::from(bits), reconsume_times: 300, born_port: 65_535 });
            let message = Message { classic, ..message };
            assert_eq!(Message::decode(message.encode()), Ok(message));
        }
    }

    /// The bytes of builds that stored no digest; [`every_mix_of_what_there_is_comes_back`] has the rest.
    #[test]
    fn p3_a_message_of_a_build_without_digests_is_read_and_written_as_it_was() {
        let stored = b"\x02\x01\x2A\x05\x01\xA2\x05\x01h\x02\x02k1\x02k2\x01\x01a\x01b\x04TagA\x09\x03\x02hi";
        let message = Message { body_md5: None, ..sample() };
        assert_eq!(Message::decode(Bytes::from_static(stored)), Ok(message.clone()));
        assert_eq!(message.encode(), &stored[..]);
    }

    #[test]
    fn a_message_cut_short_anywhere_is_refused() {
        for classic in [None, Some(ClassicMarks { flag: 1, reconsume_times: 2, born_port: 3 })] {
            let bytes = Message { classic, ..sample() }.encode();
            for end in 0..bytes.len() {
                assert!(Message::decode(bytes.slice(..end)).is_err(), "cut at {end}");
            }
        }
    }
}
