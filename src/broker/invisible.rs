//! Changes of invisible time above the log: the client's own, the broker's renewal for clients that
//! live, and the early end for clients that leave. After: `machine/invisible`.

use crate::broker::{Broker, Deadline, Error};
use crate::machine::command::{Change, Prolong};
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease;
use crate::machine::state::lease::Lease;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::limits::{INVISIBLE_RENEWED, LEFT_BEHIND};
use crate::model::{GroupName, Millis, ReceiptHandle, TopicName};

/// A lease that ends within this time is renewed.
const RENEW_AHEAD: Millis = Millis::from_secs(10);
/// Leases renewed in one round.
const RENEW_MAX: usize = 100_000;
/// Leases in one command.
const LEASES_MAX: usize = 1000;

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
        let until = self.held_until(deadline);
        let (topic_id, _) = self.existing_topic(&topic, until).await?;
        let group_id = self.existing_group(&group, until).await?.id;
        if handle.topic != topic_id || handle.group != group_id {
            return Err(Error::LeaseEnded);
        }
        let command = Command::Change(Change { handle, invisible_for: invisible });
        match self.propose(&command, until).await? {
            (_, Outcome::Changed(lease)) => Ok(ReceiptHandle { lease, ..handle }),
            (_, Outcome::Rejected(Rejected::LeaseEnded)) => Err(Error::LeaseEnded),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Renews the leases of clients that live, as this node hears them.
    ///
    /// The first renewal is the delivering node's: only it knows that the messages left. From then on any
    /// node that hears the client renews, from the replicated leases, so a renewal survives any of them; a
    /// lease whose answer died with its node is not renewed and ends (contract §13.4).
    pub(super) async fn renew_for_living(&self) -> Result<(), Error> {
        let first = self.renewals.take_due();
        let renewed = self.renew(first.clone()).await;
        if renewed.is_err() {
            // Nobody else renews these for the first time.
            self.renewals.put_back(first);
        }
        renewed
    }

    async fn renew(&self, mut meant: Vec<ReceiptHandle>) -> Result<(), Error> {
        let until = self.now().plus(RENEW_AHEAD);
        let view = self.replica.clone();
        // Reads much; not on the Raft thread.
        let read = tokio::task::spawn_blocking(move || view.view().renewable_ending(until, RENEW_MAX)).await;
        let ending = read.map_err(|panic| Error::Stopped(panic.to_string()))??;
        let was_renewed = |lease: &Lease| lease.until > lease.granted_at.plus(INVISIBLE_RENEWED);
        meant.extend(ending.iter().filter(|(_, lease)| was_renewed(lease)).map(|(at, lease)| handle(*at, lease)));
        let living = |lease: &Lease| lease.renew_for.as_deref().is_some_and(|client| self.sessions.is_alive(client));
        let held = self.still_held(meant)?.into_iter().filter(|(_, lease)| living(lease));
        self.prolong(held.map(|(at, lease)| handle(at, &lease)).collect(), INVISIBLE_RENEWED).await
    }

    /// Forgets a client and lets what it held come back soon.
    pub async fn client_left(&self, client_id: &str) -> Result<(), Error> {
        self.sessions.ended(client_id);
        // No lease that is renewed ends later than this.
        let until = self.now().plus(INVISIBLE_RENEWED);
        let view = self.replica.clone();
        let read = tokio::task::spawn_blocking(move || view.view().renewable_ending(until, RENEW_MAX)).await;
        let ending = read.map_err(|panic| Error::Stopped(panic.to_string()))??;
        let is_theirs = |lease: &Lease| lease.renew_for.as_deref() == Some(client_id);
        let theirs = ending.iter().filter(|(_, lease)| is_theirs(lease)).map(|(at, lease)| handle(*at, lease));
        self.prolong(theirs.collect(), LEFT_BEHIND).await
    }

    /// Those of the leases that still hold something.
    fn still_held(&self, leases: Vec<ReceiptHandle>) -> Result<Vec<(LeaseKey, Lease)>, Error> {
        let view = self.replica.view();
        let mut held = Vec::new();
        for at in leases.iter().map(lease::key_of) {
            if let Some(lease) = view.lease(at)?.filter(|lease| !lease.held.is_empty() && !lease.returned) {
                held.push((at, lease));
            }
        }
        Ok(held)
    }

    async fn prolong(&self, leases: Vec<ReceiptHandle>, invisible_for: Millis) -> Result<(), Error> {
        for leases in leases.chunks(LEASES_MAX) {
            let command = Command::Prolong(Prolong { leases: leases.to_vec(), invisible_for });
            self.propose_repeatable(&command, self.held_until(Deadline::NONE)).await?;
        }
        Ok(())
    }
}

/// A handle of a lease; which of its messages it names does not matter here.
pub(super) fn handle(at: LeaseKey, lease: &Lease) -> ReceiptHandle {
    ReceiptHandle { group: at.group, topic: at.topic, queue: at.queue, offset: lease.first, lease: at.lease }
}
