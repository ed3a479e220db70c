//! The window of recent sends against a plain map, over restarts, changes of the cluster version and quiet times.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use crate::machine::state::keys;
use crate::machine::state::recent_filter::Line;
use crate::machine::state::recent_id::Key;
use crate::machine::state::recent_sends::{NEEDS_SLICES, Recent};
use crate::machine::state::recent_slices::Sizes;
use crate::machine::state::stage::Stage;
use crate::machine::state::stored::Stored;
use crate::model::limits::{RECENT_FILTER_BYTES_MAX, RECENT_FOR, RECENT_MESSAGES_MAX};
use crate::model::{LogIndex, QueueId, QueueOffset, Timestamp};
use crate::store::kv::memory::MemoryKv;
use crate::store::kv::{Kv, Space, WriteBatch};

/// So small that some entries make a lot, and some more write it.
const SMALL: Sizes = Sizes { lot: 300, range_bits: 6, lines_max: 4 };
/// So small that a few lots fill all lines of the filter.
const SMALL_FILTER: Sizes = Sizes { lot: 100, range_bits: 2, lines_max: 4 };
const PER_ENTRY: u64 = 1024;
/// Any time that is not the start of a minute.
const START: u64 = 1_000_000_123;

/// A window with its state.
struct Window {
    kv: MemoryKv,
    recent: Recent,
    sizes: Sizes,
    index: u64,
    now: u64,
    /// Writes of the last entry.
    writes: usize,
}

fn key(id: u64) -> Key {
    let hash = xxhash_rust::xxh3::xxh3_128(&id.to_be_bytes());
    Key { low: (hash & u128::from(u64::MAX)) as u64, high: (hash >> 96) as u32 }
}

impl Window {
    fn new(sizes: Sizes, version: u64) -> Self {
        let kv = MemoryKv::default();
        let window = Self { recent: Recent::sized(sizes, u32::MAX - 500), sizes, index: 0, now: START, writes: 0, kv };
        window.raise(version);
        window
    }

    fn raise(&self, version: u64) {
        let value = Bytes::copy_from_slice(&version.to_be_bytes());
        let writes = vec![(Space::Meta, Bytes::from_static(keys::CLUSTER_VERSION), Some(value))];
        self.kv.write(WriteBatch { writes }).unwrap();
    }

    /// An entry that sends these; where each is found before, or else stored now.
    fn send(&mut self, ids: impl IntoIterator<Item = u64>) -> Vec<(Option<Stored>, Stored)> {
        self.index += 1;
        let mut stage = Stage::new(&self.kv).unwrap();
        stage.begin(LogIndex(self.index), Timestamp(self.now));
        self.recent.begin_entry(&stage).unwrap();
        let mut answers = Vec::new();
        for (number, id) in (0..).zip(ids) {
            let found = self.recent.find(&stage, key(id)).unwrap();
            let now = Stored::Queue(QueueId(number), QueueOffset(self.index));
            if found.is_none() {
                self.recent.note(key(id), LogIndex(self.index), now);
            }
            answers.push((found, now));
        }
        self.recent.end_entry(&mut stage).unwrap();
        let batch = stage.finish().unwrap().0;
        self.writes = batch.writes.len();
        self.kv.write(batch).unwrap();
        answers
    }

    /// Sends ids that nobody sent, an entry after the other.
    fn send_fresh(&mut self, ids: std::ops::Range<u64>, per_entry: u64) {
        for first in ids.clone().step_by(usize::try_from(per_entry).unwrap()) {
            let answers = self.send(first..(first + per_entry).min(ids.end));
            assert!(answers.iter().all(|(found, _)| found.is_none()), "an id from {first} on is new");
        }
    }

    /// Whether an entry at this time would find it.
    fn finds(&mut self, id: u64, at: u64) -> bool {
        let mut stage = Stage::new(&self.kv).unwrap();
        stage.begin(LogIndex(self.index + 1), Timestamp(at));
        self.recent.begin_entry(&stage).unwrap();
        let found = self.recent.find(&stage, key(id)).unwrap();
        self.recent.end_entry(&mut stage).unwrap();
        found.is_some()
    }

    fn restart(&mut self) {
        self.recent = Recent::load_sized(&self.kv, self.sizes).unwrap();
    }

