//! RocketMQ's own binary headers, which clients send if they are set to. Hot path.
//!
//! * Shape: code i16, language u8, version i16, opaque i32, flags i32, remark with its length in four bytes, then the fields
//!   with the length of all in four: name with its length in two bytes, value with its length in four.
//!
//! A code above 32,767 does not fit, so such requests come in JSON only.

use bytes::{BufMut, Bytes, BytesMut};

use crate::proto::remoting::reader::{Reader, utf8};
use crate::proto::remoting::{Fields, Header, Language, Malformed};

pub(super) fn read(bytes: Bytes) -> Result<Header, Malformed> {
    let mut reader = Reader::new(bytes);
    let code = reader.i16("the code")?.into();
    let language = Language::of_number(reader.u8("the language")?);
    let version = reader.i16("the version")?.into();
    let opaque = reader.i32("the request number")?;
    let flags = reader.i32("the flags")?;
    let remark = reader.counted_i32("the remark")?;
    let remark = if remark.is_empty() { None } else { Some(utf8("the remark", &remark)?.to_owned()) };
    // A header may end here.
    let fields = if reader.left() == 0 { Fields::default() } else { read_fields(reader.counted_i32("the fields")?)? };
    Ok(Header { code, language, version, opaque, flags, remark, fields })
}

fn read_fields(bytes: Bytes) -> Result<Fields, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut fields = Fields::default();
    while reader.left() > 0 {
        let name = reader.counted_i16("the name of a field")?;
        let value = reader.counted_i32("the value of a field")?;
        // An empty value is how this layout says that there is none.
        if !value.is_empty() {
            fields.put_read(utf8("the name of a field", &name)?, utf8("the value of a field", &value)?)?;
        }
    }
    Ok(fields)
}

pub(super) fn put(header: &Header, out: &mut BytesMut) -> Result<(), Malformed> {
    out.put_i16(narrow("the code", header.code)?);
    out.put_u8(header.language as u8);
    out.put_i16(narrow("the version", header.version)?);
    out.put_i32(header.opaque);
    out.put_i32(header.flags);
    put_text(out, header.remark.as_deref().unwrap_or_default())?;
    let length_at = out.len();
    out.put_i32(0);
    for (name, value) in header.fields.iter().filter(|(_, value)| !value.is_empty()) {
        let too_long = |_| Malformed::Unwritable {
            what: "the name of a field",
            value: name.chars().take(32).collect(),
            why: "it is longer than 32767 bytes",
        };
        out.put_i16(i16::try_from(name.len()).map_err(too_long)?);
        out.put_slice(name.as_bytes());
        put_text(out, value)?;
    }
    let length = length("the fields", out.len() - length_at - 4)?;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn put_text(out: &mut BytesMut, text: &str) -> Result<(), Malformed> {
    out.put_i32(length("a text", text.len())?);
    out.put_slice(text.as_bytes());
    Ok(())
}

fn length(what: &'static str, length: usize) -> Result<i32, Malformed> {
    let max = i32::MAX as usize;
    i32::try_from(length).map_err(|_| Malformed::Length { what, length: length as i64, min: 0, max })
}

fn narrow(what: &'static str, number: i32) -> Result<i16, Malformed> {
    let why = "binary headers have two bytes for it";
    i16::try_from(number).map_err(|_| Malformed::Unwritable { what, value: number.to_string(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_does_not_fit_is_not_written_as_another() {
        let pop = Header { code: 200_050, ..Header::default() };
        let error = put(&pop, &mut BytesMut::new()).unwrap_err();
        assert_eq!(error.to_string(), "the code \"200050\" cannot be written: binary headers have two bytes for it");
    }

    #[test]
    fn lengths_beyond_the_header_are_refused() {
        let mut out = BytesMut::new();
        let fields = [("a", "b")].into_iter().collect();
        put(&Header { remark: Some("r".into()), fields, ..Header::default() }, &mut out).unwrap();
        let whole = out.freeze();
        assert!(read(whole.clone()).is_ok());
        for end in (0..whole.len()).filter(|end| *end != 18) {
            assert!(read(whole.slice(..end)).is_err(), "cut at {end}");
        }
        for (at, length) in [(13, -1i32), (13, 99), (18, -1), (18, 99), (25, i32::MIN), (25, i32::MAX)] {
            let mut bytes = BytesMut::from(&whole[..]);
            bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
            assert!(read(bytes.freeze()).is_err(), "{length} at {at}");
        }
    }
}
