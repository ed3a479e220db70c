//! Dead letters above the log. Before: `edge/messaging/dead`; after: `machine/dead`.

use super::{Broker, Deadline, Error};
use crate::machine::{Command, Outcome, Rejected};
use crate::model::{GroupName, ReceiptHandle, TopicName};

impl Broker {
    /// Puts a leased message among the group's dead letters; repeating it is fine.
    pub async fn forward_to_dead_letters(
        &self,
        group: GroupName,
        topic: TopicName,
        handle: ReceiptHandle,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let until = self.held_until(deadline);
        let (topic_id, _) = self.existing_topic(&topic, until).await?;
        let group_id = self.existing_group(&group, until).await?.id;
        if handle.topic != topic_id || handle.group != group_id {
            return Err(Error::LeaseEnded);
        }
        match self.propose_repeatable(&Command::Bury { handle }, until).await? {
            (_, Outcome::Done) => Ok(()),
            (_, Outcome::Rejected(Rejected::LeaseEnded)) => Err(Error::LeaseEnded),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }
}
