//! A replica that lost the end of its log to damage, or may have: until it has again all that it could have acknowledged, it
//! does not help to elect a leader that lacks it (D116).
//!
//! It follows a leader and takes its entries as always. It has again what it lost once it has applied all that a leader of
//! its own term or a later one had in its log after this start: that leader's log has every entry that is committed, and
//! every entry that this replica acknowledged to it.
//!
//! Without a leader it votes all the same, or nobody could after a power loss that left each of them in doubt: for a
//! candidate whose log goes at least as far as those of *all* other voters, each of which it heard since its start. An entry
//! that was committed with the help of what is lost here is in the log of another voter, or is its leader's own, and so no
//! candidate that lacks it gets this vote.
//!
//! Who votes may be among what was lost. So voters are also those of the newest membership that others have committed, and
//! whoever one of those that are asked names; and a replica that knows of none votes for nobody (D145).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use crate::env::pool::Pool;
use crate::model::{LogIndex, NodeId, Term};
use crate::raft::leadership::{Leadership, Leaving};
use crate::raft::members::MemberTable;
use crate::raft::peer::status::{ReplicaStatus, StatusClients, StatusReply};
use crate::raft::state_machine::ShardRaft;
use crate::raft::types;
use crate::raft::types::LogId;
use crate::store::log::CommitLog;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// While nobody leads.
const CAMPAIGN_EVERY: Duration = Duration::from_millis(500);
const REPORT_EVERY: u32 = 150;
/// More than there can be, halfway from some to others.
const VOTERS_MAX: usize = 32;

/// Whether this replica lacks what it may have acknowledged. Cheap to clone.
#[derive(Clone)]
pub(super) struct LostTail {
    is_lost: Arc<AtomicBool>,
}

impl LostTail {
    pub fn of(log: &CommitLog) -> Self {
        Self { is_lost: Arc::new(AtomicBool::new(log.lost_from().is_some())) }
    }

    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// Whether this replica may vote for a candidate whose log ends with `candidate_last`; `known` are the voters that it
    /// knows of.
    pub async fn may_vote_for(
        &self,
        candidate: NodeId,
        candidate_last: &Option<LogId>,
        known: BTreeSet<NodeId>,
        clients: &StatusClients,
    ) -> bool {
        if !self.is_lost() {
            return true;
        }
        let answers = ask_all(clients.own_id(), &known, Some(candidate), |node| ask(clients.clone(), node)).await;
        answers.is_some_and(|answers| reaches_all(id_key(candidate_last), Some(candidate), &answers))
    }
}

/// Comparable as Raft compares logs.
type LogKey = (Term, NodeId, LogIndex);

fn id_key(id: &Option<LogId>) -> LogKey {
    let key = |id: &LogId| (Term(id.leader_id.term), NodeId(id.leader_id.node_id), types::index_in(id.index));
    id.as_ref().map_or((Term(0), NodeId(0), LogIndex(0)), key)
}

/// What another replica says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    last: LogKey,
    knows_leader: bool,
    voters: BTreeSet<NodeId>,
}

async fn ask(clients: StatusClients, node: NodeId) -> Option<Answer> {
    let StatusReply::Status(status) = clients.ask(node).await else { return None };
    let ReplicaStatus { last_id, leader, voters, .. } = *status;
    // A build that does not say how far its log goes has one that reaches further than any.
    let last = last_id.map_or((Term(u64::MAX), NodeId(0), LogIndex(0)), |id| (id.term, id.node, id.index));
    Some(Answer { last, knows_leader: leader.is_some(), voters })
}

/// What all other voters say: those that are `known`, and those that one of them, or the candidate, names. `None` if one of
/// them does not answer or cannot tell who votes, or if none of them takes this replica, or the candidate, for a voter.
async fn ask_all<F: Future<Output = Option<Answer>> + Send>(
    own: NodeId,
    known: &BTreeSet<NodeId>,
    candidate: Option<NodeId>,
    ask: impl Fn(NodeId) -> F + Send + Sync,
) -> Option<BTreeMap<NodeId, Answer>> {
    let (mut voters, mut answers) = (known.clone(), BTreeMap::new());
    if voters.is_empty() {
        return None;
    }
    loop {
        let all = voters.iter().copied().chain(candidate);
        let next: BTreeSet<_> = all.filter(|node| *node != own && !answers.contains_key(node)).collect();
        if next.is_empty() {
            let votes = |node| voters.contains(&node);
            return (votes(own) && candidate.is_none_or(votes)).then_some(answers);
        }
        if answers.len() + next.len() > VOTERS_MAX {
            return None;
        }
        let asked = next.into_iter().map(|node| {
            let asking = ask(node);
            async move { (node, asking.await) }
        });
        for (node, said) in futures_util::future::join_all(asked).await {
            let said = said.filter(|said| !said.voters.is_empty())?;
            voters.extend(&said.voters);
            answers.insert(node, said);
        }
    }
}

