//! Messages that consumers which pull could not consume, above the log. Before: `edge/remoting/send_back`; after:
//! `machine/send_back`.

use tokio::time::Instant;

use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Broker, Deadline, Error};
use crate::machine::command::{BackTo, SendBack};
use crate::machine::{Command, Outcome, Proposal, Rejected, Stored};
use crate::model::filter::tag;
use crate::model::{GroupName, LogIndex, Message, MessageRef, QueueId, QueueOffset, Timestamp, TopicName};

/// The queues of the topic of a group's retries.
const RETRY_QUEUES: u32 = 1;

/// Where a message is that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentBack {
    pub message: MessageRef,
    /// Its offset; `None` while it waits for its time.
    pub offset: Option<QueueOffset>,
}

impl Broker {
    /// The message whose bytes are there; `None` if this node's log does not have it.
    ///
    /// * Errors: [`Error::NoLeader`] if this node cannot know, [`Error::Unreadable`] if it is damaged here.
    pub async fn message_in_log(&self, at: MessageRef, deadline: Deadline) -> Result<Option<Message>, Error> {
        if at.index > self.reader.applied() {
            self.reader.read_barrier(self.held_until(deadline)).await?;
        }
        if at.index == LogIndex(0) || at.index > self.reader.applied() {
            return Ok(None);
        }
        let mut reader = BodyReader::new(&self.reader);
        if reader.batch(at.index).await?.is_none_or(|batch| at.slot >= batch.message_count()) {
            return Ok(None);
        }
        Ok(Message::decode(reader.encoded(at).await?.0).ok())
    }

    /// Makes the topic of a group's retries, if there is none.
    ///
    /// * Errors: [`Error::Invalid`] for a group whose name leaves no room for the prefix.
    pub async fn make_retry_topic(&self, group: &GroupName, deadline: Deadline) -> Result<TopicName, Error> {
        let Some(topic) = TopicName::retries_of(group) else {
            let text =
                format!("the name of group '{group}' is too long for a topic of retries: %RETRY% goes before it");
            return Err(Error::Invalid(text));
        };
        self.find_or_make_topic_with(&topic, RETRY_QUEUES, deadline).await?;
        Ok(topic)
    }

    /// Stores a message for its group to try again at a time of day, or among the group's dead letters if there is none.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be stored; a second try may store it twice. Others are definite.
    /// * Source: remoting §6.4.
    pub async fn send_back(
        &self,
        group: &GroupName,
        message: &Message,
        again_at: Option<Timestamp>,
        deadline: Deadline,
    ) -> Result<SentBack, Error> {
        let to = again_at.map_or(BackTo::DeadLetter, BackTo::Retry);
        let (index, outcome) = self.propose_back(group, message, to, self.held_until(deadline)).await?;
        let (slot, offset) = match outcome {
            Outcome::SentToQueue { offset, slot } => (slot, Some(offset)),
            Outcome::Sent(stored) => match stored[..] {
                [Stored::Deferred(slot)] => (slot, None),
                _ => return Err(Error::unexpected(&Outcome::Sent(stored))),
            },
            other => return Err(Error::unexpected(&other)),
        };
        self.traffic.count_in(1);
        Ok(SentBack { message: MessageRef { index, slot }, offset })
    }

    async fn propose_back(
        &self,
        group: &GroupName,
        message: &Message,
        to: BackTo,
        until: Instant,
    ) -> Result<(LogIndex, Outcome), Error> {
        let group_id = self.existing_group(group, until).await?.id;
        let tag_hash = tag::hash(message.tag.as_deref());
        let command = Command::SendBack(SendBack { group: group_id, tag_hash, to }).encode();
        let proposal = Proposal { command, messages: vec![message.encode()] };
        let left = until.saturating_duration_since(Instant::now());
        let (place, outcome) = self.replica.propose(proposal, left).await?;
        match outcome {
            Outcome::Rejected(Rejected::GroupNotFound) => Err(self.group_gone(group, until).await),
            Outcome::Rejected(Rejected::TopicNotFound) => Err(Error::Behind),
            outcome => Ok((place.index, outcome)),
        }
    }

    /// Where the dead letter at an offset is stored, if it came back from a consumer that pulls.
    pub(super) fn sent_back_at(&self, group: &GroupName, offset: QueueOffset) -> Result<Option<MessageRef>, Error> {
        let view = self.reader.view();
        let Some((topic, _)) = view.topic(&TopicName::dead_letters_of(group))? else { return Ok(None) };
        let runs = view.runs(topic, QueueId(0), offset, QueueOffset(offset.0.saturating_add(1)))?;
        let Some((first, run)) = runs.first().filter(|(_, run)| run.origin.is_none()) else { return Ok(None) };
        let position = offset.0.checked_sub(first.0).and_then(|position| usize::try_from(position).ok());
        let item = position.and_then(|position| run.items.get(position));
        Ok(item.map(|item| MessageRef { index: run.index, slot: item.slot }))
    }

    /// Delivers a dead letter that came back to its group again, with all its attempts; whether it was not before.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be delivered.
    pub(super) async fn redrive_sent_back(
        &self,
        group: &GroupName,
        at: MessageRef,
        offset: QueueOffset,
        until: Instant,
    ) -> Result<bool, Error> {
        self.make_retry_topic(group, Deadline::NONE).await?;
        let mut message = BodyReader::new(&self.reader).read(at).await?;
        if let Some(marks) = &mut message.classic {
            marks.reconsume_times = 0;
        }
        let (index, outcome) = self.propose_back(group, &message, BackTo::Redriven(offset), until).await?;
        let Outcome::Redriven(redriven) = outcome else { return Err(Error::unexpected(&outcome)) };
        self.reader.caught_up(index, until).await;
        Ok(redriven == [true])
    }
}
