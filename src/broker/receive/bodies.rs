//! What entries hold, for those above the log: from memory or the page cache at once, from the disk away from the calling
//! thread.
//!
//! Hot path. A thread of the front end serves many clients, and may be Raft's too: none of them waits for the disk where
//! messages lie. The state store's own reads are small and mostly in its cache; they are made where they are needed.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::broker::receive::plan::NoPlan;
use crate::broker::{Broker, Error};
use crate::machine::Batch;
use crate::model::{Filter, LogIndex, Message, MessageRef, Timestamp};

/// Reads entries and their messages; neighbours in the log cost one look-up.
pub(in crate::broker) struct BodyReader<'a> {
    broker: &'a Broker,
    /// What was read last, by position: an entry from memory, or as many as one read of the disk gave.
    batches: Vec<(LogIndex, Batch)>,
}

impl<'a> BodyReader<'a> {
    pub fn new(broker: &'a Broker) -> Self {
        Self { broker, batches: Vec::new() }
    }

    pub async fn read(&mut self, place: MessageRef) -> Result<Message, Error> {
        Ok(self.read_with_stamp(place).await?.0)
    }

    /// The message and the time of its entry.
    pub async fn read_with_stamp(&mut self, place: MessageRef) -> Result<(Message, Timestamp), Error> {
        let batch = self.batch(place.index).await?.ok_or_else(|| unreadable(place, &"the entry is missing"))?;
        Ok((message(batch, place)?, batch.stamp()))
    }

    /// The batch of an entry; `None` if this node has none there.
    pub async fn batch(&mut self, index: LogIndex) -> Result<Option<&Batch>, Error> {
        if self.in_memory(index).is_none() {
            self.batches = from_disk(self.broker, index).await?;
        }
        Ok(self.found(index))
    }

    /// The batch of an entry, if no disk is needed for it.
    fn in_memory(&mut self, index: LogIndex) -> Option<&Batch> {
        if self.found(index).is_none() {
            let batch = self.broker.replica.batches().in_memory(index)?;
            self.batches.clear();
            self.batches.push((index, batch));
        }
        self.found(index)
    }

    fn found(&self, index: LogIndex) -> Option<&Batch> {
        let position = self.batches.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(&self.batches[position].1)
    }
}

async fn from_disk(broker: &Broker, index: LogIndex) -> Result<Vec<(LogIndex, Batch)>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Stopped(format!("entry {index} cannot be read: {error}"));
    broker.replica.batches().read(index).await.map_err(|error| failed(&error))
}

fn unreadable(place: MessageRef, what: &dyn std::fmt::Display) -> Error {
    Error::Stopped(format!("message {} of entry {} cannot be read: {what}", place.slot, place.index))
}

fn message(batch: &Batch, place: MessageRef) -> Result<Message, Error> {
    let bytes = batch.message(place.slot).ok_or_else(|| unreadable(place, &"no such slot"))?;
    Message::decode(bytes).map_err(|error| unreadable(place, &error))
}

/// Asks a filter that reads whole messages, while a plan is made. A plan is made at one go: one that needs the disk
/// ends with [`NoPlan::OnDisk`], and is made again after [`Self::fetch`].
pub(in crate::broker) struct Checker<'a> {
    filter: &'a Filter,
    reader: BodyReader<'a>,
    /// What was asked since the last plan was made.
    known: BTreeMap<MessageRef, bool>,
}

impl<'a> Checker<'a> {
    pub fn new(broker: &'a Broker, filter: &'a Filter) -> Self {
        Self { filter, reader: BodyReader::new(broker), known: BTreeMap::new() }
    }

    /// Whether the filter wants the message.
    pub fn check(&mut self, place: MessageRef) -> Result<bool, NoPlan> {
        if let Some(known) = self.known.get(&place) {
            return Ok(*known);
        }
        let batch = self.reader.in_memory(place.index).ok_or(NoPlan::OnDisk(place))?;
        let is_wanted = self.filter.matches(&message(batch, place)?);
        self.known.insert(place, is_wanted);
        Ok(is_wanted)
    }

    /// A plan was made.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Looks at a message on the disk, with those beside it at hand for the next plan.
    pub async fn fetch(checker: &Mutex<Self>, broker: &Broker, place: MessageRef) -> Result<(), Error> {
        let batches = from_disk(broker, place.index).await?;
        let mut checker = checker.lock();
        checker.reader.batches = batches;
        // Whatever the next plan looks at first: it knows more than the last one.
        match checker.check(place) {
            Ok(_) => Ok(()),
            Err(NoPlan::Failed(error)) => Err(error),
            Err(NoPlan::OnDisk(_)) => Err(unreadable(place, &"the entry is missing")),
        }
    }
}
