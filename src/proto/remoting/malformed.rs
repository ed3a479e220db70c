//! Bytes that do not decode, and values that cannot be written.

/// Damaged, hostile, or not this protocol. Who sent a malformed frame gets no answer: there is no number that can be trusted
/// to answer to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than the layout needs.
    #[error("{what} of {needed} bytes is cut short: {left} are left")]
    Short { what: &'static str, needed: usize, left: usize },
    /// A length below zero, or beyond what it may be.
    #[error("{what} of {length} bytes is not between {min} and {max}")]
    Length { what: &'static str, length: i64, min: usize, max: usize },
    /// More of something than there may be.
    #[error("{count} {what} are more than {max}")]
    TooMany { what: &'static str, count: usize, max: usize },
    /// A number that this protocol does not have there.
    #[error("{what} has the unknown value {value}")]
    Unknown { what: &'static str, value: i64 },
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
    /// A JSON header that is none.
    #[error("the JSON header cannot be read: {0}")]
    Json(String),
    /// What the layout has no way to say.
    #[error("{what} {value:?} cannot be written: {why}")]
    Unwritable { what: &'static str, value: String, why: &'static str },
}
