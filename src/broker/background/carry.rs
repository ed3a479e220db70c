//! Carrying above the log: before the log's beginning passes what lives longer (delayed messages, half messages, dead
//! letters, topics with a longer retention), its bytes are logged again (D100). After: `machine/carry`.
//!
//! The state says exactly which entry is still needed; where what needs it is, only foreign runs say. So nothing is looked
//! for until the beginning cannot move on, and then a pass carries more than is needed at once: everything in the older
//! half of the log. What lives on is logged about twice in the time that the log is kept.
//!
//! Bounded: [`BYTES_PER_SECOND`], and never more than was logged otherwise since the last pass, unless that is long ago and
//! what lives longer is little beside the log.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Broker, Error};
use crate::machine::command::{CarriedReference, Carry};
use crate::machine::state::queue::Run;
use crate::machine::state::references::RunPlace;
use crate::machine::{Command, Outcome, Proposal};
use crate::model::limits::{BATCH_BYTES_MAX, CARRY_REFERENCES_MAX};
use crate::model::{LogIndex, MessageRef, Millis, QueueId, QueueOffset, Timestamp, TopicId};
use crate::raft::SegmentExtent;

/// As fast as carrying may be.
const BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;
/// References read from the state at a time.
const PAGE: usize = 32;
/// Runs of a queue read at a time.
const RUNS: u64 = 64;
/// Another pass may follow after this part of the time that the log reaches back.
const PAUSE_PART: u64 = 4;
/// The least time between two passes.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(5);

/// What may go, and what of the log that makes free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogBound {
    /// What was stored before may go.
    pub before: Timestamp,
    /// The same, if only size and disk count.
    pub by_size: Timestamp,
    /// Entries below were made before.
    pub first: LogIndex,
}

/// What the leader remembers of what it carried.
pub(super) struct Carrier<'a> {
    broker: &'a Broker,
    /// In queues of topics with a retention of their own: up to where no run is left that came with its entry and whose
    /// entry was old at the last pass.
    walked: BTreeMap<(TopicId, QueueId), QueueOffset>,
    last: Option<Pass>,
    /// What was needed when it was last asked.
    needed: LogIndex,
}

/// The last pass.
struct Pass {
    ended: Instant,
    /// Bytes that it logged.
    bytes: u64,
    /// The last entry when it ended.
    at: LogIndex,
}

/// References that are carried together, with where their bytes are.
#[derive(Default)]
struct Load {
    references: Vec<CarriedReference>,
    bytes_at: Vec<MessageRef>,
    bytes: u64,
}

impl<'a> Carrier<'a> {
    pub fn new(broker: &'a Broker) -> Self {
        Self { broker, walked: BTreeMap::new(), last: None, needed: LogIndex(0) }
    }

    /// Carries what keeps the log's beginning from moving on to `bound`, if anything does.
    pub async fn carry_if_needed(&mut self, bound: LogBound, segments: &[SegmentExtent]) -> Result<(), Error> {
        if segments.get(1).is_none_or(|second| bound.first < second.first) {
            return Ok(());
        }
        let needed = self.broker.reader.view().needed_from(self.needed)?;
        self.needed = needed.unwrap_or(self.needed);
        if needed.is_none_or(|needed| needed >= bound.first) {
            return Ok(());
        }
        let last = self.broker.reader.applied();
        if !self.may_begin(bound, segments) {
            return Ok(());
        }
        let end = LogIndex(bound.first.0 + last.0.saturating_sub(bound.first.0) / 2);
        let began = Instant::now();
        let result = self.pass(bound, end).await;
        if result.is_err() {
            // What was found and not logged has to be found again.
            self.walked.clear();
        }
        let bytes = result?;
        if bytes > 0 {
            if self.is_too_much() {
                tracing::warn!(bytes, "what lives longer than the log is more than half of logRetentionBytes");
            }
            tracing::info!(bytes, below = end.0, took = ?began.elapsed(), "carried what outlives the log's beginning");
        }
        self.last = Some(Pass { ended: Instant::now(), bytes, at: self.broker.reader.applied() });
        Ok(())
    }

