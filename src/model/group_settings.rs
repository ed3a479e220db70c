//! What an operator decides about a consumer group, and can change later.

use bytes::{BufMut, BytesMut};

use crate::model::backoff::Backoff;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::time::Timestamp;

/// Settings of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// Deliveries after the first.
    pub retries_max: u32,
    /// How long push consumers wait between deliveries.
    pub backoff: Backoff,
    pub consume_from: ConsumeFrom,
    /// SQL condition on every message of the group, in addition to what its clients subscribe to.
    pub filter: Option<String>,
}

/// Where a group starts in a topic that it subscribes to for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsumeFrom {
    /// At the first message of a queue that never lost one, else at its end (contract §17).
    #[default]
    Standard,
    /// At the first message that is stored.
    First,
    /// At the next message to be stored.
    Last,
    /// At the first message stored then or later.
    At(Timestamp),
}

impl GroupSettings {
    /// Those of a group that was created by its first subscription.
    pub fn standard(retries_max: u32) -> Self {
        Self { retries_max, backoff: Backoff::Standard, consume_from: ConsumeFrom::Standard, filter: None }
    }

    /// The bytes for the log and the state.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.retries_max);
        self.backoff.encode(out);
        self.consume_from.encode(out);
        out.put_option(self.filter.as_deref(), |out, filter| out.put_text(filter));
    }

    /// From [`Self::encode`].
    pub fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            retries_max: reader.u32()?,
            backoff: Backoff::decode(reader)?,
            consume_from: ConsumeFrom::decode(reader)?,
            filter: reader.option(Reader::text)?,
        })
    }
}

impl ConsumeFrom {
    /// The bytes for the log and the state.
    pub fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Standard => out.put_u8(0),
            Self::First => out.put_u8(1),
            Self::Last => out.put_u8(2),
            Self::At(at) => {
                out.put_u8(3);
                out.put_u64(at.0);
            }
        }
    }

    /// From [`Self::encode`].
    pub fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(match reader.u8()? {
            0 => Self::Standard,
            1 => Self::First,
            2 => Self::Last,
            3 => Self::At(Timestamp(reader.u64()?)),
            value => return Err(reader.unknown(value.into())),
        })
    }
}
