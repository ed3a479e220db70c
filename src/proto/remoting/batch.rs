//! The body of a batch send: messages for one queue, one after the other.
//!
//! * Shape of each: size, magic, checksum, flag, body with its length in four bytes, properties with theirs in two. Clients
//!   write 0 for magic and checksum.

use bytes::{BufMut, Bytes, BytesMut};

use crate::proto::remoting::reader::{Reader, utf8};
use crate::proto::remoting::{Malformed, PROPERTIES_BYTES_MAX};

/// Bytes without body and properties.
const FIXED_BYTES: usize = 22;

/// One message of a batch; topic, queue and producer are those of the whole batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPart {
    /// The application's own.
    pub flag: i32,
    pub body: Bytes,
    /// As [`super::read_properties`] reads them.
    pub properties: String,
}

/// The messages of a batch, at most so many; their bodies share its bytes.
pub fn read_parts(body: Bytes, max: usize) -> Result<Vec<BatchPart>, Malformed> {
    let mut reader = Reader::new(body);
    let mut parts = Vec::new();
    while reader.left() > 0 {
        if parts.len() == max {
            return Err(Malformed::TooMany { what: "messages of a batch", count: max + 1, max });
        }
        let (left, size) = (reader.left(), reader.i32("the size of a message")?);
        reader.i32("the magic")?;
        reader.i32("the checksum")?;
        let flag = reader.i32("the flag")?;
        let body = reader.counted_i32("the body of a message")?;
        let properties = reader.counted_i16("the properties of a message")?;
        let taken = left - reader.left();
        if usize::try_from(size) != Ok(taken) {
            let what = "a message of a batch";
            return Err(Malformed::Length { what, length: size.into(), min: taken, max: taken });
        }
        let properties = utf8("the properties of a message", &properties)?.to_owned();
        parts.push(BatchPart { flag, body, properties });
    }
    Ok(parts)
}

/// Adds a message to the body of a batch.
///
/// * Errors: properties or a body whose length does not fit; nothing is added then.
pub fn put_part(out: &mut BytesMut, part: &BatchPart) -> Result<(), Malformed> {
    let wrong = |what, length: usize, max| Malformed::Length { what, length: length as i64, min: 0, max };
    let BatchPart { flag, body, properties } = part;
    let properties_length = i16::try_from(properties.len())
        .map_err(|_| wrong("the text of properties", properties.len(), PROPERTIES_BYTES_MAX))?;
    let whole = FIXED_BYTES + body.len() + properties.len();
    let size = i32::try_from(whole).map_err(|_| wrong("a message", whole, i32::MAX as usize))?;
    out.reserve(whole);
    out.put_i32(size);
    out.put_i64(0);
    out.put_i32(*flag);
    out.put_i32(i32::try_from(body.len()).expect("smaller than the message"));
    out.put_slice(body);
    out.put_i16(properties_length);
    out.put_slice(properties.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a Java client sends (remoting §7.4).
    const KNOWN: &[u8] = b"\0\0\0\x26\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02hi\0\x0ek\x01v\x02WAIT\x01true\x02";

    #[test]
    fn the_layout_is_that_of_rocketmq() {
        let part =
            BatchPart { flag: 0, body: Bytes::from_static(b"hi"), properties: "k\u{1}v\u{2}WAIT\u{1}true\u{2}".into() };
        let mut out = BytesMut::new();
        put_part(&mut out, &part).unwrap();
        assert_eq!(read_parts(Bytes::from_static(KNOWN), 1), Ok(vec![part]));
        assert_eq!(out, KNOWN);
    }

    #[test]
    fn batches_out_of_bounds_are_refused() {
        let two = Bytes::from([KNOWN, KNOWN].concat());
        assert_eq!(read_parts(two.clone(), 2).unwrap().len(), 2);
        assert_eq!(read_parts(two.clone(), 1).unwrap_err().to_string(), "2 messages of a batch are more than 1");
        for end in (1..two.len()).filter(|end| *end != KNOWN.len()) {
            assert!(read_parts(two.slice(..end), 2).is_err(), "cut at {end}");
        }
        for (at, byte) in [(0, 0xff), (3, 0x27), (16, 0xff), (19, 3), (22, 0xff)] {
            let mut damaged = BytesMut::from(KNOWN);
            damaged[at] = byte;
            assert!(read_parts(damaged.freeze(), 2).is_err(), "{byte} at {at}");
        }
    }

    proptest! {
        #[test]
        fn any_parts_come_back_and_no_bytes_make_it_panic(
            parts in proptest::collection::vec((any::<i32>(), proptest::collection::vec(any::<u8>(), 0..20), ".{0,20}"), 0..4),
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let part = |(flag, body, properties): (i32, Vec<u8>, String)| BatchPart { flag, body: body.into(), properties };
            let parts: Vec<_> = parts.into_iter().map(part).collect();
            let mut out = BytesMut::new();
            for part in &parts {
                put_part(&mut out, part).unwrap();
            }
            prop_assert_eq!(read_parts(out.freeze(), 4), Ok(parts));
            let _ = read_parts(bytes.into(), 4);
        }
    }

    #[test]
    fn fuzz_remoting_batches_and_stored_messages() {
        use crate::proto::remoting::{OffsetId, StoredMessage, read_properties};
        let mut batch = BytesMut::new();
        let part = BatchPart { flag: 1, body: Bytes::from_static(b"a body"), properties: "k\u{1}v\u{2}".into() };
        put_part(&mut batch, &part).unwrap();
        put_part(&mut batch, &part).unwrap();
        let corpus = [KNOWN.to_vec(), batch.to_vec(), b"0A00000100002A9F0000000000000400".to_vec()];
        let mend = |bytes: &mut Vec<u8>, _: &mut odd_bytes::Rng| {
            let length = bytes.len() as u32;
            if let Some(size) = bytes.get_mut(..4) {
                size.copy_from_slice(&length.to_be_bytes());
            }
        };
        odd_bytes::Fuzz::of("remoting_batches", corpus).mend(mend).run(|bytes| {
            let _ = StoredMessage::read_all(Bytes::copy_from_slice(bytes));
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = text.parse::<OffsetId>();
            }
            let parts = read_parts(Bytes::copy_from_slice(bytes), 8).map_err(|error| error.to_string())?;
            let mut written = BytesMut::new();
            for part in &parts {
                assert!(read_properties(&part.properties).all(|(name, value)| !name.is_empty() && !value.is_empty()));
                put_part(&mut written, part).unwrap();
            }
            assert_eq!(read_parts(written.freeze(), 8), Ok(parts.clone()));
            Ok(format!("{} parts", "i".repeat(parts.len())))
        });
    }
}
