//! What an action did, or would do.

use serde_json::Value;

use crate::edge::http::dashboard::actions::command_line::CommandLine;

/// What was done, or would be.
pub(super) struct Done {
    /// The command that does the same.
    pub command: CommandLine,
    /// Of what is changed, what people want to know before: names and values.
    pub facts: Vec<(&'static str, Value)>,
    /// What came of it, as the command prints it; of a trial, what would.
    pub document: Value,
}
