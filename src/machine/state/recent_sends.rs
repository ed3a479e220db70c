//! The message ids of recent sends: a message that is sent again within the window is answered as the first one was, and
//! not stored again (P4, D17, D38).
//!
//! Hot path. The state has one value for each entry; in memory there is one table over all, loaded from the state at
//! start and changed by every entry applied since, so it is the same on every replica. Ids are compared by 96 bits of a
//! hash over topic and id.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::recent_table::Table;
use crate::machine::state::stage::Stage;
use crate::machine::state::stored::Stored;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::limits::{RECENT_FOR, RECENT_MESSAGES_MAX};
use crate::model::{LogIndex, Message, MessageRef, QueueId, QueueOffset, Timestamp, TopicId};
use crate::store::kv::{Kv, Space};

const VERSION: u8 = 1;
/// Entries read from the store at a time.
const PAGE: usize = 1024;
/// Marks a send as an entry and a slot instead of a queue and an offset.
const DEFERRED: u32 = 1 << 31;

/// Stands for a message id in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) struct Key {
    low: u64,
    high: u32,
}

/// The key of an encoded message.
pub(in crate::machine) fn key(topic: TopicId, message: &[u8]) -> Option<Key> {
    let hash = xxhash_rust::xxh3::xxh3_128_with_seed(Message::id_in(message)?, topic.0.into());
    let [low, high] = [hash, hash >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).expect("64 bits"));
    Some(Key { low, high: u32::try_from(high >> 32).expect("32 bits") })
}

/// A message in 24 bytes, because there are many.
#[derive(Debug, Clone, Copy)]
struct RecentSend {
    low: u64,
    high: u32,
    /// Queue; with [`DEFERRED`], slot.
    queue_or_slot: u32,
    /// Offset; with [`DEFERRED`], entry.
    offset_or_entry: u64,
}

/// The window of recent sends.
pub struct Recent {
    /// Finds the number of a message by its key.
    table: Table,
    /// In order of their numbers, which begin with `first` and wrap.
    messages: VecDeque<RecentSend>,
    first: u32,
    /// Each entry with its time and the count of its messages.
    entries: VecDeque<(LogIndex, Timestamp, u32)>,
    /// Count of the messages of the entry being applied.
    fresh: u32,
}

impl Default for Recent {
    fn default() -> Self {
        Self::numbered_from(0)
    }
}

impl Recent {
    fn numbered_from(first: u32) -> Self {
        Self {
            table: Table::new(0, first.wrapping_sub(1)),
            messages: VecDeque::new(),
            first,
            entries: VecDeque::new(),
            fresh: 0,
        }
    }

    /// Loads the window from the state.
    pub fn load(kv: &dyn Kv) -> Result<Self, Failure> {
        let mut recent = Self::default();
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
                return Ok(recent);
            }
        }
    }

    fn read(&mut self, index: LogIndex, value: Bytes) -> Result<(), Malformed> {
        let mut reader = Reader::versioned(value, "recent sends", VERSION)?;
        let at = Timestamp(reader.u64()?);
        let sent = reader.list(|reader| {
            Ok(RecentSend {
                low: reader.u64()?,
                high: reader.u32()?,
                queue_or_slot: reader.varint_u32()?,
                offset_or_entry: reader.varint()?,
            })
        })?;
        let before = self.messages.len();
        for sent in sent {
            self.push(sent);
        }
        self.entries.push_back((index, at, u32::try_from(self.messages.len() - before).unwrap_or(u32::MAX)));
        Ok(())
    }

    /// Brings the table entries of these keys into the processor's cache; they are looked for next.
    pub(in crate::machine) fn expect(&self, keys: &[Option<Key>]) {
        for key in keys.iter().flatten() {
            self.table.touch(key.low);
        }
    }

    /// Where the message was stored, if it was sent within the window.
    pub(in crate::machine) fn find(&self, key: Key) -> Option<Stored> {
        let number = self.table.find(key.low, |number| self.at(number).is_some_and(|sent| sent.is(key)))?;
        self.at(number).map(RecentSend::stored)
    }

    /// Adds a message that was stored by the entry being applied.
    pub(in crate::machine) fn note(&mut self, key: Key, index: LogIndex, stored: Stored) {
        let (queue_or_slot, offset_or_entry) = match stored {
            Stored::Queue(queue, offset) => (queue.0, offset.0),
            Stored::Deferred(slot) => (slot | DEFERRED, index.0),
            Stored::DeferredBefore(_) => return,
        };
        self.push(RecentSend { low: key.low, high: key.high, queue_or_slot, offset_or_entry });
        self.fresh += 1;
    }

    /// The entry is done: its messages are put into the state, and entries that the window has passed are deleted.
    pub(in crate::machine) fn end_entry(&mut self, stage: &mut Stage<'_>) {
        let count = std::mem::take(&mut self.fresh);
        if count == 0 {
            return;
        }
        let (index, now) = (stage.at(), stage.now());
        let mut value = BytesMut::with_capacity(13 + count as usize * 24);
        value.put_u8(VERSION);
        value.put_u64(now.0);
        let fresh: Vec<RecentSend> = self.messages.range(self.messages.len() - count as usize..).copied().collect();
        value.put_list(&fresh, |out, sent| {
            out.put_u64(sent.low);
            out.put_u32(sent.high);
            out.put_varint(sent.queue_or_slot.into());
            out.put_varint(sent.offset_or_entry);
        });
        stage.put(Space::Queue, keys::recent(index), value.freeze());
        self.entries.push_back((index, now, count));
        while let Some((index, at, count)) = self.entries.front().copied()
            && (self.messages.len() > RECENT_MESSAGES_MAX || now.since(at) > RECENT_FOR)
            && self.entries.len() > 1
        {
            self.entries.pop_front();
            stage.delete(Space::Queue, keys::recent(index));
            for _ in 0..count {
                self.pop();
            }
        }
    }

    fn at(&self, number: u32) -> Option<&RecentSend> {
        self.messages.get(number.wrapping_sub(self.first) as usize)
    }

    fn push(&mut self, sent: RecentSend) {
        if self.table.is_full(self.messages.len() + 1) {
            self.table = Table::new(self.messages.len() + 1, self.first.wrapping_sub(1));
            for (before, sent) in (0..).zip(&self.messages) {
                insert(&mut self.table, *sent, self.first, before);
            }
        }
        let before = u32::try_from(self.messages.len()).expect("the window is smaller");
        insert(&mut self.table, sent, self.first, before);
        self.messages.push_back(sent);
    }

    fn pop(&mut self) {
        let Some(sent) = self.messages.pop_front() else { return };
        self.table.leave(sent.low, self.first);
        self.first = self.first.wrapping_add(1);
    }
}

