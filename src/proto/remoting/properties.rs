//! The properties of a message as one text. Hot path.
//!
//! * Shape: name, 0x01, value, 0x02, and so on. The last 0x02 may be missing.
//!
//! Clients read leniently, and so do we: what has no name or no value is passed over, as Java's parser does.

use crate::proto::remoting::Malformed;

/// Longest text of properties: its length is written in two bytes.
pub const PROPERTIES_BYTES_MAX: usize = 32_767;

const NAME_END: char = '\u{1}';
const VALUE_END: char = '\u{2}';

/// Each name with its value. Of two with one name the last one counts, for clients.
pub fn read_properties(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = text.split(VALUE_END).filter_map(|pair| pair.split_once(NAME_END));
    pairs.filter(|(name, value)| !name.is_empty() && !value.is_empty())
}

/// Adds a property. One with an empty value is left out, as clients would not read it.
///
/// * Errors: a name that is empty, a name or value that holds a separator, a text that becomes too long; nothing is added
///   then.
pub fn put_property(text: &mut String, name: &str, value: &str) -> Result<(), Malformed> {
    let short = || name.chars().take(64).collect();
    let refuse = |why| Err(Malformed::Unwritable { what: "the property", value: short(), why });
    if name.is_empty() {
        return refuse("its name is empty");
    }
    let is_separator = |byte| u32::from(byte) == NAME_END as u32 || u32::from(byte) == VALUE_END as u32;
    if [name, value].into_iter().any(|part| part.bytes().any(is_separator)) {
        return refuse("its name or value holds a character 1 or 2, which separate properties");
    }
    if value.is_empty() {
        return Ok(());
    }
    let length = text.len() + name.len() + value.len() + 2;
    if length > PROPERTIES_BYTES_MAX {
        let (what, max) = ("the text of properties", PROPERTIES_BYTES_MAX);
        return Err(Malformed::Length { what, length: length as i64, min: 0, max });
    }
    text.push_str(name);
    text.push(NAME_END);
    text.push_str(value);
    text.push(VALUE_END);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_of_all_clients_are_read() {
        for (text, pairs) in [
            ("", vec![]),
            ("k\u{1}v\u{2}WAIT\u{1}true\u{2}", vec![("k", "v"), ("WAIT", "true")]),
            ("k\u{1}v\u{2}WAIT\u{1}true", vec![("k", "v"), ("WAIT", "true")]),
            ("k\u{1}\u{2}a\u{1}b\u{2}", vec![("a", "b")]),
            ("\u{1}v\u{2}no value\u{2}\u{2}a\u{1}b\u{1}c\u{2}", vec![("a", "b\u{1}c")]),
        ] {
            assert_eq!(read_properties(text).collect::<Vec<_>>(), pairs, "{text:?}");
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not_written() {
        let mut text = String::new();
        for (name, value, why) in [
            ("", "v", "its name is empty"),
            ("a\u{1}", "v", "holds a character 1 or 2"),
            ("a", "\u{2}", "holds a character 1 or 2"),
            ("a", &"v".repeat(PROPERTIES_BYTES_MAX - 2), "32768 bytes is not between 0 and 32767"),
        ] {
            let error = put_property(&mut text, name, value).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        put_property(&mut text, "a", "").unwrap();
        assert_eq!(text, "");
        put_property(&mut text, "a", &"v".repeat(PROPERTIES_BYTES_MAX - 3)).unwrap();
        assert_eq!(text.len(), PROPERTIES_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in proptest::collection::vec(("[^\u{1}\u{2}]{1,9}", "[^\u{1}\u{2}]{1,9}"), 0..9)) {
            let mut text = String::new();
            for (name, value) in &pairs {
                put_property(&mut text, name, value).unwrap();
            }
            let read: Vec<_> = read_properties(&text).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(read, pairs);
        }
    }
}
