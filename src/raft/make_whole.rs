//! Before Raft starts: log and state of this node are made to go together, with what its peers have where it takes that.
//!
//! The order matters: what is damaged below the state comes from peers before anything above it is given up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::model::LogIndex;
use crate::raft::error::{StartAgain, StartError};
use crate::raft::foreign_state::{Fit, give_up_unreadable, judge, read_applied};
use crate::raft::log_storage::read_like_a_start;
use crate::raft::lost_entries::{FETCH_MAX, Fetched, fetch_lost_entries};
use crate::raft::marks::read_marks;
use crate::raft::peer_records::PeerRecords;
use crate::raft::repair::Repair;
use crate::raft::state_from_peer::StateFromPeer;
use crate::raft::types;
use crate::store::kv::Kv;
use crate::store::log::CommitLog;

/// What is read when Raft starts is repaired before, in this time at most.
const REPAIR_MAX: Duration = Duration::from_secs(30);

/// What it works with.
pub(super) struct MakeWhole<'a> {
    pub log: &'a CommitLog,
    pub kv: &'a Arc<dyn Kv>,
    pub may_lose_tail: bool,
    pub repair: &'a Repair<PeerRecords>,
    pub from_peer: &'a StateFromPeer,
}

impl MakeWhole<'_> {
    /// `fit` is how they went together when they were opened.
    ///
    /// * Errors: [`StartError::Again`]: with another state the next start can go on.
    pub async fn run(&self, mut fit: Fit) -> Result<(), StartError> {
        let (log, kv) = (self.log, &**self.kv);
        if log.has_peers() && matches!(fit, Fit::Good | Fit::Unreadable(_)) {
            self.repair.before_raft(REPAIR_MAX, || read_applied(log, kv)).await;
        }
        if let Fit::Unreadable(_) = fit {
            fit = judge(log, kv, self.may_lose_tail)?;
        }
        match fit {
            Fit::Good => {}
            Fit::ApplyAnew(why) => {
                tracing::warn!("the state is not kept, {why}: after a power loss, or put back from elsewhere");
                // Its files go when nobody has them open, and as a whole.
                kv.give_up(why);
                let why = "the state is applied anew from the log".to_owned();
                return Err(StartError::Again(StartAgain { discards: false, why }));
            }
            Fit::FromPeer { needs, why } => {
                let purged = log.purged().map_or(LogIndex(0), |purged| purged.index);
                return Err(self.from_peer.wait(needs, purged, &why.to_string()).await);
            }
            Fit::Unreadable(error) => return Err(io::Error::other(error).into()),
        }
        give_up_unreadable(log, kv)?;
        if fetch_lost_entries(log, kv, &self.repair.peers, FETCH_MAX).await? == Fetched::NobodyHas {
            let applied = read_marks(kv)?.0.map_or(LogIndex(0), |id| types::index_in(id.index));
            let why = "damage took the end of the log, and no other node has it in its log any more";
            return Err(self.from_peer.wait(applied, applied, why).await);
        }
        // Last: where Raft looks depends on where the log ends.
        self.repair.before_raft(REPAIR_MAX, || read_like_a_start(log)).await;
        Ok(())
    }
}
