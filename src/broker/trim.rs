//! Trims above the log: the messages of a queue that were stored before a time go. By retention queue by queue, by an
//! operator topic by topic, or only to know how much that would be. Before: `background/retention`, `edge/admin/trim`;
//! after: `machine/trim`.
//!
//! Bounded: a request of an operator ends after [`TRIM_FOR`] and says where to go on.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::{ActWords, Broker, Deadline, Error, Operator};
use crate::machine::command::Trim;
use crate::machine::state::catalog::TopicRecord;
use crate::machine::state::queue::first_stored_at;
use crate::machine::state::view::View;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::{Millis, QueueId, QueueOffset, Timestamp, TopicId, TopicName};

/// A request ends after this time, and what it began.
const TRIM_FOR: Duration = Duration::from_millis(500);
/// One step is tried again for this long.
const STEP_FOR: Duration = Duration::from_secs(2);
/// A time that is further ahead is a mistake: everything would go. Clocks may differ by less.
const AHEAD_MAX: Millis = Millis(1000);
/// Places of a queue at which sizes are looked up, and offsets at each.
const PROBES: u64 = 8;
const PROBE: u64 = 64;

/// Before when the messages were stored that go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrimBefore {
    /// This long ago.
    Age(Millis),
    /// A time of day.
    Time(Timestamp),
    /// Where an earlier request ended.
    Cursor(TrimCursor),
}

/// Where a trim goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimCursor {
    /// In machine time, so that all requests mean the same.
    pub before: Timestamp,
    pub topic: TopicId,
    pub queue: QueueId,
}

/// What went of a topic, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTrim {
    pub topic: TopicName,
    pub messages: u64,
    /// Of these messages in the log, from the sizes of some.
    pub bytes_about: u64,
    /// It has a retention of its own and was not named, so it keeps them.
    pub is_left_out: bool,
    /// Its own.
    pub retention: Option<Millis>,
}

/// What one request did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrimPage {
    /// Those of which something goes.
    pub topics: Vec<TopicTrim>,
    /// As a time of day.
    pub before: Timestamp,
    /// Where to go on; `None` when every queue was looked at.
    pub cursor: Option<TrimCursor>,
}

impl Broker {
    /// Trims the topic, or all topics without a retention of their own; `dry` only says what would go.
    ///
    /// * Errors: [`Error::TopicNotFound`], [`Error::Invalid`] for a time to come; with any other one some of it may be done,
    ///   and it is safe to repeat.
    pub async fn trim(
        &self,
        by: &Operator,
        topic: Option<&TopicName>,
        before: TrimBefore,
        dry: bool,
    ) -> Result<TrimPage, Error> {
        let until = self.held_until(Deadline::NONE);
        self.reader.read_barrier(until).await?;
        let topics = match topic {
            Some(name) => vec![self.existing_topic(name, until).await?],
            None => self.reader.view().topics()?,
        };
        let ends = Instant::now() + TRIM_FOR;
        let start = self.trim_start(before)?;
        if !dry && !matches!(before, TrimBefore::Cursor(_)) {
            // Before anything goes, and once for all requests of the trim.
            let on = topic.map_or("", TopicName::as_str);
            let words = ActWords::new("trim", on, format!("stored before {}", self.reader.wall_of(start.before).utc()));
            self.note_act(by, words, "begun").await?;
        }
        let mut page = TrimPage { topics: Vec::new(), before: self.reader.wall_of(start.before), cursor: None };
        for (id, record) in topics.into_iter().filter(|(id, _)| *id >= start.topic) {
            let stays = topic.is_none() && record.retention.is_some();
            let first = if id == start.topic { start.queue } else { QueueId(0) };
            let at = TrimCursor { topic: id, queue: first, ..start };
            let (found, cursor) = self.trim_topic(at, &record, dry || stays, ends).await?;
            if found.count > 0 {
                page.topics.push(TopicTrim {
                    topic: record.name,
                    messages: found.count,
                    bytes_about: found.bytes,
                    is_left_out: stays,
                    retention: record.retention,
                });
            }
            if cursor.is_some() {
                return Ok(TrimPage { cursor, ..page });
            }
        }
        Ok(page)
    }

    fn trim_start(&self, before: TrimBefore) -> Result<TrimCursor, Error> {
        let before = match before {
            TrimBefore::Cursor(cursor) => return Ok(cursor),
            TrimBefore::Age(age) => Timestamp(self.machine_now().0.saturating_sub(age.0)),
            TrimBefore::Time(at) => {
                let now = self.now();
                if at > now.plus(AHEAD_MAX) {
                    return Err(Error::Invalid(format!(
                        "{at} is a time to come ({now} is now, in milliseconds since 1970): every message would go"
                    )));
                }
                self.reader.view().clock()?.earliest_of(at)
            }
        };
        Ok(TrimCursor { before, topic: TopicId(0), queue: QueueId(0) })
    }

