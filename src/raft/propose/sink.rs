//! Where a batch goes: into the log of the leader, directly or, from a follower, as one frame (D15).

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{ClientWriteError, RaftError};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::machine::{Batch, Command, Proposal};
use crate::model::{NoRoom, NodeId};
use crate::raft::clock::cluster_clock::ClusterClock;
use crate::raft::error::Failed;
use crate::raft::leadership::Leadership;
use crate::raft::peer::forward::{Forwarded, Forwarder};
use crate::raft::propose::waiting::{Waiting, answer, fail, release};
use crate::raft::room::VoterRooms;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types::Body;
use crate::store::room::RoomUse;

/// A leader that was followed by another may still answer frames for this long. One that hangs must not hold up what the
/// next one could take (D25).
const DEPOSED_ANSWERS_MAX: Duration = Duration::from_millis(100);

/// A follower asks its leader again after this long whether there is room for messages.
const REFUSED_FOR: Duration = Duration::from_millis(250);

/// Hands batches on. Both ways answer the callers, and return the commands that are certainly not in the log.
pub(super) struct Sink {
    pub raft: ShardRaft,
    pub forwarder: Arc<Forwarder>,
    pub clock: Arc<ClusterClock>,
    pub leadership: watch::Receiver<Leadership>,
    pub rooms: Arc<VoterRooms>,
    /// What the leader said when it refused messages, and when.
    pub refused: Mutex<Option<(NodeId, NoRoom, Instant)>>,
}

impl Sink {
    /// As one entry. Ends by itself: a proposal ends with the leader's term.
    pub async fn propose(&self, batch: Vec<Waiting>) -> Vec<Waiting> {
        let stamp = self.clock.stamp().await;
        // First, so that the other commands see the time that it allows.
        let clock_command = stamp
            .clock_command
            .map(|shift| Proposal { command: Command::Clock { shift }.encode(), messages: Vec::new() });
        let of_callers = batch.iter().flat_map(|waiting| &waiting.proposals);
        let proposals: Vec<&Proposal> = clock_command.iter().chain(of_callers).collect();
        let body = Batch::encode(stamp.at, proposals.iter().copied());
        let handed_on = Some(Instant::now());
        match self.raft.client_write(Body(body)).await {
            Ok(mut written) => {
                if clock_command.is_some() && !written.data.outcomes.is_empty() {
                    written.data.outcomes.remove(0);
                }
                written.data.times.handed_on = handed_on;
                answer(batch, written.data);
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => return release(batch),
            Err(_) => fail(batch, Failed::Ambiguous),
        }
        Vec::new()
    }

    /// As one frame. Ends by itself: a frame ends with its link.
    pub async fn forward(&self, leader: NodeId, batch: Vec<Waiting>) -> Vec<Waiting> {
        let proposals = batch.iter().flat_map(|waiting| &waiting.proposals).map(Proposal::encode).collect();
        let handed_on = Some(Instant::now());
        let mut leadership = self.leadership.clone();
        let deposed = async {
            // Ends with the replica; then nobody waits for the answer either.
            let _ = leadership.wait_for(|now| now.leader.is_some_and(|now| now != leader)).await;
            tokio::time::sleep(DEPOSED_ANSWERS_MAX).await;
        };
        match self.forwarder.forward(leader, proposals, deposed).await {
            Forwarded::Applied(mut applied) => {
                applied.times.handed_on = handed_on;
                answer(batch, applied);
            }
            Forwarded::NotSent | Forwarded::NotLeader => return release(batch),
            Forwarded::Busy => fail(batch, Failed::Busy),
            Forwarded::NoRoom(no_room) => return self.without_room(leader, no_room, batch),
            Forwarded::Unusable(reason) => {
                tracing::debug!(leader = leader.to_string(), reason, "the leader takes no such command");
                fail(batch, Failed::Unusable);
            }
            Forwarded::Ambiguous => fail(batch, Failed::Ambiguous),
        }
        Vec::new()
    }
    /// The leader took nothing of a frame: what adds messages is refused, and the rest tried again without it.
    fn without_room(&self, leader: NodeId, no_room: NoRoom, batch: Vec<Waiting>) -> Vec<Waiting> {
        let (messages, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(Waiting::adds_messages);
        if messages.is_empty() {
            fail(rest, Failed::NoRoom(no_room));
            return Vec::new();
        }
        *self.refused.lock() = Some((leader, no_room, Instant::now()));
        fail(messages, Failed::NoRoom(no_room));
        release(rest)
    }

    /// Whether a batch of this node may hold these commands now. A follower goes by what its leader said a moment ago, so
    /// that commands that the leader takes do not come back with those that it does not take.
    ///
    /// * Errors: why not.
    pub fn admit(&self, waiting: &Waiting, leader: NodeId, leads: bool) -> Result<(), NoRoom> {
        let adds_messages = waiting.adds_messages();
        if leads {
            let what = if adds_messages { RoomUse::Messages } else { RoomUse::Anything };
            return self.rooms.admit(waiting.bytes(), what);
        }
        match *self.refused.lock() {
            Some((by, no_room, at)) if adds_messages && by == leader && at.elapsed() < REFUSED_FOR => Err(no_room),
            Some(_) | None => Ok(()),
        }
    }
}
