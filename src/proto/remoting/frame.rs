//! One request or answer on a connection. Hot path.
//!
//! * Shape: length of what follows i32, type of the header u8, length of the header u24, header, body. The body is what is
//!   left.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::proto::remoting::{Header, HeaderType, Malformed, binary_header, json_header};

/// Largest length that a frame may state (RocketMQ's `frameMaxLength`).
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest header. RocketMQ has no bound of its own; properties of 32 KiB are 192 KiB in JSON if each byte is escaped.
const HEADER_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the length.
const LENGTH_BYTES: usize = 4;
/// Bytes of the type and length of the header.
const MARK_BYTES: usize = 4;
/// Room that is made for a frame whose length alone is known.
const RESERVE_BYTES: usize = 64 * 1024;
/// Most bytes of a header without its texts, in either type: what is reserved to write one.
const HEADER_BYTES_HINT: usize = 384;

/// A header and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub header_type: HeaderType,
    pub header: Header,
    pub body: Bytes,
}

impl Frame {
    /// How long the first frame of what was read says that it is, all in all; `None` if that was not read yet.
    ///
    /// * Errors: as [`Self::take`].
    pub fn stated_bytes(read: &[u8], bytes_max: usize) -> Result<Option<usize>, Malformed> {
        let Some(stated) = read.first_chunk() else { return Ok(None) };
        let stated = i32::from_be_bytes(*stated);
        let length = usize::try_from(stated).ok().filter(|length| (MARK_BYTES..=bytes_max).contains(length));
        let wrong = Malformed::Length { what: "a frame", length: stated.into(), min: MARK_BYTES, max: bytes_max };
        length.map(|length| Some(LENGTH_BYTES + length)).ok_or(wrong)
    }

