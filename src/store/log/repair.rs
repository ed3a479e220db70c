//! Damage of the log, for those who repair it: what is known of it, a segment read through, entries written in their places,
//! a segment made anew, an end of the log that is lost and here again.
//!
//! What is written comes from peers, who gave it as committed; that it fits what is here is checked, by its length, its
//! leader, the terms around it, and in the end by the checksum in the footer.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::commit_log::CommitLog;
use crate::store::log::examine::{EntryRange, Examined, Pace};
use crate::store::log::log_state::Op;
use crate::store::log::rebuild::NewSegment;
use crate::store::log::record::{Record, RecordId};

/// A segment that is being made anew. Given up when it is dropped before it is done.
pub struct Rebuild {
    log: CommitLog,
    new: NewSegment,
}

impl CommitLog {
    /// The first entries of the damaged segments, and what is wrong with each.
    pub fn damage(&self) -> Vec<(LogIndex, String)> {
        self.state_of_log().segments.quarantine().all()
    }

    /// Notified when damage is found.
    pub fn damage_found(&self) -> Arc<Notify> {
        self.state_of_log().segments.quarantine().found()
    }

    /// Whether other nodes have copies.
    pub fn has_peers(&self) -> bool {
        self.state_of_log().has_peers
    }

    /// From which entry on damage took some that this node may have acknowledged, until [`Self::note_restored`].
    pub fn lost_from(&self) -> Option<LogIndex> {
        self.state_of_log().state.lock().lost_from
    }

    /// This node has again all that it lost. Durable on return. Blocks.
    ///
    /// * Errors: [`Error::Poisoned`].
    pub fn note_restored(&self) -> Result<(), Error> {
        self.blocking(|reply| Op::Restored { reply })?;
        self.state_of_log().state.lock().lost_from = None;
        Ok(())
    }

    /// Gives up everything from this entry on: it cannot be read, and is to come from the leader. More than that goes if the
    /// log cannot end there, because the segment around it can be read even less. Blocks.
    ///
    /// * Errors: [`Error::Io`] that says nothing about the files; [`Error::Poisoned`].
    pub fn lose_from(&self, from: LogIndex) -> Result<(), Error> {
        let (keep, kept) = self.state_of_log().segments.last_to_keep(LogIndex(from.0.saturating_sub(1)))?;
        let from = keep.next();
        self.blocking(|reply| Op::Lose { from, reply })?;
        {
            let mut state = self.state_of_log().state.lock();
            state.lost_from = Some(state.lost_from.map_or(from, |lost| lost.min(from)));
        }
        match kept {
            Some(kept) => self.truncate_to(kept),
            None => self.truncate_after(Some(keep)),
        }
    }

    /// Which entry is at an index, from memory or a footer: also of one that cannot be read.
    pub fn id_at(&self, index: LogIndex) -> Option<RecordId> {
        let last = self.last().filter(|last| last.index == index);
        last.or_else(|| self.state_of_log().segments.id_of(index))
    }

    /// Reads a whole segment and says what is wrong with it; what is, stays noted until it is repaired. `None` if there is no
    /// such segment, it was cut or forgotten meanwhile, or `pace` ended it. Blocks.
    ///
    /// * Errors: [`Error::Io`] that says nothing about the file.
    pub fn examine(&self, first: LogIndex, pace: Pace<'_>) -> Result<Option<Examined>, Error> {
        self.state_of_log().segments.examine(first, pace)
    }

    /// Writes entries in their places, durably, and reads them again. Blocks, and holds up appends for as long.
    ///
    /// * Errors: [`Error::Damaged`] if they do not fit into their places; [`Error::Io`] if the disk cannot write there: what a
    ///   sealed segment needs then is [`Self::rebuild`]; [`Error::Poisoned`].
    pub fn repair_in_place(&self, records: Vec<Record>) -> Result<(), Error> {
        self.blocking(|reply| Op::Repair { records, reply })
    }

    /// Begins to make a segment anew.
    ///
    /// * Errors: [`Error::Full`], [`Error::Io`].
    pub fn rebuild(&self, examined: Examined) -> Result<Rebuild, Error> {
        let log = self.state_of_log();
        let around = log.segments.ids_around(examined.first, examined.next);
        let before = log.segments.checksum_before_segment(examined.first)?;
        let new = NewSegment::begin(log.segments.files(), examined, log.segment_bytes, around, before)?;
        Ok(Rebuild { log: self.clone(), new })
    }
}

impl Rebuild {
    /// What has to be fetched next; `None` if [`Self::finish`] is next. Blocks.
    ///
    /// * Errors: as [`Self::put`].
    pub fn advance(&mut self) -> Result<Option<EntryRange>, Error> {
        self.new.advance()
    }

    /// Adds the next entries. Blocks.
    ///
    /// * Errors: [`Error::Damaged`] if they do not follow what is there; [`Error::Full`], [`Error::Io`].
    pub fn put(&mut self, records: &[Record]) -> Result<(), Error> {
        self.new.put(records)
    }

    /// Puts it in its place, durably. A part of a segment that got too large is to be repaired next. Blocks.
    ///
    /// * Errors: [`Error::Full`], [`Error::Io`], [`Error::Poisoned`].
    pub fn finish(self) -> Result<(), Error> {
        let committed = self.log.committed_hint();
        let Some(rebuilt) = self.new.seal(committed)? else { return Ok(()) };
        self.log.blocking(|reply| Op::Replace { rebuilt, reply })
    }
}
