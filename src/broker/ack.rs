//! Acks above the log. Before: `edge/grpc/messaging/ack`; after: `machine/ack`.
//!
//! Hot path. An ack is safe to repeat, so one whose fate is unknown is simply proposed again.

use std::sync::Arc;

#[cfg(debug_assertions)]
use crate::broker::planted;
use crate::broker::{Broker, Deadline, Error};
use crate::machine::command::Ack;
use crate::machine::{Command, Outcome};
use crate::model::{GroupName, NotAHandle, ReceiptHandle, TopicName};

/// What became of one ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acked {
    /// The message is settled for the group, now or before.
    Done,
    /// The lease had ended; the message is delivered again.
    LeaseEnded,
    /// The handle was not taken.
    NotAReceiptHandle(NotAHandle),
    /// The handle is of another topic or group.
    ForeignReceiptHandle,
}

impl Broker {
    /// Settles deliveries; answers in the same order, also to handles that were not taken.
    ///
    /// * Errors: [`Error::TimedOut`] if the deliveries may be settled; it is safe to repeat. Others are definite.
    /// * Source: contract §14.
    pub async fn ack(
        self: &Arc<Self>,
        group: GroupName,
        topic: TopicName,
        handles: Vec<Result<ReceiptHandle, NotAHandle>>,
        deadline: Deadline,
    ) -> Result<Vec<Acked>, Error> {
        let until = self.held_until(deadline);
        let mut known: Vec<ReceiptHandle> = handles.iter().flatten().copied().collect();
        let (topic_id, group_id) = self.owners_of(&known, &topic, &group, until).await?;
        let is_theirs = |handle: &ReceiptHandle| handle.topic == topic_id && handle.group == group_id;
        known.retain(is_theirs);
        let mut settled = Vec::new();
        #[cfg(debug_assertions)]
        if planted::ack_later(self, &known) {
            return Ok(vec![Acked::Done; handles.len()]);
        }
        if !known.is_empty() {
            let command = Command::Ack(Ack { handles: known });
            let (_, outcome) = self.propose_repeatable(&command, until).await?;
            let Outcome::Acked(answers) = outcome else { return Err(Error::unexpected(&outcome)) };
            settled = answers;
        }
        let mut settled = settled.into_iter();
        let answer = |handle: &Result<ReceiptHandle, NotAHandle>| match handle {
            Err(refused) => Acked::NotAReceiptHandle(*refused),
            Ok(handle) if !is_theirs(handle) => Acked::ForeignReceiptHandle,
            Ok(_) if settled.next() == Some(true) => Acked::Done,
            Ok(_) => Acked::LeaseEnded,
        };
        Ok(handles.iter().map(answer).collect())
    }
}
