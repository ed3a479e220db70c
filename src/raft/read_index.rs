//! Linearizable reads (Raft thesis §6.4, ReadIndex): the entry this node must have applied before it may
//! say what there is, or is not (P14).
//!
//! The leader makes sure that it still leads and has committed an entry of its own term; a follower asks
//! it. Costs a round of heartbeats, so only answers that must not be stale come here: "there is no such
//! topic", and the tables for operators.

use std::time::Duration;

use openraft::ReadPolicy;
use tokio::time::Instant;

use crate::model::LogIndex;
use crate::raft::Replica;
use crate::raft::propose::proposer::Failed;
use crate::raft::state_machine::StateMachine;
use crate::raft::types;
use crate::raft::types::Types;

/// Pause before another try.
const RETRY_AFTER: Duration = Duration::from_millis(20);

impl Replica {
    /// The index to be applied here before a read that began now may be answered.
    ///
    /// * Errors: [`Failed::NoLeader`] when nobody could tell in time.
    pub async fn read_index(&self, until: Instant) -> Result<LogIndex, Failed> {
        let mut leadership = self.leadership.clone();
        let asking = async {
            loop {
                let now = *leadership.borrow_and_update();
                let index = match now.leader {
                    Some(_) if now.is_self => of_leader(&self.raft).await,
                    Some(leader) => self.status_clients.read_index(leader).await,
                    None => None,
                };
                if let Some(index) = index {
                    return index;
                }
                // A change of leader ends the pause; its own end is no failure.
                let _ = tokio::time::timeout(RETRY_AFTER, leadership.changed()).await;
            }
        };
        tokio::time::timeout_at(until, asking).await.map_err(|_| Failed::NoLeader)
    }
}

/// The read index, if this node leads and a majority agrees.
pub(super) async fn of_leader(raft: &openraft::Raft<Types, StateMachine>) -> Option<LogIndex> {
    let linearizer = raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
    Some(types::index_in(linearizer.read_log_id().index()))
}
