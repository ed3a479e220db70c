//! What a drill is to do, and the steps that follow from it.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::Address;
use crate::drill::check::Demands;
use crate::drill::clients::ATTEMPTS_MAX;
use crate::drill::nodes::{Clock, Hurt, Role};
use crate::drill::own_cluster::{Builds, MORE_NODES, NODES};
use crate::env::rng::SeededRng;

/// So many nodes come before the log is long enough to lose its beginning.
const LOG_IS_WHOLE_FOR: usize = 8;
/// What the return of a majority may take longer than a change of leader: processes start.
const START_EXTRA: Duration = Duration::from_secs(3);
/// A delayed message comes within this after its time, under load (P11).
const DELAY_LATE: Duration = Duration::from_secs(1);
/// A moved clock moves no delivery by more than this (P21).
const MOVED_CLOCK: Duration = Duration::from_millis(500);

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
    /// Take two of three nodes away for three seconds: by kill -9, by a stop, by standing still
    LoseMajority,
    /// Stop and start each node in good order
    RollingRestart,
    /// Stop each node and start it with another build (--old-binary, --new-binary), and kill leaders in between
    Upgrade,
    /// Make backups of nodes at work, lose all nodes, and go on with one that was restored
    RestoreBackup,
    /// Move the clock of one node: an hour, seventy years, a tenth too fast (needs libfaketime)
    Clock,
    /// Say to a node's peer port what no peer says
    Hostile,
    /// Fill the disk of the leader, of a follower, of all nodes
    FullDisk,
    /// Let each sync of one node take a second and a half longer
    SlowDisk,
    /// Lose the disk of the leader and of a follower, and have each replaced
    ReplaceNode,
    /// Lose the disk of a follower, start it as if nothing had happened, and take the leader away
    WipedNode,
    /// Take two more nodes in and let them go again, and kill the leader in the middle of each change
    Members,
    /// Damage the log of a node, running and stopped: bits, sectors, ends of files, files
    BitRot,
    /// Any of these, and followers too, by the seed
    Random,
    /// Some of each, in less than two minutes
    Quick,
}

/// How long a drill goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// The scenario, so often.
    Rounds(usize),
    /// The scenario, again and again.
    For(Duration),
}

/// A drill to be made.
#[derive(Debug, Clone)]
pub struct DrillPlan {
    pub scenario: Scenario,
    pub length: Length,
    /// From the beginning of one step to that of the next, at least.
    pub every: Duration,
    /// Messages sent per second.
    pub rate: u32,
    /// Decides what [`Scenario::Random`] does.
    pub seed: u64,
    /// How late a message may be delivered again after its lease ended.
    pub lateness: Duration,
    /// Longest gap between acknowledged sends while a majority is up.
    pub gap: Duration,
    /// For data, logs, history and report; created, and kept after the drill.
    pub folder: PathBuf,
    /// Configuration keys for the brokers.
    pub settings: Vec<String>,
    /// What the nodes run.
    pub builds: Builds,
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
    AllDisksFull,
    /// Two of three; the leader and a follower, or both followers.
    Majority {
        how: Hurt,
        with_leader: bool,
    },
    Restart(usize),
    /// A restart with the new build.
    Upgrade(usize),
    /// The disk of a node is lost, and an operator has it replaced.
    Replace(Role),
    /// The disk of a follower is lost, and it is started as if nothing had happened, beside a node that lacks what it had
    /// acknowledged, and without the leader; then it is replaced.
    ComeBackEmpty,
    /// This node joins while the leader is killed.
    Join(usize),
    /// This node leaves while the leader is killed.
    Leave(usize),
    /// Every replica that there is compared, while nothing is sent.
    Compare,
    /// A backup of a follower at work, restored beside and thrown away.
    BackUp,
    /// A backup, no nodes, and one that is restored.
    Restore,
}

/// What this machine and this cluster let a drill do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Means {
    /// A node can be cut off from its peers.
    pub network: bool,
    /// Clocks can be moved.
    pub clocks: bool,
    /// The peer ports are known.
    pub peers: bool,
    /// Disks can be filled and slowed down.
    pub disks: bool,
    /// It is known which build a node runs.
    pub builds: bool,
}

impl DrillPlan {
    /// Whether clocks are moved if that is possible.
    pub(super) fn moves_clocks(&self) -> bool {
        matches!(self.scenario, Scenario::Clock | Scenario::Random | Scenario::Quick)
    }

    /// Nodes that there may be.
    pub(super) fn nodes(&self) -> usize {
        if self.scenario == Scenario::Members { NODES + MORE_NODES } else { NODES }
    }

    /// Whether logs are damaged if that is possible.
    pub(super) fn damages_logs(&self) -> bool {
        matches!(self.scenario, Scenario::BitRot | Scenario::Random)
    }

