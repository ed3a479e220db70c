//! Who leads: watching it, campaigning when the leader is gone, and transferring leadership before a stop.
//!
//! A node that is cut off from the majority knows no leader, be it itself (P16): a leader whose followers stopped
//! acknowledging, or a follower that hears of no leader any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::VoteRequest;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::{MemberName, NodeId, Term};
use crate::raft::error::{Fatal, OnFatal};
use crate::raft::peer::status::{StatusClients, StatusReply};
use crate::raft::state_machine::ShardRaft;
use crate::raft::types;
use crate::raft::types::LogId;

/// How long, and how often, a follower campaigns after a leader vanished: less and less often once the leader's lease is over.
const CAMPAIGN_MAX: Duration = Duration::from_secs(1);
const CAMPAIGN_STEP: Duration = Duration::from_millis(25);
const CAMPAIGN_STEP_MAX: Duration = Duration::from_millis(200);
/// Followers campaign one after the other, by their number.
const STAGGER: Duration = Duration::from_millis(8);
const STAGGER_STEPS_MAX: u32 = 8;
/// A node whose clock is wrong leaves it to the others for so long; it may be the only one whose log is long enough.
const UNFIT_STAGGER: Duration = Duration::from_millis(500);
/// Time for another node to take over leadership.
const TRANSFER_MAX: Duration = Duration::from_secs(1);
/// openraft asks once, and nobody stands if what was asked for got lost or the flush took too long: so it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Who leads, as this node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    pub leader: Option<NodeId>,
    pub term: Term,
    /// Whether the leader is this node.
    pub is_self: bool,
}

/// When this node last heard of a leader that it follows. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct LeaderContact(Arc<Mutex<Option<Instant>>>);

impl LeaderContact {
    pub fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// When; `None` if it never was.
    pub fn last(&self) -> Option<Instant> {
        *self.0.lock()
    }

    /// How long ago that was; `None` if it never was.
    pub fn age(&self) -> Option<Duration> {
        self.0.lock().map(|at| at.elapsed())
    }

    fn is_within(&self, limit: Duration) -> bool {
        self.0.lock().is_some_and(|at| at.elapsed() < limit)
    }
}

/// To which node this one gave its vote a moment ago. openraft leaves a candidate no time: whoever has voted for it would
/// stand against it, or be ready to vote for a third one, while it still writes its own vote, and two that depose each other
/// in turn leave a group without a leader for seconds. Cheap to clone.
#[derive(Clone)]
pub(super) struct GivenVote {
    to: Arc<Mutex<Option<(u64, Instant)>>>,
    /// As long as nobody stands for election after a leader was heard.
    keep: Duration,
}

impl GivenVote {
    pub fn new(keep: Duration) -> Self {
        Self { to: Arc::default(), keep }
    }

    pub fn note(&self, to: u64) {
        *self.to.lock() = Some((to, Instant::now()));
    }

    /// It was refused after all.
    pub fn forget(&self, to: u64) {
        self.to.lock().take_if(|given| given.0 == to);
    }

    /// Who may still become the leader by it.
    pub fn holder(&self) -> Option<u64> {
        self.to.lock().filter(|(_, at)| at.elapsed() < self.keep).map(|(to, _)| to)
    }
}

/// How a node finds out that it is cut off.
pub(super) struct QuorumWatch {
    pub contact: LeaderContact,
    /// `raftElectionTimeoutMaxMs`. Within two of these a node without a quorum knows it.
    pub election_max: Duration,
}

impl QuorumWatch {
    /// How often it looks.
    fn step(&self) -> Duration {
        self.election_max / 4
    }

    /// Without a sign of a quorum for this long there is none.
    fn lost_after(&self) -> Duration {
        self.election_max * 2 - self.step()
    }

