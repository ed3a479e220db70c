//! When the producer of a half message is asked about its transaction.

use bytes::{BufMut, BytesMut};

use crate::model::codec::{Malformed, Reader};
use crate::model::time::Millis;

/// The checks of one half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionChecks {
    /// From when it was stored to the first check.
    pub after: Millis,
    /// From one check to the next.
    pub every: Millis,
    /// Number of checks; after the last, the transaction counts as rolled back.
    pub most: u32,
}

impl TransactionChecks {
    /// The bytes for the log and the state.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.after.0);
        out.put_u64(self.every.0);
        out.put_u32(self.most);
    }

    /// From [`Self::encode`].
    pub fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { after: Millis(reader.u64()?), every: Millis(reader.u64()?), most: reader.u32()? })
    }
}
