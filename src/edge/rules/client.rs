//! What a client says of itself: id, language and version, properties, settings.

use std::collections::BTreeMap;

use crate::edge::rules::{Invalid, InvalidKind};
use crate::model::limits::{
    CLIENT_PROPERTIES_BYTES_MAX, CLIENT_PROPERTY_COUNT_MAX, CLIENT_PROPERTY_KEY_BYTES_MAX,
    CLIENT_PROPERTY_VALUE_BYTES_MAX, CLIENT_TEXT_BYTES_MAX, SETTINGS_ENTRIES_MAX,
};

/// Client properties of such names are RocketMQ's own.
const PROPERTY_RESERVED: &str = "rocketmq.";

/// Refuses a blank client id; `name` is what the protocol calls it.
pub fn id(name: &str, id: &str) -> Result<(), Invalid> {
    if id.trim().is_empty() {
        return Err(Invalid::new(InvalidKind::ClientId, format!("the {name} is missing or blank")));
    }
    Ok(())
}

/// Refuses a text about the client that is too long; `name` is what the protocol calls it.
pub fn text(name: &str, text: &str) -> Result<(), Invalid> {
    if text.len() > CLIENT_TEXT_BYTES_MAX {
        let text = format!("the {name} of {} bytes is longer than {CLIENT_TEXT_BYTES_MAX}", text.len());
        return Err(Invalid::new(InvalidKind::Value, text));
    }
    Ok(())
}

/// Refuses settings with too many entries of one kind, such as `topics`.
pub fn settings_entries(name: &str, count: usize) -> Result<(), Invalid> {
    if count > SETTINGS_ENTRIES_MAX {
        let text = format!("{count} {name} in one client's settings are more than {SETTINGS_ENTRIES_MAX}");
        return Err(Invalid::new(InvalidKind::Value, text));
    }
    Ok(())
}

pub fn properties(properties: &BTreeMap<String, String>) -> Result<(), Invalid> {
    let refuse = |text: String| Err(Invalid::new(InvalidKind::ClientProperties, text));
    if properties.len() > CLIENT_PROPERTY_COUNT_MAX {
        return refuse(format!("{} client properties are more than {CLIENT_PROPERTY_COUNT_MAX}", properties.len()));
    }
    for (key, value) in properties {
        let is_name = key.starts_with(|first: char| first.is_ascii_alphabetic())
            && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if !is_name || key.len() > CLIENT_PROPERTY_KEY_BYTES_MAX {
            return refuse(format!(
                "the client property name {key:?} is not a letter followed by letters, digits, '_', '.' and '-', at \
                 most {CLIENT_PROPERTY_KEY_BYTES_MAX} in all"
            ));
        }
        if key.starts_with(PROPERTY_RESERVED) {
            return refuse(format!("the client property '{key}': names with '{PROPERTY_RESERVED}' are reserved"));
        }
        if value.len() > CLIENT_PROPERTY_VALUE_BYTES_MAX {
            let bytes = value.len();
            return refuse(format!(
                "the client property '{key}' has {bytes} of {CLIENT_PROPERTY_VALUE_BYTES_MAX} bytes"
            ));
        }
    }
    let total: usize = properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    if total > CLIENT_PROPERTIES_BYTES_MAX {
        return refuse(format!("client properties of {total} bytes are larger than {CLIENT_PROPERTIES_BYTES_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_properties_keep_to_their_limits() {
        let check = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            properties(&owned.collect()).map_err(|invalid| invalid.kind)
        };
        let refused = Err(InvalidKind::ClientProperties);
        assert_eq!(check(&[("zone", "a"), ("app.version", ""), ("a-b_C9", &"x".repeat(256))]), Ok(()));
        assert_eq!(check(&[(&"k".repeat(64), "")]), Ok(()));
        for key in ["", "9a", "a b", "ä", "rocketmq.zone", &"k".repeat(65)] {
            assert_eq!(check(&[(key, "")]), refused, "{key}");
        }
        assert_eq!(check(&[("zone", &"x".repeat(257))]), refused);
        let many = |count: usize, size: usize| {
            let pairs = (0..count).map(|number| (format!("k{number:02}"), "x".repeat(size)));
            properties(&pairs.collect()).map_err(|invalid| invalid.kind)
        };
        assert_eq!(many(32, 125), Ok(()), "32 × (3 + 125) = 4096");
        assert_eq!(many(32, 126), refused);
        assert_eq!(many(33, 1), refused);
    }
}
