//! Guards of leases that were granted and not delivered: only the poll that was granted them can deliver their messages.
//!
//! Hot path. A poll that is dropped, because its caller gave up or its connection broke, gives its leases back, whether
//! it knows their handles or not (contract §13.2).

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use crate::broker::lease_handle::handle;
use crate::broker::{Broker, Deadline, Error};
use crate::machine::Command;
use crate::machine::command::GiveBack;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::Lease;
use crate::model::{GroupId, Millis, QueueId, ReceiptHandle, TopicId};

/// The leases of an answer; given back when dropped, unless [`Self::delivered`].
pub struct UndeliveredLeases {
    pub(super) broker: Arc<Broker>,
    /// One handle of each.
    pub(super) leases: Vec<ReceiptHandle>,
    pub(super) is_renewed: bool,
    /// How long what was not delivered is kept for the poll to be repeated.
    pub(super) kept_for: Millis,
}

impl UndeliveredLeases {
    /// The whole answer was handed to the connection.
    pub fn delivered(mut self) {
        let leases = std::mem::take(&mut self.leases);
        if self.is_renewed {
            self.broker.first_renewals.remember(leases);
        }
    }
}

impl Drop for UndeliveredLeases {
    fn drop(&mut self) {
        let leases = std::mem::take(&mut self.leases);
        if leases.is_empty() {
            return;
        }
        let (broker, kept_for) = (self.broker.clone(), self.kept_for);
        spawn(&self.broker, async move { give_back(&broker, leases, kept_for).await });
    }
}

/// Finds the leases of a grant, also when its outcome is not known.
pub(super) struct GrantName {
    pub topic: TopicId,
    pub group: GroupId,
    pub queues: BTreeSet<QueueId>,
    /// Of the grant; every lease it made has it.
    pub token: u64,
}

impl GrantName {
    /// The leases that the grant made, looked up once a later entry is applied: then they are either in the state or
    /// never will be.
    pub async fn leases(&self, broker: &Broker, until: Instant) -> Result<Vec<(LeaseKey, Lease)>, Error> {
        let (index, _) = broker.propose_repeatable(&Command::Tick, until).await?;
        if !broker.reader.caught_up(index, until).await {
            return Err(Error::TimedOut);
        }
        let view = broker.reader.view();
        let mut leases = Vec::new();
        for queue in &self.queues {
            let all = view.leases(self.topic, self.group, *queue)?.into_iter();
            leases.extend(all.filter(|(_, lease)| lease.token == self.token));
        }
        Ok(leases)
    }
}

/// A grant whose outcome its poll does not know; looked up and given back when dropped, unless [`Self::answered`].
pub(super) struct PendingGrant {
    pub broker: Arc<Broker>,
    /// `None` once the outcome is known.
    pub name: Option<GrantName>,
    pub kept_for: Millis,
}

impl PendingGrant {
    /// The outcome is known to the poll.
    pub fn answered(mut self) {
        self.name = None;
    }
}

impl Drop for PendingGrant {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let (broker, kept_for) = (self.broker.clone(), self.kept_for);
        spawn(&self.broker, async move {
            let leases = name.leases(&broker, broker.held_until(Deadline::NONE)).await?;
            let leases: Vec<_> = leases.into_iter().map(|(at, lease)| handle(at, &lease)).collect();
            if leases.is_empty() { Ok(()) } else { give_back(&broker, leases, kept_for).await }
        });
    }
}

async fn give_back(broker: &Broker, leases: Vec<ReceiptHandle>, after: Millis) -> Result<(), Error> {
    let command = Command::GiveBack(GiveBack { leases, after });
    broker.propose_repeatable(&command, broker.held_until(Deadline::NONE)).await.map(|_| ())
}

/// Runs what a dropped poll leaves to do.
fn spawn(broker: &Broker, work: impl Future<Output = Result<(), Error>> + Send + 'static) {
    broker.tasks.spawn(async move {
        if let Err(error) = work.await {
            tracing::debug!(%error, "leases of a poll that was given up were not given back");
        }
    });
}
