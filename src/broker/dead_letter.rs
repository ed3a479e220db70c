//! Dead letters above the log. Before: `edge/grpc/messaging/dead_letter`; after: `machine/dead_letter`.

use tokio::time::Instant;

use crate::broker::{ActWords, Broker, Deadline, Error, Operator, TopicView};
use crate::machine::command::Redrive;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::limits::REDRIVE_MAX;
use crate::model::{GroupName, MessageRef, MessageType, QueueOffset, ReceiptHandle, TopicName};

impl Broker {
    /// Puts a leased message among the group's dead letters; repeating it is fine.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be there; it is safe to repeat. [`Error::LeaseEnded`] and
    ///   [`Error::ForeignReceiptHandle`] are definite.
    /// * Source: contract §16.
    pub async fn forward_to_dead_letters(
        &self,
        group: GroupName,
        topic: TopicName,
        handle: ReceiptHandle,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        let (topic_id, group_id) = self.owners_of(&[handle], &topic, &group, until).await?;
        if handle.topic != topic_id || handle.group != group_id {
            return Err(Error::ForeignReceiptHandle);
        }
        match self.propose_repeatable(&Command::DeadLetter { handle }, until).await? {
            (_, Outcome::Done) => Ok(()),
            (_, Outcome::Rejected(Rejected::LeaseEnded)) => Err(Error::LeaseEnded),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// The topic that has a group's dead letters; made if there are none yet.
    ///
    /// * Errors: [`Error::GroupNotFound`]; [`Error::TimedOut`] if the topic may have been made.
    pub async fn dead_letter_topic(&self, group: &GroupName) -> Result<TopicView, Error> {
        let until = self.held_until(Deadline::NONE);
        self.existing_group(group, until).await?;
        let (id, record) = self.existing_topic(&TopicName::dead_letters_of(group), until).await?;
        Ok(TopicView::of(id, record))
    }

    /// Delivers dead letters to their group again; per offset, in order, whether it is delivered now and was not before.
    ///
    /// * Errors: [`Error::TimedOut`] if they may be redriven. Others are definite.
    pub async fn redrive(
        &self,
        by: &Operator,
        group: &GroupName,
        offsets: Vec<QueueOffset>,
    ) -> Result<Vec<bool>, Error> {
        if offsets.len() > REDRIVE_MAX {
            let text =
                format!("{} dead letters at once are more than {REDRIVE_MAX}; use several requests", offsets.len());
            return Err(Error::Invalid(text));
        }
        let until = self.held_until(Deadline::NONE);
        let id = self.existing_group(group, until).await?.id;
        self.reader.read_barrier(until).await?;
        let places = offsets.iter().map(|offset| self.sent_back_at(group, *offset)).collect::<Result<Vec<_>, _>>()?;
        if places.iter().any(Option::is_some) {
            return self.redrive_each(by, group, &offsets, &places, until).await;
        }
        // Not tried again when its fate is unknown: a second try would say of each that it was redriven before.
        let words = ActWords::new("redrive", group, redrive_words(&offsets));
        match self.propose_act(by, words, Command::Redrive(Redrive { group: id, offsets }), until).await? {
            (index, Outcome::Redriven(redriven)) => {
                self.reader.caught_up(index, until).await;
                Ok(redriven)
            }
            (_, Outcome::Rejected(Rejected::GroupNotFound)) => Err(self.group_gone(group, until).await),
            (_, Outcome::Rejected(rejected)) => {
                Err(Error::of_topic(rejected, &TopicName::dead_letters_of(group), MessageType::Normal))
            }
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Dead letters some of which came back from consumers that pull: each of those is stored anew, so they are no single command.
    async fn redrive_each(
        &self,
        by: &Operator,
        group: &GroupName,
        offsets: &[QueueOffset],
        places: &[Option<MessageRef>],
        until: Instant,
    ) -> Result<Vec<bool>, Error> {
        let mut redriven = Vec::with_capacity(offsets.len());
        for (offset, place) in offsets.iter().zip(places) {
            redriven.push(match place {
                Some(at) => self.redrive_sent_back(group, *at, *offset, until).await?,
                None => Box::pin(self.redrive(by, group, vec![*offset])).await? == [true],
            });
        }
        let count = redriven.iter().filter(|is| **is).count();
        self.note_done(by, ActWords::new("redrive", group, redrive_words(offsets)), &format!("{count} redriven")).await;
        Ok(redriven)
    }
}

/// Which dead letters, for the events.
fn redrive_words(offsets: &[QueueOffset]) -> String {
    match offsets {
        [] => "no dead letter".to_owned(),
        [one] => format!("the dead letter at {one}"),
        [first, .., last] => format!("{} dead letters, {first} to {last}", offsets.len()),
    }
}
