//! Retention above the log: the leader finds what is older than it has to be kept, and has it trimmed. After:
//! `broker/trim`.
//!
//! What goes is a matter of machine time, whatever the reason: the time that the log is kept, its size, and the disk each
//! give a time before which everything may go, and the latest counts. A topic with a retention of its own follows that
//! alone. What lives longer is carried (`carry`); each node then removes the files that nothing refers to (`raft/purge`).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::broker::background::carry::{Carrier, LogBound};
use crate::broker::{Broker, Error, LogRetention};
use crate::env::clock::hour_of_day;
use crate::model::{DiskRoom, LogIndex, Millis, QueueId, RoomState, Timestamp};
use crate::raft::SegmentExtent;

/// The cluster version that knows retention.
const CLUSTER_VERSION: u32 = 2;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Queues are looked through as often as the shortest retention needs it, within these.
const PASS_EVERY_MIN: Millis = Millis(1000);
const PASS_EVERY_MAX: Millis = Millis(30_000);
/// So many passes within one retention: a message may be kept longer by this part of it.
const PASSES: u64 = 32;
/// Queues looked at before others have their turn.
const SLICE: usize = 64;
/// Queues trimmed at once: their commands share entries.
const TRIMS: usize = 8;
/// Segments that go at once where the disk demands it: one in as many.
const DEMANDED_PART: usize = 16;
/// After the disk demanded room, what was trimmed has this long to be removed.
const DEMAND_PAUSE: Duration = Duration::from_secs(5);
/// The files of the last demand have this long to go.
const DEMAND_WAIT: Duration = Duration::from_secs(60);
/// If that made no room, no more goes for this long.
const DEMAND_PAUSE_IN_VAIN: Duration = Duration::from_secs(600);
/// From this part of the disk in use on, messages go before their time (RocketMQ's `diskSpaceCleanForciblyRatio`).
const FORCIBLY_USED: u8 = 85;

/// Runs until it is dropped.
pub(super) async fn retain_on_leader(broker: &Broker) {
    let mut leadership = broker.leadership();
    loop {
        // Fails only when the replica has stopped; the owner of this task then aborts it.
        if leadership.wait_for(|now| now.is_self).await.is_err() {
            return std::future::pending().await;
        }
        let mut retention = Retention::new(broker);
        while leadership.borrow().is_self {
            tokio::time::sleep(LOOK_EVERY).await;
            match retention.round().await {
                Err(error @ (Error::NoLeader | Error::TimedOut | Error::Busy)) => {
                    tracing::debug!(%error, "retention waits");
                }
                Err(error) => tracing::warn!(%error, "retention cannot go on now"),
                Ok(()) => {}
            }
        }
    }
}

/// What the disk demanded last.
#[derive(Debug, Clone, Copy)]
struct Demand {
    /// What was stored before had to go.
    before: Timestamp,
    since: Instant,
    /// Where the log was to begin, and what that frees.
    first: LogIndex,
    freeing: u64,
    /// What was free, and in the log, together.
    free_and_log: u64,
}

impl Demand {
    /// How long it stands. `begins` is where the log begins now.
    fn pause(&self, begins: LogIndex, free_and_log: u64) -> Duration {
        if begins < self.first {
            return DEMAND_WAIT;
        }
        // What the log gave was taken by others: it helps nobody that messages go.
        let taken = self.free_and_log.saturating_sub(free_and_log);
        if taken > self.freeing / 2 { DEMAND_PAUSE_IN_VAIN } else { DEMAND_PAUSE }
    }
}

/// What the leader remembers between two rounds.
struct Retention<'a> {
    broker: &'a Broker,
    /// The time of the first entry of each segment.
    stamps: BTreeMap<LogIndex, Timestamp>,
    next_pass: Instant,
    /// The bound by size and disk that a pass was made for.
    passed: Timestamp,
    demanded: Option<Demand>,
    carrier: Carrier<'a>,
}

impl<'a> Retention<'a> {
    fn new(broker: &'a Broker) -> Self {
        let (stamps, next_pass, passed) = (BTreeMap::new(), Instant::now(), Timestamp(0));
        Self { broker, stamps, next_pass, passed, demanded: None, carrier: Carrier::new(broker) }
    }

