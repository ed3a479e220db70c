//! Transfers of leadership to a node that is named: by an operator, or by `preferredLeaderId` (D120).
//!
//! A leader that transfers takes no commands and sends no heartbeats until another node leads, so it looks first whether
//! the other one can. Any node may be asked; it asks the leader.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::model::{NodeId, RoomState};
use crate::raft::clock::watch::UNFIT_MS;
use crate::raft::leadership::pass_on;
use crate::raft::peer::status::{PassAnswer, ReplicaStatus, StatusReply};
use crate::raft::replica::Replica;

/// The other node flushes what it lacks before it stands for election, and nothing is taken meanwhile.
const LACKS_MAX: u64 = 256;
/// A leader answers the node that was asked within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Others may elect a leader meanwhile; then that one is asked.
const LEADERS_ASKED_MAX: usize = 3;
const LEADER_WITHIN: Duration = Duration::from_secs(1);

/// Why leadership was not transferred. Nodes are named as operators know them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTransferred {
    #[error("the cluster has no leader")]
    NoLeader,
    #[error("{0} is no voter of this group")]
    NoVoter(NodeId),
    #[error("{0} does not answer the leader: look whether it runs and the leader can reach it")]
    Silent(NodeId),
    #[error("{0} is about to stop")]
    Leaving(NodeId),
    #[error(
        "{node} lacks the last {lacks} entries of the log, and may lack {LACKS_MAX}: wait until it has caught up (raftmq \
         cluster status)"
    )]
    Behind { node: NodeId, lacks: u64 },
    #[error("the disk of {0} has no room for messages: make room there first (raftmq cluster status)")]
    NoRoom(NodeId),
    #[error("the disk of {0} is slow: what it leads would wait for it")]
    SlowDisk(NodeId),
    #[error(
        "damage took the end of the log of {0}, and it does not vote until it has that again (raftmq cluster status): start \
         the nodes that are down, and wait"
    )]
    LacksTail(NodeId),
    #[error("the clock of {node} is {offset_ms} ms ahead of the others, and may be {UNFIT_MS} ms: set it right (NTP)")]
    WrongClock { node: NodeId, offset_ms: i64 },
    #[error("{0} was asked to lead and did not take over in time: the nodes elect a leader by themselves")]
    NotTaken(NodeId),
    /// As the leader put it.
    #[error("{0}")]
    Refused(String),
}

/// Whether a node that says this of itself can lead, with so many entries that it lacks.
fn check(status: &ReplicaStatus, lacks: u64) -> Result<(), NotTransferred> {
    let node = status.node;
    if status.leaving {
        return Err(NotTransferred::Leaving(node));
    }
    // It would refuse, and its vote would be missing for anybody else.
    if status.damage.lacks_tail {
        return Err(NotTransferred::LacksTail(node));
    }
    if lacks > LACKS_MAX {
        return Err(NotTransferred::Behind { node, lacks });
    }
    if status.room.is_some_and(|room| room.state >= RoomState::Hard) {
        return Err(NotTransferred::NoRoom(node));
    }
    if status.slow_disk {
        return Err(NotTransferred::SlowDisk(node));
    }
    match status.clock_offset_ms {
        Some(offset_ms) if offset_ms.unsigned_abs() > UNFIT_MS => Err(NotTransferred::WrongClock { node, offset_ms }),
        Some(_) | None => Ok(()),
    }
}