    /// The header of the first frame of what was read, whose body is not wanted; `None` if more must be read first.
    ///
    /// * Errors: a header that is longer than `bytes_max`, or malformed.
    pub fn header_of(read: &[u8], bytes_max: usize) -> Result<Option<(HeaderType, Header)>, Malformed> {
        let Some(mark) = read.get(LENGTH_BYTES..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
        let mark = u32::from_be_bytes(*mark);
        let (length, begin) = ((mark & 0x00FF_FFFF) as usize, LENGTH_BYTES + MARK_BYTES);
        if length > bytes_max {
            let what = "the header of a frame that is refused";
            return Err(Malformed::Length { what, length: length as i64, min: 0, max: bytes_max });
        }
        let Some(header) = read.get(begin..begin + length) else { return Ok(None) };
        let header_type = HeaderType::of_number(mark.to_be_bytes()[0])?;
        let header = match header_type {
            HeaderType::Json => json_header::read(header)?,
            HeaderType::Binary => binary_header::read(Bytes::copy_from_slice(header))?,
        };
        Ok(Some((header_type, header)))
    }

    /// Takes the first frame from what was read of a connection; `None` if more must be read first. `bytes_max` bounds the
    /// length that a frame may state, before memory is reserved for it.
    ///
    /// * Errors: the connection cannot go on: where the next frame begins is not known.
    pub fn take(read: &mut BytesMut, bytes_max: usize) -> Result<Option<Self>, Malformed> {
        let Some(length) = Self::stated_bytes(read, bytes_max)? else { return Ok(None) };
        if let Some(missing) = length.checked_sub(read.len()).filter(|missing| *missing > 0) {
            // As much again as there is: a length that nothing follows takes no memory.
            read.reserve(missing.min(read.len().max(RESERVE_BYTES)));
            return Ok(None);
        }
        let mut frame = read.split_to(length).freeze();
        frame.advance(LENGTH_BYTES);
        Self::of(frame).map(Some)
    }

    /// A frame from the bytes behind its length.
    fn of(mut bytes: Bytes) -> Result<Self, Malformed> {
        let mark = bytes.get_u32();
        let header_type = HeaderType::of_number(mark.to_be_bytes()[0])?;
        let (length, max) = ((mark & 0x00FF_FFFF) as usize, bytes.len().min(HEADER_BYTES_MAX));
        if length > max {
            return Err(Malformed::Length { what: "the header of a frame", length: length as i64, min: 0, max });
        }
        let header = bytes.split_to(length);
        let header = match header_type {
            HeaderType::Json => json_header::read(&header)?,
            HeaderType::Binary => binary_header::read(header)?,
        };
        Ok(Self { header_type, header, body: bytes })
    }

    /// The bytes before the body.
    ///
    /// * Errors: a header that its type cannot say, or a frame that no client takes.
    pub fn head(&self) -> Result<Bytes, Malformed> {
        let mut out = BytesMut::with_capacity(HEADER_BYTES_HINT);
        out.put_bytes(0, LENGTH_BYTES + MARK_BYTES);
        match self.header_type {
            HeaderType::Json => json_header::put(&self.header, &mut out)?,
            HeaderType::Binary => binary_header::put(&self.header, &mut out)?,
        }
        let header = out.len() - LENGTH_BYTES - MARK_BYTES;
        let length = MARK_BYTES + header + self.body.len();
        let wrong = |what, length: usize, max| Malformed::Length { what, length: length as i64, min: 0, max };
        if header > HEADER_BYTES_MAX {
            return Err(wrong("the header of a frame", header, HEADER_BYTES_MAX));
        }
        if length > FRAME_BYTES_MAX {
            return Err(wrong("a frame", length, FRAME_BYTES_MAX));
        }
        let (mut before, mark) = (&mut out[..], (self.header_type as u32) << 24);
        before.put_u32(u32::try_from(length).expect("16 MiB at most"));
        before.put_u32(mark | u32::try_from(header).expect("1 MiB at most"));
        Ok(out.freeze())
    }

    /// All its bytes.
    ///
    /// * Errors: as [`Self::head`].
    pub fn encode(&self) -> Result<Bytes, Malformed> {
        let mut out = BytesMut::from(self.head()?);
        out.put_slice(&self.body);
        Ok(out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::remoting::{Fields, Language};

    fn take(bytes: &[u8]) -> Result<Option<Frame>, Malformed> {
        Frame::take(&mut BytesMut::from(bytes), FRAME_BYTES_MAX)
    }

    /// What a Java client sends for the route of topic `T`, in both types (remoting §1.1).
    #[test]
    fn the_known_frames_are_read_and_written() {
        let json = [
            &[0, 0, 0, 0x7f, 0, 0, 0, 0x7b][..],
            br#"{"code":105,"extFields":{"topic":"T"},"flag":0,"language":"JAVA","opaque":0,"serializeTypeCurrentRPC":"JSON","version":479}"#,
        ]
        .concat();
        let binary =
            b"\0\0\0\x25\x01\0\0\x21\0\x69\0\x01\xdf\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\x0c\0\x05topic\0\0\0\x01T";
        for (bytes, header_type, opaque) in [(&json[..], HeaderType::Json, 0), (binary, HeaderType::Binary, 7)] {
            let fields = [("topic", "T")].into_iter().collect();
            let header = Header { language: Language::Java, ..Header::request(105, opaque, fields) };
            let frame = Frame { header_type, header, body: Bytes::new() };
            assert_eq!(take(bytes), Ok(Some(frame.clone())));
            assert_eq!(frame.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn a_frame_out_of_bounds_is_refused_before_it_is_read() {
        for (bytes, text) in [
            (&[0xff, 0xff, 0xff, 0xff][..], "a frame of -1 bytes is not between 4 and 16777216"),
            (&[0, 0, 0, 3], "a frame of 3 bytes is not between 4 and 16777216"),
            (&[1, 0, 0, 1], "a frame of 16777217 bytes is not between 4 and 16777216"),
            (&[0, 0, 0, 4, 0, 0, 0, 1], "the header of a frame of 1 bytes is not between 0 and 0"),
            (&[0, 0, 0, 4, 2, 0, 0, 0], "the type of the header has the unknown value 2"),
        ] {
            assert_eq!(take(bytes).unwrap_err().to_string(), text);
        }
        let mut read = BytesMut::from(&[0, 0, 1, 1, 0][..]);
        let error = Frame::take(&mut read, 256).unwrap_err();
        assert_eq!(error.to_string(), "a frame of 257 bytes is not between 4 and 256");
        let header = Header { remark: Some("r".repeat(HEADER_BYTES_MAX)), ..Header::default() };
        let frame = Frame { header_type: HeaderType::Json, header, body: Bytes::new() };
        assert!(frame.encode().unwrap_err().to_string().starts_with("the header of a frame of 1048"));
        let body = Bytes::from(vec![0; FRAME_BYTES_MAX]);
        let frame = Frame { header_type: HeaderType::Json, header: Header::default(), body };
        assert!(frame.encode().unwrap_err().to_string().starts_with("a frame of 16777"));
    }

    #[test]
    fn the_longest_frame_is_taken_once_it_is_whole() {
        let header = Header::request(105, 1, Fields::default());
        let mut frame = Frame { header_type: HeaderType::Binary, header, body: Bytes::new() };
        let room = FRAME_BYTES_MAX + LENGTH_BYTES - frame.encode().unwrap().len();
        frame.body = Bytes::from(vec![7; room]);
        let bytes = frame.encode().unwrap();
        assert_eq!(bytes[0], 1, "the one frame that does not begin with 0");
        let mut read = BytesMut::from(&bytes[..bytes.len() - 1]);
        assert_eq!(Frame::take(&mut read, FRAME_BYTES_MAX), Ok(None));
        read.put_u8(7);
        assert_eq!(Frame::take(&mut read, FRAME_BYTES_MAX), Ok(Some(frame)));
    }

    fn header_types() -> impl Strategy<Value = HeaderType> {
        prop_oneof![Just(HeaderType::Json), Just(HeaderType::Binary)]
    }

    fn headers() -> impl Strategy<Value = Header> {
        let fields = proptest::collection::vec(("\\PC{0,8}", ".{1,20}"), 0..8);
        let numbers = (any::<i16>(), 0u8..14, any::<i16>(), any::<i32>(), 0i32..4);
        (numbers, proptest::option::of(".{1,20}"), fields).prop_map(|(numbers, remark, pairs)| {
            let (code, language, version, opaque, flags) = numbers;
            let (code, version, language) = (code.into(), version.into(), Language::of_number(language));
            let mut fields = Fields::default();
            for (name, value) in pairs {
                fields.put(&name, value);
            }
            Header { code, language, version, opaque, flags, remark, fields }
        })
    }

    proptest! {
        #[test]
        fn any_frame_comes_back_in_either_type(
            header_type in header_types(),
            header in headers(),
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let frame = Frame { header_type, header, body: body.into() };
            let bytes = frame.encode().unwrap();
            // Two frames, however they arrive.
            let mut read = BytesMut::new();
            let mut taken = Vec::new();
            for part in [&bytes[..], &bytes[..]].concat().chunks(7) {
                read.put_slice(part);
                while let Some(frame) = Frame::take(&mut read, FRAME_BYTES_MAX).unwrap() {
                    taken.push(frame);
                }
            }
            prop_assert_eq!(taken, vec![frame.clone(), frame]);
        }

        #[test]
        fn no_bytes_make_it_panic(
            type_byte in 0u8..3,
            header in proptest::collection::vec(any::<u8>(), 0..80),
            cut in 0usize..8,
        ) {
            let mut bytes = BytesMut::new();
            bytes.put_u32(u32::try_from(header.len() + 4).unwrap());
            bytes.put_u8(type_byte);
            bytes.put_uint((header.len().saturating_sub(cut)) as u64, 3);
            bytes.put_slice(&header);
            let _ = take(&bytes);
            let _ = take(&header);
        }

        #[test]
        fn a_frame_damaged_anywhere_is_read_or_refused(
            header_type in header_types(),
            header in headers(),
            at in any::<proptest::sample::Index>(),
            to in any::<u8>(),
        ) {
            let frame = Frame { header_type, header, body: Bytes::from_static(b"body") };
            let mut bytes = BytesMut::from(&frame.encode().unwrap()[..]);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = take(&bytes);
        }
    }

    #[test]
    fn fuzz_remoting_frames() {
        let fields = || [("topic", "T"), ("queueId", "3"), ("bornTimestamp", "1700000000000"), ("i", "k\u{1}v\u{2}")];
        let frame = |header_type, flags, remark: Option<&str>| {
            let header = Header {
                flags,
                remark: remark.map(str::to_owned),
                ..Header::request(310, 7, fields().into_iter().collect())
            };
            Frame { header_type, header, body: Bytes::from_static(b"body") }.encode().unwrap()
        };
        let corpus = [HeaderType::Json, HeaderType::Binary]
            .into_iter()
            .flat_map(|header_type| [frame(header_type, 0, None), frame(header_type, 3, Some("why"))]);
        let mend = |bytes: &mut Vec<u8>, rng: &mut odd_bytes::Rng| {
            if bytes.len() < 8 {
                return;
            }
            let rest = bytes.len() as u32 - 4;
            bytes[..4].copy_from_slice(&rest.to_be_bytes());
            let header = if rng.below(2) == 0 { rest - 4 } else { rng.below(rest as usize) as u32 };
            bytes[4] &= 1;
            bytes[5..8].copy_from_slice(&header.to_be_bytes()[1..]);
        };
        let words = ["\"extFields\":{", "\"code\":", "null", "true", "1e400", "\\u0000", "\"language\":\"JAVA\""];
        odd_bytes::Fuzz::of("remoting_frames", corpus).words(words).mend(mend).run(|bytes| {
            let mut read = BytesMut::from(bytes);
            let Some(frame) = Frame::take(&mut read, FRAME_BYTES_MAX).map_err(|error| error.to_string())? else {
                return Err("more is needed".to_owned());
            };
            // What was read can be written again, but for numbers that the binary header has no room for.
            if let Ok(written) = frame.encode() {
                let again = take(&written).unwrap().unwrap();
                assert_eq!(again, frame);
            }
            Ok(format!("{:?} with {} fields", frame.header_type, frame.header.fields.iter().count()))
        });
    }
}