    /// Whether the beginning of the log goes, so that new nodes need a snapshot.
    pub(super) fn shortens_logs(&self) -> bool {
        matches!(self.scenario, Scenario::ReplaceNode | Scenario::Members)
    }

    /// Within this a producer is asked about a transaction that it left open: our own cluster asks often.
    pub(super) fn asked_within(&self) -> Duration {
        Duration::from_secs(if self.running.is_some() { 40 } else { 10 })
    }

    /// What a run of these steps must at least have seen.
    pub(super) fn demands(&self, steps: &[Step]) -> Demands {
        let others = |step: &&Step| {
            matches!(step, Step::Restart(_) | Step::Upgrade(_) | Step::Restore | Step::BackUp | Step::Compare)
        };
        let rots = |step: &&Step| matches!(step, Step::Leader(how) | Step::Follower(how) if how.rots());
        let comes_new = |step: &&Step| matches!(step, Step::Replace(_) | Step::Join(_));
        let led = |step: &&Step| {
            matches!(
                step,
                Step::Leader(_)
                    | Step::AllKilled
                    | Step::AllDisksFull
                    | Step::Majority { with_leader: true, .. }
                    | Step::Replace(Role::Leader)
                    | Step::ComeBackEmpty
                    | Step::Join(_)
                    | Step::Leave(_)
            )
        };
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let sends = self.rate as usize * steps.len();
        Demands {
            sends,
            faults: steps.iter().filter(|step| !others(step)).count(),
            leader_faults: steps.iter().filter(led).count(),
            redeliveries: steps.len() * 2,
            of_each_kind: sends / 200,
            compared: match self.scenario {
                Scenario::RestoreBackup => 1,
                Scenario::Members => NODES + MORE_NODES,
                _ => NODES,
            },
            // The first ones come while the log still has its beginning.
            snapshots: if self.shortens_logs() {
                steps.iter().filter(comes_new).count().saturating_sub(LOG_IS_WHOLE_FOR) / 4
            } else {
                0
            },
            // Damage between records, or in what nobody needs any more, is nothing that must be repaired.
            repairs: steps.iter().filter(rots).count() / 2,
            attempts_max: ATTEMPTS_MAX,
            asked_within_us: micros(self.asked_within()),
            delay_late_us: micros(self.lateness.max(DELAY_LATE)),
            moved_clock_us: micros(MOVED_CLOCK),
            lateness_us: micros(self.lateness),
            gap_max_us: micros(self.gap),
            resume_max_us: micros(self.gap + START_EXTRA),
        }
    }

    /// What the drill leaves out because it cannot be done here.
    ///
    /// * Errors: it is what was asked for.
    pub(super) fn left_out(&self, means: Means) -> Result<Vec<String>, String> {
        let mut notes = Vec::new();
        let is_mixed = matches!(self.scenario, Scenario::Random | Scenario::Quick);
        if !means.network && (is_mixed || self.scenario == Scenario::IsolateLeader) {
            notes.push(
                "a leader cannot be cut off here; it is paused instead (as root, with a cluster of its own: the real thing)"
                    .to_owned(),
            );
        }
        let clocks = "clocks cannot be moved here: that takes a cluster of its own, and apt-get install libfaketime";
        let disks = "disks are filled, slowed down and damaged only in a cluster of its own";
        let members = "members are changed only in a cluster of its own";
        let peers = "peer ports are attacked only in a cluster of its own";
        match self.scenario {
            Scenario::RestoreBackup if !means.builds => {
                return Err("a cluster that is lost on purpose must be one of its own".to_owned());
            }
            Scenario::Upgrade if !means.builds => {
                return Err("nodes are upgraded only in a cluster of its own".to_owned());
            }
            Scenario::Clock if !means.clocks => return Err(clocks.to_owned()),
            Scenario::Hostile if !means.peers => return Err(peers.to_owned()),
            Scenario::FullDisk | Scenario::SlowDisk | Scenario::BitRot if !means.disks => return Err(disks.to_owned()),
            Scenario::ReplaceNode | Scenario::WipedNode | Scenario::Members if !means.disks => {
                return Err(members.to_owned());
            }
            _ => {}
        }
        if is_mixed {
            notes.extend((!means.clocks).then(|| format!("{clocks}; left out")));
            notes.extend((!means.peers).then(|| format!("{peers}; left out")));
            let is_random = self.scenario == Scenario::Random;
            notes.extend((is_random && !means.disks).then(|| format!("{disks}; left out")));
        }
        Ok(notes)
    }