    async fn round(&mut self) -> Result<(), Error> {
        if self.broker.reader.view().cluster_version()? < CLUSTER_VERSION {
            return Ok(());
        }
        let segments = self.broker.reader.segments();
        let bound = self.bound(&segments).await?;
        if Instant::now() >= self.next_pass || bound.by_size > self.passed {
            let shortest = self.pass(bound.before).await?;
            self.passed = bound.by_size;
            let every = Millis(shortest.0 / PASSES).clamp(PASS_EVERY_MIN, PASS_EVERY_MAX);
            self.next_pass = Instant::now() + every.into();
        }
        if !self.broker.has_room() {
            return Ok(());
        }
        self.carrier.carry_if_needed(bound, &segments).await
    }

    /// Trims every queue that has something to go; the shortest retention that there is.
    async fn pass(&mut self, before: Timestamp) -> Result<Millis, Error> {
        let now = self.broker.machine_now();
        let mut shortest = self.broker.settings.retention.kept_for;
        let (mut looked_at, mut going) = (0, Vec::new());
        for (topic, record) in self.broker.reader.view().topics()? {
            let before = match record.retention {
                Some(kept_for) => {
                    shortest = shortest.min(kept_for);
                    Timestamp(now.0.saturating_sub(kept_for.0))
                }
                None => before,
            };
            for queue in (0..record.queues).map(QueueId) {
                looked_at += 1;
                if looked_at % SLICE == 0 {
                    tokio::task::yield_now().await;
                }
                let oldest = self.broker.reader.view().oldest_run(topic, queue)?;
                if oldest.is_some_and(|run| run.stored_at < before) {
                    going.push(self.broker.trim_queue(topic, queue, before));
                }
                if going.len() == TRIMS {
                    try_join_all(going.drain(..)).await?;
                }
            }
        }
        try_join_all(going).await?;
        Ok(shortest)
    }

    /// What may go of topics without a retention of their own.
    async fn bound(&mut self, segments: &[SegmentExtent]) -> Result<LogBound, Error> {
        let settings = &self.broker.settings.retention;
        let now = self.broker.machine_now();
        let used = self.broker.disk_used();
        let mut before = Timestamp(0);
        if settings.is_time(self.broker.now()) || used.is_some_and(|used| used > settings.disk_used_max) {
            before = Timestamp(now.0.saturating_sub(settings.kept_for.0));
        }
        self.stamps.retain(|first, _| segments.iter().any(|segment| segment.first == *first));
        let mut by_size = self.demand(segments).await?.unwrap_or_default();
        let bytes_max = settings.bytes_max.map(|bytes| bytes.saturating_add(self.carrier.lives_longer()));
        if let Some(kept) = first_within(segments, bytes_max)
            && let Some(stamp) = self.stamp(kept).await?
        {
            // What was stored in the same millisecond goes too.
            by_size = by_size.max(Timestamp(stamp.0 + 1));
        }
        let before = before.max(by_size);
        let mut first = LogIndex(0);
        for segment in segments.iter().skip(1) {
            match self.stamp(segment.first).await? {
                Some(stamp) if stamp < before => first = segment.first,
                Some(_) | None => break,
            }
        }
        Ok(LogBound { before, by_size, first })
    }

    /// What must go for the disk's sake, however young it is.
    async fn demand(&mut self, segments: &[SegmentExtent]) -> Result<Option<Timestamp>, Error> {
        let settings = &self.broker.settings.retention;
        let limit = settings.disk_used_max.max(FORCIBLY_USED);
        let is_short = |room: &DiskRoom| room.state >= RoomState::Soft || room.used_percent() > limit;
        // One full disk of three holds up nobody, and takes nothing from anybody.
        let Some(room) = self.broker.room_of_majority().filter(is_short).filter(|_| settings.deletes_unexpired) else {
            self.demanded = None;
            return Ok(None);
        };
        let log: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let free_and_log = room.free.saturating_add(log);
        let begins = segments.first().map_or(LogIndex(0), |segment| segment.first);
        if let Some(demand) = self.demanded
            && demand.since.elapsed() < demand.pause(begins, free_and_log)
        {
            return Ok(Some(demand.before));
        }
        // Never the segment that is written.
        let going = (segments.len() / DEMANDED_PART).max(1);
        let Some(kept) = segments.get(going) else { return Ok(None) };
        let Some(stamp) = self.stamp(kept.first).await? else { return Ok(None) };
        let before = Timestamp(stamp.0 + 1);
        tracing::warn!(segments = going, "the disk is short of room: the oldest messages go before their time");
        let freeing = segments[..going].iter().map(|segment| segment.bytes).sum();
        self.demanded = Some(Demand { before, since: Instant::now(), first: kept.first, freeing, free_and_log });
        Ok(Some(before))
    }

