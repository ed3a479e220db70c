//! Locks of queues above the log, for clients of a group that pull in order. Before: `edge/remoting/locks`; after:
//! `machine/queue_lock`.

use crate::broker::{Broker, Deadline, Error};
use crate::machine::command::{LockQueues, UnlockQueues};
use crate::machine::{Command, Outcome, Rejected};
use crate::model::{GroupName, Millis, QueueId, TopicId, TopicName};

/// Clients say every twenty seconds that they want their locks, and believe in one for thirty seconds after the answer; so nobody
/// else has a lock that its client believes in, and a client that dies holds others up for this long at most.
const LOCKED_FOR: Millis = Millis::from_secs(40);

impl Broker {
    /// Locks queues of a group for a client, those that no other client has; for each, in order, whether it is locked now.
    ///
    /// * Errors: [`Error::TimedOut`] if they may be locked; it is safe to repeat. Others are definite.
    /// * Source: remoting §6.5.
    pub async fn lock_queues(
        &self,
        group: &GroupName,
        client: &str,
        queues: &[(TopicName, QueueId)],
        deadline: Deadline,
    ) -> Result<Vec<bool>, Error> {
        let until = self.held_until(deadline);
        let group_id = self.existing_group(group, until).await?.id;
        let ids = self.known(queues)?;
        let command = Command::LockQueues(LockQueues {
            group: group_id,
            client: client.to_owned(),
            queues: ids.iter().flatten().copied().collect(),
            locked_for: LOCKED_FOR,
        });
        match self.propose_repeatable(&command, until).await? {
            (_, Outcome::Locked(locked)) => {
                let mut locked = locked.into_iter();
                Ok(ids.iter().map(|id| id.is_some() && locked.next() == Some(true)).collect())
            }
            (_, Outcome::Rejected(Rejected::GroupNotFound)) => Err(self.group_gone(group, until).await),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Gives up what a client of a group has locked of these queues.
    ///
    /// * Errors: [`Error::TimedOut`] if they may be given up; it is safe to repeat. Others are definite.
    pub async fn unlock_queues(
        &self,
        group: &GroupName,
        client: &str,
        queues: &[(TopicName, QueueId)],
        deadline: Deadline,
    ) -> Result<(), Error> {
        let queues = self.known(queues)?.into_iter().flatten().collect();
        self.give_up(group, client, queues, deadline).await
    }

    /// Gives up all that a client of a group has locked in these topics.
    ///
    /// * Errors: as [`Self::unlock_queues`].
    pub async fn unlock_all_queues(
        &self,
        group: &GroupName,
        client: &str,
        topics: &[TopicName],
        deadline: Deadline,
    ) -> Result<(), Error> {
        let view = self.reader.view();
        let Some((group_id, _)) = view.group(group)? else { return Ok(()) };
        let mut queues = Vec::new();
        for name in topics {
            let Some((topic, _)) = view.topic(name)? else { continue };
            let locks = view.queue_locks(topic, group_id)?.into_iter();
            queues.extend(locks.filter(|(_, lock)| lock.client == client).map(|(queue, _)| (topic, queue)));
        }
        self.give_up(group, client, queues, deadline).await
    }

    async fn give_up(
        &self,
        group: &GroupName,
        client: &str,
        queues: Vec<(TopicId, QueueId)>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        if queues.is_empty() {
            return Ok(());
        }
        let until = self.held_until(deadline);
        let group = self.existing_group(group, until).await?.id;
        let command = Command::UnlockQueues(UnlockQueues { group, client: client.to_owned(), queues });
        match self.propose_repeatable(&command, until).await? {
            (_, Outcome::Done) => Ok(()),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// The topics of queues by their ids; `None` for a topic that this node does not know.
    fn known(&self, queues: &[(TopicName, QueueId)]) -> Result<Vec<Option<(TopicId, QueueId)>>, Error> {
        let view = self.reader.view();
        let id = |(topic, queue): &(TopicName, QueueId)| Ok(view.topic(topic)?.map(|(id, _)| (id, *queue)));
        queues.iter().map(id).collect()
    }
}
