//! Recalls of delayed messages above the log. Before: `edge/messaging/recall`; after: `machine/aside`.

use super::{Broker, Deadline, Error};
use crate::machine::command::Recall;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::{MessageRef, MessageType, Timestamp, TopicName};

impl Broker {
    /// Takes back a message that waits for its delivery time.
    pub async fn recall(
        &self,
        topic: TopicName,
        at: Timestamp,
        message: MessageRef,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        let (id, record) = self.existing_topic(&topic, until).await?;
        if !record.topic_type.accepts(MessageType::Delay) {
            return Err(Error::TypeMismatch { topic, accepts: record.topic_type, got: MessageType::Delay });
        }
        // Not tried again when its fate is unknown: a second try would not tell a recalled message from one
        // that was delivered.
        match self.propose(&Command::Recall(Recall { topic: id, at, message }), until).await? {
            (_, Outcome::Done) => Ok(()),
            (_, Outcome::Rejected(Rejected::NotWaiting)) => Err(Error::NotWaiting),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }
}
