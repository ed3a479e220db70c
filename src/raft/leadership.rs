//! Who leads: watching it, campaigning when the leader is gone, and transferring leadership before a stop.
//!
//! A node that is cut off from the majority knows no leader, be it itself (P16): a leader whose followers stopped
//! acknowledging, or a follower that hears of no leader any more.

use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::{NodeId, Term};
use crate::raft::error::{Fatal, OnFatal};
use crate::raft::state_machine::ShardRaft;

/// How long, and how often, a follower campaigns after a leader vanished.
const CAMPAIGN_MAX: Duration = Duration::from_secs(1);
const CAMPAIGN_STEP: Duration = Duration::from_millis(25);
/// Followers campaign one after the other, by their number.
const STAGGER: Duration = Duration::from_millis(8);
const STAGGER_STEPS_MAX: u64 = 8;
/// A node whose clock is wrong leaves it to the others for so long; it may be the only one whose log is long enough.
const UNFIT_STAGGER: Duration = Duration::from_millis(500);
/// Time for another node to take over leadership.
const TRANSFER_MAX: Duration = Duration::from_secs(1);

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

    fn is_within(&self, limit: Duration) -> bool {
        self.0.lock().is_some_and(|at| at.elapsed() < limit)
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
                tracing::info!(term = now.term.0, leader = ?now.leader.map(|id| id.0), is_self = now.is_self, "leadership");
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
/// timeout. `stream_ended` is notified when a stream of appends ends; a node that `is_unfit` comes after the others.
///
/// Safe at any time: it is a pre-vote, which this node refuses to itself while its own lease holds, and others while
/// theirs does (Raft thesis §9.6). A leader that only reset the stream goes on heartbeating, so nothing comes of it.
pub(super) async fn campaign_when_leader_is_gone(
    raft: ShardRaft,
    leadership: watch::Receiver<Leadership>,
    stream_ended: Arc<Notify>,
    node: u64,
    is_unfit: impl Fn() -> bool,
) {
    let stagger = STAGGER * u32::try_from(node.min(STAGGER_STEPS_MAX)).expect("at most the limit");
    loop {
        stream_ended.notified().await;
        let before = *leadership.borrow();
        let until = Instant::now() + CAMPAIGN_MAX;
        tokio::time::sleep(if is_unfit() { stagger + UNFIT_STAGGER } else { stagger }).await;
        let is_as_before = || leadership.borrow().term == before.term && !leadership.borrow().is_self;
        while is_as_before() && Instant::now() < until {
            if raft.trigger().elect(true).await.is_err() {
                return;
            }
            tokio::time::sleep(CAMPAIGN_STEP).await;
        }
    }
}

/// If this node leads, makes the follower with the longest log, of those that may be it, the leader and waits until it is,
/// for a second at most.
pub(super) async fn transfer_leadership(
    raft: &ShardRaft,
    mut leadership: watch::Receiver<Leadership>,
    may_lead: impl Fn(u64) -> bool,
) {
    let metrics = raft.metrics().borrow_watched().clone();
    let me = metrics.id;
    let Some(replication) = metrics.replication.filter(|_| metrics.current_leader == Some(me)) else { return };
    let nearest =
        replication.into_iter().filter(|(id, _)| *id != me && may_lead(*id)).max_by_key(|(_, matching)| *matching);
    let Some((to, Some(_))) = nearest else { return };
    if raft.trigger().transfer_leader(to).await.is_ok() {
        let moved = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader.0 != me));
        if tokio::time::timeout(TRANSFER_MAX, moved).await.is_err() {
            tracing::warn!(to, "leadership was not taken over in time");
        }
    }
}
