//! A state that this node's log cannot bring up to date: before Raft starts it comes from another node, and this process starts
//! again with it.
//!
//! The log stays, and what it has after the snapshot goes on with it: it may be acknowledged, and be nowhere else (D147). Until
//! then this node takes no part. Calls `snapshot/catch_up`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::pool::Pool;
use crate::model::LogIndex;
use crate::raft::enquiry::Enquiry;
use crate::raft::error::{StartAgain, StartError};
use crate::raft::leadership::Leadership;
use crate::raft::peer::status::StatusClients;
use crate::raft::room::VoterRooms;
use crate::raft::snapshot::catch_up::CatchUp;
use crate::raft::snapshot::install::{ReleaseReserve, Staged};
use crate::raft::snapshot::target::Target;
use crate::store::log::CommitLog;

const RETRY_AFTER: Duration = Duration::from_secs(2);
/// What it waits for is written down again after this long.
const REPEAT_AFTER: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What it works with.
pub(super) struct StateFromPeer {
    pub enquiry: Enquiry,
    pub status_clients: StatusClients,
    pub target: Target,
    pub log: CommitLog,
    pub rooms: Arc<VoterRooms>,
}

impl StateFromPeer {
    /// Waits until another node gives a state with this entry applied, and puts it in place. Entries of the own log up to
    /// `committed` need not be pulled.
    ///
    /// * Errors: [`StartError::Again`] when it is done, or when the group has another place for this node meanwhile.
    pub async fn wait(&self, needs: LogIndex, committed: LogIndex, why: &str) -> StartError {
        tracing::error!(
            why,
            "the state of this node cannot be brought up to date from its log: it comes from another node. The log stays as it \
             is; until then this node takes no part"
        );
        let catch_up = self.catch_up(committed);
        let (mut needs, mut said): (LogIndex, Option<(String, Instant)>) = (needs, None);
        loop {
            let pulled = tokio::select! {
                pulled = catch_up.once(needs) => pulled,
                never = self.watch_room() => match never {},
            };
            let not_done = match pulled {
                Ok(staged) => match self.install(staged).await {
                    Ok(()) => return StartError::Again(again()),
                    Err(error) => {
                        // If what the own log has after it cannot be read, one that has all of that applied will do.
                        needs = needs.max(self.log.last().map_or(LogIndex(0), |last| last.index));
                        error.to_string()
                    }
                },
                Err(not_done) => not_done,
            };
            if said.as_ref().is_none_or(|(before, at)| *before != not_done || at.elapsed() > REPEAT_AFTER) {
                self.report(&not_done);
                said = Some((not_done, Instant::now()));
            }
            tokio::time::sleep(RETRY_AFTER).await;
            // It may have been replaced or removed: that is how an operator ends this.
            if let Err(error) = self.enquiry.before_start().await {
                return error;
            }
        }
    }

    fn catch_up(&self, committed: LogIndex) -> CatchUp {
        CatchUp {
            identity: self.enquiry.identity.clone(),
            status_clients: self.status_clients.clone(),
            target: self.target.clone(),
            log: self.log.clone(),
            applied: watch::channel(committed).1,
            leadership: watch::channel(Leadership::default()).1,
            rooms: self.rooms.clone(),
            behind: watch::channel(None).1,
            state: watch::channel(None).0,
            staged: Arc::new(Mutex::new(None)),
            on_restart: Arc::new(|| {}),
            choice: Mutex::default(),
        }
    }

    async fn install(&self, staged: Staged) -> io::Result<()> {
        let (log, room) = (self.log.clone(), self.rooms.own().clone());
        let release_reserve: ReleaseReserve = Arc::new(move || room.release_reserve());
        let installing = Pool::Upkeep.run(move || staged.install(&log, &release_reserve));
        installing.await.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    /// Nobody else does before Raft runs.
    async fn watch_room(&self) -> Infallible {
        loop {
            let room = self.rooms.own().clone();
            if let Ok(Err(error)) = Pool::Upkeep.run(move || room.look(0, 0)).await {
                tracing::warn!(%error, "the room on the disk is not known");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn report(&self, why: &str) {
        let kept = self.target.store.damaged_state_of(self.target.generation);
        tracing::error!(
            why,
            "this node waits for a state, and takes no part until it has one: start the other nodes of the group. If none of \
             them has a state, stop this node and put back the one that it had: a state that was found to be damaged is in {}, \
             and goes to {}; if the build was changed before, start the one before. Nothing else of this node is to be removed: \
             its log may be the only one that has what was acknowledged last",
            kept.display(),
            self.target.store.state_of(self.target.generation).display(),
        );
    }
}

fn again() -> StartAgain {
    StartAgain { discards: false, why: "a state came from another node".to_owned() }
}
