//! Headers in JSON, which clients send unless they are set to the binary ones. Hot path.
//!
//! Clients differ: C++ and Node send fields as numbers and truth values, where Java and Go send texts. We write texts only,
//! as C++ loses all else.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::proto::remoting::{Fields, Header, Language, Malformed};

/// As read. What it does not name is passed over.
#[derive(Deserialize)]
struct Read<'a> {
    code: i32,
    #[serde(borrow, default)]
    language: Option<Cow<'a, str>>,
    #[serde(default)]
    version: i32,
    #[serde(default)]
    opaque: i32,
    #[serde(default)]
    flag: i32,
    #[serde(default)]
    remark: Option<String>,
    #[serde(default, rename = "extFields")]
    fields: Option<ReadFields>,
}

/// As written.
#[derive(Serialize)]
struct Written<'a> {
    code: i32,
    #[serde(rename = "extFields")]
    fields: WrittenFields<'a>,
    flag: i32,
    language: &'static str,
    opaque: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<&'a str>,
    #[serde(rename = "serializeTypeCurrentRPC")]
    header_type: &'static str,
    version: i32,
}

pub(super) fn read(bytes: &[u8]) -> Result<Header, Malformed> {
    let Read { code, language, version, opaque, flag, remark, fields } =
        serde_json::from_slice(bytes).map_err(|error| Malformed::Json(error.to_string()))?;
    let language = language.map_or(Language::Other, |name| Language::of_name(&name));
    let fields = fields.map_or_else(Fields::default, |ReadFields(fields)| fields);
    Ok(Header { code, language, version, opaque, flags: flag, remark, fields })
}

pub(super) fn put(header: &Header, out: &mut BytesMut) -> Result<(), Malformed> {
    let Header { code, language, version, opaque, flags, remark, fields } = header;
    let written = Written {
        code: *code,
        fields: WrittenFields(fields),
        flag: *flags,
        language: language.name(),
        opaque: *opaque,
        remark: remark.as_deref(),
        header_type: "JSON",
        version: *version,
    };
    serde_json::to_writer(out.writer(), &written).map_err(|error| Malformed::Json(error.to_string()))
}

struct ReadFields(Fields);

impl<'de> Deserialize<'de> for ReadFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = ReadFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ReadFields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            map.next_value_seed(FieldValue { name: &name.0, fields: &mut fields })?;
        }
        Ok(ReadFields(fields))
    }
}

/// A text that borrows from the header where it can; `Cow` itself never does inside a map.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads the value of a field into the fields, as text; one without a value is as good as not given.
struct FieldValue<'a> {
    name: &'a str,
    fields: &'a mut Fields,
}

impl FieldValue<'_> {
    fn put<E: Error>(self, value: &str) -> Result<(), E> {
        self.fields.put_read(self.name, value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for FieldValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true, false or null")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.put(value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(if value { "true" } else { "false" })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(&value.to_string())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

struct WrittenFields<'a>(&'a Fields);

impl Serialize for WrittenFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_java_cpp_and_node_are_read() {
        let java = br#"{"code":105,"extFields":{"topic":"T"},"flag":0,"language":"JAVA","opaque":0,"serializeTypeCurrentRPC":"JSON","version":479}"#;
        let header = read(java).unwrap();
        assert_eq!((header.code, header.language, header.version), (105, Language::Java, 479));
        assert_eq!(header.fields.text("topic"), Ok("T"));
        let cpp = br#"{"code":310,"extFields":{"d":4,"e":0,"m":true,"g":1795887311444,"x":null,"y":-1,"z":1.5,"b":"\u00e4"},"flag":2,"language":"CPP","opaque":-7,"remark":null,"other":{"a":[1]}}"#;
        let header = read(cpp).unwrap();
        assert!(header.is_oneway() && !header.is_response());
        let fields: Vec<_> = header.fields.iter().collect();
        let expected =
            [("d", "4"), ("e", "0"), ("m", "true"), ("g", "1795887311444"), ("y", "-1"), ("z", "1.5"), ("b", "ä")];
        assert_eq!(fields, expected, "null is not given");
        assert_eq!(read(br#"{"code":34,"extFields":null,"language":"ZIG"}"#).unwrap().language, Language::Other);
    }

    #[test]
    fn what_is_no_header_says_why() {
        for (bytes, why) in [
            (&b""[..], "EOF"),
            (b"{}", "missing field `code`"),
            (br#"{"code":4294967296}"#, "invalid value"),
            (br#"{"code":1,"extFields":{"a":[]}}"#, "expected a text, a number, true, false or null"),
            (br#"{"code":1} "#, ""),
            (br#"{"code":1}}"#, "trailing characters"),
            (b"{\"code\":1,\"remark\":\"\xff\"}", "invalid unicode"),
        ] {
            match read(bytes) {
                Ok(header) => assert!(why.is_empty() && header.code == 1, "{bytes:?} was read"),
                Err(error) => assert!(!why.is_empty() && error.to_string().contains(why), "{error}"),
            }
        }
    }

    #[test]
    fn an_answer_has_fields_of_texts_even_if_there_are_none() {
        let mut out = BytesMut::new();
        let fields = [("queueId", 3), ("queueOffset", 7)].into_iter().collect();
        put(&Header { code: 0, flags: 1, opaque: 9, version: 479, fields, ..Header::default() }, &mut out).unwrap();
        let expected = r#"{"code":0,"extFields":{"queueId":"3","queueOffset":"7"},"flag":1,"language":"OTHER","opaque":9,"serializeTypeCurrentRPC":"JSON","version":479}"#;
        assert_eq!(out, expected);
        out.clear();
        put(&Header::default(), &mut out).unwrap();
        assert!(out.windows(14).any(|part| part == br#""extFields":{}"#));
    }
}