/// Puts the number of a message into the table; `before` messages are before it in the window.
fn insert(table: &mut Table, sent: RecentSend, first: u32, before: u32) {
    table.insert(sent.low, first.wrapping_add(before), |old| old.wrapping_sub(first) < before);
}

impl RecentSend {
    fn is(&self, key: Key) -> bool {
        self.low == key.low && self.high == key.high
    }

    fn stored(&self) -> Stored {
        let Self { queue_or_slot, offset_or_entry, .. } = *self;
        if queue_or_slot & DEFERRED == 0 {
            Stored::Queue(QueueId(queue_or_slot), QueueOffset(offset_or_entry))
        } else {
            Stored::DeferredBefore(MessageRef { index: LogIndex(offset_or_entry), slot: queue_or_slot & !DEFERRED })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;
    use crate::store::kv::{self, WriteBatch};

    /// As much of a store as this needs.
    #[derive(Default)]
    struct PlainKv(Mutex<BTreeMap<(Space, Bytes), Bytes>>);

    impl Kv for PlainKv {
        fn get(&self, space: Space, key: &[u8]) -> kv::Result<Option<Bytes>> {
            Ok(self.0.lock().get(&(space, Bytes::copy_from_slice(key))).cloned())
        }

        fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> kv::Result<Vec<(Bytes, Bytes)>> {
            let bound = |key: &[u8]| (space, Bytes::copy_from_slice(key));
            let pairs = self.0.lock();
            let found = pairs.range(bound(from)..bound(to)).take(limit);
            Ok(found.map(|((_, key), value)| (key.clone(), value.clone())).collect())
        }

        fn last(&self, _: Space, _: &[u8], _: &[u8]) -> kv::Result<Option<(Bytes, Bytes)>> {
            unreachable!("nothing here looks for the last of a range")
        }

        fn write(&self, batch: WriteBatch) -> kv::Result<()> {
            let mut pairs = self.0.lock();
            for (space, key, value) in batch.writes {
                match value {
                    Some(value) => pairs.insert((space, key), value),
                    None => pairs.remove(&(space, key)),
                };
            }
            Ok(())
        }

        fn flush(&self) -> kv::Result<()> {
            Ok(())
        }
    }

    const PER_ENTRY: u64 = 1024;

    fn id(number: u64) -> Key {
        Key { low: xxhash_rust::xxh3::xxh3_64(&number.to_be_bytes()), high: 0 }
    }

    fn entry(kv: &PlainKv, recent: &mut Recent, index: u64, now: u64) {
        let mut stage = Stage::new(kv).unwrap();
        stage.begin(LogIndex(index), Timestamp(now));
        for number in index * PER_ENTRY..(index + 1) * PER_ENTRY {
            recent.note(id(number), LogIndex(index), Stored::Queue(QueueId(0), QueueOffset(number)));
        }
        recent.end_entry(&mut stage);
        kv.write(stage.finish().unwrap().0).unwrap();
    }

    #[test]
    fn p4_the_window_is_bounded_by_count_and_time_and_the_same_after_a_restart() {
        let kv = PlainKv::default();
        let mut recent = Recent::numbered_from(u32::MAX - 5000);
        let entries = RECENT_MESSAGES_MAX as u64 / PER_ENTRY + 20;
        for index in 0..entries {
            entry(&kv, &mut recent, index, 1);
        }
        let loaded = Recent::load(&kv).unwrap();
        for recent in [&recent, &loaded] {
            assert_eq!(recent.messages.len(), RECENT_MESSAGES_MAX);
            assert_eq!(recent.find(id(20 * PER_ENTRY - 1)), None);
            for number in [20 * PER_ENTRY, entries * PER_ENTRY - 1] {
                assert_eq!(recent.find(id(number)), Some(Stored::Queue(QueueId(0), QueueOffset(number))));
            }
        }
        entry(&kv, &mut recent, entries, 2 + RECENT_FOR.0);
        assert_eq!((recent.messages.len() as u64, recent.entries.len()), (PER_ENTRY, 1));
        assert_eq!(Recent::load(&kv).unwrap().messages.len() as u64, PER_ENTRY);
    }
}
