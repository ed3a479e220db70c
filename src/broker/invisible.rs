//! Changes of invisible time above the log: the client's own, and the early end for clients that leave. Before:
//! `edge/grpc/messaging/invisible`; after: `machine/invisible`.

use crate::broker::lease_handle::handle;
use crate::broker::{Broker, Deadline, Error};
use crate::machine::command::{Change, Prolong};
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::Lease;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::limits::{INVISIBLE_RENEWED, LEFT_BEHIND};
use crate::model::{GroupName, Millis, ReceiptHandle, Timestamp, TopicName};

/// Leases prolonged at once.
const RENEW_MAX: usize = 100_000;
/// Leases in one command.
const LEASES_MAX: usize = 1000;

impl Broker {
    /// Replaces the lease of one message by a new one that ends `invisible` from now; the old handle
    /// never acts again.
    ///
    /// * Errors: [`Error::TimedOut`] if the lease may have been replaced: then no handle of it is known. Others are
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
        let command = Command::Change(Change { handle, invisible_for: invisible });
        match self.propose(&command, until).await? {
            (_, Outcome::Changed(lease)) => Ok(ReceiptHandle { lease, ..handle }),
            (_, Outcome::Rejected(Rejected::LeaseEnded)) => Err(Error::LeaseEnded),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// Ends the leases of a client that left soon, so that others get what it held.
    ///
    /// * Errors: those of the reads and commands; leases that were not shortened end at their time.
    pub async fn release_leases_of(&self, client_id: &str) -> Result<(), Error> {
        // No lease that is renewed ends later than this.
        let ending = self.renewable_ending(self.machine_now().plus(INVISIBLE_RENEWED)).await?;
        let is_theirs = |lease: &Lease| lease.renew_for.as_deref() == Some(client_id);
        let theirs = ending.iter().filter(|(_, lease)| is_theirs(lease)).map(|(at, lease)| handle(*at, lease));
        self.prolong(theirs.collect(), LEFT_BEHIND).await
    }

    /// Leases that are renewed while their client lives, and end until then, in machine time.
    pub(super) async fn renewable_ending(&self, until: Timestamp) -> Result<Vec<(LeaseKey, Lease)>, Error> {
        let reader = self.reader.clone();
        // Reads much; not on the Raft thread.
        let read = tokio::task::spawn_blocking(move || reader.view().renewable_ending(until, RENEW_MAX)).await;
        Ok(read.map_err(|panic| Error::Stopped(panic.to_string()))??)
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
