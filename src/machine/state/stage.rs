//! The writes of one entry before they become one batch, and what they mean for those above the log.
//!
//! There is one stage for each entry, always: the running digest covers the writes of a stage, so nodes that put several
//! entries into one stage would compute another digest.
//!
//! Reads see the writes, so a command sees what the one before it did. Nothing is visible to others before
//! [`Stage::finish`] and the store's `write`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};

use bytes::Bytes;

use crate::machine::state::clock::MachineClock;
use crate::machine::state::entry_counts::EntryCounts;
use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::run_sizes::RunSizes;
use crate::model::{GroupId, LeaseId, LogIndex, MessageRef, Millis, QueueId, Timestamp, TopicId};
use crate::store::kv::{self, Kv, Space, WriteBatch};

/// The cluster version from which on one entry does a bounded part of what can wait, and ticks do the rest.
pub const BOUNDED_STEPS_SINCE: u32 = 5;
/// Keys that an entry writes for what can wait: about ten milliseconds of work. What was begun may end above it, by the
/// queues of one topic or the messages of one lease.
pub const DEFERRABLE_KEYS_MAX: usize = 2048;
/// How many topics, groups and subscriptions there are, or how many more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CatalogSize {
    pub topics: i64,
    pub groups: i64,
    /// Pairs of a group and a topic.
    pub subscriptions: i64,
}

impl CatalogSize {
    /// Counts a key of the catalog, of whatever it is.
    pub(in crate::machine) fn count(&mut self, key: &[u8], one: i64) {
        match key.first() {
            Some(&keys::TOPICS) => self.topics += one,
            Some(&keys::GROUPS) => self.groups += one,
            Some(&keys::SUBSCRIPTIONS) => self.subscriptions += one,
            // Names, which lead to these.
            _ => {}
        }
    }
}

/// What an entry did, for those who wait or count above the log. Not part of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Topics with new messages in queues.
    pub grown: BTreeSet<TopicId>,
    /// Those queues.
    pub grown_queues: BTreeSet<(TopicId, QueueId)>,
    /// Where messages may be delivered that could not be before: redelivery, or next in a FIFO line.
    pub returned: BTreeSet<(TopicId, GroupId)>,
    /// Topics, groups or subscriptions were added, changed or deleted.
    pub catalog_changed: bool,
    /// How many more of them there are.
    pub catalog_grown: CatalogSize,
    /// Half messages whose producers are to be asked now.
    pub questions: Vec<(TopicId, MessageRef)>,
    /// When the earliest of the new due things is due.
    pub due_at: Option<Timestamp>,
    /// Which entry, and the time of day that it was stored at; 0 for an entry without commands.
    pub entry: LogIndex,
    pub at: Timestamp,
    /// What it did, in numbers.
    pub counts: EntryCounts,
}

/// The writes of one entry over the stored state.
pub struct Stage<'a> {
    kv: &'a dyn Kv,
    /// By space, in the order of [`Space::ALL`].
    writes: [BTreeMap<Bytes, Option<Bytes>>; Space::ALL.len()],
    clock: MachineClock,
    /// Of the entry being applied.
    stamp: Timestamp,
    at: LogIndex,
    /// Lease ordinals of the command that runs.
    of_command: Option<Range<u32>>,
    effects: Effects,
    /// For counting only: what is deleted by this entry may still be in it.
    pub(super) run_sizes: Option<RunSizes>,
    /// Whether what can wait is bounded; known once it was asked for.
    is_bounded: Cell<Option<bool>>,
    /// Keys that were written for what can wait.
    deferrable_keys: usize,
    /// Groups in topics whose leases are being cleared away; known once it was asked for.
    clearings: Cell<Option<u64>>,
}

impl<'a> Stage<'a> {
    /// An empty stage over the stored state.
    pub fn new(kv: &'a dyn Kv) -> Result<Self, Failure> {
        let clock = MachineClock::decode(kv.get(Space::Meta, keys::CLOCK)?)?;
        let (writes, effects) = (Default::default(), Effects::default());
        Ok(Self {
            kv,
            writes,
            clock,
            stamp: Timestamp(0),
            at: LogIndex(0),
            of_command: None,
            effects,
            run_sizes: None,
            is_bounded: Cell::new(None),
            deferrable_keys: 0,
            clearings: Cell::new(None),
        })
    }