impl Replica {
    /// Makes a node the leader: asks the leader to, and whoever leads then if there was an election instead.
    ///
    /// * Errors: who leads is as it was, but for [`NotTransferred::NotTaken`].
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), NotTransferred> {
        let mut leadership = self.leadership.clone();
        let mut refused = NotTransferred::NoLeader;
        for attempt in 0..LEADERS_ASKED_MAX {
            let wait = if attempt == 0 { Duration::ZERO } else { LEADER_WITHIN };
            let known = tokio::time::timeout(wait, leadership.wait_for(|now| now.leader.is_some())).await;
            let Some(leader) = known.ok().and_then(|known| known.ok()?.leader) else { break };
            match self.ask_to_pass(leader, to).await {
                Err(NotTransferred::NotTaken(node)) => refused = NotTransferred::NotTaken(node),
                answered => return answered,
            }
        }
        Err(refused)
    }

    async fn ask_to_pass(&self, leader: NodeId, to: NodeId) -> Result<(), NotTransferred> {
        if leader == to {
            return Ok(());
        }
        if self.leadership.borrow().is_self {
            return self.pass_leadership(to).await;
        }
        match self.status_clients.pass_leadership(leader, to, ANSWER_WITHIN).await {
            Some(answer) if answer.refusal.is_empty() => Ok(()),
            Some(answer) if answer.elected => Err(NotTransferred::NotTaken(to)),
            Some(answer) => Err(NotTransferred::Refused(answer.refusal)),
            None => Err(NotTransferred::Silent(leader)),
        }
    }

    /// What a node that asks this one to pass leadership on is answered.
    pub(super) async fn answer_pass_leadership(&self, to: NodeId) -> PassAnswer {
        if !self.leadership.borrow().is_self {
            let refusal = "the node that was asked does not lead any more".to_owned();
            return PassAnswer { refusal, elected: true };
        }
        match self.pass_leadership(to).await {
            Ok(()) => PassAnswer::default(),
            Err(refused) => {
                PassAnswer { refusal: refused.to_string(), elected: matches!(refused, NotTransferred::NotTaken(_)) }
            }
        }
    }

    /// If this node leads, makes another one the leader that can be it.
    pub(super) async fn pass_leadership(&self, to: NodeId) -> Result<(), NotTransferred> {
        self.may_lead(to).await?;
        let leader = pass_on(&self.raft, self.leadership.clone(), to.0).await;
        if leader == Some(to) { Ok(()) } else { Err(NotTransferred::NotTaken(to)) }
    }

    /// Whether another node could lead in the place of this one.
    pub(super) async fn may_lead(&self, node: NodeId) -> Result<(), NotTransferred> {
        let StatusReply::Status(status) = self.status_clients.ask(node).await else {
            return Err(if self.lacks(node).is_some() {
                NotTransferred::Silent(node)
            } else {
                NotTransferred::NoVoter(node)
            });
        };
        let lacks = self.lacks(node).ok_or(NotTransferred::NoVoter(node))?;
        check(&status, lacks)
    }

    /// How many entries of this leader's log a voter lacks; `None` if it is none, or this node does not lead.
    fn lacks(&self, node: NodeId) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let is_voter = metrics.membership_config.membership().voter_ids().any(|id| id == node.0);
        let matching = metrics.replication.as_ref().filter(|_| is_voter)?.get(&node.0)?;
        let end = |index: Option<u64>| index.map_or(0, |index| index + 1);
        Some(end(metrics.last_log_index).saturating_sub(end(matching.as_ref().map(|id| id.index))))
    }

    /// Says from now on that this node is about to stop, stands for no election, and, if it leads, makes another node the
    /// leader; clients are served meanwhile (D121).
    pub async fn leave(&self) {
        self.leaving.note();
        self.raft.runtime_config().elect(false);
        let may_be_missed = self.leadership.borrow().is_self && self.members.voters() > 1;
        if may_be_missed && !self.give_leadership_away().await {
            tracing::warn!("no other node can lead now; the others elect one when this node is gone");
        }
    }

    /// If this node leads, makes another node the leader: of those that can lead, the one that lacks least. Whether one is.
    pub async fn give_leadership_away(&self) -> bool {
        if !self.leadership.borrow().is_self {
            return false;
        }
        let voters: Vec<u64> = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id).collect()
        };
        let asked = voters.iter().map(async |id| self.may_lead(NodeId(*id)).await.is_ok().then_some(*id));
        let mut fit: Vec<u64> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        fit.sort_by_key(|id| self.lacks(NodeId(*id)));
        let Some(to) = fit.first() else { return false };
        let started = tokio::time::Instant::now();
        let leader = pass_on(&self.raft, self.leadership.clone(), *to).await;
        if let Some(leader) = leader {
            tracing::info!(to = %leader, took = ?started.elapsed(), "leadership given away");
        }
        leader.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{DiskRoom, LogIndex, Term};
    use crate::raft::peer::status::Damage;

    fn healthy() -> ReplicaStatus {
        ReplicaStatus {
            node: NodeId(1),
            term: Term(1),
            leader: Some(NodeId(0)),
            last_log: LogIndex(9),
            committed: LogIndex(9),
            applied: LogIndex(9),
            process_id: 1,
            client_address: String::new(),
            listen_port: None,
            version: String::new(),
            in_per_second: 0.0,
            out_per_second: 0.0,
            wall: None,
            clock_offset_ms: Some(-3),
            acknowledged: Vec::new(),
            room: None,
            slow_disk: false,
            log: None,
            catching_up: None,
            leaving: false,
            last_id: None,
            damage: Damage::default(),
            digest: None,
            differs_from: BTreeSet::new(),
            voters: BTreeSet::new(),
            sight: None,
        }
    }

    #[test]
    fn p22_a_node_that_cannot_lead_is_refused_with_the_reason() {
        let node = NodeId(1);
        let room = |state| Some(DiskRoom { state, ..DiskRoom::default() });
        let offset = i64::try_from(UNFIT_MS).unwrap();
        assert_eq!(check(&healthy(), LACKS_MAX), Ok(()));
        assert_eq!(check(&ReplicaStatus { room: room(RoomState::Soft), ..healthy() }, 0), Ok(()));
        assert_eq!(check(&ReplicaStatus { clock_offset_ms: Some(-offset), ..healthy() }, 0), Ok(()));
        for (status, lacks, refused) in [
            (healthy(), LACKS_MAX + 1, NotTransferred::Behind { node, lacks: LACKS_MAX + 1 }),
            (ReplicaStatus { leaving: true, ..healthy() }, 0, NotTransferred::Leaving(node)),
            (ReplicaStatus { room: room(RoomState::Hard), ..healthy() }, 0, NotTransferred::NoRoom(node)),
            (ReplicaStatus { room: room(RoomState::Full), ..healthy() }, 0, NotTransferred::NoRoom(node)),
            (ReplicaStatus { slow_disk: true, ..healthy() }, 0, NotTransferred::SlowDisk(node)),
            (
                ReplicaStatus { damage: Damage { lacks_tail: true, ..Damage::default() }, ..healthy() },
                0,
                NotTransferred::LacksTail(node),
            ),
            (
                ReplicaStatus { clock_offset_ms: Some(-offset - 1), ..healthy() },
                0,
                NotTransferred::WrongClock { node, offset_ms: -offset - 1 },
            ),
        ] {
            assert_eq!(check(&status, lacks), Err(refused));
        }
    }
}
