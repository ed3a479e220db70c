//! Queries for stored messages, by people: one by its queue and offset, many by id, key or time, those that wait for
//! their delivery times, and dead letters.
//!
//! There is no index by id or key: a query reads what a topic stored, in slices, so that it never keeps a front-end thread
//! to itself, and for a bounded time; the caller goes on from its cursor.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::offset::find;
use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Error, Inspector, TopicView, Where};
use crate::machine::state::queue::{Run, RunItem};
use crate::model::limits::QUERY_MESSAGES_MAX;
use crate::model::{Message, MessageRef, QueueId, QueueOffset, Timestamp, TopicName};

/// A query ends after this time, or after so many bytes found.
const QUERY_FOR: Duration = Duration::from_millis(500);
const FOUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Offsets, or bytes, read before others have their turn.
const SLICE: u64 = 64;
const SLICE_BYTES: u64 = 256 * 1024;

/// A stored message and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMessage {
    pub topic: TopicName,
    /// Its queue and offset; `None` while it waits for its delivery time.
    pub place: Option<(QueueId, QueueOffset)>,
    /// Where its bytes are in the log.
    pub at: MessageRef,
    pub message: Message,
    pub stored_at: Timestamp,
    /// When it enters its queue, if it waits.
    pub waits_until: Option<Timestamp>,
    /// Where it was before, if it is a dead letter.
    pub origin: Option<DeadLetterOrigin>,
}

/// Where a dead letter was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterOrigin {
    pub topic: TopicName,
    /// Where in the topic; what consumers that pull give back does not say so.
    pub place: Option<(QueueId, QueueOffset)>,
    /// How often it was delivered.
    pub attempts: u32,
    pub redriven_at: Option<Timestamp>,
}

/// Which messages are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageQuery {
    /// Messages of this id.
    pub message_id: Option<String>,
    /// Messages with this key.
    pub key: Option<String>,
    /// Stored then or later.
    pub from: Timestamp,
    /// Stored before; 0 for no bound.
    pub to: Timestamp,
}

/// Where a query goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryCursor {
    pub queue: QueueId,
    pub offset: QueueOffset,
}

/// What a query found so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub messages: Vec<StoredMessage>,
    /// How many messages were read.
    pub searched: u64,
    /// Where to go on; `None` when everything was read.
    pub cursor: Option<QueryCursor>,
}

impl MessageQuery {
    fn is(&self, message: &Message) -> bool {
        self.message_id.as_ref().is_none_or(|id| *id == message.message_id)
            && self.key.as_ref().is_none_or(|key| message.keys.iter().any(|keys| keys.split(' ').any(|one| one == key)))
    }
}