    /// Starts the entry at `at`. Time never goes backwards, even if a new leader's clock is behind, and not far ahead at
    /// once.
    pub(in crate::machine) fn begin(&mut self, at: LogIndex, stamp: Timestamp) {
        (self.at, self.stamp) = (at, stamp);
        if self.clock.begin(stamp) {
            self.put_clock();
        }
    }

    /// See [`MachineClock::set`].
    pub(in crate::machine) fn set_clock(&mut self, shift: Millis) {
        self.clock.set(self.stamp, shift);
        self.put_clock();
    }

    fn put_clock(&mut self) {
        self.put(Space::Meta, Bytes::from_static(keys::CLOCK), self.clock.encode());
    }

    /// The machine's time: the latest stamp.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time of day, to be shown.
    pub fn wall(&self) -> Timestamp {
        self.clock.wall_of(self.clock.now())
    }

    /// The machine's time and its relation to the time of day.
    pub fn clock(&self) -> &MachineClock {
        &self.clock
    }

    /// The entry being applied.
    pub fn at(&self) -> LogIndex {
        self.at
    }

    /// Starts a command of the entry, with its lease ordinals, if any are left for it (`machine/lease_ids`).
    pub(in crate::machine) fn begin_command(&mut self, lease_ordinals: Option<Range<u32>>) {
        self.of_command = lease_ordinals;
    }

    /// Whether lease ordinals are left for the command.
    pub(in crate::machine) fn may_lease(&self) -> bool {
        self.of_command.is_some()
    }

    /// The id of the command's lease with that number, from 0.
    pub(in crate::machine) fn lease(&self, number: u32) -> LeaseId {
        let of_command = self.of_command.clone().unwrap_or_default();
        assert!(
            number < of_command.end - of_command.start,
            "lease {number} is more than the command has ordinals for: {of_command:?}"
        );
        LeaseId::new(self.at, of_command.start + number)
    }

    /// Whether an entry does only a part of what can wait. The log of an older cluster is applied as its builds did.
    pub(in crate::machine) fn is_bounded(&self) -> kv::Result<bool> {
        if let Some(known) = self.is_bounded.get() {
            return Ok(known);
        }
        let is_bounded = self.number(Space::Meta, keys::CLUSTER_VERSION)? >= BOUNDED_STEPS_SINCE.into();
        self.is_bounded.set(Some(is_bounded));
        Ok(is_bounded)
    }

    /// How many keys this entry may still write for what can wait.
    pub(in crate::machine) fn keys_left(&self) -> kv::Result<usize> {
        let max = if self.is_bounded()? { DEFERRABLE_KEYS_MAX } else { usize::MAX };
        Ok(max.saturating_sub(self.deferrable_keys))
    }

    /// Counts keys that were written for what can wait.
    pub(in crate::machine) fn spend(&mut self, keys: usize) {
        self.deferrable_keys = self.deferrable_keys.saturating_add(keys);
    }

    /// Keys that this entry writes so far.
    pub fn written(&self) -> usize {
        self.writes.iter().map(BTreeMap::len).sum()
    }

    /// How many groups in topics have leases that are being cleared away (`clearing`). Mostly 0, and asked with each lease.
    pub(super) fn clearings(&self) -> kv::Result<u64> {
        if let Some(known) = self.clearings.get() {
            return Ok(known);
        }
        let count = if self.is_bounded()? { self.number(Space::Meta, keys::CLEARINGS)? } else { 0 };
        self.clearings.set(Some(count));
        Ok(count)
    }

    pub(super) fn set_clearings(&mut self, count: u64) {
        self.clearings.set(Some(count));
        self.put_number(Space::Meta, Bytes::from_static(keys::CLEARINGS), count);
    }

    /// The value as the commands so far left it.
    pub fn get(&self, space: Space, key: &[u8]) -> kv::Result<Option<Bytes>> {
        match self.writes[space as usize].get(key) {
            Some(written) => Ok(written.clone()),
            None => self.kv.get(space, key),
        }
    }

    /// A stored number; 0 if it was never stored.
    pub fn number(&self, space: Space, key: &[u8]) -> kv::Result<u64> {
        Ok(number(self.get(space, key)?))
    }

