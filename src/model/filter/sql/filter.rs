//! A condition as consumers and groups have it: made of a text, and asked about messages.

use crate::model::filter::sql::condition::{Node, truth};
use crate::model::filter::sql::parser::{Parser, TooLarge};
use crate::model::filter::sql::tokens::{not_expected, tokens};
use crate::model::filter::sql::wrong::{SqlError, Wrong};

/// A compiled condition.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlFilter(Node);

impl SqlFilter {
    /// Compiles a condition.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        Self::compile(text, TooLarge::Refused)
    }

    /// Compiles a condition that was checked when it was stored, maybe by an older build, which took any number.
    pub fn parse_stored(text: &str) -> Result<Self, SqlError> {
        Self::compile(text, TooLarge::Rounded)
    }

    fn compile(text: &str, too_large: TooLarge) -> Result<Self, SqlError> {
        let compile = || {
            let tokens = tokens(text)?;
            let mut parser = Parser::new(tokens, text.len(), too_large);
            let node = parser.or()?;
            match parser.peek() {
                None => Ok(Self(node)),
                Some(token) => Err(parser.error(not_expected(token))),
            }
        };
        compile().map_err(|wrong: Wrong| wrong.in_text(text))
    }

    /// Whether the condition is TRUE for a message with these properties.
    pub fn matches<'a>(&'a self, property: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        truth(&self.0, property) == Some(true)
    }
}