impl Inspector {
    /// The message at an offset of a queue.
    ///
    /// * Errors: [`Error::IllegalOffset`] outside of what the queue has.
    pub async fn message_at(
        &self,
        topic: &TopicView,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<StoredMessage, Error> {
        self.read_barrier().await?;
        if queue.0 >= topic.queues {
            let TopicView { queues, .. } = topic;
            return Err(Error::Invalid(format!("the topic has {queues} queues, counted from 0: no queue {queue}")));
        }
        let head = self.reader.view().queue_head(topic.id, queue)?;
        let runs = self.reader.view().runs(topic.id, queue, offset, QueueOffset(offset.0.saturating_add(1)))?;
        let found = runs.first().and_then(|(first, run)| Some((run, item_at(*first, run, offset)?)));
        let Some((run, item)) = found.filter(|_| offset >= head.min && offset < head.max) else {
            return Err(Error::IllegalOffset { offset, min: head.min, max: head.max });
        };
        self.stored(topic, (queue, offset), run, item, &mut BodyReader::new(&self.reader)).await
    }

    /// Messages that a topic stored, from a cursor on.
    pub async fn find_messages(
        &self,
        topic: &TopicView,
        wanted: &MessageQuery,
        cursor: Option<QueryCursor>,
        limit: usize,
    ) -> Result<Found, Error> {
        self.read_barrier().await?;
        let ends = Instant::now() + QUERY_FOR;
        let mut found = Found { messages: Vec::new(), searched: 0, cursor: None };
        let (mut reader, mut bytes, mut read) = (BodyReader::new(&self.reader), 0, 0);
        let first = cursor.map_or(QueueId(0), |cursor| cursor.queue);
        for queue in (first.0..topic.queues).map(QueueId) {
            let view = self.reader.view();
            let max = view.queue_head(topic.id, queue)?.max;
            let mut offset = match cursor.filter(|cursor| cursor.queue == queue) {
                Some(cursor) => cursor.offset,
                None => find(view, topic.id, queue, Where::At(wanted.from))?,
            };
            while offset < max {
                let to = QueueOffset(max.0.min(offset.0 + SLICE));
                for (first, run) in self.reader.view().runs(topic.id, queue, offset, to)? {
                    if wanted.to.0 != 0 && self.reader.wall_of(run.stored_at) >= wanted.to {
                        offset = max;
                        break;
                    }
                    for (item, at) in run.items.iter().zip(first.0..to.0) {
                        if at < offset.0 {
                            continue;
                        }
                        offset = QueueOffset(at + 1);
                        found.searched += 1;
                        read += u64::from(item.bytes);
                        if read >= SLICE_BYTES {
                            read = 0;
                            tokio::task::yield_now().await;
                        }
                        let place = (queue, QueueOffset(at));
                        let stored = self.stored(topic, place, &run, *item, &mut reader).await?;
                        if wanted.is(&stored.message) {
                            bytes += stored.message.body.len();
                            found.messages.push(stored);
                        }
                        if found.messages.len() >= limit.min(QUERY_MESSAGES_MAX) || bytes >= FOUND_BYTES_MAX {
                            found.cursor = Some(QueryCursor { queue, offset });
                            return Ok(found);
                        }
                    }
                }
                offset = offset.max(to);
                if Instant::now() >= ends && offset < max {
                    found.cursor = Some(QueryCursor { queue, offset });
                    return Ok(found);
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(found)
    }

    /// Messages of a topic that wait for their delivery times, earliest first.
    pub async fn delayed_messages(
        &self,
        topic: &TopicView,
        earliest: Timestamp,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, Error> {
        self.read_barrier().await?;
        let mut reader = BodyReader::new(&self.reader);
        let mut bytes = 0;
        let mut messages = Vec::new();
        let (mut waiting, mut start) = (Vec::new(), Some(earliest.0.to_be_bytes().to_vec().into()));
        while let Some(from) = start.take().filter(|_| waiting.len() < limit.min(QUERY_MESSAGES_MAX)) {
            let (more, next) = self.reader.view().waiting(topic.id, &from)?;
            waiting.extend(more.into_iter().filter(|(waits_until, ..)| *waits_until >= earliest));
            start = next;
            tokio::task::yield_now().await;
        }
        waiting.truncate(limit.min(QUERY_MESSAGES_MAX));
        for (waits_until, at, bytes_at) in waiting {
            let (message, stamp) = reader.read_with_stamp(bytes_at).await?;
            let stored_at = self.reader.wall_of(stamp);
            bytes += message.body.len();
            let (topic, waits_until) = (topic.name.clone(), Some(waits_until));
            messages.push(StoredMessage { topic, place: None, at, message, stored_at, waits_until, origin: None });
            if bytes >= FOUND_BYTES_MAX {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(messages)
    }

    /// Dead letters, from an offset on, in the topic that has those of a group; with the offset of the next one that
    /// comes.
    pub async fn dead_letters(
        &self,
        topic: &TopicView,
        from: QueueOffset,
        limit: usize,
    ) -> Result<(Vec<StoredMessage>, QueueOffset), Error> {
        self.read_barrier().await?;
        let view = self.reader.view();
        let head = view.queue_head(topic.id, QueueId(0))?;
        let first = from.max(head.min);
        let limit = u64::try_from(limit.min(QUERY_MESSAGES_MAX)).unwrap_or(u64::MAX);
        let to = QueueOffset(head.max.0.min(first.0.saturating_add(limit)));
        let (mut reader, mut bytes, mut messages) = (BodyReader::new(&self.reader), 0, Vec::new());
        for (run_first, run) in view.runs(topic.id, QueueId(0), first, to)? {
            for (item, at) in run.items.iter().zip(run_first.0..to.0).filter(|(_, at)| *at >= first.0) {
                let stored = self.stored(topic, (QueueId(0), QueueOffset(at)), &run, *item, &mut reader).await?;
                bytes += stored.message.body.len();
                messages.push(stored);
            }
            if bytes >= FOUND_BYTES_MAX {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok((messages, head.max))
    }

    pub(super) async fn stored(
        &self,
        topic: &TopicView,
        place: (QueueId, QueueOffset),
        run: &Run,
        item: RunItem,
        reader: &mut BodyReader<'_>,
    ) -> Result<StoredMessage, Error> {
        let at = MessageRef { index: run.index, slot: item.slot };
        let message = reader.read(at).await?;
        let origin = match &run.origin {
            Some(origin) => Some(DeadLetterOrigin {
                topic: origin.name.clone(),
                place: Some((origin.queue, origin.offset)),
                attempts: origin.attempts,
                redriven_at: self.reader.view().redriven(topic.id, place.1)?,
            }),
            None if topic.name.dead_letter_group().is_some() => {
                sent_back_from(&message, self.reader.view().redriven(topic.id, place.1)?)
            }
            None => None,
        };
        Ok(StoredMessage {
            topic: topic.name.clone(),
            place: Some(place),
            at,
            message,
            stored_at: self.reader.wall_of(run.stored_at),
            waits_until: None,
            origin,
        })
    }
}

/// Where a message was that a consumer gave back until it was a dead letter.
fn sent_back_from(message: &Message, redriven_at: Option<Timestamp>) -> Option<DeadLetterOrigin> {
    let (_, topic) = message.properties.iter().find(|(name, _)| name == "RETRY_TOPIC")?;
    let attempts = message.classic?.reconsume_times;
    Some(DeadLetterOrigin { topic: TopicName::stored(topic), place: None, attempts, redriven_at })
}

fn item_at(first: QueueOffset, run: &Run, offset: QueueOffset) -> Option<RunItem> {
    let position = usize::try_from(offset.0.checked_sub(first.0)?).ok()?;
    run.items.get(position).copied()
}