    /// One topic from a queue on; and where to go on, if the time ended.
    async fn trim_topic(
        &self,
        from: TrimCursor,
        record: &TopicRecord,
        dry: bool,
        ends: Instant,
    ) -> Result<(Extent, Option<TrimCursor>), Error> {
        let mut sum = Extent::default();
        for queue in (from.queue.0..record.queues).map(QueueId) {
            let expired = expired(self.reader.view(), from.topic, queue, from.before)?;
            let (mut gone, mut more) = (expired, false);
            if !dry && expired.count > 0 {
                gone.count = 0;
                more = true;
                while more && (gone.count == 0 || Instant::now() < ends) {
                    let (count, has_more) = self.trim_step(from.topic, queue, from.before).await?;
                    gone.count += count;
                    more = has_more;
                }
                gone.bytes = expired.bytes_of(gone.count);
            }
            sum = Extent { count: sum.count + gone.count, bytes: sum.bytes + gone.bytes };
            let next = if more { queue } else { QueueId(queue.0 + 1) };
            if Instant::now() >= ends {
                return Ok((sum, Some(TrimCursor { queue: next, ..from })));
            }
            tokio::task::yield_now().await;
        }
        Ok((sum, None))
    }

    /// Trims a queue, step by step; how many messages went.
    ///
    /// * Errors: some of it may be done.
    pub(in crate::broker) async fn trim_queue(
        &self,
        topic: TopicId,
        queue: QueueId,
        before: Timestamp,
    ) -> Result<u64, Error> {
        let mut trimmed = 0;
        loop {
            let (count, more) = self.trim_step(topic, queue, before).await?;
            trimmed += count;
            if !more {
                return Ok(trimmed);
            }
        }
    }

    /// How many messages went, and whether there are more; of a topic that is gone there are none.
    async fn trim_step(&self, topic: TopicId, queue: QueueId, before: Timestamp) -> Result<(u64, bool), Error> {
        let command = Command::Trim(Trim { topic, queue, before });
        match self.propose_repeatable(&command, Instant::now() + STEP_FOR).await? {
            (_, Outcome::Trimmed { count, more }) => Ok((count, more)),
            (_, Outcome::Rejected(Rejected::TopicNotFound)) => Ok((0, false)),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }
}

/// Messages, and about how many bytes they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Extent {
    count: u64,
    bytes: u64,
}

impl Extent {
    /// Of so many of these messages.
    fn bytes_of(self, count: u64) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(count) / u128::from(self.count.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// What of a queue was stored before a time. Some 30 look-ups at most, and [`PROBES`] short scans.
fn expired(view: View<'_>, topic: TopicId, queue: QueueId, before: Timestamp) -> Result<Extent, Error> {
    let head = view.queue_head(topic, queue)?;
    let run_of =
        |offset: QueueOffset| Ok(view.runs(topic, queue, offset, QueueOffset(offset.0 + 1))?.into_iter().next());
    let end = first_stored_at(&head, before, run_of)?;
    let count = end.0.saturating_sub(head.min.0);
    let mut seen = Extent::default();
    for place in probes(head.min.0, count) {
        let to = QueueOffset(end.0.min(place + PROBE));
        for (first, run) in view.runs(topic, queue, QueueOffset(place), to)? {
            for (_, item) in (first.0..to.0).zip(&run.items).filter(|(offset, _)| *offset >= place) {
                seen = Extent { count: seen.count + 1, bytes: seen.bytes + u64::from(item.bytes) };
            }
        }
    }
    Ok(Extent { count, bytes: seen.bytes_of(count) })
}

/// Where the sizes of `count` messages from an offset on are looked up: everywhere, if there are few.
fn probes(first: u64, count: u64) -> impl Iterator<Item = u64> {
    let places = count.div_ceil(PROBE).min(PROBES);
    // The last of many ends with about the last message.
    let apart = count.saturating_sub(PROBE) / (PROBES - 1);
    (0..places).map(move |number| first + number * apart.max(PROBE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_looked_up_everywhere_or_from_the_first_message_to_the_last() {
        let places = |count| probes(100, count).collect::<Vec<_>>();
        assert_eq!(places(0), [0; 0]);
        assert_eq!(places(1), [100]);
        assert_eq!(places(65), [100, 164]);
        assert_eq!(places(512), [100, 164, 228, 292, 356, 420, 484, 548]);
        assert_eq!(places(764), [100, 200, 300, 400, 500, 600, 700, 800]);
        assert_eq!(places(1000).last(), Some(&(100 + 7 * 133)), "up to six messages before the end");
        assert!(probes(0, u64::MAX).last().is_some_and(|place| place <= u64::MAX - PROBE));
    }

    #[test]
    fn bytes_of_some_messages_are_their_part_of_all() {
        let extent = Extent { count: 8, bytes: 4000 };
        assert_eq!([0, 1, 8, 16].map(|count| extent.bytes_of(count)), [0, 500, 4000, 8000]);
        assert_eq!(Extent::default().bytes_of(5), 0);
        assert_eq!(Extent { count: 1, bytes: u64::MAX }.bytes_of(2), u64::MAX);
    }
}
