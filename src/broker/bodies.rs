//! What entries hold, for those above the log: from memory at once, from the disk away from the calling thread.
//!
//! Hot path. A thread of the front end serves many clients, and may be Raft's too: none of them waits for the disk where
//! messages lie. The state store's own reads are small and mostly in its cache; they are made where they are needed.
//! What one poll took from the disk is kept for a while: the next one mostly wants what lies beside it, and another
//! group's the same.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use super::plan::NoPlan;
use super::{Broker, Error};
use crate::machine::Batch;
use crate::model::{Filter, LogIndex, Message, MessageRef, Timestamp};

/// What is kept of the last looks at the disk.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
const KEPT_LOOKS_MAX: usize = 64;

/// Batches that lie together, by position.
type Look = Vec<(LogIndex, Batch)>;

/// The last looks at the disk, of all readers of this node. Only of applied entries, which never change.
#[derive(Default)]
pub(super) struct LastLooks(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    looks: VecDeque<Look>,
    bytes: usize,
}

impl LastLooks {
    /// The look with this entry.
    fn find(&self, index: LogIndex) -> Option<Look> {
        let kept = self.0.lock();
        // Newest first: readers move on.
        kept.looks.iter().rev().find(|look| position(look, index).is_some()).cloned()
    }

    fn keep(&self, look: Look) {
        if look.is_empty() {
            return;
        }
        let mut kept = self.0.lock();
        kept.bytes += size(&look);
        kept.looks.push_back(look);
        while (kept.bytes > KEPT_BYTES_MAX || kept.looks.len() > KEPT_LOOKS_MAX)
            && let Some(oldest) = kept.looks.pop_front()
        {
            kept.bytes -= size(&oldest);
        }
    }
}

fn size(look: &Look) -> usize {
    look.iter().map(|(_, batch)| batch.bytes()).sum()
}

fn position(look: &Look, index: LogIndex) -> Option<usize> {
    look.binary_search_by_key(&index, |(index, _)| *index).ok()
}

/// Reads entries and their messages; neighbours in the log cost one look-up.
pub(super) struct BodyReader<'a> {
    broker: &'a Broker,
    /// What was read last, by position: an entry from memory, or as many as one read of the disk gave.
    batches: Look,
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
            let batch = self.broker.replica.batch_in_memory(index)?;
            self.batches.clear();
            self.batches.push((index, batch));
        }
        self.found(index)
    }

    fn found(&self, index: LogIndex) -> Option<&Batch> {
        position(&self.batches, index).map(|position| &self.batches[position].1)
    }
}

async fn from_disk(broker: &Broker, index: LogIndex) -> Result<Look, Error> {
    if let Some(look) = broker.last_looks.find(index) {
        return Ok(look);
    }
    let failed = |error: &dyn std::fmt::Display| Error::Stopped(format!("entry {index} cannot be read: {error}"));
    let look = broker.replica.read_batches(index).await.map_err(|error| failed(&error))?;
    broker.last_looks.keep(look.clone());
    Ok(look)
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
pub(super) struct Checker<'a> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn look(first: u64, bytes: usize) -> Look {
        let proposal = crate::machine::Proposal { command: vec![0; bytes].into(), messages: Vec::new() };
        let batch = Batch::decode(Batch::encode(Timestamp(first), [&proposal].into_iter())).unwrap();
        vec![(LogIndex(first), batch.clone()), (LogIndex(first + 1), batch)]
    }

    #[test]
    fn the_last_looks_are_kept_and_no_more_than_fit() {
        let kept = LastLooks::default();
        kept.keep(Vec::new());
        let found = |index| kept.find(LogIndex(index)).map(|look| look[0].0.0);
        for first in (0..200).step_by(2) {
            kept.keep(look(first, 100));
        }
        assert_eq!([found(199), found(198), found(200)], [Some(198), Some(198), None]);
        let oldest = 200 - 2 * KEPT_LOOKS_MAX as u64;
        assert_eq!([found(oldest), found(oldest - 1)], [Some(oldest), None]);
        kept.keep(look(1000, KEPT_BYTES_MAX / 3));
        assert_eq!([found(1001), found(198)], [Some(1000), Some(198)]);
        kept.keep(look(2000, KEPT_BYTES_MAX / 3));
        assert_eq!([found(2001), found(1001), found(198)], [Some(2000), None, None]);
        kept.keep(look(3000, KEPT_BYTES_MAX));
        assert_eq!((found(3000), kept.0.lock().bytes), (None, 0), "what is larger than all of it is not kept");
    }
}
