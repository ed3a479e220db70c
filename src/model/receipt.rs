//! Receipt handles: the opaque text that proves one lease of one message.
//!
//! A handle names the delivery (lease and offset), not its end: a renewal by the broker keeps it valid, and a
//! change by the client, which starts a new lease, makes it invalid.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes};

use crate::model::codec::{Malformed, Reader};
use crate::model::ids::{GroupId, LeaseId, QueueId, QueueOffset, TopicId};

const VERSION: u8 = 1;

/// What a handle says.
///
/// * Shape: base64url of `version u8, group u32, topic u32, queue u32, offset u64, lease u64, crc32c u32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptHandle {
    pub group: GroupId,
    pub topic: TopicId,
    pub queue: QueueId,
    pub offset: QueueOffset,
    pub lease: LeaseId,
}

impl ReceiptHandle {
    /// The bytes for the log.
    pub fn encode(self, out: &mut impl BufMut) {
        out.put_u32(self.group.0);
        out.put_u32(self.topic.0);
        out.put_u32(self.queue.0);
        out.put_u64(self.offset.0);
        out.put_u64(self.lease.0);
    }

    /// From [`Self::encode`].
    pub fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            group: GroupId(reader.u32()?),
            topic: TopicId(reader.u32()?),
            queue: QueueId(reader.u32()?),
            offset: QueueOffset(reader.u64()?),
            lease: LeaseId(reader.u64()?),
        })
    }

    /// The text for the client.
    pub fn to_text(self) -> String {
        let mut out = Vec::with_capacity(33);
        out.put_u8(VERSION);
        self.encode(&mut out);
        let sum = crc32c::crc32c(&out);
        out.put_u32(sum);
        URL_SAFE_NO_PAD.encode(out)
    }

    /// From a client's text; `None` if it was not made by [`Self::to_text`].
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Bytes::from(URL_SAFE_NO_PAD.decode(text).ok()?);
        let sum = crc32c::crc32c(bytes.get(..bytes.len().checked_sub(4)?)?);
        let mut reader = Reader::versioned(bytes, "receipt handle", VERSION).ok()?;
        let handle = Self::decode(&mut reader).ok()?;
        (reader.u32().ok()? == sum && reader.remaining() == 0).then_some(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_reads_back_and_a_changed_one_does_not() {
        let handle = ReceiptHandle {
            group: GroupId(1),
            topic: TopicId(2),
            queue: QueueId(3),
            offset: QueueOffset(4),
            lease: LeaseId(5),
        };
        let text = handle.to_text();
        assert_eq!(ReceiptHandle::parse(&text), Some(handle));
        for at in 0..text.len() {
            let mut broken = text.clone().into_bytes();
            broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(ReceiptHandle::parse(std::str::from_utf8(&broken).unwrap()), None, "byte {at}");
        }
        assert_eq!(ReceiptHandle::parse(""), None);
        assert_eq!(ReceiptHandle::parse("not base64!"), None);
    }
}
