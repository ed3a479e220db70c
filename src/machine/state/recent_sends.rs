//! The message ids of recent sends: a message that is sent again within the window is answered as the first one was, and
//! not stored again (P4, D17, D38, D234).
//!
//! Hot path. The window is ten minutes of machine time, by the entry that stored a message. The newest sends are in memory
//! (`recent_newest`) and have one value in the state for each entry, from which memory is filled at a start; older ones are in
//! the state only (`recent_slices`), behind a filter (`recent_filter`). Below cluster version 5 the window also ends with the
//! last 262,144 messages, which is what builds before it do, and is cleared entry by entry.
//!
//! What leaves the window is deleted in bounded steps, some with each entry that sends; what is found is asked for its time.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::recent_id::{Key, RecentSend};
use crate::machine::state::recent_newest::{Newest, SendingEntry};
use crate::machine::state::recent_slices::{Sizes, Slices};
use crate::machine::state::stage::Stage;
use crate::machine::state::stored::Stored;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::limits::{RECENT_FOR, RECENT_MESSAGES_MAX};
use crate::model::{LogIndex, Timestamp};
use crate::store::kv::{Kv, Space};

/// The cluster version from which on the window is ten minutes at any rate.
pub const NEEDS_SLICES: u64 = 5;

const VERSION: u8 = 1;
/// Entries read from the store at a time.
const PAGE: usize = 1024;
/// With an entry, at most so many others leave memory,
const ENTRIES_DROPPED: usize = 256;
/// and about so many of their messages beside twice those of the entry.
const MESSAGES_DROPPED: usize = 16 * 1024;
/// Keys that are deleted with an entry beside a quarter of the count of its messages.
const KEYS_DELETED: usize = 64;
/// Ids for the filter that are read with an entry: at least, for each of its messages, and at most.
const READ: [u64; 3] = [8 * 1024, 64, 32 * 1024];

/// The window of recent sends.
pub struct Recent {
    pub(super) newest: Newest,
    pub(super) older: Slices,
    /// The entry being applied, once it is known of.
    entry: Option<WindowRule>,
}

/// Which sends an entry finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WindowRule {
    /// All that were not deleted.
    Stored,
    /// Those of the last ten minutes before this time.
    Timed(Timestamp),
}

impl Default for Recent {
    fn default() -> Self {
        Self::sized(Sizes::OF_NODES, 0)
    }
}

impl Recent {
    pub(super) fn sized(sizes: Sizes, first: u32) -> Self {
        Self { newest: Newest::numbered_from(first), older: Slices::none(sizes), entry: None }
    }

    /// Loads the window from the state.
    pub fn load(kv: &dyn Kv) -> Result<Self, Failure> {
        Self::load_sized(kv, Sizes::OF_NODES)
    }

    pub(super) fn load_sized(kv: &dyn Kv, sizes: Sizes) -> Result<Self, Failure> {
        let mut recent = Self::sized(sizes, 0);
        let mut from = keys::all_recent();
        let end = keys::after_prefix(&from);
        loop {
            let page = kv.scan(Space::Queue, &from, &end, PAGE)?;
            let is_last = page.len() < PAGE;
            for (key, value) in page {
                let index = LogIndex(Reader::new(key.slice(1..), "key of recent sends").u64()?);
                recent.read(index, value)?;
                from = keys::after(&key);
            }
            if is_last {
                break;
            }
        }
        recent.older = Slices::load(sizes, kv, &recent.newest)?;
        Ok(recent)
    }

    fn read(&mut self, index: LogIndex, value: Bytes) -> Result<(), Malformed> {
        let mut reader = Reader::versioned(value, "recent sends", VERSION)?;
        let at = Timestamp(reader.u64()?);
        let sent = reader.list(|reader| {
            let key = Key { low: reader.u64()?, high: reader.u32()? };
            RecentSend::read(key, reader)
        })?;
        sent.into_iter().for_each(|sent| self.newest.push(sent));
        let _ = self.newest.end_entry(index, at);
        Ok(())
    }

    /// Messages of the entry being applied are looked for next.
    pub(in crate::machine) fn begin_entry(&mut self, stage: &Stage<'_>) -> Result<(), Failure> {
        if self.entry.is_none() {
            let is_timed = stage.number(Space::Meta, keys::CLUSTER_VERSION)? >= NEEDS_SLICES;
            self.entry = Some(if is_timed { WindowRule::Timed(stage.now()) } else { WindowRule::Stored });
        }
        Ok(())
    }

    /// Brings what is looked at for these keys into the processor's cache; they are looked for next.
    pub(in crate::machine) fn expect(&self, keys: &[Option<Key>]) {
        for key in keys.iter().flatten() {
            self.newest.touch(*key);
            self.older.touch(*key);
        }
    }

