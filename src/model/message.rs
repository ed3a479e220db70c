//! A message as the log stores it.
//!
//! Hot path. The body is shared, never copied, between request, log record, tail cache and delivery.

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{Malformed, Reader, Writer};
use super::time::{Millis, Timestamp};

const VERSION: u8 = 1;

/// What kind of delivery the message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageType {
    /// Delivered at once, in no promised order.
    Normal = 1,
    /// Ordered inside its message group.
    Fifo = 2,
    /// Delivered at its delivery time.
    Delay = 3,
    /// Delivered after its transaction is committed.
    Transaction = 4,
    /// RocketMQ 5.4 lite topics; known by name, not served.
    Lite = 5,
    /// Higher first.
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

/// What a topic takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicType {
    /// Messages of this type only.
    Only(MessageType),
    /// NORMAL, FIFO, DELAY and TRANSACTION.
    Mixed,
}

impl TopicType {
    const MIXED: u8 = 7;
    /// Those that can be made.
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

    /// From RocketMQ's name of one that can be made, in any case.
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

    /// Whether every group consumes it in order.
    pub fn is_fifo(self) -> bool {
        self == Self::Only(MessageType::Fifo)
    }

    /// Whether what is more urgent comes first.
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

/// One message: what its producer sent. Where it was stored is not part of it.
///
/// * Shape of the encoding: version, type, encoding, born, texts, keys, properties, body last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Chosen by the client; opaque.
    pub message_id: String,
    /// Kind of delivery.
    pub message_type: MessageType,
    /// Encoding of `body`.
    pub body_encoding: BodyEncoding,
    /// The body as transmitted.
    pub body: Bytes,
    /// Tag for filtering.
    pub tag: Option<String>,
    /// Search keys.
    pub keys: Vec<String>,
    /// User properties, sorted by key.
    pub properties: Vec<(String, String)>,
    /// When the client made it.
    pub born_at: Timestamp,
    /// Which host made it.
    pub born_host: String,
    /// Key of FIFO order.
    pub message_group: Option<String>,
    /// When a delayed message becomes visible.
    pub delivery_at: Option<Timestamp>,
    /// Opaque tracing text.
    pub trace_context: Option<String>,
    /// Priority, when the type is that.
    pub priority: Option<u32>,
    /// How long a half message waits for its first check.
    pub recovery_after: Option<Millis>,
}

impl Message {
    /// The bytes for the log.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_bytes_hint());
        out.put_u8(VERSION);
        out.put_u8(self.message_type as u8);
        out.put_u8(self.body_encoding as u8);
        out.put_u64(self.born_at.0);
        out.put_text(&self.message_id);
        out.put_text(&self.born_host);
        out.put_option(self.tag.as_deref(), |out, text| out.put_text(text));
        out.put_list(&self.keys, |out, key| out.put_text(key));
        out.put_list(&self.properties, |out, (key, value)| {
            out.put_text(key);
            out.put_text(value);
        });
        out.put_option(self.message_group.as_deref(), |out, text| out.put_text(text));
        out.put_option(self.delivery_at, |out, at| out.put_u64(at.0));
        out.put_option(self.trace_context.as_deref(), |out, text| out.put_text(text));
        out.put_option(self.priority, |out, priority| out.put_u32(priority));
        out.put_option(self.recovery_after, |out, length| out.put_u64(length.0));
        out.put_bytes_field(&self.body);
        out.freeze()
    }

    /// The message id in the bytes of the log, without decoding the rest.
    pub fn id_in(bytes: &[u8]) -> Option<&[u8]> {
        // Version, type, encoding and time stand before it.
        let length = bytes.get(11..15)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        bytes.get(15..15usize.checked_add(usize::try_from(length).ok()?)?)
    }

    /// From the bytes of the log; the body shares them.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "message");
        let version = reader.u8()?;
        if version != VERSION {
            return Err(reader.unknown(version.into()));
        }
        let message_type = reader.u8()?;
        let message_type = MessageType::from_u8(message_type).ok_or_else(|| reader.unknown(message_type.into()))?;
        let body_encoding = match reader.u8()? {
            1 => BodyEncoding::Identity,
            2 => BodyEncoding::Gzip,
            value => return Err(reader.unknown(value.into())),
        };
        Ok(Self {
            message_type,
            body_encoding,
            born_at: Timestamp(reader.u64()?),
            message_id: reader.text()?,
            born_host: reader.text()?,
            tag: reader.option(Reader::text)?,
            keys: reader.list(Reader::text)?,
            properties: reader.list(|reader| Ok((reader.text()?, reader.text()?)))?,
            message_group: reader.option(Reader::text)?,
            delivery_at: reader.option(Reader::u64)?.map(Timestamp),
            trace_context: reader.option(Reader::text)?,
            priority: reader.option(Reader::u32)?,
            recovery_after: reader.option(Reader::u64)?.map(Millis),
            body: reader.bytes()?,
        })
    }

    fn encoded_bytes_hint(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let keys: usize = self.keys.iter().map(|key| key.len() + 4).sum();
        let properties: usize = self.properties.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        96 + self.body.len()
            + self.message_id.len()
            + self.born_host.len()
            + text(&self.tag)
            + text(&self.message_group)
            + text(&self.trace_context)
            + keys
            + properties
    }
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
        }
    }

    #[test]
    fn a_message_survives_the_log_byte_for_byte() {
        let message = sample();
        assert_eq!(Message::id_in(&message.encode()), Some(&b"01A2"[..]));
        assert_eq!(Message::id_in(&message.encode()[..18]), None);
        assert_eq!(Message::decode(message.encode()), Ok(message));
    }

    #[test]
    fn a_message_cut_short_anywhere_is_refused() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert!(Message::decode(bytes.slice(..end)).is_err(), "cut at {end}");
        }
    }
}
