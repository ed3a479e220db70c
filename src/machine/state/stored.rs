//! Where a message was stored.

use bytes::{BufMut, BytesMut};

use crate::model::codec::{Malformed, Reader};
use crate::model::{MessageRef, QueueId, QueueOffset};

/// Where a message was stored: the answer to its send, now and when it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    Queue(QueueId, QueueOffset),
    /// Deferred until its delivery time or the end of its transaction: its slot in the entry.
    Deferred(u32),
    /// Deferred by an earlier entry: it was sent again.
    DeferredBefore(MessageRef),
}

impl Stored {
    /// The bytes for an outcome.
    pub(in crate::machine) fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Queue(queue, offset) => {
                out.put_u8(1);
                out.put_u32(queue.0);
                out.put_u64(offset.0);
            }
            Self::Deferred(slot) => {
                out.put_u8(2);
                out.put_u32(slot);
            }
            Self::DeferredBefore(message) => {
                out.put_u8(3);
                message.encode(out);
            }
        }
    }

    /// From [`Self::encode`].
    pub(in crate::machine) fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        match reader.u8()? {
            1 => Ok(Self::Queue(QueueId(reader.u32()?), QueueOffset(reader.u64()?))),
            2 => Ok(Self::Deferred(reader.u32()?)),
            3 => Ok(Self::DeferredBefore(MessageRef::decode(reader)?)),
            tag => Err(reader.unknown(tag.into())),
        }
    }
}
