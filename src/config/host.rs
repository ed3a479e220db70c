//! Hosts: names and addresses that can be dialled, listened on, and written into a URI.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::characters::shown;
use crate::model::host_port::without_brackets;

/// Longest host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
/// Longest part of one between its dots.
const LABEL_BYTES_MAX: usize = 63;

/// A host that can be dialled and stands in a URI: a name, or an address, IPv6 with or without brackets.
///
/// * Errors: what is wrong with it.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bare = without_brackets(text);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Ok(address.to_string());
    }
    let shown = shown(text);
    if bare.contains(':') {
        let zone = if bare.contains('%') { " (zones such as %eth0 cannot be used)" } else { "" };
        return Err(format!("the host '{shown}' is no IPv6 address{zone}"));
    }
    let labels: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let is_label = |label: &&str| {
        let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_';
        !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.bytes().all(is_letter)
    };
    if text.len() > HOST_BYTES_MAX || !labels.iter().all(is_label) {
        return Err(format!("the host '{shown}' is neither a name nor an address"));
    }
    let is_number = |label: &&str| label.bytes().all(|digit| digit.is_ascii_digit());
    if labels.len() == 4 && labels.iter().all(is_number) && text.parse::<Ipv4Addr>().is_err() {
        return Err(format!("the host '{shown}' is no IPv4 address"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for (text, read) in [
            ("n0.example_1.org", "n0.example_1.org"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.1", "127.1"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("2001:DB8::0:1", "2001:db8::1"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(read));
        }
        let long = "a.".repeat(127);
        for text in
            ["", ".", "a..b", "a b", "a/b", "a@b", "[a]", "[", "]", "::1%lo", "fe80:", "127.0.0.256", "节", &long]
        {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
