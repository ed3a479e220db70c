//! What a drill is to do, and the steps that follow from it.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::Address;
use crate::drill::check::Demands;
use crate::drill::nodes::{Hurt, NODES};
use crate::env::rng::SeededRng;

/// Longest gap between acknowledged sends while a majority was up; far above what is aimed at (0.6 s), so that a busy
/// machine does not decide the verdict.
const OUTAGE_MAX: Duration = Duration::from_secs(4);

/// What is done to the nodes. The texts are also the help of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// kill -9 the leader, again and again
    KillLeader,
    /// Let the leader stand still for two seconds
    PauseLeader,
    /// Cut the leader off from its peers, not from its clients
    IsolateLeader,
    /// Take the power from all nodes at once
    KillAll,
    /// Stop and start each node in good order
    RollingRestart,
    /// Any of these, and followers too, by the seed
    Random,
    /// Some of each, in less than two minutes
    Quick,
}

/// A drill to be made.
#[derive(Debug, Clone)]
pub struct DrillPlan {
    pub scenario: Scenario,
    /// How often the scenario is repeated.
    pub rounds: usize,
    /// Messages sent per second.
    pub rate: u32,
    /// Decides what [`Scenario::Random`] does.
    pub seed: u64,
    /// How late a message may be delivered again after its lease ended.
    pub lateness: Duration,
    /// For data, logs, history and report; created, and kept after the drill.
    pub folder: PathBuf,
    /// Configuration keys for the brokers.
    pub settings: Vec<String>,
    /// For debug builds: a bug that the drill must find.
    pub planted_bug: Option<String>,
    /// The cluster to hurt, instead of one of its own.
    pub running: Option<RunningCluster>,
}

/// A cluster that runs on this machine.
#[derive(Debug, Clone)]
pub struct RunningCluster {
    /// One of its nodes.
    pub address: Address,
    /// Shell command that starts a node, whose name takes the place of `{}`.
    pub start: String,
}

/// One thing to do to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Leader(Hurt),
    Follower(Hurt),
    AllKilled,
    Restart(usize),
}

impl DrillPlan {
    /// What a run of these steps must at least have seen.
    pub(super) fn demands(&self, steps: &[Step]) -> Demands {
        let hurt = |step: &&Step| !matches!(step, Step::Restart(_));
        let led = |step: &&Step| matches!(step, Step::Leader(_) | Step::AllKilled);
        Demands {
            sends: self.rate as usize * steps.len(),
            faults: steps.iter().filter(hurt).count(),
            leader_faults: steps.iter().filter(led).count(),
            redeliveries: steps.len() * 2,
            lateness_us: u64::try_from(self.lateness.as_micros()).unwrap_or(u64::MAX),
            outage_max_us: u64::try_from(OUTAGE_MAX.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// The steps in order; adds to `notes` what cannot be done as asked.
    pub(super) fn steps(&self, has_network: bool, notes: &mut Vec<String>) -> Vec<Step> {
        let cut = if has_network { Hurt::CutOff } else { Hurt::Paused };
        let cut_is_meant = matches!(self.scenario, Scenario::IsolateLeader | Scenario::Random | Scenario::Quick);
        if !has_network && cut_is_meant {
            notes.push(
                "a leader cannot be cut off here; it is paused instead (as root, with a cluster of its own: the real thing)"
                    .to_owned(),
            );
        }
        let restarts = || (0..NODES).map(Step::Restart);
        let mut rng = SeededRng::new(self.seed);
        let mut steps = Vec::new();
        for _ in 0..self.rounds {
            match self.scenario {
                Scenario::KillLeader => steps.push(Step::Leader(Hurt::Killed)),
                Scenario::PauseLeader => steps.push(Step::Leader(Hurt::Paused)),
                Scenario::IsolateLeader => steps.push(Step::Leader(cut)),
                Scenario::KillAll => steps.push(Step::AllKilled),
                Scenario::RollingRestart => steps.extend(restarts()),
                Scenario::Random => steps.push(match rng.below(8) {
                    0 | 1 => Step::Leader(Hurt::Killed),
                    2 => Step::Leader(Hurt::Paused),
                    3 => Step::Leader(cut),
                    4 => Step::AllKilled,
                    5 => Step::Follower(Hurt::Killed),
                    6 => Step::Follower(cut),
                    _ => Step::Restart(rng.below(NODES as u64) as usize),
                }),
                Scenario::Quick => {
                    steps.extend([Step::Leader(Hurt::Killed), Step::Leader(Hurt::Killed), Step::Leader(Hurt::Paused)]);
                    steps.extend([Step::Leader(cut), Step::AllKilled, Step::Follower(Hurt::Killed)]);
                    steps.extend(restarts());
                    steps.push(Step::Leader(Hurt::Killed));
                }
            }
        }
        steps
    }
}
