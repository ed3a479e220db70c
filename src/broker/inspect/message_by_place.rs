//! The message that is stored at a place of the log, which is how classic clients name it (remoting §7.3).
//!
//! The entry says which topic it is of, and the state in which queue it is: queues are looked through from the entry's time on,
//! for a bounded time, without reading a body.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::offset::find;
use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Error, Inspector, StoredMessage, TopicView, Where};
use crate::machine::command::{CarriedReference, Carry, Send, SendToQueue};
use crate::machine::{Batch, Command};
use crate::model::{GroupId, MessageRef, QueueId, QueueOffset, Timestamp, TopicId, TopicName};

/// A message that was delayed for long is far behind the others of its entry.
const SEARCH_FOR: Duration = Duration::from_millis(500);
/// Offsets looked at before others have their turn.
const SLICE: u64 = 1024;

impl Inspector {
    /// The message at a place of the log, in its queue; `None` if there is none, or it is in no queue.
    pub async fn message_by_place(&self, at: MessageRef) -> Result<Option<StoredMessage>, Error> {
        self.read_barrier().await?;
        let mut reader = BodyReader::new(&self.reader);
        let Some(batch) = reader.batch(at.index).await? else { return Ok(None) };
        let (owner, stored_at) = (owner_of(batch, at.slot), self.reader.wall_of(batch.stamp()));
        let ends = Instant::now() + SEARCH_FOR;
        for topic in self.owned_by(owner)? {
            let found = self.find_in_queues(&topic, at, stored_at, ends, &mut reader).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The topics that a message may be in.
    fn owned_by(&self, owner: Option<Owner>) -> Result<Vec<TopicView>, Error> {
        let view = self.reader.view();
        match owner {
            None => Ok(Vec::new()),
            Some(Owner::Topic(topic)) => {
                let record = view.topic_record(topic)?;
                Ok(record.map(|record| TopicView::of(topic, record)).into_iter().collect())
            }
            Some(Owner::Group(group)) => {
                let Some(group) = view.group_record(group)? else { return Ok(Vec::new()) };
                let names = TopicName::retries_of(&group.name).into_iter();
                let mut topics = Vec::new();
                for name in names.chain([TopicName::dead_letters_of(&group.name)]) {
                    topics.extend(view.topic(&name)?.map(|(id, record)| TopicView::of(id, record)));
                }
                Ok(topics)
            }
        }
    }

    async fn find_in_queues(
        &self,
        topic: &TopicView,
        at: MessageRef,
        stored_at: Timestamp,
        ends: Instant,
        reader: &mut BodyReader<'_>,
    ) -> Result<Option<StoredMessage>, Error> {
        for queue in (0..topic.queues).map(QueueId) {
            let max = self.reader.view().queue_head(topic.id, queue)?.max;
            let mut offset = find(self.reader.view(), topic.id, queue, Where::At(stored_at))?;
            while offset < max && Instant::now() < ends {
                let to = QueueOffset(max.0.min(offset.0 + SLICE));
                for (first, run) in self.reader.view().runs(topic.id, queue, offset, to)? {
                    let position = run.items.iter().position(|item| item.slot == at.slot);
                    if let Some(position) = position.filter(|_| run.index == at.index) {
                        let place = (queue, QueueOffset(first.0 + position as u64));
                        return Ok(Some(self.stored(topic, place, &run, run.items[position], reader).await?));
                    }
                }
                offset = to;
                tokio::task::yield_now().await;
            }
        }
        Ok(None)
    }
}

/// Whose a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Topic(TopicId),
    /// Of the retries or the dead letters of a group.
    Group(GroupId),
}

/// Whose the message in a slot of an entry is.
fn owner_of(batch: &Batch, slot: u32) -> Option<Owner> {
    let mut first = 0;
    for command in batch.commands() {
        // What cannot be read here was not applied either.
        let owners: Vec<(Owner, usize)> = match Command::decode(command.ok()?).ok()? {
            Command::Send(Send { topic, tag_hashes, .. })
            | Command::SendToQueue(SendToQueue { topic, tag_hashes, .. }) => {
                vec![(Owner::Topic(topic), tag_hashes.len())]
            }
            Command::SendBack(back) => vec![(Owner::Group(back.group), 1)],
            Command::Carry(Carry { references }) => references.iter().map(carried).collect(),
            _ => Vec::new(),
        };
        for (owner, count) in owners {
            if (first..first + count).contains(&(slot as usize)) {
                return Some(owner);
            }
            first += count;
        }
    }
    None
}

fn carried(reference: &CarriedReference) -> (Owner, usize) {
    let topic = match reference {
        CarriedReference::Delayed { topic, .. }
        | CarriedReference::Half { topic, .. }
        | CarriedReference::Run { topic, .. } => *topic,
    };
    (Owner::Topic(topic), reference.messages())
}
