//! Reads fixed-width integers and counted bytes, each checked against what is left.

use bytes::{Buf, Bytes};

use crate::proto::remoting::Malformed;

/// Reads from the front of `bytes`; byte strings are shared, not copied.
pub(super) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    fn need(&self, what: &'static str, needed: usize) -> Result<(), Malformed> {
        let left = self.bytes.len();
        if left < needed { Err(Malformed::Short { what, needed, left }) } else { Ok(()) }
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.need(what, 1)?;
        Ok(self.bytes.get_u8())
    }

    pub fn i16(&mut self, what: &'static str) -> Result<i16, Malformed> {
        self.need(what, 2)?;
        Ok(self.bytes.get_i16())
    }

    pub fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        self.need(what, 4)?;
        Ok(self.bytes.get_i32())
    }

    pub fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        self.need(what, 8)?;
        Ok(self.bytes.get_i64())
    }

    /// As many bytes, shared.
    pub fn take(&mut self, what: &'static str, count: usize) -> Result<Bytes, Malformed> {
        self.need(what, count)?;
        Ok(self.bytes.split_to(count))
    }

    /// Bytes with their length before them, in two bytes.
    pub fn counted_i16(&mut self, what: &'static str) -> Result<Bytes, Malformed> {
        let length = self.i16(what)?;
        self.counted(what, length.into())
    }

    /// Bytes with their length before them, in four bytes.
    pub fn counted_i32(&mut self, what: &'static str) -> Result<Bytes, Malformed> {
        let length = self.i32(what)?;
        self.counted(what, length)
    }

    fn counted(&mut self, what: &'static str, length: i32) -> Result<Bytes, Malformed> {
        let max = self.bytes.len();
        let wrong = Malformed::Length { what, length: length.into(), min: 0, max };
        match usize::try_from(length) {
            Ok(count) if count <= max => self.take(what, count),
            _ => Err(wrong),
        }
    }
}

pub(super) fn utf8<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Utf8(what))
}