    /// Whether a leader, known since then, has a quorum, as far as this node can tell. A new one has a moment to show it.
    fn has_quorum(&self, raft: &ShardRaft, is_self: bool, since: Instant) -> bool {
        if since.elapsed() < self.lost_after() {
            return true;
        }
        if !is_self {
            return self.contact.is_within(self.lost_after());
        }
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().voter_ids().count() <= 1
            || metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() < self.lost_after())
    }
}

/// Follows who leads, in a task that ends with Raft. If Raft ends without `stop`, `on_fatal` is called. Each term is told
/// to `on_term`.
pub(super) fn watch_leadership(
    raft: &ShardRaft,
    quorum: QuorumWatch,
    on_term: impl Fn(u64) + Send + 'static,
    tasks: &TaskTracker,
    stop: CancellationToken,
    on_fatal: OnFatal,
) -> watch::Receiver<Leadership> {
    let (sender, leadership) = watch::channel(Leadership::default());
    let raft = raft.clone();
    // These change with the leader; the whole metrics change with every entry.
    let mut metrics = raft.server_metrics();
    tasks.spawn(async move {
        let mut known = (Leadership::default(), Instant::now());
        loop {
            // Not held across the await: a held reference blocks Raft's core.
            let mut now = {
                let metrics = metrics.borrow_and_update();
                Leadership {
                    leader: metrics.current_leader.map(NodeId),
                    term: Term(metrics.vote.leader_id.term),
                    is_self: metrics.current_leader == Some(metrics.id) && metrics.state.is_leader(),
                }
            };
            on_term(now.term.0);
            if known.0 != now {
                known = (now, Instant::now());
            }
            if now.leader.is_some() && !quorum.has_quorum(&raft, now.is_self, known.1) {
                (now.leader, now.is_self) = (None, false);
            }
            if stop.is_cancelled() {
                return;
            }
            sender.send_if_modified(|before| {
                if *before == now {
                    return false;
                }
                match now.leader {
                    Some(_) if now.is_self => tracing::info!(term = now.term.0, "this node leads"),
                    Some(leader) => tracing::info!(term = now.term.0, "{leader} leads"),
                    None => tracing::info!(term = now.term.0, "there is no leader"),
                }
                *before = now;
                true
            });
            let changed = tokio::time::timeout(quorum.step(), metrics.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                if stop.is_cancelled() {
                    return;
                }
                // A core that panicked leaves no reason. Either way this node can do nothing more.
                let reason = raft.metrics().borrow_watched().running_state.as_ref().err().map(ToString::to_string);
                let reason = reason.unwrap_or_else(|| "its core panicked".to_owned());
                return on_fatal(Fatal::Failed(format!("raft stopped: {reason}")));
            }
        }
    });
    leadership
}

/// Campaigns as soon as the lease of a leader that broke its connection is over, rather than after a whole election
/// timeout. `stream_ended` is notified when a stream of appends ends; a node that `is_unfit` comes after the others. The lease
/// ends within `lease`; who is not elected soon after that lacks what others have, or is no member any more.
///
/// Safe at any time: it is a pre-vote, which this node refuses to itself while its own lease holds, and others while
/// theirs does (Raft thesis §9.6). A leader that only reset the stream goes on heartbeating, so nothing comes of it.
pub(super) async fn campaign_when_leader_is_gone(
    raft: ShardRaft,
    leadership: watch::Receiver<Leadership>,
    stream_ended: Arc<Notify>,
    name: MemberName,
    lease: Duration,
    is_unfit: impl Fn() -> bool,
    may_stand: impl Fn() -> bool,
) {
    let stagger = STAGGER * name.0.min(STAGGER_STEPS_MAX);
    loop {
        stream_ended.notified().await;
        let before = *leadership.borrow();
        let (begins, mut step) = (Instant::now(), CAMPAIGN_STEP);
        tokio::time::sleep(if is_unfit() { stagger + UNFIT_STAGGER } else { stagger }).await;
        let is_led_anew = || {
            let now = *leadership.borrow();
            now.term != before.term || now.is_self || now.leader.is_some() && now.leader != before.leader
        };
        while !is_led_anew() && begins.elapsed() < CAMPAIGN_MAX {
            if may_stand() && raft.trigger().elect(true).await.is_err() {
                return;
            }
            tokio::time::sleep(step).await;
            if begins.elapsed() > lease {
                step = (2 * step).min(CAMPAIGN_STEP_MAX);
            }
        }
    }
}

