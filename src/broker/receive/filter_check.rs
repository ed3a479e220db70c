//! Filters that read whole messages, while a plan is made; and the filter that is stored with a group.
//!
//! Hot path. A plan is made without waiting: one that needs a message from the disk stops with
//! [`Unchecked::NeedsRead`], and is made anew after [`FilterCheck::read`].

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::receive::bodies::{self, ReadEntries};
use crate::broker::{Error, ShardReader};
use crate::model::filter::sql::SqlFilter;
use crate::model::{Filter, GroupName, MessageRef};

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

/// Asks a filter that reads whole messages.
pub(in crate::broker) struct FilterCheck<'a> {
    reader: &'a ShardReader,
    filter: &'a Filter,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: ReadEntries,
    /// What was asked since the last plan was made.
    known: BTreeMap<MessageRef, bool>,
}

impl<'a> FilterCheck<'a> {
    pub fn new(reader: &'a ShardReader, filter: &'a Filter) -> Self {
        Self { reader, filter, state: Mutex::default() }
    }

    /// Whether the filter wants the message.
    pub fn is_wanted(&self, message: MessageRef) -> Result<bool, Unchecked> {
        let State { entries, known } = &mut *self.state.lock();
        if let Some(known) = known.get(&message) {
            return Ok(*known);
        }
        let batch = entries.in_memory(self.reader, message.index).ok_or(Unchecked::NeedsRead(message))?;
        let is_wanted = self.filter.matches(&bodies::message(batch, message)?);
        known.insert(message, is_wanted);
        Ok(is_wanted)
    }

    /// Reads a message from the disk, and keeps those beside it for the next plan.
    pub async fn read(&self, message: MessageRef) -> Result<(), Error> {
        let batches = self.reader.batches_on_disk(message.index).await?;
        self.state.lock().entries = ReadEntries::new(batches);
        // Asked now, before the next plan reads other entries: each plan knows more than the one before.
        match self.is_wanted(message) {
            Ok(_) => Ok(()),
            Err(Unchecked::Failed(error)) => Err(error),
            Err(Unchecked::NeedsRead(_)) => Err(bodies::unreadable(message, &"the entry is missing")),
        }
    }

    /// Forgets what was asked: a plan was made.
    pub fn forget(&self) {
        self.state.lock().known.clear();
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
