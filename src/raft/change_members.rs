//! Changing the membership, on the leader: learners come and go, and the voters change by joint consensus (Raft thesis §4.3).
//! What a leader decided in one term it does in that term or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::Precondition;
use openraft::{BasicNode, ChangeMembers};

use crate::machine::{Command, Proposal};
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::error::Failed;
use crate::raft::members::Members;
use crate::raft::replica::Replica;
use crate::raft::types;

/// A change that is not committed in this time may still be.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// The membership in this node's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub members: Members,
    /// It is committed.
    pub is_settled: bool,
}

/// How far a member follows, as its leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberProgress {
    /// The last entry that it surely has.
    pub has: LogIndex,
    /// How long ago it answered; `None` if it never did.
    pub answered: Option<Duration>,
}

/// Why a membership was not changed, or is not yet.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotChanged(String);

impl Replica {
    /// The newest membership in this node's log.
    pub fn membership(&self) -> Membership {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let (newest, committed) = (&metrics.membership_config, &metrics.committed_membership_config);
        Membership { members: types::members(newest), is_settled: newest.log_id() == committed.log_id() }
    }

    /// How far the members follow, this node included; `None` unless it leads.
    pub fn progress(&self) -> Option<BTreeMap<NodeId, MemberProgress>> {
        use openraft::Instant as _;
        let metrics = self.raft.metrics().borrow_watched().clone();
        let (replication, answers) = (metrics.replication?, metrics.heartbeat?);
        let progress = |(node, matching): (u64, Option<types::LogId>)| {
            let has = matching.map_or(LogIndex(0), |id| types::index_in(id.index));
            let at = answers.get(&node).copied().flatten();
            let answered = if node == metrics.id { Some(Duration::ZERO) } else { at.map(|at| at.elapsed()) };
            (NodeId(node), MemberProgress { has, answered })
        };
        Some(replication.into_iter().map(progress).collect())
    }

    /// Takes a replica in that follows and does not vote.
    ///
    /// * Errors: this node does not lead in this term, or it is not committed in time; it may be later.
    pub async fn add_learner(&self, term: Term, node: NodeId, address: &str) -> Result<(), NotChanged> {
        self.change(term, ChangeMembers::AddNodes(BTreeMap::from([(node.0, BasicNode::new(address))]))).await
    }

    /// Lets a replica go that does not vote.
    ///
    /// * Errors: as [`Self::add_learner`].
    pub async fn remove_learner(&self, term: Term, node: NodeId) -> Result<(), NotChanged> {
        self.change(term, ChangeMembers::RemoveNodes(BTreeSet::from([node.0]))).await
    }

    /// Has these members vote, and no others; those that voted before and do not any more are no members any more. Also
    /// finishes a change that another leader left half done.
    ///
    /// * Errors: as [`Self::add_learner`].
    pub async fn set_voters(&self, term: Term, voters: BTreeSet<NodeId>) -> Result<(), NotChanged> {
        let voters = voters.into_iter().map(|node| node.0).collect();
        self.change(term, ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Proposes a command if this node leads; it is handed to no other leader, who may have decided otherwise.
    ///
    /// * Errors: as [`Self::propose`].
    pub async fn propose_as_leader(&self, command: &Command, wait: Duration) -> Result<(), Failed> {
        let proposal = Proposal { command: command.encode(), messages: Vec::new() };
        self.proposer.propose_forwarded(vec![proposal], wait).await.map(|_| ())
    }

    async fn change(&self, term: Term, change: ChangeMembers<u64, BasicNode>) -> Result<(), NotChanged> {
        let committed_leader_id = LeaderId { term: term.0, node_id: self.node.0 };
        let changing =
            self.raft.change_membership_if(change, false, [Precondition::CommittedLeaderId { committed_leader_id }]);
        match tokio::time::timeout(CHANGE_MAX, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(NotChanged(error.to_string())),
            Err(_) => Err(NotChanged(format!("not committed in {CHANGE_MAX:?}"))),
        }
    }
}