    /// Entries that have a value, and keys of lots.
    fn keys(&self) -> (usize, usize) {
        let with = |space, tag: u8| self.kv.scan(space, &[tag], &[tag + 1], usize::MAX).unwrap().len();
        (with(Space::Queue, b'u'), with(Space::RecentSend, b'y'))
    }

    fn content(&self) -> Vec<(Bytes, Bytes)> {
        let all = |space| self.kv.scan(space, &[], &[u8::MAX; 64], usize::MAX).unwrap();
        [Space::Meta, Space::Queue, Space::RecentSend].into_iter().flat_map(all).collect()
    }
}

#[test]
fn p4_below_version_5_the_window_is_bounded_by_count_and_time_and_the_same_after_a_restart() {
    let mut window = Window::new(Sizes::OF_NODES, 0);
    let kept = RECENT_MESSAGES_MAX as u64;
    window.send_fresh(0..kept + 20 * PER_ENTRY, PER_ENTRY);
    for _ in 0..2 {
        assert_eq!(window.recent.newest.len() as u64, kept);
        assert!(!window.finds(20 * PER_ENTRY - 1, START));
        for id in [20 * PER_ENTRY, kept + 20 * PER_ENTRY - 1] {
            assert!(window.finds(id, START), "{id}");
        }
        window.restart();
    }
    assert_eq!(window.keys().1, 0, "what builds before it do not know");
    window.now += 1 + RECENT_FOR.0;
    window.send([u64::MAX]);
    assert_eq!((window.recent.newest.len(), window.keys().0), (1, 1));
}

/// At the sizes that nodes have.
#[test]
fn p4_more_ids_than_memory_holds_are_found_for_ten_minutes_to_the_millisecond() {
    let mut window = Window::new(Sizes::OF_NODES, NEEDS_SLICES);
    let count = 500_000;
    window.send_fresh(0..count, PER_ENTRY);
    assert!(window.recent.newest.len() < RECENT_MESSAGES_MAX * 3 / 2, "{} in memory", window.recent.newest.len());
    for _ in 0..2 {
        for id in [0, 1, PER_ENTRY, 100_000, 200_000, 300_000, 400_000, count - 1] {
            assert!(window.finds(id, START + RECENT_FOR.0), "{id}");
            assert!(!window.finds(id, START + RECENT_FOR.0 + 1), "{id} is older than ten minutes");
            assert!(!window.finds(count + id, START), "{id} was never sent");
        }
        window.restart();
    }
    let first = window.send([0])[0].0;
    assert_eq!(first, Some(Stored::Queue(QueueId(0), QueueOffset(1))), "where the first one is");
    window.now += RECENT_FOR.0 + 1;
    let (found, now) = window.send([0])[0];
    assert_eq!(found, None, "after ten minutes it is another message");
    assert_eq!(window.send([0])[0].0, Some(now));
}

/// What was kept while nothing came in is deleted a little at a time.
#[test]
fn p4_after_ten_quiet_minutes_no_entry_has_much_to_delete_and_all_of_it_goes() {
    let mut window = Window::new(Sizes::OF_NODES, NEEDS_SLICES);
    // Many entries with few messages, which wait in memory; and lots in the state.
    window.send_fresh(0..400_000, 500);
    window.send_fresh(400_000..420_000, 1);
    window.now += RECENT_FOR.0 + 120_000;
    let mut most = 0;
    for id in 500_000..502_000 {
        window.send([id]);
        most = most.max(window.writes);
    }
    // Entries, keys of lots, its own; the record, the clock and the digest.
    assert!(most <= 256 + 64 + 8, "{most} writes of one entry");
    assert_eq!((window.keys(), window.recent.newest.len()), ((2000, 0), 2000));
    assert!(window.recent.older.is_unused(), "the filter's memory is given back");
}

#[test]
fn p4_an_entry_writes_no_more_than_a_bound_while_lots_are_written() {
    let mut window = Window::new(Sizes::OF_NODES, NEEDS_SLICES);
    for number in 0..600 {
        window.send_fresh(number * PER_ENTRY..(number + 1) * PER_ENTRY, PER_ENTRY);
        // 100 ranges are 3072 ids and four ranges more; 256 entries leave memory at most.
        assert!(window.writes <= 256 + 132, "{} writes of one entry", window.writes);
    }
}

