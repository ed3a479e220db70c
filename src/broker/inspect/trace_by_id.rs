//! Traces by id: finds the message wherever it is, also before it enters a queue.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Error, Inspector, Life, MessageQuery, StoredMessage, TopicView, Trace};
use crate::machine::state::half::Half;
use crate::model::{MessageRef, QueueId, QueueOffset, Timestamp};

impl Inspector {
    /// What became of the message with an id, as far as it can be found and the log can be read in `time`: those that wait
    /// for a delivery time or a decision first, then those in queues. `None` if it was not found.
    pub async fn trace_id(&self, topic: &TopicView, id: &str, time: Duration) -> Result<Option<Trace>, Error> {
        let ends = Instant::now() + time;
        self.read_barrier().await?;
        if let Some((message, life)) = self.waiting_by_id(topic, id, ends).await? {
            let entry = self.reader.entry_place(message.at.index).await?;
            let at = message.at.index;
            return Ok(Some(Trace { message, life, entry, groups: Vec::new(), searched_to: at, log_end: at }));
        }
        let Some((queue, offset)) = self.queued_by_id(topic, id, ends).await? else { return Ok(None) };
        self.trace(topic, queue, offset, ends.saturating_duration_since(Instant::now())).await.map(Some)
    }

    async fn queued_by_id(
        &self,
        topic: &TopicView,
        id: &str,
        ends: Instant,
    ) -> Result<Option<(QueueId, QueueOffset)>, Error> {
        let wanted = MessageQuery { message_id: Some(id.to_owned()), ..MessageQuery::default() };
        let mut cursor = None;
        loop {
            let found = self.find_messages(topic, &wanted, cursor, 1).await?;
            if let Some(message) = found.messages.first() {
                return Ok(message.place);
            }
            cursor = found.cursor;
            if cursor.is_none() || Instant::now() >= ends {
                return Ok(None);
            }
        }
    }

    async fn waiting_by_id(
        &self,
        topic: &TopicView,
        id: &str,
        ends: Instant,
    ) -> Result<Option<(StoredMessage, Life)>, Error> {
        let mut reader = BodyReader::new(&self.reader);
        let mut from = Some(Bytes::from_static(&[0]));
        while let Some(start) = from.take().filter(|_| Instant::now() < ends) {
            let (page, next) = self.reader.view().waiting(topic.id, &start)?;
            for (until, at, bytes_at) in page {
                if let Some(message) = self.is_it(topic, id, (at, bytes_at), Some(until), &mut reader).await? {
                    return Ok(Some((message, Life::Delayed)));
                }
            }
            from = next;
        }
        let mut from = Some(Bytes::new());
        while let Some(start) = from.take().filter(|_| Instant::now() < ends) {
            let (page, next) = self.reader.view().halves_page(&start)?;
            for (of, at, half) in page {
                let Half { asked, due, decided, .. } = half;
                // What was committed is in a queue.
                if of != topic.id || decided == Some(true) {
                    continue;
                }
                // Nothing keeps the bytes of one that was rolled back.
                let found = self.is_it(topic, id, (at, half.bytes_at(at)), None, &mut reader).await;
                let found = if decided.is_some() { found.unwrap_or(None) } else { found? };
                if let Some(message) = found {
                    let open = Life::Half { asked, due: self.reader.wall_of(due) };
                    return Ok(Some((message, if decided.is_some() { Life::RolledBack } else { open })));
                }
            }
            from = next;
        }
        Ok(None)
    }

    async fn is_it(
        &self,
        topic: &TopicView,
        id: &str,
        (at, bytes_at): (MessageRef, MessageRef),
        waits_until: Option<Timestamp>,
        reader: &mut BodyReader<'_>,
    ) -> Result<Option<StoredMessage>, Error> {
        tokio::task::yield_now().await;
        let (message, stamp) = reader.read_with_stamp(bytes_at).await?;
        if message.message_id != id {
            return Ok(None);
        }
        let (topic, stored_at) = (topic.name.clone(), self.reader.wall_of(stamp));
        Ok(Some(StoredMessage { topic, place: None, at, message, stored_at, waits_until, origin: None }))
    }
}