/// Whether a log that ends so goes at least as far as each of these; how far the candidate's own does, it said itself.
fn reaches_all(last: LogKey, candidate: Option<NodeId>, answers: &BTreeMap<NodeId, Answer>) -> bool {
    answers.iter().all(|(node, said)| Some(*node) == candidate || said.last <= last)
}

/// What brings a replica back that lost the end of its log.
pub(super) struct Restoring {
    pub lost_tail: LostTail,
    pub log: CommitLog,
    pub raft: ShardRaft,
    pub leadership: watch::Receiver<Leadership>,
    pub applied: watch::Receiver<LogIndex>,
    pub status_clients: StatusClients,
    pub members: MemberTable,
    pub leaving: Leaving,
}

/// What has to be applied: all that the leader of a term had. If that term ends before, some of it may never come.
#[derive(Clone, Copy)]
struct Target {
    term: Term,
    last: LogIndex,
}

impl Restoring {
    /// Ends when the replica has again what it lost.
    pub async fn run(self) {
        if !self.lost_tail.is_lost() {
            return;
        }
        // openraft's own clock for elections is off (`start`): who stands for election is decided here.
        let mut target: Option<Target> = None;
        let mut looks = 0u32;
        loop {
            if looks.is_multiple_of(REPORT_EVERY) {
                tracing::warn!(
                    lost_from = ?self.log.lost_from(),
                    "this node does not vote and does not stand for election until it has again what its log lost"
                );
            }
            looks += 1;
            let term = self.leadership.borrow().term;
            target = target.filter(|target| target.term == term);
            if target.is_none() {
                target = self.leaders_last().await;
            }
            if target.is_some_and(|target| *self.applied.borrow() >= target.last) && self.note_restored().await {
                return;
            }
            if self.leadership.borrow().leader.is_none() && !self.leaving.is_noted() && self.is_longest().await {
                // A pre-vote first; refused while somebody leads.
                let _ = self.raft.trigger().elect(true).await;
                tokio::time::sleep(CAMPAIGN_EVERY).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Where the log of the leader ended, that this replica follows or is, at some moment after this start.
    async fn leaders_last(&self) -> Option<Target> {
        let now = *self.leadership.borrow();
        let leader = now.leader?;
        let target = |last| Target { term: now.term, last };
        if now.is_self {
            return self.log.last().map(|last| target(last.index));
        }
        let StatusReply::Status(status) = self.status_clients.ask(leader).await else { return None };
        let leads = status.leader == Some(status.node) && status.term == now.term;
        leads.then_some(target(status.last_log))
    }

    /// Whether no other voter's log reaches further than this one's, by what each of them says now.
    async fn is_longest(&self) -> bool {
        let own = self.log.last().map_or(id_key(&None), |id| (id.term, id.node, id.index));
        let (clients, known) = (&self.status_clients, known_voters(&self.raft, &self.members));
        match ask_all(clients.own_id(), &known, None, |node| ask(clients.clone(), node)).await {
            Some(answers) => answers.values().all(|said| !said.knows_leader) && reaches_all(own, None, &answers),
            None => false,
        }
    }

    async fn note_restored(&self) -> bool {
        let log = self.log.clone();
        let noted = Pool::Upkeep.run(move || log.note_restored()).await;
        if !matches!(noted, Ok(Ok(()))) {
            return false;
        }
        self.lost_tail.is_lost.store(false, Ordering::Release);
        self.raft.runtime_config().elect(!self.leaving.is_noted());
        tracing::info!(applied = %*self.applied.borrow(), "this node has again all that its log lost: it votes again");
        true
    }
}

/// Those that vote by this replica's log.
pub(super) fn voters(raft: &ShardRaft) -> Vec<NodeId> {
    raft.metrics().borrow_watched().membership_config.membership().voter_ids().map(NodeId).collect()
}

/// Those that vote by this replica's log, or by what others have committed.
pub(super) fn known_voters(raft: &ShardRaft, members: &MemberTable) -> BTreeSet<NodeId> {
    known(voters(raft), members)
}

fn known(in_log: Vec<NodeId>, members: &MemberTable) -> BTreeSet<NodeId> {
    let committed = members.committed();
    in_log.into_iter().chain(committed.voters().map(|member| member.node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::members::{Member, Members};

    #[test]
    fn logs_are_compared_by_term_first_and_an_unknown_one_reaches_further() {
        let id = |term, index| types::log_id(Term(term), NodeId(1), LogIndex(index));
        assert!(id_key(&id(2, 5)) > id_key(&id(1, 9)));
        assert!(id_key(&id(2, 5)) < id_key(&id(2, 6)));
        assert!(id_key(&None) < id_key(&id(1, 1)));
        assert!(id_key(&id(u64::MAX - 1, 1)) < (Term(u64::MAX), NodeId(0), LogIndex(0)));
    }

    const N: [NodeId; 5] = [NodeId(0), NodeId(1), NodeId(2), NodeId(3), NodeId(4)];

    fn log_end(term: u64, index: u64) -> Option<LogId> {
        types::log_id(Term(term), NodeId(0), LogIndex(index))
    }

    fn says(index: u64, voters: &[NodeId]) -> Answer {
        let voters = voters.iter().copied().collect();
        Answer { last: id_key(&log_end(1, index)), knows_leader: false, voters }
    }

    /// Whether n1, which lost the end of its log, votes for n0 with a log up to entry 9.
    async fn votes(known: &[NodeId], others: &[(NodeId, Answer)]) -> bool {
        let known = known.iter().copied().collect();
        let others: BTreeMap<_, _> = others.iter().cloned().collect();
        let answers = ask_all(N[1], &known, Some(N[0]), |node| {
            let said = others.get(&node).cloned();
            async move { said }
        })
        .await;
        answers.is_some_and(|answers| reaches_all(id_key(&log_end(1, 9)), Some(N[0]), &answers))
    }

    #[tokio::test]
    async fn p18_who_lost_the_end_of_its_log_votes_if_all_others_answer_and_none_has_more() {
        let all = &N[..3];
        assert!(votes(all, &[(N[0], says(9, all)), (N[2], says(9, all))]).await);
        assert!(!votes(all, &[(N[0], says(9, all)), (N[2], says(10, all))]).await, "another one has more");
        assert!(!votes(all, &[(N[0], says(9, all))]).await, "one is silent");
        assert!(!votes(all, &[(N[0], says(9, all)), (N[2], says(9, &[]))]).await, "one cannot tell who votes");
    }

    #[tokio::test]
    async fn p18_who_knows_no_voters_or_is_none_votes_for_nobody() {
        let all = &N[..3];
        let others = [(N[0], says(9, all)), (N[2], says(9, all))];
        assert!(!votes(&[], &others).await, "it started over, and knows nobody");
        let without_own = [N[0], N[2]];
        assert!(!votes(&without_own, &[(N[0], says(9, &without_own)), (N[2], says(9, &without_own))]).await);
        let without_candidate = [N[1], N[2]];
        let others = [(N[0], says(9, &without_candidate)), (N[2], says(9, &without_candidate))];
        assert!(!votes(&without_candidate, &others).await);
    }

    /// {0, 1, 2} became {1, 3, 4}, and n1 lost the entry that says so: an entry after it is on n1 and n3.
    #[tokio::test]
    async fn p18_voters_that_only_others_know_of_are_asked_too() {
        let (before, after) = (&N[..3], [N[0], N[1], N[2], N[3], N[4]]);
        let others = [(N[0], says(9, &after)), (N[2], says(9, before))];
        assert!(!votes(before, &others).await, "the new ones are silent");
        let new = |last| [(N[3], says(last, &after)), (N[4], says(9, &after))];
        assert!(!votes(before, &[others.clone(), new(10)].concat()).await, "a new one has more");
        assert!(votes(before, &[others, new(9)].concat()).await);

        let table = MemberTable::new(BTreeMap::new());
        let member = |node: &NodeId| Member { node: *node, address: "a:1".into(), is_voter: true };
        table.set_own(Members::new(LogIndex(1), before.iter().map(member)), Members::default());
        assert_eq!(known(before.to_vec(), &table), before.iter().copied().collect());
        table.note_committed(Members::new(LogIndex(8), after[1..].iter().map(member)));
        assert_eq!(known(before.to_vec(), &table), after.into(), "what others have committed is newer");
    }
}