    /// The time of the first batch from an index on; `None` if there is none close to it, or it cannot be read.
    async fn stamp(&mut self, first: LogIndex) -> Result<Option<Timestamp>, Error> {
        if let Some(known) = self.stamps.get(&first) {
            return Ok(Some(*known));
        }
        let stamp = match self.broker.reader.stamp_from(first).await {
            Err(error) => {
                tracing::warn!(%error, entry = first.0, "a segment's age is not known, so it bounds nothing");
                return Ok(None);
            }
            stamp => stamp?,
        };
        self.stamps.extend(stamp.map(|stamp| (first, stamp)));
        Ok(stamp)
    }
}

impl LogRetention {
    /// Whether what is older than its time goes now.
    fn is_time(&self, now: Timestamp) -> bool {
        self.delete_hours.contains(hour_of_day(now))
    }
}

/// The first entry of the oldest segment that is kept if the log may take so many bytes; `None` if all of it is. The last one
/// counts with what is reserved for it.
fn first_within(segments: &[SegmentExtent], bytes_max: Option<u64>) -> Option<LogIndex> {
    let bytes_max = bytes_max?;
    let mut bytes = 0u64;
    let mut kept = None;
    for segment in segments.iter().rev() {
        bytes = bytes.saturating_add(segment.bytes);
        if bytes > bytes_max && kept.is_some() {
            return kept;
        }
        kept = Some(segment.first);
    }
    None
}

/// What a majority of these has at least; of an even number the worse half counts.
fn of_majority(mut rooms: Vec<DiskRoom>) -> Option<DiskRoom> {
    rooms.sort_by_key(|room| (room.state, room.used_percent()));
    rooms.get(rooms.len() / 2).copied()
}

impl Broker {
    /// The part in use of the fullest disk among the voters in contact, in percent; `None` if it is not known.
    fn disk_used(&self) -> Option<u8> {
        self.replica.room().fullest().map(|(_, room)| room.used_percent())
    }

    /// The room that a majority of the voters in contact has at least.
    fn room_of_majority(&self) -> Option<DiskRoom> {
        of_majority(self.replica.room().0.into_values().collect())
    }

    /// Whether what is carried has room, which it takes before it frees any.
    fn has_room(&self) -> bool {
        self.room_of_majority().is_none_or(|room| room.has_room())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p2_one_short_disk_of_three_takes_no_messages_and_two_do() {
        let of = |states: &[RoomState]| {
            let room = |state: &RoomState| DiskRoom { state: *state, ..DiskRoom::default() };
            of_majority(states.iter().map(room).collect()).map(|room| room.state)
        };
        use RoomState::{Enough, Full, Soft};
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Soft]), Some(Soft));
        assert_eq!(of(&[Enough, Full]), Some(Full), "of two, both are the majority");
        assert_eq!(of(&[Full, Enough, Enough]), Some(Enough));
        assert_eq!(of(&[Full, Enough, Soft]), Some(Soft));
    }

    #[test]
    fn p2_a_disk_that_others_fill_stops_asking() {
        let demand = Demand {
            before: Timestamp(7),
            since: Instant::now(),
            first: LogIndex(101),
            freeing: 100,
            free_and_log: 1000,
        };
        assert_eq!(demand.pause(LogIndex(1), 1000), DEMAND_WAIT, "its files are still there");
        assert_eq!(demand.pause(LogIndex(101), 1000), DEMAND_PAUSE, "free, or logged again");
        assert_eq!(demand.pause(LogIndex(101), 950), DEMAND_PAUSE);
        assert_eq!(demand.pause(LogIndex(101), 949), DEMAND_PAUSE_IN_VAIN, "others took it");
    }

    #[test]
    fn the_log_is_kept_within_its_bytes_and_the_last_segment_may_grow() {
        let segments: Vec<_> =
            (0..10).map(|number| SegmentExtent { first: LogIndex(number * 100 + 1), bytes: 10 }).collect();
        for (bytes_max, kept) in [
            (None, None),
            (Some(1000), None),
            (Some(100), None),
            (Some(99), Some(101)),
            (Some(60), Some(401)),
            (Some(20), Some(801)),
            (Some(1), Some(901)),
        ] {
            assert_eq!(first_within(&segments, bytes_max), kept.map(LogIndex), "{bytes_max:?}");
        }
        assert_eq!(first_within(&[], Some(1)), None);
    }
}
