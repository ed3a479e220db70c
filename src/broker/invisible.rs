//! Changes of invisible time above the log: the client's own, and the early end for clients that leave. Before:
//! `edge/grpc/messaging/invisible`; after: `machine/invisible`.

use tokio::time::Instant;

use crate::broker::lease_handle::handle;
#[cfg(debug_assertions)]
use crate::broker::planted;
use crate::broker::{Broker, Deadline, Error};
use crate::env::pool::Pool;
use crate::machine::command::{Change, Prolong};
use crate::machine::state::lease::Lease;
use crate::machine::{Command, Failure, Outcome, Rejected};
use crate::model::limits::{INVISIBLE_RENEWED, LEFT_BEHIND};
use crate::model::{GroupName, Millis, ReceiptHandle, TopicName};

/// Leases prolonged at once.
pub(super) const RENEW_MAX: usize = 100_000;
/// Leases in one command: some milliseconds of work for every node.
const LEASES_MAX: usize = 256;

impl Broker {
    /// Replaces the lease of one message by a new one that ends `invisible` from now; the old handle
    /// never acts again.
    ///
    /// * Errors: [`Error::TimedOut`] if the lease may have been replaced, and the new one was not found in time. Others are
    ///   definite; [`Error::ForeignReceiptHandle`] for a handle of another topic or group.
    /// * Source: contract §15.
    pub async fn change_invisible(
        &self,
        group: GroupName,
        topic: TopicName,
        handle: ReceiptHandle,
        invisible: Millis,
        deadline: Deadline,
    ) -> Result<ReceiptHandle, Error> {
        let until = self.held_until(deadline);
        let (topic_id, group_id) = self.owners_of(&[handle], &topic, &group, until).await?;
        if handle.topic != topic_id || handle.group != group_id {
            return Err(Error::ForeignReceiptHandle);
        }
        let change = Change { handle, invisible_for: invisible };
        #[cfg(debug_assertions)]
        let command = planted::change(self, change);
        #[cfg(not(debug_assertions))]
        let command = Command::Change(change);
        match self.propose(&command, until).await {
            Ok((_, Outcome::Changed(lease))) => Ok(ReceiptHandle { lease, ..handle }),
            Ok((_, Outcome::Rejected(Rejected::LeaseEnded))) => Err(Error::LeaseEnded),
            Ok((_, other)) => Err(Error::unexpected(&other)),
            // Boxed: it is rare, and would make the future of every change larger.
            Err(Error::TimedOut) => Box::pin(self.find_changed(handle, until)).await,
            Err(error) => Err(error),
        }
    }

    /// The handle after a change whose answer was lost: without it nobody could settle the message. Looked up once a later
    /// entry is applied, as after that the change is in the state or never will be.
    ///
    /// * Errors: [`Error::TimedOut`] if it cannot be found in time or was not made.
    async fn find_changed(&self, handle: ReceiptHandle, until: Instant) -> Result<ReceiptHandle, Error> {
        let later = self.propose_repeatable(&Command::Tick, until).await;
        let Ok((index, _)) = later else { return Err(Error::TimedOut) };
        if !self.reader.caught_up(index, until).await {
            return Err(Error::TimedOut);
        }
        let leases = self.reader.view().leases(handle.topic, handle.group, handle.queue)?;
        let is_open = |lease: &Lease| !lease.held.is_empty() && !lease.returned;
        let made = leases.into_iter().find(|(at, lease)| {
            let is_given_up = || lease.one(handle.offset).is_some_and(|one| !(lease.given_up & one).is_empty());
            // In FIFO order a message that is given up stays in its lease. Else a change gives it to a lease of its own; so
            // does a redrive, before the first attempt.
            let is_of_change = || lease.first == handle.offset && lease.token == 0 && lease.attempt > 0;
            is_open(lease) && if at.lease == handle.lease { is_given_up() } else { is_of_change() }
        });
        made.map(|(at, _)| ReceiptHandle { lease: at.lease, ..handle }).ok_or(Error::TimedOut)
    }

    /// Ends the leases of a client that left soon, so that others get what it held.
    ///
    /// * Errors: those of the reads and commands; leases that were not shortened end at their time.
    pub async fn release_leases_of(&self, client_id: &str) -> Result<(), Error> {
        // No lease that is renewed ends later than this.
        let until = self.machine_now().plus(INVISIBLE_RENEWED);
        let (reader, client_id) = (self.reader.clone(), client_id.to_owned());
        let theirs = on_views(move || {
            let is_theirs = |lease: &Lease| lease.renew_for.as_deref() == Some(&client_id);
            let theirs = reader.view().renewable_ending(until, RENEW_MAX, is_theirs)?;
            Ok(theirs.iter().map(|(at, lease)| handle(*at, lease)).collect())
        });
        self.prolong(theirs.await?, LEFT_BEHIND).await
    }

    /// Gives leases another end, `invisible_for` from now.
    pub(super) async fn prolong(&self, leases: Vec<ReceiptHandle>, invisible_for: Millis) -> Result<(), Error> {
        for leases in leases.chunks(LEASES_MAX) {
            let command = Command::Prolong(Prolong { leases: leases.to_vec(), invisible_for });
            self.propose_repeatable(&command, self.held_until(Deadline::NONE)).await?;
        }
        Ok(())
    }
}

/// Finds leases: much may be read for it, so not on Raft's thread.
pub(super) async fn on_views(
    find: impl FnOnce() -> Result<Vec<ReceiptHandle>, Failure> + Send + 'static,
) -> Result<Vec<ReceiptHandle>, Error> {
    Ok(Pool::Views.run(find).await.map_err(|panic| Error::Stopped(panic.to_string()))??)
}
