//! Events above the log: an operator's command with who asked for it, and what is no command of the log. Before:
//! `edge/admin`; after: `machine/events`; read by `inspect/events`.
//!
//! Until all nodes know events, commands are proposed as they are, and nothing is noted.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::{Broker, Error};
use crate::machine::command::NEEDS_EVENTS;
use crate::machine::state::events::{Act, Operator};
use crate::machine::{Command, Outcome};
use crate::model::LogIndex;
use crate::model::limits::EVENT_TEXT_BYTES_MAX;

/// What is noted of something that is over must not hold up its answer for longer.
const NOTE_WAIT: Duration = Duration::from_secs(2);

/// An act in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActWords {
    /// For programs: `topic-create`.
    pub what: &'static str,
    /// The topic, group or node; empty for all.
    pub on: String,
    /// The rest, for people.
    pub detail: String,
}

impl ActWords {
    pub fn new(what: &'static str, on: impl ToString, detail: impl Into<String>) -> Self {
        Self { what, on: on.to_string(), detail: detail.into() }
    }
}

impl Broker {
    /// Proposes an operator's command; the same entry notes it as an event.
    ///
    /// * Errors: as [`Self::propose`].
    pub(super) async fn propose_act(
        &self,
        by: &Operator,
        words: ActWords,
        command: Command,
        until: Instant,
    ) -> Result<(LogIndex, Outcome), Error> {
        let command = self.of_operator(by, words, command)?;
        self.propose(&command, until).await
    }

    /// The command as it is proposed for an operator.
    pub(super) fn of_operator(&self, by: &Operator, words: ActWords, command: Command) -> Result<Command, Error> {
        if !self.notes_events()? {
            return Ok(command);
        }
        Ok(Command::OfOperator { act: self.act(by, words), command: Box::new(command) })
    }

    /// Notes an act that is not one command of the log, with what came of it.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be noted.
    pub async fn note_act(&self, by: &Operator, words: ActWords, said: &str) -> Result<(), Error> {
        if !self.notes_events()? {
            return Ok(());
        }
        let command = Command::NoteAct { act: self.act(by, words), said: cut(said) };
        self.propose(&command, Instant::now() + NOTE_WAIT).await.map(|_| ())
    }

    /// As [`Self::note_act`], of what is done already: that it could not be noted is only logged.
    pub async fn note_done(&self, by: &Operator, words: ActWords, said: &str) {
        let what = words.what;
        if let Err(error) = self.note_act(by, words, said).await {
            tracing::warn!(what, %error, "an act of an operator is not among the events");
        }
    }

    /// Whether all nodes know events.
    fn notes_events(&self) -> Result<bool, Error> {
        Ok(self.reader.view().cluster_version()? >= NEEDS_EVENTS)
    }

    fn act(&self, by: &Operator, words: ActWords) -> Act {
        let ActWords { what, on, detail } = words;
        let by = Operator { address: cut(&by.address), tool: cut(&by.tool) };
        Act { by, node: self.replica.node(), what: what.to_owned(), on: cut(&on), detail: cut(&detail) }
    }
}

/// As much of a text as an event may have.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(EVENT_TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(cut("orders"), "orders");
        let long = "é".repeat(EVENT_TEXT_BYTES_MAX);
        assert_eq!(cut(&long).len(), EVENT_TEXT_BYTES_MAX);
        assert_eq!(cut(&format!("x{long}")).len(), EVENT_TEXT_BYTES_MAX - 1);
    }
}