    /// The first `limit` pairs in `[from, to)` as the commands so far left them.
    pub fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> kv::Result<Vec<(Bytes, Bytes)>> {
        let all = &self.writes[space as usize];
        let written = || all.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        // Each written key can hide at most one stored pair.
        let stored = self.kv.scan(space, from, to, limit.saturating_add(written().count()))?;
        let mut merged: BTreeMap<Bytes, Bytes> = stored.into_iter().filter(|(key, _)| !all.contains_key(key)).collect();
        for (key, value) in written() {
            if let Some(value) = value {
                merged.insert(key.clone(), value.clone());
            }
        }
        Ok(merged.into_iter().take(limit).collect())
    }

    /// The last pair in `[from, to)` as the commands so far left it.
    pub fn last(&self, space: Space, from: &[u8], to: &[u8]) -> kv::Result<Option<(Bytes, Bytes)>> {
        let all = &self.writes[space as usize];
        let written = all.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let written = written.rev().find_map(|(key, value)| Some((key.clone(), value.clone()?)));
        let mut end = Bytes::copy_from_slice(to);
        loop {
            let Some(stored) = self.kv.last(space, from, &end)? else { return Ok(written) };
            if written.as_ref().is_some_and(|written| written.0 >= stored.0) {
                return Ok(written);
            }
            match all.get(&stored.0) {
                // Deleted by this entry: the last pair is before it.
                Some(None) => end = stored.0,
                Some(Some(value)) => return Ok(Some((stored.0, value.clone()))),
                None => return Ok(Some(stored)),
            }
        }
    }

    /// Sets a value.
    pub fn put(&mut self, space: Space, key: Bytes, value: Bytes) {
        self.writes[space as usize].insert(key, Some(value));
    }

    /// Sets a number.
    pub fn put_number(&mut self, space: Space, key: Bytes, value: u64) {
        self.put(space, key, Bytes::copy_from_slice(&value.to_be_bytes()));
    }

    /// Removes a value.
    pub fn delete(&mut self, space: Space, key: Bytes) {
        self.writes[space as usize].insert(key, None);
    }

    /// The effects, to be added to.
    pub(in crate::machine) fn effects(&mut self) -> &mut Effects {
        &mut self.effects
    }

    /// What the entry does, in numbers, to be added to.
    pub(in crate::machine) fn counts(&mut self) -> &mut EntryCounts {
        &mut self.effects.counts
    }

    fn catalog_grown(&self) -> kv::Result<CatalogSize> {
        let mut grown = CatalogSize::default();
        for (key, value) in &self.writes[Space::Catalog as usize] {
            let was_there = self.kv.get(Space::Catalog, key)?.is_some();
            grown.count(key, i64::from(value.is_some()) - i64::from(was_there));
        }
        Ok(grown)
    }

    /// The writes as one batch with the running digest, and the effects.
    ///
    /// The digest chains over every written key and value: two replicas with equal digests applied the same writes in
    /// the same order (P15). What follows from other writes is left out (`references`).
    pub fn finish(mut self) -> kv::Result<(WriteBatch, Effects)> {
        if self.writes.iter().any(|writes| !writes.is_empty()) {
            let mut hasher = xxhash_rust::xxh3::Xxh3::new();
            hasher.update(&self.number(Space::Meta, keys::DIGEST)?.to_be_bytes());
            for (space, key, value) in spaced(&self.writes).filter(|(space, ..)| *space != Space::Reference) {
                hasher.update(&[space as u8, value.is_some().into()]);
                hasher.update(&(key.len() as u64).to_be_bytes());
                hasher.update(key);
                if let Some(value) = value {
                    hasher.update(&(value.len() as u64).to_be_bytes());
                    hasher.update(value);
                }
            }
            let digest = hasher.digest();
            self.put_number(Space::Meta, Bytes::from_static(keys::DIGEST), digest);
        }
        (self.effects.entry, self.effects.at) = (self.at, self.wall());
        self.effects.catalog_grown = self.catalog_grown()?;
        let writes = spaced(&self.writes).map(|(space, key, value)| (space, key.clone(), value.clone())).collect();
        Ok((WriteBatch { writes }, self.effects))
    }
}

fn spaced(writes: &[BTreeMap<Bytes, Option<Bytes>>]) -> impl Iterator<Item = (Space, &Bytes, &Option<Bytes>)> {
    Space::ALL
        .into_iter()
        .zip(writes)
        .flat_map(|(space, writes)| writes.iter().map(move |(key, value)| (space, key, value)))
}

fn number(value: Option<Bytes>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes(value.as_ref().try_into().expect("numbers are stored in eight bytes")))
}
