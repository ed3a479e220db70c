//! The broker of one shard: what it stands on, and how it proposes. Each verb is a file of its own that adds its methods.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::background::first_renewals::FirstRenewals;
use crate::broker::background::tasks::Tasks;
use crate::broker::receive::reservations::Reservations;
use crate::broker::receive::turns::Turns;
use crate::broker::{
    Arrivals, BrokerSettings, CatalogCount, Clients, Deadline, Error, ReplicaSite, ShardReader, Statistics, Traffic,
};
use crate::env::clock::Clock;
use crate::machine::{Command, Outcome, Proposal, Rejected};
use crate::model::limits::POLLS_WAITING_MAX;
use crate::model::{HandleKey, LogIndex, Timestamp};
use crate::raft::{ClusterClock, Leadership, Replica};

/// A retry of something safe to repeat waits this long.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(20);

/// A command for which an entry had no room is proposed again after this.
const FULL_ENTRY_PAUSE: Duration = Duration::from_millis(5);

/// How long an answer that needs a leader waits for an election under way.
const ELECTION_WAIT: Duration = Duration::from_millis(300);

/// What a broker is made of.
pub struct BrokerParts {
    pub settings: BrokerSettings,
    pub site: ReplicaSite,
    /// Running; its effects go to `arrivals`.
    pub replica: Replica,
    pub clock: Arc<ClusterClock>,
    pub arrivals: Arc<Arrivals>,
    pub clients: Arc<dyn Clients>,
    pub traffic: Arc<Traffic>,
    pub statistics: Arc<Statistics>,
    /// Told of what is applied.
    pub catalog_count: Arc<CatalogCount>,
    /// Cancelled when the node begins to stop: polls that would wait end then.
    pub stopping: CancellationToken,
}

/// Serves the requests for one shard, above the log. One per node and shard, shared by all front-end threads.
pub struct Broker {
    pub(super) settings: BrokerSettings,
    pub(super) site: ReplicaSite,
    pub(super) replica: Replica,
    pub(super) reader: ShardReader,
    pub(super) clients: Arc<dyn Clients>,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) reservations: Reservations,
    /// A permit for each poll that may wait.
    pub(super) polls: Semaphore,
    /// Plans whose filter reads whole messages, at once.
    pub(super) filter_reads: Semaphore,
    /// What polls look at on Raft's thread.
    pub(super) turns: Turns,
    pub(super) first_renewals: FirstRenewals,
    pub(super) tasks: Tasks,
    pub(super) traffic: Arc<Traffic>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) catalog_count: Arc<CatalogCount>,
    /// Known once it was needed; it never changes.
    pub(super) handle_key: OnceLock<HandleKey>,
    pub(super) stopping: CancellationToken,
    clock: Arc<ClusterClock>,
}

impl Broker {
    /// Over a running replica, on its runtime.
    pub fn new(parts: BrokerParts) -> Arc<Self> {
        let BrokerParts { settings, site, replica, clock, arrivals, clients, .. } = parts;
        let BrokerParts { traffic, statistics, catalog_count, stopping, .. } = parts;
        Arc::new(Self {
            settings,
            site,
            reader: ShardReader::new(replica.clone()),
            replica,
            clients,
            arrivals,
            reservations: Reservations::default(),
            polls: Semaphore::new(POLLS_WAITING_MAX),
            filter_reads: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            turns: Turns::here(),
            first_renewals: FirstRenewals::default(),
            tasks: Tasks::here(),
            traffic,
            statistics,
            catalog_count,
            handle_key: OnceLock::new(),
            stopping,
            clock,
        })
    }

    /// The time of day by the cluster's clock; this node's own may be wrong.
    pub fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Where machine time is: what due times and the ends of leases are compared with.
    pub(super) fn machine_now(&self) -> Timestamp {
        self.clock.machine_now()
    }

    /// Polls that wait for messages on this node.
    pub fn waiting_polls(&self) -> usize {
        POLLS_WAITING_MAX - self.polls.available_permits()
    }

    /// Who leads the shard.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.replica.leadership()
    }

    /// The read side of the shard.
    pub fn reader(&self) -> &ShardReader {
        &self.reader
    }

    /// Until when a request may take, all its steps together: as long as there may be no leader, unless its caller
    /// stops waiting before.
    pub fn held_until(&self, deadline: Deadline) -> Instant {
        deadline.held_until(self.settings.leader_wait)
    }

    /// Whether this node is in touch with a leader that has a majority, so that "there is nothing" is true (P14). An
    /// election under way has a moment to end.
    ///
    /// * Errors: [`Error::NoLeader`].
    pub(super) async fn is_in_touch(&self) -> Result<(), Error> {
        if self.stopping.is_cancelled() {
            return Ok(());
        }
        let mut leadership = self.leadership();
        let known = leadership.wait_for(|now| now.leader.is_some());
        match tokio::time::timeout(ELECTION_WAIT, known).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Error::NoLeader),
        }
    }

    /// Proposes one command without messages.
    ///
    /// * Errors: [`Error::TimedOut`] is an unknown fate, [`Error::NoLeader`] and [`Error::Busy`] are definite.
    pub(super) async fn propose(&self, command: &Command, until: Instant) -> Result<(LogIndex, Outcome), Error> {
        let proposal = Proposal { command: command.encode(), messages: Vec::new() };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (place, outcome) = self.replica.propose(proposal.clone(), left).await?;
            if outcome != Outcome::Rejected(Rejected::EntryIsFull) {
                return Ok((place.index, outcome));
            }
            // Nothing was done. The next entry may have room.
            if Instant::now() + FULL_ENTRY_PAUSE >= until {
                return Err(Error::Busy);
            }
            tokio::time::sleep(FULL_ENTRY_PAUSE).await;
        }
    }

    /// Proposes what is safe to repeat: tries again while its fate is unknown and time is left.
    ///
    /// * Errors: as [`Self::propose`]; [`Error::TimedOut`] also if a try of unknown fate was followed by a definite
    ///   error.
    pub(super) async fn propose_repeatable(
        &self,
        command: &Command,
        until: Instant,
    ) -> Result<(LogIndex, Outcome), Error> {
        let mut is_ambiguous = false;
        loop {
            match self.propose(command, until).await {
                Err(Error::TimedOut) if until > Instant::now() + RETRY_AFTER => {
                    is_ambiguous = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                // What an earlier try did is not undone by a later one that was refused.
                Err(_) if is_ambiguous => return Err(Error::TimedOut),
                result => return result,
            }
        }
    }
}
