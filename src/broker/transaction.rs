//! The end of transactions above the log. Before: `edge/grpc/messaging/transaction`, `edge/remoting/transaction`; after:
//! `machine/transaction`.

use tokio::time::Instant;

use crate::broker::clients::producer_group;
#[cfg(debug_assertions)]
use crate::broker::planted;
use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Broker, Deadline, Error};
use crate::machine::command::Decide;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::{GroupName, MessageRef, TopicId, TopicName};

impl Broker {
    /// Commits a half message or rolls it back; the first decision is final, and repeating is fine.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be decided; it is safe to repeat. [`Error::DecidedOtherwise`] and
    ///   [`Error::TransactionNotFound`] are definite.
    /// * Source: contract §10.
    pub async fn end_transaction(
        &self,
        topic: TopicName,
        message: MessageRef,
        commit: bool,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        let (id, _) = self.existing_topic(&topic, until).await?;
        match self.decide(Decide { topic: id, message, commit }, until).await {
            Err(Error::TransactionNotFound) => Err(match self.topic_now(&topic, until).await? {
                (now, _) if now != id => Error::Behind,
                _ => Error::TransactionNotFound,
            }),
            decided => decided,
        }
    }

    /// The same for a producer group of classic clients, which name a topic by its id, or not at all.
    ///
    /// * Errors: as [`Self::end_transaction`]; [`Error::Invalid`] if the message is of another group.
    /// * Source: remoting §5.1.
    pub async fn end_transaction_of_group(
        &self,
        (topic, message): (TopicId, MessageRef),
        group: &GroupName,
        commit: bool,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        let mut half = self.reader.view().half(topic, message)?;
        if half.is_none() {
            // It may have been sent through another node.
            self.reader.read_barrier(until).await?;
            half = self.reader.view().half(topic, message)?;
        }
        let half = half.ok_or(Error::TransactionNotFound)?;
        if half.decided.is_none() {
            let stored = BodyReader::new(&self.reader).read(half.bytes_at(message)).await?;
            if producer_group(&stored).as_ref() != Some(group) {
                let id = &stored.message_id;
                return Err(Error::Invalid(format!(
                    "the half message '{id}' is of another producer group than '{group}', which has no say in it"
                )));
            }
        }
        self.decide(Decide { topic, message, commit }, until).await
    }

    async fn decide(&self, decide: Decide, until: Instant) -> Result<(), Error> {
        #[cfg(debug_assertions)]
        let decide = Decide { commit: planted::decision(decide.commit), ..decide };
        match self.propose_repeatable(&Command::Decide(decide), until).await? {
            (_, Outcome::Done) => Ok(()),
            (_, Outcome::Rejected(Rejected::TransactionNotFound)) => Err(Error::TransactionNotFound),
            (_, Outcome::Rejected(Rejected::DecidedOtherwise)) => Err(Error::DecidedOtherwise),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }
}
