//! Linearizable reads (Raft thesis §6.4, ReadIndex): the entry this node must have applied before it may say what there
//! is, or is not (P14).
//!
//! The leader makes sure that it still leads and has committed an entry of its own term; a follower asks the leader.
//! Costs a round of heartbeats, so only answers that must not be stale need it: "there is no such topic", and the tables
//! for operators.

use std::time::Duration;

use openraft::ReadPolicy;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::LogIndex;
use crate::raft::error::Failed;
use crate::raft::leadership::Leadership;
use crate::raft::peer::status::StatusClients;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types;

/// Pause before another try.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Asks whoever leads until there is an answer; [`Failed::NoLeader`] if there is none in time.
pub(super) async fn ask(
    raft: &ShardRaft,
    peers: &StatusClients,
    mut leadership: watch::Receiver<Leadership>,
    until: Instant,
) -> Result<LogIndex, Failed> {
    let asking = async {
        loop {
            let now = *leadership.borrow_and_update();
            let index = match now.leader {
                Some(_) if now.is_self => of_leader(raft).await,
                Some(leader) => peers.read_index(leader).await,
                None => None,
            };
            if let Some(index) = index {
                return index;
            }
            // A change of leader ends the pause; that the channel is closed is no failure here.
            let _ = tokio::time::timeout(RETRY_AFTER, leadership.changed()).await;
        }
    };
    tokio::time::timeout_at(until, asking).await.map_err(|_| Failed::NoLeader)
}

/// The read index, if this node leads and a majority agrees.
pub(super) async fn of_leader(raft: &ShardRaft) -> Option<LogIndex> {
    let linearizer = raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
    Some(types::index_in(linearizer.read_log_id().index()))
}
