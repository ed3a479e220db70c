//! Compares the nodes' clocks while the node runs: keeps the cluster's clock right, says whose clock is wrong, shifts
//! machine time that ran ahead, and gives leadership to a node whose clock is right.
//!
//! Peers are asked here until clocks were compared for the first time; from then on the answers of the probes that every
//! node sends each second (`node/routes`) are enough.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::clock::Clock;
use crate::machine::{Command, Proposal};
use crate::model::{Millis, NodeId};
use crate::raft::clock::cluster_clock::ClusterClock;
use crate::raft::clock::samples::{AGREED_WITHIN_MS, Agreement, ClockSamples};
use crate::raft::leadership::{Leadership, transfer_leadership};
use crate::raft::peer::status::StatusClients;
use crate::raft::propose::proposer::Proposer;
use crate::raft::state_machine::ShardRaft;

const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// Until clocks were compared for the first time.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// A clock that is off by more than this is warned of.
const WARN_MS: u64 = 500;
const WARN_EVERY: Duration = Duration::from_secs(60);
/// A leader whose clock is off by more than this gives leadership away.
pub(in crate::raft) const UNFIT_MS: u64 = 5000;
/// Comparisons in a row that must find a leader unfit, and the time before it tries again.
const UNFIT_RESULTS: u32 = 3;
const TRANSFER_EVERY: Duration = Duration::from_secs(60);
/// A command of the clock waits this long for its entry.
const COMMAND_WAIT: Duration = Duration::from_secs(1);

/// What the watch works with.
pub(in crate::raft) struct ClockWatch {
    pub clock: Arc<ClusterClock>,
    pub samples: Arc<ClockSamples>,
    pub status_clients: StatusClients,
    pub raft: ShardRaft,
    pub proposer: Proposer,
    pub leadership: watch::Receiver<Leadership>,
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    warned_at: Option<Instant>,
    /// Comparisons in a row that found this node unfit to lead.
    unfit: u32,
    transferred_at: Option<Instant>,
}

impl ClockWatch {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut findings = Findings::default();
        loop {
            let is_compared = self.clock.is_compared();
            if !is_compared {
                self.status_clients.ask_all().await;
            }
            self.compare(&mut findings).await;
            tokio::time::sleep(if is_compared { COMPARE_EVERY } else { ASK_EVERY }).await;
        }
    }

    async fn compare(&self, findings: &mut Findings) {
        let Some(agreement) = self.samples.agreement() else {
            self.clock.run_alone();
            self.samples.publish(None);
            findings.unfit = 0;
            if self.samples.fresh().len() >= self.samples.majority() && findings.may_warn() {
                tracing::warn!(
                    "the clocks of the nodes differ and no majority agrees on a time; cluster time runs on by itself. \
                     Set the clocks right (NTP)"
                );
            }
            return;
        };
        self.clock.compare(agreement.wall, self.samples.nodes(), self.samples.has_sampled_all());
        let offset = self.own_offset(&agreement);
        self.samples.publish(Some(offset));
        if offset.unsigned_abs() > WARN_MS && findings.may_warn() {
            tracing::warn!(
                ahead_ms = offset,
                "the clock of this node differs from cluster time; leases and delays do not follow it. Set it right (NTP)"
            );
        }
        let leads = self.leadership.borrow().is_self;
        findings.unfit = if leads && offset.unsigned_abs() > UNFIT_MS { findings.unfit + 1 } else { 0 };
        if !leads {
            return;
        }
        self.correct().await;
        if findings.may_transfer() {
            self.transfer(&agreement).await;
        }
    }

    /// What this node's clock is ahead: of what most nodes agree on, or, if there are no others, of cluster time.
    fn own_offset(&self, agreement: &Agreement) -> i64 {
        if self.samples.nodes() > 1 {
            return agreement.offsets_ms.get(&self.samples.own()).copied().unwrap_or(0);
        }
        let (own, cluster) = (self.samples.own_wall().0, self.clock.wall().0);
        i64::try_from(i128::from(own) - i128::from(cluster)).unwrap_or(i64::MAX)
    }

    /// Bounds machine time, or shifts it if it ran ahead; any batch of this leader says so too.
    async fn correct(&self) {
        let Some(shift) = self.clock.wanted() else { return };
        let proposal = Proposal { command: Command::Clock { shift }.encode(), messages: Vec::new() };
        match self.proposer.propose(proposal, COMMAND_WAIT).await {
            Ok(_) if shift > Millis(0) => tracing::warn!(
                %shift,
                "the time of the log had run ahead of the nodes' clocks; it goes on at the right pace, shifted against them"
            ),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the clock command is proposed again later"),
        }
    }

    async fn transfer(&self, agreement: &Agreement) {
        let is_right = |node: u64| {
            let offset = agreement.offsets_ms.get(&NodeId(node));
            offset.is_some_and(|offset| offset.unsigned_abs() <= AGREED_WITHIN_MS.unsigned_abs())
        };
        tracing::warn!("the clock of this leader is wrong; leadership goes to a node whose clock is right");
        transfer_leadership(&self.raft, self.leadership.clone(), &self.status_clients, is_right).await;
    }
}

impl Findings {
    /// The first time, and then once a minute.
    fn may_warn(&mut self) -> bool {
        let now = Instant::now();
        let may = self.warned_at.is_none_or(|warned_at| now.duration_since(warned_at) >= WARN_EVERY);
        if may {
            self.warned_at = Some(now);
        }
        may
    }

    /// An unfit leader, and not again at once if that changes nothing.
    fn may_transfer(&mut self) -> bool {
        let now = Instant::now();
        let may = self.unfit >= UNFIT_RESULTS
            && self.transferred_at.is_none_or(|before| now.duration_since(before) >= TRANSFER_EVERY);
        if may {
            self.transferred_at = Some(now);
        }
        may
    }
}