    /// Whether enough was logged otherwise, or enough time has passed, since the last pass.
    fn may_begin(&self, bound: LogBound, segments: &[SegmentExtent]) -> bool {
        let Some(last) = &self.last else { return true };
        if last.ended.elapsed() < PAUSE_MIN {
            return false;
        }
        let logged: u64 = segments.iter().filter(|segment| segment.first > last.at).map(|segment| segment.bytes).sum();
        let reaches_back = Millis(self.broker.machine_now().since(bound.before).0 / PAUSE_PART);
        let may_be_idle = !self.is_too_much();
        logged >= last.bytes || may_be_idle && last.ended.elapsed() >= Duration::from(reaches_back)
    }

    /// Bytes that live longer than the log: those of the last pass. The log's size is bounded without them, or they would
    /// push each other, and all other messages, out of it.
    pub fn lives_longer(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.bytes)
    }

    /// Whether what lives longer is most of what the log may have.
    fn is_too_much(&self) -> bool {
        self.broker.settings.retention.bytes_max.is_some_and(|bytes_max| self.lives_longer() > bytes_max / 2)
    }

    /// Carries all that refers to entries below `end`; how many bytes.
    async fn pass(&mut self, bound: LogBound, end: LogIndex) -> Result<u64, Error> {
        let mut load = Load::default();
        let mut bytes = self.carry_foreign_runs(&mut load, bound, end).await?;
        bytes += self.carry_delayed(&mut load, end).await?;
        bytes += self.carry_halves(&mut load, end).await?;
        bytes += self.carry_kept_topics(&mut load, bound, end).await?;
        bytes += self.flush(&mut load).await?;
        Ok(bytes)
    }

    async fn carry_foreign_runs(&self, load: &mut Load, bound: LogBound, end: LogIndex) -> Result<u64, Error> {
        let (mut after, mut bytes) = (None, 0);
        loop {
            let page = self.broker.reader.view().foreign_runs(after, end, PAGE)?;
            for (_, place) in &page {
                let view = self.broker.reader.view();
                let Some(run) = view.run_at(*place)?.filter(|run| run.index < end) else { continue };
                let Some(record) = view.topic_record(place.topic)? else { continue };
                // It goes with the next trim.
                if record.retention.is_none() && run.stored_at < bound.before {
                    continue;
                }
                load.add_run(*place, &run);
                bytes += self.flush_if_full(load).await?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(*last),
                _ => return Ok(bytes),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn carry_delayed(&self, load: &mut Load, end: LogIndex) -> Result<u64, Error> {
        let (mut from, mut bytes) = (Some(Bytes::new()), 0);
        while let Some(start) = from {
            let (delayed, next) = self.broker.reader.view().delayed_page(&start)?;
            for (due_at, topic, message, item) in delayed {
                let index = item.bytes_in(message);
                if index < end {
                    let reference = CarriedReference::Delayed { topic, due_at, message, index };
                    load.add(reference, item.bytes_at(message), item.item.bytes);
                    bytes += self.flush_if_full(load).await?;
                }
            }
            from = next;
            tokio::task::yield_now().await;
        }
        Ok(bytes)
    }

    async fn carry_halves(&self, load: &mut Load, end: LogIndex) -> Result<u64, Error> {
        let (mut from, mut bytes) = (Some(Bytes::new()), 0);
        while let Some(start) = from {
            let (halves, next) = self.broker.reader.view().halves_page(&start)?;
            for (topic, message, half) in halves {
                if let Some(index) = half.bytes_in(message).filter(|index| *index < end) {
                    let reference = CarriedReference::Half { topic, message, index };
                    load.add(reference, half.bytes_at(message), half.item.bytes);
                    bytes += self.flush_if_full(load).await?;
                }
            }
            from = next;
            tokio::task::yield_now().await;
        }
        Ok(bytes)
    }

    /// Runs that came with their entries, in topics that are kept longer than the log. They are in the order of the log.
    async fn carry_kept_topics(&mut self, load: &mut Load, bound: LogBound, end: LogIndex) -> Result<u64, Error> {
        let mut bytes = 0;
        let now = self.broker.machine_now();
        for (topic, record) in self.broker.reader.view().topics()? {
            let is_longer = |kept: &Millis| now.0.saturating_sub(kept.0) < bound.before.0;
            if record.retention.as_ref().is_none_or(|kept| !is_longer(kept)) {
                continue;
            }
            for queue in (0..record.queues).map(QueueId) {
                let head = self.broker.reader.view().queue_head(topic, queue)?;
                let mut next = head.min.max(self.walked.get(&(topic, queue)).copied().unwrap_or_default());
                'queue: while next < head.max {
                    let to = QueueOffset(next.0.saturating_add(RUNS).min(head.max.0));
                    let runs = self.broker.reader.view().runs(topic, queue, next, to)?;
                    if runs.is_empty() {
                        // The topic was deleted, or trimmed, meanwhile.
                        break;
                    }
                    for (first, run) in runs {
                        let place = RunPlace { topic, queue, first };
                        // Those after it came with later entries; what was carried says nothing of that.
                        if run.index >= end && !self.broker.reader.view().is_foreign(run.index, place)? {
                            break 'queue;
                        }
                        let is_behind = first.0 + run.items.len() as u64 <= next.0;
                        next = next.max(QueueOffset(first.0 + run.items.len() as u64));
                        if !is_behind && run.index < end {
                            load.add_run(place, &run);
                            bytes += self.flush_if_full(load).await?;
                        }
                    }
                    tokio::task::yield_now().await;
                }
                self.walked.insert((topic, queue), next);
            }
        }
        Ok(bytes)
    }

    async fn flush_if_full(&self, load: &mut Load) -> Result<u64, Error> {
        if load.bytes < BATCH_BYTES_MAX as u64 && load.references.len() < CARRY_REFERENCES_MAX {
            return Ok(0);
        }
        self.flush(load).await
    }

    /// Logs what was gathered; how many bytes.
    async fn flush(&self, load: &mut Load) -> Result<u64, Error> {
        let Load { references, bytes_at, bytes } = std::mem::take(load);
        if references.is_empty() {
            return Ok(0);
        }
        let began = Instant::now();
        let mut reader = BodyReader::new(&self.broker.reader);
        // Neighbours in the log are read together.
        let mut order: Vec<usize> = (0..bytes_at.len()).collect();
        order.sort_unstable_by_key(|position| bytes_at[*position]);
        let mut messages = vec![Bytes::new(); bytes_at.len()];
        for position in order {
            let at = bytes_at[position];
            (messages[position], _) = reader.encoded(at).await?;
        }
        drop(reader);
        let command = Command::Carry(Carry { references }).encode();
        match self.broker.replica.propose(Proposal { command, messages }, WAIT).await? {
            (place, Outcome::Done) => {
                self.broker.reader.caught_up(place.index, Instant::now() + WAIT).await;
            }
            (_, other) => return Err(Error::unexpected(&other)),
        }
        let least = Duration::from_micros(bytes * 1_000_000 / BYTES_PER_SECOND);
        tokio::time::sleep(least.saturating_sub(began.elapsed())).await;
        Ok(bytes)
    }
}

impl Load {
    fn add(&mut self, reference: CarriedReference, bytes_at: MessageRef, bytes: u32) {
        self.references.push(reference);
        self.bytes_at.push(bytes_at);
        self.bytes += u64::from(bytes);
    }

    fn add_run(&mut self, place: RunPlace, run: &Run) {
        let RunPlace { topic, queue, first } = place;
        let count = u32::try_from(run.items.len()).expect("a run is in one entry");
        self.references.push(CarriedReference::Run { topic, queue, first, count, index: run.index });
        for item in &run.items {
            self.bytes_at.push(MessageRef { index: run.index, slot: item.slot });
            self.bytes += u64::from(item.bytes);
        }
    }
}
