//! The newest sends of the window, in memory: a list in their order, and a table over it.
//!
//! Hot path.

use std::collections::VecDeque;
use std::ops::Range;

use crate::machine::state::recent_id::{Key, RecentSend};
use crate::machine::state::recent_table::Table;
use crate::model::{LogIndex, Timestamp};

/// An entry that sent messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SendingEntry {
    pub index: LogIndex,
    pub at: Timestamp,
    /// Of its messages.
    pub count: u32,
    /// Number of its first message.
    first: u32,
}

/// The newest sends.
pub(super) struct Newest {
    /// Finds the number of a message by its key.
    table: Table,
    /// In order of their numbers, which begin with `first` and wrap.
    messages: VecDeque<RecentSend>,
    first: u32,
    /// In order; what no entry of these has is of the entry being applied.
    entries: VecDeque<SendingEntry>,
    /// Count of the messages of the entry being applied.
    fresh: u32,
    /// How many came since it was made.
    pushed: u64,
}

impl Newest {
    /// None yet; the first message gets this number.
    pub fn numbered_from(first: u32) -> Self {
        let table = Table::new(0, first.wrapping_sub(1));
        Self { table, messages: VecDeque::new(), first, entries: VecDeque::new(), fresh: 0, pushed: 0 }
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Brings what is looked at for this key into the processor's cache.
    pub fn touch(&self, key: Key) {
        self.table.touch(key.low);
    }

    /// The message of this key, if its entry is one that counts; one of the entry being applied always does.
    pub fn find(&self, key: Key, counts: impl Fn(Timestamp) -> bool) -> Option<&RecentSend> {
        let is_it =
            |number| self.at(number).is_some_and(|sent| sent.key() == key) && self.time_of(number).is_none_or(&counts);
        self.at(self.table.find(key.low, is_it)?)
    }

    /// Adds a message of the entry being applied.
    pub fn push(&mut self, sent: RecentSend) {
        if self.table.is_full(self.messages.len() + 1) {
            self.table = Table::new(self.messages.len() + 1, self.first.wrapping_sub(1));
            for (before, sent) in (0..).zip(&self.messages) {
                insert(&mut self.table, *sent, self.first, before);
            }
        }
        let before = u32::try_from(self.messages.len()).expect("the window is smaller");
        insert(&mut self.table, sent, self.first, before);
        self.messages.push_back(sent);
        self.fresh += 1;
        self.pushed += 1;
    }

    /// The entry is done: its messages.
    pub fn end_entry(&mut self, index: LogIndex, at: Timestamp) -> impl ExactSizeIterator<Item = &RecentSend> {
        let count = std::mem::take(&mut self.fresh);
        let before = self.messages.len() - count as usize;
        if count > 0 {
            let first = self.first.wrapping_add(u32::try_from(before).expect("the window is smaller"));
            self.entries.push_back(SendingEntry { index, at, count, first });
        }
        self.messages.range(before..)
    }

    pub fn oldest(&self) -> Option<SendingEntry> {
        self.entries.front().copied()
    }

    /// Forgets the messages of the oldest entry.
    pub fn drop_oldest(&mut self) {
        let Some(SendingEntry { count, .. }) = self.entries.pop_front() else { return };
        for _ in 0..count {
            let Some(sent) = self.messages.pop_front() else { return };
            self.table.leave(sent.key().low, self.first);
            self.first = self.first.wrapping_add(1);
        }
    }

    /// Each entry up to this one, with the places of its messages in the list.
    pub fn up_to(&self, last: LogIndex) -> impl Iterator<Item = (SendingEntry, Range<usize>)> {
        let places = |entry: &SendingEntry| {
            let first = entry.first.wrapping_sub(self.first) as usize;
            (*entry, first..first + entry.count as usize)
        };
        self.entries.iter().take_while(move |entry| entry.index <= last).map(places)
    }

    /// How many messages came before the one at a place in the list; of a place behind the last: so far.
    pub fn before(&self, place: usize) -> u64 {
        self.pushed - (self.messages.len() - place) as u64
    }

    /// The message at a place in the list.
    pub fn at_place(&self, place: usize) -> RecentSend {
        self.messages[place]
    }

    fn at(&self, number: u32) -> Option<&RecentSend> {
        self.messages.get(number.wrapping_sub(self.first) as usize)
    }

    /// When a message was sent; `None` if by the entry being applied.
    fn time_of(&self, number: u32) -> Option<Timestamp> {
        let place = number.wrapping_sub(self.first);
        if place as usize >= self.messages.len() - self.fresh as usize {
            return None;
        }
        let after = self.entries.partition_point(|entry| entry.first.wrapping_sub(self.first) <= place);
        Some(self.entries[after - 1].at)
    }
}

/// Puts the number of a message into the table; `before` messages are before it in the list.
fn insert(table: &mut Table, sent: RecentSend, first: u32, before: u32) {
    table.insert(sent.key().low, first.wrapping_add(before), |old| old.wrapping_sub(first) < before);
}