    /// Where the message was stored, if it was sent within the window.
    pub(in crate::machine) fn find(&self, stage: &Stage<'_>, key: Key) -> Result<Option<Stored>, Failure> {
        let Some(WindowRule::Timed(now)) = self.entry else {
            return Ok(self.newest.find(key, |_| true).map(RecentSend::stored));
        };
        let ages = self.older.ages(key, now);
        if ages == 0 && self.older.has_noted(&self.newest) {
            return Ok(None);
        }
        if let Some(sent) = self.newest.find(key, |at| is_within(at, now)) {
            return Ok(Some(sent.stored()));
        }
        if ages == 0 {
            return Ok(None);
        }
        Ok(self.older.find(stage, key, ages)?.map(|sent| sent.stored()))
    }

    /// Adds a message that was stored by the entry being applied.
    pub(in crate::machine) fn note(&mut self, key: Key, index: LogIndex, stored: Stored) {
        if let Some(sent) = RecentSend::new(key, index, stored) {
            self.newest.push(sent);
            if let Some(WindowRule::Timed(now)) = self.entry {
                self.older.note(key, now);
            }
        }
    }

    /// The entry is done: its messages are put into the state, and some of what the window has passed is deleted.
    pub(in crate::machine) fn end_entry(&mut self, stage: &mut Stage<'_>) -> Result<(), Failure> {
        let rule = self.entry.take();
        let (index, now) = (stage.at(), stage.now());
        let fresh = self.newest.end_entry(index, now);
        let count = fresh.len();
        if count == 0 {
            return Ok(());
        }
        let mut value = BytesMut::with_capacity(13 + count * 24);
        value.put_u8(VERSION);
        value.put_u64(now.0);
        value.put_varint(count as u64);
        for sent in fresh {
            value.put_u64(sent.key().low);
            value.put_u32(sent.key().high);
            sent.put_place(&mut value);
        }
        stage.put(Space::Queue, keys::recent(index), value.freeze());
        match rule {
            Some(WindowRule::Timed(_)) => self.move_on(stage, count),
            _ => {
                self.drop_beyond_count(stage);
                Ok(())
            }
        }
    }

    /// As builds did that knew no cluster version 5: all that is too much, at once.
    fn drop_beyond_count(&mut self, stage: &mut Stage<'_>) {
        while let Some(entry) = self.newest.oldest()
            && (self.newest.len() > RECENT_MESSAGES_MAX || !is_within(entry.at, stage.now()))
            && self.newest.entry_count() > 1
        {
            self.drop_oldest(stage, entry);
        }
    }

    /// The window moves on by an entry with so many messages. Each step does more than an entry adds to what it has to do,
    /// and not much more: memory stays bounded, and so does an entry.
    fn move_on(&mut self, stage: &mut Stage<'_>, count: usize) -> Result<(), Failure> {
        let now = stage.now();
        match self.older.writing() {
            None => {
                self.drop_some(stage, count, |entry| !is_within(entry.at, now));
                if self.newest.len() >= self.older.sizes.lot {
                    self.older.begin_lot(stage, &self.newest)?;
                }
            }
            Some((_, false)) => self.older.write_some(stage, &self.newest, 3 * count),
            Some((last, true)) => {
                self.drop_some(stage, count, |entry| entry.index <= last);
                if self.newest.oldest().is_none_or(|entry| entry.index > last) {
                    self.older.end_lot();
                }
            }
        }
        self.older.delete_some(stage, KEYS_DELETED + count / 4);
        let [least, each, most] = READ;
        self.older.make_filter(stage, &self.newest, (least + each * count as u64).min(most))?;
        self.older.put_into(stage);
        Ok(())
    }

    /// Drops the oldest entries that are to go, as many as one entry may.
    fn drop_some(&mut self, stage: &mut Stage<'_>, count: usize, goes: impl Fn(SendingEntry) -> bool) {
        let (mut entries, mut messages) = (0, 0);
        while entries < ENTRIES_DROPPED
            && messages < MESSAGES_DROPPED + 2 * count
            && let Some(entry) = self.newest.oldest()
            && goes(entry)
        {
            self.drop_oldest(stage, entry);
            (entries, messages) = (entries + 1, messages + entry.count as usize);
        }
    }

    fn drop_oldest(&mut self, stage: &mut Stage<'_>, oldest: SendingEntry) {
        self.newest.drop_oldest();
        stage.delete(Space::Queue, keys::recent(oldest.index));
    }
}

fn is_within(at: Timestamp, now: Timestamp) -> bool {
    now.since(at) <= RECENT_FOR
}
