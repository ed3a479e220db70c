//! Host and port as one text, in which an IPv6 address stands in brackets.

use std::fmt;

/// A host name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Without brackets.
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// Reads `host:port`, also of an IPv6 address without brackets: the port is what follows the last colon.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: without_brackets(host).to_owned(), port: port.parse().ok()? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `::1` of `[::1]`; anything else as it is.
pub fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_written_in_brackets_and_read_with_or_without() {
        for (text, written) in [
            ("n0:8081", "n0:8081"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:41911", "[::1]:41911"),
            ("::1:41911", "[::1]:41911"),
        ] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), written);
        }
        for text in ["", "n0", "n0:", "n0:x", "n0:65536"] {
            assert_eq!(HostPort::parse(text), None, "{text}");
        }
    }
}