/// Where the filter is at its largest and full, nothing but its use is lost.
#[test]
fn p4_the_filter_is_bounded_and_what_has_no_room_in_it_is_found() {
    let largest = Sizes::OF_NODES.lines_max * size_of::<Line>() * Sizes::OF_NODES.ranges() as usize;
    assert_eq!(largest, RECENT_FILTER_BYTES_MAX);
    let mut window = Window::new(SMALL_FILTER, NEEDS_SLICES);
    // There is room for 736 ids, with eight bits of each.
    window.send_fresh(0..2500, 50);
    for _ in 0..2 {
        assert!((0..2500).all(|id| window.finds(id, START + RECENT_FOR.0)));
        assert!((0..2500).all(|id| !window.finds(id, START + RECENT_FOR.0 + 1)));
        assert!((2500..4500).all(|id| !window.finds(id, START)));
        window.restart();
    }
}

/// Otherwise each id that nobody sent is looked for in the lots of ten minutes.
#[test]
fn p4_a_start_reads_all_ids_into_the_filter() {
    let mut window = Window::new(SMALL, NEEDS_SLICES);
    window.send_fresh(0..1000, 50);
    window.now += 120_000;
    window.send_fresh(1000..2000, 50);
    window.restart();
    let named = |id| window.recent.older.ages(key(id), Timestamp(window.now));
    assert!((0..500).all(|id| named(id) & 0b100 != 0), "the first lots are two minutes old");
    let vain = (10_000..20_000).filter(|id| named(*id) != 0).count();
    assert!(vain < 100, "{vain} of 10,000 that nobody sent");
}

#[derive(Debug, Clone)]
enum Step {
    Fresh(u64),
    /// Ids that were sent before, by how many before the last.
    Again(Vec<u64>),
    Pass(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u64..60).prop_map(Step::Fresh),
        4 => prop::collection::vec(0u64..1500, 1..20).prop_map(Step::Again),
        1 => (1u64..30_000).prop_map(Step::Pass),
        1 => (1u64..30).prop_map(|tens| Step::Pass(tens * 30_000)),
        1 => Just(Step::Restart),
    ]
}

/// Runs the steps, the first few below cluster version 5; whether each id is found is what the plain map says.
fn run(steps: &[Step], raised_at: usize, restarts: bool, sizes: Sizes) -> Window {
    let mut window = Window::new(sizes, 4);
    let mut sent: BTreeMap<u64, (u64, Stored)> = BTreeMap::new();
    let mut next = 0;
    for (number, step) in steps.iter().enumerate() {
        let is_timed = number >= raised_at;
        if number == raised_at {
            window.raise(NEEDS_SLICES);
        }
        let ids: Vec<u64> = match step {
            Step::Fresh(count) => (next..next + count).collect(),
            Step::Again(back) => back.iter().filter_map(|back| u64::checked_sub(next, back + 1)).collect(),
            // The old window forgets when it is cleared, which the map does not know.
            Step::Pass(time) => {
                window.now += if is_timed { *time } else { 0 };
                continue;
            }
            Step::Restart => {
                if restarts {
                    window.restart();
                }
                continue;
            }
        };
        next = next.max(ids.iter().max().map_or(0, |id| id + 1));
        for (id, (found, now)) in ids.iter().zip(window.send(ids.iter().copied())) {
            let before = sent.get(id).filter(|(at, _)| window.now - at <= RECENT_FOR.0);
            assert_eq!(found, before.map(|(_, stored)| *stored), "P4: id {id} at step {number}");
            if before.is_none() {
                sent.insert(*id, (window.now, now));
            }
        }
    }
    window
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn p4_p15_the_window_is_a_map_with_times_and_the_same_state_with_restarts(
        steps in prop::collection::vec(step(), 1..120), raised_at in 0usize..30, lines_max in 1usize..40,
    ) {
        let sizes = Sizes { lines_max, ..SMALL };
        let straight = run(&steps, raised_at, false, sizes);
        // The size of the filter is no part of the state.
        let restarted = run(&steps, raised_at, true, Sizes { lines_max: 4, ..sizes });
        prop_assert_eq!(straight.content(), restarted.content());
    }
}

/// Two lots in one minute, and two in different ones, do not take each other's keys.
#[test]
fn p4_each_lot_has_keys_of_its_own() {
    let mut keys = BTreeSet::new();
    for (slice, range, lot) in [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0), (256, 0, 0)] {
        let key = keys::recent_lot(slice, range, lot);
        assert!(key.starts_with(&keys::recent_range(slice, range)));
        assert!(keys.insert(key));
    }
}
