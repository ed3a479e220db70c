//! The query of a request: words with values, percent-encoded.

use std::collections::BTreeMap;

use crate::edge::http::dashboard::refused::Refused;

/// The words of a query, each with its last value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub fn parse(text: Option<&str>) -> Self {
        let words = text.unwrap_or_default().split('&').filter(|word| !word.is_empty());
        Self(
            words.map(|word| word.split_once('=').unwrap_or((word, ""))).map(|(n, v)| (decode(n), decode(v))).collect(),
        )
    }

    /// The value of a word; empty if it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A number; `None` if it is not there.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Refused> {
        match self.text(name) {
            "" => Ok(None),
            text => {
                let number = text.parse().map_err(|_| Refused::request(format!("{name}={text} is no whole number")))?;
                Ok(Some(number))
            }
        }
    }

    /// A number from 1 to a most; `otherwise` if it is not there.
    pub fn count(&self, name: &str, otherwise: u32, most: u32) -> Result<u32, Refused> {
        let asked = self.number(name)?.map_or(otherwise, |number| u32::try_from(number).unwrap_or(u32::MAX));
        Ok(asked.clamp(1, most))
    }

    /// A queue's number.
    pub fn queue(&self, name: &str) -> Result<u32, Refused> {
        let number = self.number(name)?.unwrap_or_default();
        u32::try_from(number).map_err(|_| Refused::request(format!("{name}={number} is no queue")))
    }
}

/// What `%20` and `+` stand for; what is no UTF-8 becomes a mark.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = &after[2..];
                continue;
            }
            (b'+', ..) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_decoded_and_what_is_no_number_is_refused() {
        let query = Query::parse(Some("topic=a%2Fb%20c+d&%6bey=%E4%B8%AD&n=7&bad=x&half=%4&limit=9999&flag"));
        assert_eq!((query.text("topic"), query.text("key"), query.text("half")), ("a/b c d", "中", "%4"));
        assert_eq!((query.text("flag"), query.text("none")), ("", ""));
        assert_eq!(query.number("n"), Ok(Some(7)));
        assert_eq!(query.number("none"), Ok(None));
        assert!(query.number("bad").is_err());
        assert_eq!((query.count("limit", 5, 100), query.count("none", 5, 100)), (Ok(100), Ok(5)));
        assert_eq!(Query::parse(None), Query::default());
        assert_eq!(Query::parse(Some("b=%ff")).text("b"), "\u{fffd}");
    }
}
