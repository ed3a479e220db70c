//! Changes of invisible time above the log: the client's own, the broker's renewal for clients that
//! live, and the early end for clients that leave. After: `machine/invisible`.

use super::{Broker, Deadline, Error};
use crate::machine::command::{Change, Prolong};
use crate::machine::keys::LeaseKey;
use crate::machine::lease::Lease;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::limits::{INVISIBLE_RENEWED, RENEW_TOTAL_MAX};
use crate::model::{GroupName, Millis, ReceiptHandle, TopicName};

/// A lease that ends within this time is renewed.
const RENEW_AHEAD: Millis = Millis::from_secs(10);
/// Leases looked at in one round.
const RENEW_MAX: usize = 10_000;
/// Leases in one command.
const RENEW_BATCH: usize = 1000;
/// What a client held when it left comes back after this time (contract §7).
const LEFT_BEHIND: Millis = Millis::from_secs(1);

impl Broker {
    /// Replaces the lease of one message by a new one that ends `invisible` from now; the old handle
    /// never acts again.
    pub async fn change_invisible(
        &self,
        group: GroupName,
        topic: TopicName,
        handle: ReceiptHandle,
        invisible: Millis,
        deadline: Deadline,
    ) -> Result<ReceiptHandle, Error> {
        let (topic_id, _) = self.existing_topic(&topic).await?;
        let group_id = self.existing_group(&group).await?.id;
        if handle.topic != topic_id || handle.group != group_id {
            return Err(Error::LeaseEnded);
        }
        let command = Command::Change(Change { handle, invisible_for: invisible });
        match self.propose(&command, self.patience(deadline)).await? {
            (_, Outcome::Changed(lease)) => Ok(ReceiptHandle { lease, ..handle }),
            (_, Outcome::Rejected(Rejected::LeaseEnded)) => Err(Error::LeaseEnded),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Renews what ends soon and belongs to a client that was seen on this node lately. Every node does
    /// this from the replicated leases, so a renewal survives any of them.
    pub(super) async fn renew_for_living(&self) -> Result<(), Error> {
        let ending = self.replica.view().leases_ending(self.now().plus(RENEW_AHEAD), RENEW_MAX)?;
        let living = |lease: &Lease| lease.renew_for.as_deref().is_some_and(|client| self.sessions.is_alive(client));
        self.prolong(ending, living, INVISIBLE_RENEWED).await
    }

    /// Forgets a client and lets what it held come back soon.
    pub async fn client_left(&self, client_id: &str) -> Result<(), Error> {
        self.sessions.ended(client_id);
        let held = self.replica.view().leases_ending(self.now().plus(RENEW_TOTAL_MAX), RENEW_MAX)?;
        self.prolong(held, |lease| lease.renew_for.as_deref() == Some(client_id), LEFT_BEHIND).await
    }

    async fn prolong(
        &self,
        leases: Vec<(LeaseKey, Lease)>,
        is_meant: impl Fn(&Lease) -> bool,
        invisible_for: Millis,
    ) -> Result<(), Error> {
        let meant: Vec<ReceiptHandle> = leases
            .into_iter()
            .filter(|(_, lease)| lease.held != 0 && is_meant(lease))
            .map(|(at, lease)| ReceiptHandle {
                group: at.group,
                topic: at.topic,
                queue: at.queue,
                offset: lease.first,
                lease: at.lease,
            })
            .collect();
        for leases in meant.chunks(RENEW_BATCH) {
            let command = Command::Prolong(Prolong { leases: leases.to_vec(), invisible_for });
            self.propose_repeatable(&command, self.settings.leader_wait).await?;
        }
        Ok(())
    }
}
