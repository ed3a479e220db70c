//! Names of topics and groups in requests.
//!
//! A name of a namespace is, everywhere below, RocketMQ's: `namespace%name`, and `%DLQ%namespace%group` for dead letters
//! (`common.protocol.NamespaceUtil`). So namespaces are apart from each other and from names without one, and operators
//! make and see their topics and groups by the whole name.

use std::borrow::Cow;

use crate::edge::rules::{Invalid, InvalidKind};
use crate::model::{GroupName, NameError, TopicName};

const SEPARATOR: char = '%';
/// RocketMQ's prefixes stay in front.
const PREFIXES: [&str; 2] = ["%DLQ%", "%RETRY%"];

/// The topic of that name in a namespace; without one if it is empty.
pub fn topic(namespace: &str, text: &str) -> Result<TopicName, Invalid> {
    let parse = |text: &str| TopicName::parse(text).map_err(no_topic);
    let plain = parse(text)?;
    if namespace.is_empty() { Ok(plain) } else { parse(&whole(namespace, text)?) }
}

/// What who may not use a topic of the system is answered.
pub fn reserved_topic(name: &str) -> Invalid {
    no_topic(NameError::Reserved { kind: "topic", name: name.to_owned() })
}

fn no_topic(error: NameError) -> Invalid {
    Invalid::new(InvalidKind::TopicName, error.to_string())
}

/// The consumer group of that name in a namespace; without one if it is empty.
pub fn group(namespace: &str, text: &str) -> Result<GroupName, Invalid> {
    let parse =
        |text: &str| GroupName::parse(text).map_err(|error| Invalid::new(InvalidKind::GroupName, error.to_string()));
    let plain = parse(text)?;
    if namespace.is_empty() { Ok(plain) } else { parse(&whole(namespace, text)?) }
}

fn whole(namespace: &str, name: &str) -> Result<String, Invalid> {
    if !namespace.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        let text = format!("namespace {namespace:?} holds a character other than letters, digits, '_' and '-'");
        return Err(Invalid::new(InvalidKind::Value, text));
    }
    let prefix = PREFIXES.into_iter().find(|prefix| name.starts_with(prefix)).unwrap_or_default();
    Ok(format!("{prefix}{namespace}{SEPARATOR}{}", &name[prefix.len()..]))
}

/// A whole name as a client of the namespace knows it; names of others stay whole.
pub fn without_namespace<'a>(namespace: &str, whole: &'a str) -> Cow<'a, str> {
    let prefix = PREFIXES.into_iter().find(|prefix| whole.starts_with(prefix)).unwrap_or_default();
    let inside = whole[prefix.len()..].strip_prefix(namespace).and_then(|rest| rest.strip_prefix(SEPARATOR));
    match inside.filter(|_| !namespace.is_empty()) {
        Some(name) if prefix.is_empty() => Cow::Borrowed(name),
        Some(name) => Cow::Owned(format!("{prefix}{name}")),
        None => Cow::Borrowed(whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_namespace_are_whole_below_and_short_for_its_clients() {
        for (namespace, name, whole) in [
            ("", "orders", "orders"),
            ("staging", "orders", "staging%orders"),
            ("staging", "%DLQ%g", "%DLQ%staging%g"),
            ("staging", "%RETRY%g", "%RETRY%staging%g"),
            ("", "%DLQ%g", "%DLQ%g"),
        ] {
            assert_eq!(topic(namespace, name).unwrap().as_str(), whole);
            assert_eq!(without_namespace(namespace, whole), name);
        }
        assert_eq!(group("staging", "g").unwrap().as_str(), "staging%g");
        for other in ["production%orders", "staging", "stagingorders", "orders"] {
            assert_eq!(without_namespace("staging", other), other);
        }
    }

    #[test]
    fn a_namespace_has_its_characters_and_shares_the_length_of_the_name() {
        for bad in ["a%b", "a b", "ä", "|"] {
            assert_eq!(topic(bad, "t").unwrap_err().kind, InvalidKind::Value, "{bad}");
            assert_eq!(group(bad, "g").unwrap_err().kind, InvalidKind::Value, "{bad}");
        }
        assert!(topic("n", &"t".repeat(125)).is_ok());
        assert_eq!(topic("n", &"t".repeat(126)).unwrap_err().kind, InvalidKind::TopicName);
        assert_eq!(topic("n", "TBW102").unwrap_err().kind, InvalidKind::TopicName, "a system topic is one anywhere");
        assert_eq!(group("n", "").unwrap_err().kind, InvalidKind::GroupName);
    }
}
