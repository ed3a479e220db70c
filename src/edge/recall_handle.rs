//! Recall handles: opaque to clients, and readable by any node, because a handle says where its message is stored.
//!
//! * Shape of what is sealed: `topic text, delivery time varint, index varint, slot varint, message id text`.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{HandleKey, HandleKind, LogIndex, MessageRef, NotAHandle, Timestamp, TopicName};

/// How the handles of earlier builds begin.
const EARLIER: &[u8] = b"v1 ";

/// What a handle says of a delayed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecallHandle {
    topic: String,
    pub delivery_at: Timestamp,
    pub message: MessageRef,
    pub message_id: String,
}

impl RecallHandle {
    pub fn new(topic: &TopicName, delivery_at: Timestamp, message: MessageRef, message_id: &str) -> Self {
        Self { topic: topic.to_string(), delivery_at, message, message_id: message_id.to_owned() }
    }

    pub fn to_text(&self, key: &HandleKey) -> String {
        key.seal(HandleKind::Recall, |out| {
            out.put_text(&self.topic);
            out.put_varint(self.delivery_at.0);
            out.put_varint(self.message.index.0);
            out.put_varint(self.message.slot.into());
            out.put_text(&self.message_id);
        })
    }

    /// The same in the form that RocketMQ's Java client takes apart: it sends the handle to the broker of that name.
    ///
    /// * Shape: `v1`, the topic, the broker's name, the delivery time, and the sealed text, with blanks between them.
    pub fn to_classic_text(&self, key: &HandleKey, broker_name: &str) -> String {
        let (topic, at, sealed) = (&self.topic, self.delivery_at, self.to_text(key));
        URL_SAFE.encode(format!("v1 {topic} {broker_name} {at} {sealed}"))
    }

    /// Reads a handle of a message of `topic`, in either form; the error is a text for the client.
    pub fn parse(topic: &TopicName, text: &str, key: &HandleKey) -> Result<Self, String> {
        let unwrapped = sealed_in(text);
        let sealed = unwrapped.as_deref().unwrap_or(text);
        let mut reader = key.open(HandleKind::Recall, sealed).map_err(|error| match error {
            NotAHandle::NeverGiven(kind) if is_of_earlier_build(text) => NotAHandle::OfEarlierBuild(kind).to_string(),
            NotAHandle::NeverGiven(_) => never_given(),
            error => error.to_string(),
        })?;
        let handle = Self::read(&mut reader).map_err(|_| never_given())?;
        if handle.topic != topic.as_str() {
            return Err(format!("this recall handle belongs to a message of another topic than '{topic}'"));
        }
        Ok(handle)
    }

    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            topic: reader.text()?,
            delivery_at: Timestamp(reader.varint()?),
            message: MessageRef { index: LogIndex(reader.varint()?), slot: reader.varint_u32()? },
            message_id: reader.text()?,
        })
    }
}

fn never_given() -> String {
    let refused = NotAHandle::NeverGiven(HandleKind::Recall);
    format!("{refused}; a send of a delayed message answers with one, and raftmq message delayed lists them")
}

/// What is sealed in a handle of the classic form.
fn sealed_in(text: &str) -> Option<String> {
    let plain = String::from_utf8(URL_SAFE.decode(text).ok()?).ok()?;
    let mut parts = plain.split(' ');
    let sealed = (parts.next() == Some("v1")).then(|| parts.nth(3)).flatten()?;
    parts.next().is_none().then(|| sealed.to_owned())
}

fn is_of_earlier_build(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.starts_with(EARLIER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_where_its_message_waits_and_nothing_else_is_one() {
        let key = HandleKey::new([3; 16]);
        let topic = TopicName::parse("t").unwrap();
        let message = MessageRef { index: LogIndex(7), slot: 3 };
        let handle = RecallHandle::new(&topic, Timestamp(99), message, "an id");
        let text = handle.to_text(&key);
        let classic = handle.to_classic_text(&key, "b0");
        let plain = String::from_utf8(URL_SAFE.decode(&classic).unwrap()).unwrap();
        assert_eq!(plain, format!("v1 t b0 99 {text}"), "as Java's client takes it apart");
        assert_eq!(RecallHandle::parse(&topic, &classic, &key), Ok(handle.clone()));
        assert_eq!(RecallHandle::parse(&topic, &text, &key), Ok(handle));
        for bad in ["", "?", &text[1..], &text[..text.len() / 2]] {
            let error = RecallHandle::parse(&topic, bad, &key).unwrap_err();
            assert!(error.contains("not a recall handle of this cluster"), "{bad}: {error}");
            assert!(error.contains("raftmq message delayed lists them"), "{bad}: {error}");
        }
        let other = TopicName::parse("u").unwrap();
        let error = RecallHandle::parse(&other, &text, &key).unwrap_err();
        assert!(error.contains("another topic than 'u'"), "{error}");
        let earlier = URL_SAFE_NO_PAD.encode("v1 t 99 7 3 an id");
        let error = RecallHandle::parse(&topic, &earlier, &key).unwrap_err();
        assert!(error.contains("raftmq message delayed"), "{error}");
    }

    #[test]
    fn fuzz_recall_handles() {
        const KEY: HandleKey = HandleKey::new([3; 16]);
        let topic = TopicName::parse("t").unwrap();
        let message = MessageRef { index: LogIndex(7), slot: 3 };
        let handle = RecallHandle::new(&topic, Timestamp(99), message, "an id");
        let corpus = [handle.to_text(&KEY), URL_SAFE_NO_PAD.encode("v1 t 99 7 3 an id")];
        let content = |out: &mut Vec<u8>| {
            out.put_text("t");
            out.put_varint(99);
            out.put_varint(7);
            out.put_varint(3);
            out.put_text("an id");
        };
        let mend = move |bytes: &mut Vec<u8>, rng: &mut odd_bytes::Rng| {
            let text = KEY.seal(HandleKind::Recall, |out| {
                content(out);
                let at = rng.below(out.len());
                out.truncate(at + 1);
                out[at] ^= rng.next() as u8;
                out.extend_from_slice(bytes.get(..rng.below(bytes.len())).unwrap_or_default());
            });
            *bytes = text.into_bytes();
        };
        odd_bytes::Fuzz::of("recall_handles", corpus).mend(mend).run(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            let handle = RecallHandle::parse(&topic, &text, &KEY)?;
            assert_eq!(RecallHandle::parse(&topic, &handle.to_text(&KEY), &KEY).as_ref(), Ok(&handle));
            Ok("a handle".to_owned())
        });
    }
}