    /// The steps of one round of the scenario.
    pub(super) fn round(&self, number: usize, means: Means, rng: &mut SeededRng) -> Vec<Step> {
        let cut = if means.network { Hurt::CutOff } else { Hurt::Paused };
        let restarts = || (0..NODES).map(Step::Restart);
        let away = [Hurt::Killed, Hurt::Stopped, Hurt::Paused];
        match self.scenario {
            Scenario::KillLeader => vec![Step::Leader(Hurt::Killed)],
            Scenario::PauseLeader => vec![Step::Leader(Hurt::Paused)],
            Scenario::IsolateLeader => vec![Step::Leader(cut)],
            Scenario::KillAll => vec![Step::AllKilled],
            Scenario::LoseMajority => {
                vec![Step::Majority { how: away[number % away.len()], with_leader: number.is_multiple_of(2) }]
            }
            Scenario::RollingRestart => restarts().collect(),
            // Later rounds make a backup of the restored node.
            Scenario::RestoreBackup if number == 0 => {
                vec![Step::BackUp, Step::Leader(Hurt::Killed), Step::BackUp, Step::Restore]
            }
            Scenario::RestoreBackup => vec![Step::BackUp, Step::Restore],
            // Later rounds restart what is upgraded already.
            Scenario::Upgrade => {
                (0..NODES).flat_map(|node| [Step::Upgrade(node), Step::Leader(Hurt::Killed)]).collect()
            }
            Scenario::Clock => Clock::ALL
                .into_iter()
                .flat_map(|clock| [Step::Leader(Hurt::Clock(clock)), Step::Follower(Hurt::Clock(clock))])
                .collect(),
            Scenario::Hostile => vec![Step::Leader(Hurt::Attacked), Step::Follower(Hurt::Attacked)],
            Scenario::FullDisk => {
                vec![Step::Leader(Hurt::DiskFull), Step::Follower(Hurt::DiskFull), Step::AllDisksFull]
            }
            Scenario::BitRot => {
                let kinds = [Hurt::Rots, Hurt::Rotted];
                vec![Step::Leader(kinds[number % 2]), Step::Follower(kinds[(number + 1) % 2])]
            }
            Scenario::SlowDisk => vec![Step::Leader(Hurt::DiskSlow), Step::Follower(Hurt::DiskSlow)],
            Scenario::ReplaceNode => vec![Step::Replace(Role::Leader), Step::Replace(Role::Follower)],
            Scenario::WipedNode => vec![Step::ComeBackEmpty],
            Scenario::Members => {
                let more = NODES..NODES + MORE_NODES;
                more.clone().map(Step::Join).chain([Step::Compare]).chain(more.map(Step::Leave)).collect()
            }
            Scenario::Random => {
                let mut below = |bound: usize| rng.below(bound as u64) as usize;
                let majority = Step::Majority { how: away[below(away.len())], with_leader: below(2) == 0 };
                let mut choices = vec![
                    Step::Leader(Hurt::Killed),
                    Step::Leader(Hurt::Killed),
                    Step::Leader(Hurt::Paused),
                    Step::Leader(cut),
                    Step::AllKilled,
                    majority,
                    Step::Follower(Hurt::Killed),
                    Step::Follower(cut),
                    Step::Restart(below(NODES)),
                ];
                let clock = Hurt::Clock(Clock::ALL[below(Clock::ALL.len())]);
                choices.extend(means.clocks.then_some(Step::Leader(clock)));
                choices.extend(means.clocks.then_some(Step::Follower(clock)));
                choices.extend(means.peers.then_some(Step::Leader(Hurt::Attacked)));
                if means.disks {
                    choices.extend([Step::Leader(Hurt::DiskFull), Step::Follower(Hurt::DiskFull)]);
                    choices.extend([Step::AllDisksFull, Step::Leader(Hurt::DiskSlow)]);
                    choices.extend([Step::Replace(Role::Leader), Step::Replace(Role::Follower)]);
                    choices.extend([Step::Leader(Hurt::Rots), Step::Follower(Hurt::Rotted), Step::BackUp]);
                    choices.push(Step::ComeBackEmpty);
                }
                vec![choices[below(choices.len())]]
            }
            Scenario::Quick => {
                let mut steps =
                    vec![Step::Leader(Hurt::Killed), Step::Leader(Hurt::Killed), Step::Leader(Hurt::Paused)];
                steps.extend([Step::Leader(cut), Step::AllKilled, Step::Follower(Hurt::Killed)]);
                steps.push(Step::Majority { how: Hurt::Killed, with_leader: true });
                steps.extend(means.clocks.then_some(Step::Leader(Hurt::Clock(Clock::Ahead))));
                steps.extend(means.peers.then_some(Step::Leader(Hurt::Attacked)));
                steps.extend(restarts());
                steps.push(Step::Leader(Hurt::Killed));
                steps
            }
        }
    }
}