/// That this node is about to stop. Shared.
#[derive(Clone, Default)]
pub(super) struct Leaving(Arc<AtomicBool>);

impl Leaving {
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// If this node leads, makes the follower with the longest log, of those that may be it and have all that they acknowledged,
/// the leader and waits until it is, for a second at most.
pub(super) async fn transfer_leadership(
    raft: &ShardRaft,
    leadership: watch::Receiver<Leadership>,
    clients: &StatusClients,
    may_lead: impl Fn(u64) -> bool,
) {
    let metrics = raft.metrics().borrow_watched().clone();
    let me = metrics.id;
    let Some(replication) = metrics.replication.filter(|_| metrics.current_leader == Some(me)) else { return };
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let others = replication
        .into_iter()
        .filter(|(id, matching)| *id != me && voters.contains(id) && may_lead(*id) && matching.is_some());
    let asked = others.map(async |(id, matching)| match clients.ask(NodeId(id)).await {
        // One that lost the end of its log refuses, and one that is about to stop does not stand for election.
        StatusReply::Status(status) => (!status.damage.lacks_tail && !status.leaving).then_some((matching, id)),
        StatusReply::Disowned(_) | StatusReply::Stranger(_) | StatusReply::Silent => None,
    });
    let able = futures_util::future::join_all(asked).await.into_iter().flatten();
    if let Some((_, to)) = able.max() {
        pass_on(raft, leadership, to).await;
    }
}

/// Makes another voter the leader, and waits for a second at most. Who leads instead of this node, which may be a third one
/// that was faster; `None` if nobody does. Until then this node takes no commands.
pub(super) async fn pass_on(raft: &ShardRaft, leadership: watch::Receiver<Leadership>, to: u64) -> Option<NodeId> {
    let asking = async {
        // A node that does not lead any more asks nobody.
        while raft.trigger().transfer_leader(to).await.is_ok() {
            tokio::time::sleep(ASK_AGAIN).await;
        }
        None
    };
    let leader = tokio::select! {
        biased;
        leader = successor(leadership) => leader,
        stopped = asking => stopped,
    };
    match leader {
        Some(leader) if leader.0 == to => {}
        Some(leader) => tracing::warn!("{leader} leads now, and not {}, which was to", NodeId(to)),
        None => {
            tracing::warn!(to = %NodeId(to), "leadership was not taken over in time");
            stand_back(raft, to).await;
        }
    }
    leader
}

/// The next node that leads instead of this one, if one does within a second.
async fn successor(mut leadership: watch::Receiver<Leadership>) -> Option<NodeId> {
    let moved = leadership.wait_for(|now| now.leader.is_some() && !now.is_self);
    tokio::time::timeout(TRANSFER_MAX, moved).await.ok()?.ok()?.leader
}

/// openraft never ends a transfer by itself: a leader that nobody succeeds would send no heartbeats and take no commands for
/// ever. It gives its vote in the next term to the one that was to lead, which ends its own leadership and is what that one
/// asks for if it is only late; then the nodes elect as always, this one too.
async fn stand_back(raft: &ShardRaft, to: u64) {
    let (vote, last) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        if !metrics.state.is_leader() {
            return;
        }
        // A leader's last entry is its own, and it adds none while it transfers.
        let leader_id = metrics.vote.leader_id;
        let last = metrics.last_log_index.map(|index| LogId { leader_id, index });
        (types::vote(leader_id.term + 1, to, false), last)
    };
    // It was this leader who wanted another one.
    let request = VoteRequest { leadership_transfer: true, ..VoteRequest::new(vote, last) };
    // The vote is written to a disk that may be slow.
    let voted = tokio::time::timeout(TRANSFER_MAX, raft.vote(request)).await;
    if !voted.is_ok_and(|voted| voted.is_ok_and(|answer| answer.vote_granted)) {
        tracing::warn!("this leader could not take its transfer back; it serves nothing until another node leads");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::machine::{Batch, Command, Proposal};
    use crate::model::Timestamp;
    use crate::raft::purge_tests::Node;

    const ME: NodeId = NodeId(0);
    const TO: NodeId = NodeId(1);

    fn led_by(leader: Option<NodeId>) -> Leadership {
        Leadership { leader, term: Term(1), is_self: leader == Some(ME) }
    }

    #[tokio::test]
    async fn p22_who_takes_leadership_over_is_the_next_node_that_leads() {
        let other = NodeId(2);
        let cases = [
            (vec![Some(TO)], Some(TO)),
            (vec![None, Some(TO)], Some(TO)),
            (vec![Some(other)], Some(other)),
            (vec![None, Some(other)], Some(other)),
            (vec![None], None),
            (vec![None, Some(ME)], None),
            (vec![], None),
        ];
        let waiting = cases.into_iter().map(async |(then, takes)| {
            let (sender, leadership) = watch::channel(led_by(Some(ME)));
            let waiting = tokio::spawn(successor(leadership));
            for leader in &then {
                tokio::time::sleep(Duration::from_millis(20)).await;
                sender.send_replace(led_by(*leader));
            }
            assert_eq!(waiting.await.unwrap(), takes, "{then:?}");
        });
        futures_util::future::join_all(waiting).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn p22_a_node_that_is_not_elected_asks_less_and_less_often() {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(folder.path(), 1).await;
        let (_sender, leadership) = watch::channel(led_by(None));
        let (stream_ended, asked) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        stream_ended.notify_one();
        let asking = asked.clone();
        let campaign = campaign_when_leader_is_gone(
            node.raft().clone(),
            leadership,
            stream_ended,
            MemberName(0),
            Duration::from_millis(100),
            || false,
            move || {
                asking.fetch_add(1, Ordering::Relaxed);
                false
            },
        );
        tokio::time::timeout(2 * CAMPAIGN_MAX, campaign).await.unwrap_err();
        // At most five within the lease, one more, and then after 50, 100, 200, 200 and 200 ms.
        let asked = asked.load(Ordering::Relaxed);
        assert!((2..=11).contains(&asked), "{asked}");
    }

    #[test]
    fn p22_a_vote_is_kept_for_a_while_unless_it_was_refused() {
        let given = GivenVote::new(Duration::from_secs(3600));
        assert_eq!(given.holder(), None);
        given.note(1);
        assert_eq!(given.holder(), Some(1));
        given.note(2);
        given.forget(1);
        assert_eq!(given.holder(), Some(2));
        given.forget(2);
        assert_eq!(given.holder(), None);
        let given = GivenVote::new(Duration::ZERO);
        given.note(1);
        assert_eq!(given.holder(), None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn p22_a_leader_that_nobody_succeeds_takes_commands_again() {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(folder.path(), 1).await;
        let raft = node.raft();
        let (_sender, leadership) = watch::channel(led_by(Some(ME)));
        assert_eq!(pass_on(raft, leadership, TO.0).await, None);
        let tick = Proposal { command: Command::Tick.encode(), messages: Vec::new() };
        let write = async || {
            let body = Batch::encode(Timestamp(1), [&tick].into_iter());
            raft.client_write(types::Body(body)).await.is_ok()
        };
        let until = Instant::now() + Duration::from_secs(10);
        while !write().await {
            assert!(Instant::now() < until, "it takes no commands any more");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
