//! What an action is given: a JSON object, and who asks, for the events.

use std::net::SocketAddr;

use serde_json::Value;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::edge::http::dashboard::refused::Refused;
use crate::edge::peer::RemoteAddress;

/// What the events name as the program that asked.
const AGENT: &str = concat!("dashboard/", env!("CARGO_PKG_VERSION"));

/// The members of the object of a request, and where it comes from.
pub(in crate::edge::http::dashboard) struct Given {
    members: Value,
    peer: SocketAddr,
}

impl Given {
    pub fn parse(bytes: &[u8], peer: SocketAddr) -> Result<Self, Refused> {
        let members = serde_json::from_slice(bytes).ok().filter(Value::is_object);
        let members = members.ok_or_else(|| Refused::request("the body is no JSON object"))?;
        Ok(Self { members, peer })
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// A request of the admin service in the name of whoever asked.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(RemoteAddress { text: self.peer.to_string().into(), answers: None });
        request.metadata_mut().insert("user-agent", MetadataValue::from_static(AGENT));
        request
    }

    /// Nothing is to be done; only what would be is asked.
    pub fn is_trial(&self) -> bool {
        self.flag("dry_run")
    }

    pub fn flag(&self, name: &str) -> bool {
        self.members[name].as_bool().unwrap_or(false)
    }

    /// A text that must be there.
    pub fn text(&self, name: &str) -> Result<&str, Refused> {
        self.text_if_any(name)?.ok_or_else(|| Refused::request(format!("'{name}' is missing")))
    }

    /// A text; `None` if it is empty or not there.
    pub fn text_if_any(&self, name: &str) -> Result<Option<&str>, Refused> {
        match &self.members[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            other => Err(Refused::request(format!("'{name}' is {other} and no text"))),
        }
    }

    pub fn number(&self, name: &str) -> Result<u64, Refused> {
        self.number_if_any(name)?.ok_or_else(|| Refused::request(format!("'{name}' is missing")))
    }

    /// A whole number that is not negative; `None` if it is not there.
    pub fn number_if_any(&self, name: &str) -> Result<Option<u64>, Refused> {
        match &self.members[name] {
            Value::Null => Ok(None),
            value => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| Refused::request(format!("'{name}' is {value} and no whole number"))),
        }
    }

    /// The same, of a size that a wire field has.
    pub fn small_if_any(&self, name: &str) -> Result<Option<u32>, Refused> {
        let small = |number: u64| {
            u32::try_from(number).map_err(|_| Refused::request(format!("'{name}' is {number}, at most {}", u32::MAX)))
        };
        self.number_if_any(name)?.map(small).transpose()
    }

    pub fn numbers(&self, name: &str) -> Result<Vec<u64>, Refused> {
        let wrong = || Refused::request(format!("'{name}' is no list of whole numbers"));
        match &self.members[name] {
            Value::Null => Ok(Vec::new()),
            Value::Array(list) => list.iter().map(|one| one.as_u64().ok_or_else(wrong)).collect(),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 40_000))
    }

    #[test]
    fn what_is_not_what_it_should_be_is_named() {
        let given =
            Given::parse(br#"{"a":"x","n":7,"big":5000000000,"l":[1,2],"e":"","dry_run":true}"#, peer()).unwrap();
        assert_eq!((given.text("a"), given.number("n"), given.is_trial()), (Ok("x"), Ok(7), true));
        assert_eq!((given.text_if_any("e"), given.number_if_any("none")), (Ok(None), Ok(None)));
        assert_eq!(given.numbers("l"), Ok(vec![1, 2]));
        let texts = [
            given.text("n").unwrap_err().text,
            given.text("e").unwrap_err().text,
            given.number("a").unwrap_err().text,
            given.small_if_any("big").unwrap_err().text,
            given.numbers("a").unwrap_err().text,
        ];
        assert_eq!(
            texts,
            [
                "'n' is 7 and no text",
                "'e' is missing",
                "'a' is \"x\" and no whole number",
                "'big' is 5000000000, at most 4294967295",
                "'a' is no list of whole numbers",
            ]
        );
        for bad in [&b"[]"[..], b"", b"{", b"7"] {
            assert!(Given::parse(bad, peer()).is_err());
        }
    }
}
