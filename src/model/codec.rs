//! The binary encoding of the log and of the state: fixed-width integers, big endian; lengths, counts and small
//! numbers as varints (LEB128: seven bits a byte, the lowest first). Every reader checks a length before it
//! uses it.
//!
//! Big endian so that encoded keys sort like their numbers; varints because a small message is mostly lengths.

use bytes::{Buf, BufMut, Bytes};

/// A `u64` takes ten bytes at most.
const VARINT_BITS: u32 = 64;

/// Bytes that do not decode: damaged, or written by a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than the layout needs.
    #[error("{0} is cut short")]
    Short(&'static str),
    /// A version, tag or number this version does not know.
    #[error("{what} has the unknown value {value}")]
    Unknown {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: u64,
    },
    /// Text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
}

/// Reads the layout from the front of `bytes`; byte strings are shared, not copied.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
    what: &'static str,
}

impl Reader {
    /// Reads `bytes`; `what` names them in errors.
    pub fn new(bytes: Bytes, what: &'static str) -> Self {
        Self { bytes, what }
    }

    /// Reads `bytes` after their first byte, which must be this version.
    pub fn versioned(bytes: Bytes, what: &'static str, version: u8) -> Result<Self, Malformed> {
        let mut reader = Self::new(bytes, what);
        match reader.u8()? {
            found if found == version => Ok(reader),
            found => Err(reader.unknown(found.into())),
        }
    }

    fn need(&self, count: usize) -> Result<(), Malformed> {
        if self.bytes.len() < count { Err(Malformed::Short(self.what)) } else { Ok(()) }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.need(1)?;
        Ok(self.bytes.get_u8())
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.need(4)?;
        Ok(self.bytes.get_u32())
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.need(8)?;
        Ok(self.bytes.get_u64())
    }

    /// A number of one to ten bytes.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift >= VARINT_BITS || bits << shift >> shift != bits {
                return Err(self.unknown(bits));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A number that fits four bytes, as [`Self::varint`].
    pub fn varint_u32(&mut self) -> Result<u32, Malformed> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.unknown(value))
    }

    /// A truth value in one byte.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(Malformed::Unknown { what: self.what, value: value.into() }),
        }
    }

    /// `count` bytes, shared.
    pub fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        self.need(count)?;
        Ok(self.bytes.split_to(count))
    }

    /// A byte string with its length before it, shared.
    pub fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let count = self.varint_u32()? as usize;
        self.take(count)
    }

    /// A text with its length before it.
    pub fn text(&mut self) -> Result<String, Malformed> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Malformed::Utf8(self.what)),
        }
    }

    /// A presence byte, then the value.
    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Malformed>) -> Result<Option<T>, Malformed> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    /// A count, then the values. Each value takes at least one byte, so a wrong count cannot ask for more
    /// memory than there are bytes.
    pub fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let count = self.varint_u32()? as usize;
        self.need(count)?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// An error for a value this version does not know.
    pub fn unknown(&self, value: u64) -> Malformed {
        Malformed::Unknown { what: self.what, value }
    }
}

/// Writes the layout that [`Reader`] reads.
pub trait Writer: BufMut {
    /// A number of one to ten bytes: as few as it needs.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    /// A byte string with its length before it.
    fn put_bytes_field(&mut self, bytes: &[u8]) {
        let count = u32::try_from(bytes.len()).expect("limits keep every field far below 4 GiB");
        self.put_varint(count.into());
        self.put_slice(bytes);
    }

    /// A text with its length before it.
    fn put_text(&mut self, text: &str) {
        self.put_bytes_field(text.as_bytes());
    }

    /// A presence byte, then the value.
    fn put_option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T))
    where
        Self: Sized,
    {
        self.put_u8(value.is_some().into());
        if let Some(value) = value {
            put(self, value);
        }
    }

    /// A count, then the values.
    fn put_list<T>(&mut self, list: &[T], mut put: impl FnMut(&mut Self, &T))
    where
        Self: Sized,
    {
        let count = u32::try_from(list.len()).expect("limits keep every list far below 2^32");
        self.put_varint(count.into());
        for value in list {
            put(self, value);
        }
    }
}

impl<B: BufMut> Writer for B {}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn varints_are_as_short_as_their_numbers() {
        for (value, bytes) in
            [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u32::MAX.into(), 5), (u64::MAX, 10)]
        {
            let mut out = BytesMut::new();
            out.put_varint(value);
            assert_eq!(out.len(), bytes, "{value}");
            let mut reader = Reader::new(out.freeze(), "test");
            assert_eq!((reader.varint(), reader.remaining()), (Ok(value), 0));
        }
    }

    #[test]
    fn varints_that_are_cut_or_too_large_are_refused() {
        let read = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes), "test").varint();
        assert_eq!(read(&[]), Err(Malformed::Short("test")));
        assert_eq!(read(&[0x80]), Err(Malformed::Short("test")));
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).is_err());
        assert!(read(&[0x80; 11]).is_err());
        let five = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x1f]);
        assert!(Reader::new(five, "test").varint_u32().is_err());
    }
}
