//! Filters that read whole messages, while a plan is made; and the filter that is stored with a group.
//!
//! Hot path. A plan is made without waiting: one that needs a message from the disk stops with
//! [`Unchecked::NeedsRead`], and is made anew after [`FilterCheck::read`]. While something of this node's log is damaged, plans
//! read so what may be: what cannot be read here is left to other nodes, and costs no attempt.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::receive::bodies::{self, ReadEntries};
use crate::broker::{Error, ShardReader};
use crate::model::filter::sql::SqlFilter;
use crate::model::{Filter, GroupName, MessageRef};
use crate::raft::ReadBatches;

/// Why it is not known whether a filter wants a message.
#[derive(Debug)]
pub(in crate::broker) enum Unchecked {
    /// The message is on the disk only.
    NeedsRead(MessageRef),
    Failed(Error),
}

impl Unchecked {
    /// The error, where nothing asks for the disk.
    pub fn failed(self) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::NeedsRead(at) => Error::Stopped(format!("entry {} was looked for in memory", at.index)),
        }
    }
}

impl<E: Into<Error>> From<E> for Unchecked {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What a filter says of a whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Verdict {
    Wanted,
    Unwanted,
    /// It is damaged or missing on this node.
    Unreadable,
}

/// Says what becomes of a message by reading it.
pub(in crate::broker) trait MessageCheck: Send + Sync {
    fn verdict(&self, message: MessageRef) -> Result<Verdict, Unchecked>;
}

/// Asks a filter that reads whole messages.
pub(in crate::broker) struct FilterCheck<'a> {
    reader: &'a ShardReader,
    filter: &'a Filter,
    /// Else only messages that may be damaged are read, to see whether they can be.
    needs_message: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: ReadEntries,
    /// What was asked since the last plan was made.
    known: BTreeMap<MessageRef, Verdict>,
}

impl<'a> FilterCheck<'a> {
    pub fn new(reader: &'a ShardReader, filter: &'a Filter) -> Self {
        Self { reader, filter, needs_message: filter.needs_message(), state: Mutex::default() }
    }

    /// Reads a message from the disk, and keeps those beside it for the next plan.
    pub async fn read(&self, message: MessageRef) -> Result<(), Error> {
        self.state.lock().entries = ReadEntries::default();
        let read = match self.reader.batches_on_disk(message.index).await {
            Err(Error::Unreadable(_)) => ReadBatches::default(),
            read => read?,
        };
        self.state.lock().entries = ReadEntries::new(read);
        // Asked now, before the next plan reads other entries: each plan knows more than the one before.
        match self.verdict(message) {
            Ok(_) => Ok(()),
            Err(Unchecked::Failed(error)) => Err(error),
            Err(Unchecked::NeedsRead(_)) => {
                self.state.lock().known.insert(message, Verdict::Unreadable);
                Ok(())
            }
        }
    }

    /// Forgets what was asked and lets go of what was read: a plan was made, and its poll may wait for long.
    pub fn forget(&self) {
        *self.state.lock() = State::default();
    }
}

impl MessageCheck for FilterCheck<'_> {
    fn verdict(&self, message: MessageRef) -> Result<Verdict, Unchecked> {
        let State { entries, known } = &mut *self.state.lock();
        if let Some(known) = known.get(&message) {
            return Ok(*known);
        }
        if !self.needs_message && !self.reader.is_in_doubt(message.index) {
            return Ok(Verdict::Wanted);
        }
        let batch = entries.in_memory(self.reader, message.index).ok_or(Unchecked::NeedsRead(message))?;
        let verdict = match bodies::message(batch, message) {
            Ok(message) if self.filter.matches(&message) => Verdict::Wanted,
            Ok(_) => Verdict::Unwanted,
            Err(_) => Verdict::Unreadable,
        };
        known.insert(message, verdict);
        Ok(verdict)
    }
}

/// What a consumer wants of what its group is to have.
///
/// * Errors: [`Error::Stopped`] if the group's condition, which was checked when it was stored, does not parse.
pub(in crate::broker) fn with_stored(wanted: &Filter, group: &GroupName, condition: &str) -> Result<Filter, Error> {
    let condition = SqlFilter::parse_stored(condition)
        .map_err(|error| Error::Stopped(format!("the filter of group {group} does not parse: {error}")))?;
    Ok(Filter::Both(Box::new(wanted.clone()), Arc::new(condition)))
}
