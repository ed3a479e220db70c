//! Why a text is no condition, with the place in it.

/// Why a text is no condition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {character}: {what}")]
pub struct SqlError {
    what: String,
    /// Counted from 1, as an editor shows it.
    character: usize,
}

/// The same while the text is read.
pub(super) struct Wrong {
    pub what: String,
    /// Bytes before it.
    pub at: usize,
}

impl Wrong {
    pub fn in_text(self, text: &str) -> SqlError {
        let before = text.get(..self.at).unwrap_or(text);
        SqlError { what: self.what, character: before.chars().count() + 1 }
    }
}
