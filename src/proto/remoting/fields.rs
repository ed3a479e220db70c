//! The arguments of a header: names with values, all texts (`extFields`). Hot path.
//!
//! They lie back to back in one text: a request has a dozen, and would else make two allocations for each.

use std::fmt;
use std::str::FromStr;

use crate::proto::remoting::Malformed;

/// Most fields of one header; requests of clients have some fifteen.
const FIELDS_MAX: usize = 512;

/// Names with values, in the order they were added. Of two with one name the last one counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields {
    text: String,
    ends: Vec<Ends>,
}

/// Where a name and its value end in the text; the name begins where the value before ends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    name: usize,
    value: usize,
}

/// A field that is missing, or holds what its request has no meaning for. Its sender gets an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadField {
    #[error("the field '{0}' is missing")]
    Missing(&'static str),
    #[error("the field '{name}' has the value {value:?}, which is no integer of its range")]
    NoNumber { name: &'static str, value: String },
}

impl Fields {
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each name with its value, as added.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.ends.iter().enumerate().map(|(at, ends)| {
            let begin = at.checked_sub(1).map_or(0, |before| self.ends[before].value);
            (&self.text[begin..ends.name], &self.text[ends.name..ends.value])
        })
    }

    /// Adds a field.
    pub fn put(&mut self, name: &str, value: impl fmt::Display) {
        use fmt::Write;
        self.text.push_str(name);
        let name = self.text.len();
        write!(self.text, "{value}").expect("a String takes all");
        self.ends.push(Ends { name, value: self.text.len() });
    }

    /// Adds a field that came from outside.
    ///
    /// * Errors: [`Malformed::TooMany`].
    pub(super) fn put_read(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        if self.ends.len() == FIELDS_MAX {
            return Err(Malformed::TooMany { what: "fields of a header", count: FIELDS_MAX + 1, max: FIELDS_MAX });
        }
        self.text.push_str(name);
        self.text.push_str(value);
        self.ends.push(Ends { name: self.text.len() - value.len(), value: self.text.len() });
        Ok(())
    }

    /// The value of a field, if it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The value of a field that must be given.
    pub fn text(&self, name: &'static str) -> Result<&str, BadField> {
        self.get(name).ok_or(BadField::Missing(name))
    }

    /// The number in a field, if it was given.
    pub fn number_if_given<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, BadField> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| BadField::NoNumber { name, value: value.to_owned() })
    }

    /// The number in a field that must be given.
    pub fn number<T: FromStr>(&self, name: &'static str) -> Result<T, BadField> {
        self.number_if_given(name)?.ok_or(BadField::Missing(name))
    }

    /// Whether a field says yes: `true`, as Java and Go write it, or `1`, as C++ does.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V: fmt::Display> FromIterator<(&'static str, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'static str, V)>>(fields: I) -> Self {
        let mut all = Self::default();
        for (name, value) in fields {
            all.put(name, value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_as_its_request_needs_it() {
        let fields: Fields = [("topic", "T"), ("queueId", "3"), ("batch", "1"), ("d", "4294967296"), ("topic", "U")]
            .into_iter()
            .collect();
        assert_eq!(fields.text("topic"), Ok("U"), "the last one counts");
        assert_eq!(fields.number("queueId"), Ok(3));
        assert_eq!(fields.number_if_given::<i32>("lo"), Ok(None));
        assert_eq!(fields.number::<i32>("lo"), Err(BadField::Missing("lo")));
        let beyond = BadField::NoNumber { name: "d", value: "4294967296".into() };
        assert_eq!(fields.number::<i32>("d"), Err(beyond.clone()));
        assert_eq!(beyond.to_string(), "the field 'd' has the value \"4294967296\", which is no integer of its range");
        assert!(fields.is_true("batch") && !fields.is_true("queueId") && !fields.is_true("lo"));
    }

    #[test]
    fn a_header_has_a_bounded_number_of_fields() {
        let mut fields = Fields::default();
        let added = (0..=FIELDS_MAX).try_for_each(|_| fields.put_read("a", "b"));
        assert_eq!(added.unwrap_err().to_string(), "513 fields of a header are more than 512");
    }
}
