//! Receipt handles: the opaque text that proves one lease of one message. Hot path.
//!
//! A handle names the delivery (lease and offset), not its end: a renewal by the broker keeps it valid, and a
//! change by the client, which starts a new lease, makes it invalid.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::BufMut;

use crate::model::codec::{Malformed, Reader};
use crate::model::handle::{HandleKey, HandleKind, NotAHandle};
use crate::model::ids::{GroupId, LeaseId, QueueId, QueueOffset, TopicId};

/// The handles of earlier builds: `1u8, group, topic, queue, offset, lease, crc32c u32`.
const EARLIER_BYTES: usize = 33;

/// What a handle says.
///
/// * Shape in a sealed handle and in the log: `group u32, topic u32, queue u32, offset u64, lease u64`.
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
    pub fn to_text(self, key: &HandleKey) -> String {
        key.seal(HandleKind::Receipt, |out| self.encode(out))
    }

    /// From a client's text.
    pub fn parse(text: &str, key: &HandleKey) -> Result<Self, NotAHandle> {
        let never_given = NotAHandle::NeverGiven(HandleKind::Receipt);
        let mut reader = key.open(HandleKind::Receipt, text).map_err(|error| match error {
            NotAHandle::NeverGiven(kind) if is_of_earlier_build(text) => NotAHandle::OfEarlierBuild(kind),
            error => error,
        })?;
        let handle = Self::decode(&mut reader).map_err(|_| never_given)?;
        if reader.remaining() == 0 { Ok(handle) } else { Err(never_given) }
    }
}

fn is_of_earlier_build(text: &str) -> bool {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return false };
    let Some((said, sum)) = bytes.split_last_chunk::<4>() else { return false };
    bytes.len() == EARLIER_BYTES && said[0] == 1 && crc32c::crc32c(said).to_be_bytes() == *sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HandleKey = HandleKey::new([1; 16]);
    const HANDLE: ReceiptHandle = ReceiptHandle {
        group: GroupId(1),
        topic: TopicId(2),
        queue: QueueId(3),
        offset: QueueOffset(4),
        lease: LeaseId(5),
    };

    #[test]
    fn a_handle_reads_back_and_another_text_does_not() {
        let text = HANDLE.to_text(&KEY);
        assert_eq!(ReceiptHandle::parse(&text, &KEY), Ok(HANDLE));
        let longer = KEY.seal(HandleKind::Receipt, |out| {
            HANDLE.encode(out);
            out.put_u8(0);
        });
        for text in ["", "not base64!", &text[1..], &longer] {
            let never_given = NotAHandle::NeverGiven(HandleKind::Receipt);
            assert_eq!(ReceiptHandle::parse(text, &KEY), Err(never_given), "{text}");
        }
    }

    #[test]
    fn a_handle_of_an_earlier_build_is_refused_as_such() {
        // HANDLE as they wrote it.
        let text = "AQAAAAEAAAACAAAAAwAAAAAAAAAEAAAAAAAAAAWDFpuU";
        let refused = ReceiptHandle::parse(text, &KEY).unwrap_err();
        assert_eq!(refused, NotAHandle::OfEarlierBuild(HandleKind::Receipt));
        assert!(refused.to_string().contains("delivered again when its lease ends"), "{refused}");
    }

    #[test]
    fn fuzz_receipt_handles() {
        let corpus = [HANDLE.to_text(&KEY), "AQAAAAEAAAACAAAAAwAAAAAAAAAEAAAAAAAAAAWDFpuU".to_owned()];
        // Nobody can seal one; what they say is read as if somebody could.
        let mend = |bytes: &mut Vec<u8>, _: &mut odd_bytes::Rng| {
            let text = KEY.seal(HandleKind::Receipt, |out| out.extend_from_slice(bytes));
            *bytes = text.into_bytes();
        };
        odd_bytes::Fuzz::of("receipt_handles", corpus).mend(mend).run(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            let handle = ReceiptHandle::parse(&text, &KEY).map_err(|error| error.to_string())?;
            assert_eq!(ReceiptHandle::parse(&handle.to_text(&KEY), &KEY), Ok(handle));
            Ok("a handle".to_owned())
        });
    }
}
