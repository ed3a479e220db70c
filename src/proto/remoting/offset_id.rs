//! The message ids that brokers give (`offsetMsgId`): where a message is stored.
//!
//! * Shape: upper-case hex digits of an address in 4 or 16 bytes, a port in 4, a physical offset in 8.
//!
//! Tools connect to that address and ask it for that offset.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::proto::remoting::Malformed;

/// Hex digits of ids with an IPv4 and an IPv6 address.
const DIGITS_V4: usize = 32;
const DIGITS_V6: usize = 56;

/// The id of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetId {
    pub store_host: SocketAddr,
    pub physical_offset: i64,
}

impl fmt::Display for OffsetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.store_host.ip() {
            IpAddr::V4(address) => write!(f, "{:08X}", address.to_bits())?,
            IpAddr::V6(address) => write!(f, "{:032X}", address.to_bits())?,
        }
        write!(f, "{:08X}{:016X}", self.store_host.port(), self.physical_offset)
    }
}

impl FromStr for OffsetId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |why| Malformed::Unwritable { what: "the message id", value: text.chars().take(64).collect(), why };
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong("it holds something else than hex digits"));
        }
        let (address, rest) = match text.len() {
            DIGITS_V4 => text.split_at(8),
            DIGITS_V6 => text.split_at(32),
            _ => return Err(wrong("it has neither 32 nor 56 digits")),
        };
        let (port, offset) = rest.split_at(8);
        let number =
            |digits| u128::from_str_radix(digits, 16).map_err(|_| wrong("it holds something else than hex digits"));
        let address = number(address)?;
        let ip = match u32::try_from(address) {
            Ok(address) if text.len() == DIGITS_V4 => IpAddr::from(address.to_be_bytes()),
            _ => IpAddr::from(address.to_be_bytes()),
        };
        let port = u16::try_from(number(port)?).map_err(|_| wrong("its port is above 65535"))?;
        let offset = u64::try_from(number(offset)?).expect("sixteen digits");
        Ok(Self { store_host: SocketAddr::new(ip, port), physical_offset: offset.cast_signed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_clients_know() {
        for (host, physical_offset, text) in [
            ("10.0.0.1:10911", 1024, "0A00000100002A9F0000000000000400"),
            ("[::1]:80", -1, "0000000000000000000000000000000100000050FFFFFFFFFFFFFFFF"),
        ] {
            let id = OffsetId { store_host: host.parse().unwrap(), physical_offset };
            assert_eq!((id.to_string().as_str(), text.parse()), (text, Ok(id)));
        }
        for bad in ["", "0A", "xA00000100002A9F0000000000000400", "0A00000100012A9F0000000000000400", "ä"] {
            assert!(bad.parse::<OffsetId>().is_err(), "{bad}");
        }
    }
}
