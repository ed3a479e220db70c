//! Recalls of delayed messages, and their moves to another time, above the log. Before: `edge/grpc/messaging/delay`;
//! after: `machine/delay`.

use tokio::time::Instant;

use crate::broker::{ActWords, Broker, Deadline, Error, Operator};
use crate::machine::command::{Recall, Reschedule};
use crate::machine::{Command, Outcome, Rejected};
use crate::model::{MessageRef, MessageType, Timestamp, TopicId, TopicName};

impl Broker {
    /// Takes back a message that waits for its delivery time, which is `at`.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be recalled. [`Error::NotWaiting`] is definite: it was delivered or
    ///   recalled.
    /// * Source: contract §11.
    pub async fn recall(
        &self,
        topic: TopicName,
        at: Timestamp,
        message: MessageRef,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        self.recall_with(topic, at, message, until, Ok).await
    }

    /// The same for an operator, with the id of the message for the events.
    ///
    /// * Errors: as [`Self::recall`].
    pub async fn recall_for(
        &self,
        by: &Operator,
        topic: TopicName,
        at: Timestamp,
        message: MessageRef,
        message_id: &str,
    ) -> Result<(), Error> {
        let until = self.held_until(Deadline::NONE);
        let words = ActWords::new("delayed-recall", &topic, format!("{message_id}, was due {}", at.utc()));
        self.recall_with(topic, at, message, until, |command| self.of_operator(by, words, command)).await
    }

    async fn recall_with(
        &self,
        topic: TopicName,
        at: Timestamp,
        message: MessageRef,
        until: Instant,
        asked: impl FnOnce(Command) -> Result<Command, Error>,
    ) -> Result<(), Error> {
        let (id, record) = self.existing_topic(&topic, until).await?;
        // Not tried again when its fate is unknown: a second try would not tell a recalled message from one
        // that was delivered.
        let command = asked(Command::Recall(Recall { topic: id, at, message }))?;
        match self.propose(&command, until).await? {
            (_, Outcome::Done) => Ok(()),
            // Messages of classic clients wait in topics of other types too.
            (_, Outcome::Rejected(Rejected::NotWaiting)) if !record.topic_type.accepts(MessageType::Delay) => {
                Err(Error::TypeMismatch { topic, accepts: record.topic_type, got: MessageType::Delay })
            }
            (_, Outcome::Rejected(Rejected::NotWaiting)) => Err(self.not_waiting(&topic, id, until).await),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Why a message was not found among those of the topic that wait.
    async fn not_waiting(&self, topic: &TopicName, looked_in: TopicId, until: Instant) -> Error {
        match self.topic_now(topic, until).await {
            Ok((id, _)) if id != looked_in => Error::Behind,
            Ok(_) => Error::NotWaiting,
            Err(error) => error,
        }
    }

    /// Gives a message that waits until `at` the delivery time `to`.
    ///
    /// * Errors: [`Error::TimedOut`] if it may have moved. Others are definite.
    pub async fn move_delayed(
        &self,
        by: &Operator,
        topic: TopicName,
        at: Timestamp,
        message: MessageRef,
        message_id: &str,
        to: Timestamp,
    ) -> Result<(), Error> {
        let until = self.held_until(Deadline::NONE);
        let (id, _) = self.existing_topic(&topic, until).await?;
        // Not tried again when its fate is unknown: a second try would not find it at its old time.
        let words = ActWords::new("delayed-move", &topic, format!("{message_id} from {} to {}", at.utc(), to.utc()));
        let command = Command::Reschedule(Reschedule { topic: id, at, message, to });
        match self.propose_act(by, words, command, until).await? {
            (_, Outcome::Done) => Ok(()),
            (_, Outcome::Rejected(Rejected::NotWaiting)) => Err(self.not_waiting(&topic, id, until).await),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }
}
