//! The end of transactions above the log. Before: `edge/grpc/messaging/transaction`; after: `machine/transaction`.

#[cfg(debug_assertions)]
use crate::broker::planted;
use crate::broker::{Broker, Deadline, Error};
use crate::machine::command::Decide;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::{MessageRef, TopicName};

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
        #[cfg(debug_assertions)]
        let commit = planted::decision(commit);
        match self.propose_repeatable(&Command::Decide(Decide { topic: id, message, commit }), until).await? {
            (_, Outcome::Done) => Ok(()),
            (_, Outcome::Rejected(Rejected::TransactionNotFound)) => Err(match self.topic_now(&topic, until).await? {
                (now, _) if now != id => Error::Behind,
                _ => Error::TransactionNotFound,
            }),
            (_, Outcome::Rejected(Rejected::DecidedOtherwise)) => Err(Error::DecidedOtherwise),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }
}
