//! The filter of a subscription: by tag, or by a condition over properties ([`crate::model::filter::sql`]).

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::filter::sql::SqlFilter;
use crate::model::message::Message;
use crate::model::text_hash::text_hash;

/// Which messages a subscription wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// By tag.
    Tags(TagFilter),
    /// By a condition.
    Sql(Arc<SqlFilter>),
    /// The subscription's own filter, and the condition of its consumer group.
    Both(Box<Filter>, Arc<SqlFilter>),
}

impl Filter {
    /// Whether a message whose tag has this hash can be wanted.
    pub fn may_match(&self, tag_hash: u64) -> bool {
        match self {
            Self::Tags(tags) => tags.may_match(tag_hash),
            Self::Sql(_) => true,
            Self::Both(own, _) => own.may_match(tag_hash),
        }
    }

    /// Whether the whole message is needed to decide.
    pub fn needs_message(&self) -> bool {
        !matches!(self, Self::Tags(_))
    }

    /// Whether the message is wanted.
    pub fn matches(&self, message: &Message) -> bool {
        match self {
            Self::Tags(tags) => tags.matches(message.tag.as_deref()),
            Self::Sql(condition) => holds(condition, message),
            Self::Both(own, condition) => own.matches(message) && holds(condition, message),
        }
    }
}

fn holds(condition: &SqlFilter, message: &Message) -> bool {
    condition.matches(&|name| match name {
        "TAGS" => message.tag.as_deref(),
        name => {
            let found = message.properties.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
            Some(message.properties[found].1.as_str())
        }
    })
}

/// Which tags a subscription wants.
///
/// * Source: contract §13.5, contract §26: alternatives between double bars, spaces trimmed, case
///   sensitive; `*` or nothing at all means every message, tagged or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagFilter {
    /// Every message.
    All,
    /// Messages with one of these tags, each beside its hash.
    AnyOf(Vec<(u64, String)>),
}

impl TagFilter {
    /// From a client's expression. Every text is a tag filter; empty alternatives are ignored.
    pub fn parse(expression: &str) -> Self {
        let mut tags = Vec::new();
        for part in expression.split("||").map(str::trim).filter(|part| !part.is_empty()) {
            if part == "*" && expression.trim() == "*" {
                return Self::All;
            }
            tags.push((hash(Some(part)), part.to_owned()));
        }
        if tags.is_empty() { Self::All } else { Self::AnyOf(tags) }
    }

    /// Whether a message with this tag is wanted.
    pub fn matches(&self, tag: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::AnyOf(tags) => tag.is_some_and(|tag| tags.iter().any(|(_, wanted)| wanted == tag)),
        }
    }

    /// Whether a message whose tag has this hash can be wanted; equal hashes are no proof.
    pub fn may_match(&self, tag_hash: u64) -> bool {
        match self {
            Self::All => true,
            Self::AnyOf(tags) => tags.iter().any(|(hash, _)| *hash == tag_hash),
        }
    }
}

/// The hash of a tag that a queue keeps; 0 for no tag.
pub fn hash(tag: Option<&str>) -> u64 {
    tag.map_or(0, text_hash)
}

/// Writes the hash of a tag in one byte if there is no tag, as most messages have none.
pub fn put_hash(out: &mut BytesMut, hash: u64) {
    out.put_option((hash != 0).then_some(hash), |out, hash| out.put_u64(hash));
}

/// From [`put_hash`].
pub fn read_hash(reader: &mut Reader) -> Result<u64, Malformed> {
    Ok(reader.option(Reader::u64)?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_read_as_rocketmq_reads_them() {
        assert_eq!(TagFilter::parse("*"), TagFilter::All);
        assert_eq!(TagFilter::parse(""), TagFilter::All);
        let any_of =
            |tags: &[&str]| TagFilter::AnyOf(tags.iter().map(|tag| (hash(Some(tag)), (*tag).to_owned())).collect());
        assert_eq!(TagFilter::parse("a ||"), any_of(&["a"]));
        assert_eq!(TagFilter::parse("|| a"), any_of(&["a"]));
        assert_eq!(TagFilter::parse(" b||c "), any_of(&["b", "c"]));
        assert_eq!(TagFilter::parse("a | b"), any_of(&["a | b"]));
    }

    #[test]
    fn a_tag_filter_wants_the_exact_tag_only() {
        let filter = TagFilter::parse("Aa||c");
        assert!(filter.matches(Some("Aa")));
        assert!(!filter.matches(Some("BB")));
        assert!(!filter.matches(Some("aa")));
        assert!(!filter.matches(None));
        assert!(filter.may_match(hash(Some("c"))));
        assert!(!filter.may_match(hash(None)));
    }
}
