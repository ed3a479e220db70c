//! The failover drill: hurts a cluster on purpose while clients use it, writes down everything they asked and
//! heard, and checks that the promises were kept.
//!
//! It starts a cluster of its own from this very program: in network namespaces where it may, so that a leader
//! can be cut off from its peers, else on loopback ports. The disks lose what was not synced when a node is
//! killed (`env/fault/power_loss_disk`), so a kill is a power loss. Or it takes a cluster that runs on this machine, as it is.
//!
//! Called by `cli/drill`. Not here: anything that knows how a broker works; the checker sees the history only.

pub mod check;
pub mod history;
mod load;
mod net;
mod nodes;
pub mod report;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Address;
use crate::env::rng::SeededRng;
use check::{Checked, Demands};
use history::{Event, Recorder};
use load::Clients;
use nodes::{Hurt, NODES, Nodes};

/// A cluster that finds no leader in this time is lost.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// Load before the first fault, and after everything was put right.
const WARM_UP: Duration = Duration::from_secs(2);
const COOL_DOWN: Duration = Duration::from_secs(2);
/// Every lease has ended by then, and what came back is settled.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// Longest gap between acknowledged sends while a majority was up; far above what is aimed at (0.6 s), so that
/// a busy machine does not decide the verdict.
const OUTAGE_MAX: Duration = Duration::from_secs(4);

/// What is done to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// `kill -9` of the leader, again and again.
    KillLeader,
    /// The leader stands still for two seconds.
    PauseLeader,
    /// The leader is cut off from its peers, not from its clients.
    IsolateLeader,
    /// All nodes lose power at once.
    KillAll,
    /// Each node is stopped in good order and started again.
    RollingRestart,
    /// Any of these, and followers too, by the seed.
    Random,
    /// Some of each in less than two minutes.
    Quick,
}

/// A drill to be made.
#[derive(Debug, Clone)]
pub struct DrillPlan {
    /// What is done.
    pub scenario: Scenario,
    /// How often.
    pub rounds: usize,
    /// Messages sent per second.
    pub rate: u32,
    /// Decides what [`Scenario::Random`] does.
    pub seed: u64,
    /// How late a message may come again after its lease ended.
    pub lateness: Duration,
    /// Data, logs, history and report; made, and left behind.
    pub folder: PathBuf,
    /// Configuration keys for the brokers.
    pub settings: Vec<String>,
    /// A planted bug (debug builds only): the drill must find it.
    pub plant: Option<String>,
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

/// What a drill found.
pub struct Outcome {
    /// Everything that happened.
    pub history: Vec<Event>,
    /// What the checker says.
    pub checked: Checked,
    /// What the drill could not do as asked.
    pub notes: Vec<String>,
}

/// One thing to do to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Leader(Hurt),
    Follower(Hurt),
    AllKilled,
    Restart(usize),
}

/// Runs a drill; blocks. `told` hears of every step.
pub fn run(plan: &DrillPlan, mut told: impl FnMut(&str)) -> io::Result<Outcome> {
    let recorder = Arc::new(Recorder::start());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut notes = Vec::new();
    let (mut nodes, topic) = match &plan.running {
        None => {
            let mut settings = vec!["simulatePowerLoss=true".to_owned()];
            settings.extend(plan.settings.iter().cloned());
            let (nodes, note) = Nodes::new(plan.folder.clone(), settings, plan.plant.clone(), recorder.clone())?;
            notes.extend(note);
            (nodes, "drill".to_owned())
        }
        Some(cluster) => {
            notes.push("a kill takes the process here, not what the kernel holds of its files".to_owned());
            let addresses = runtime.block_on(load::nodes_behind(&cluster.address))?;
            let nodes = Nodes::running_at(addresses, cluster.start.clone(), recorder.clone())?;
            (nodes, format!("drill-{:08x}", plan.seed as u32))
        }
    };
    let steps = steps(plan, nodes.has_network(), &mut notes);
    for note in &notes {
        told(note);
    }
    let addresses: Vec<_> = (0..NODES).map(|node| nodes.address(node)).collect();
    let clients = {
        let _entered = runtime.enter();
        Clients::new(&addresses, &topic, recorder.clone()).map_err(io::Error::other)?
    };
    nodes.start_all()?;
    runtime.block_on(wait_for_leader(&clients, &mut nodes))?;
    runtime.block_on(clients.create_topic()).map_err(|status| io::Error::other(status.to_string()))?;
    let (sending, receiving) = (CancellationToken::new(), CancellationToken::new());
    let driver = Driver::start(&addresses, &topic, recorder.clone(), plan.rate, sending.clone(), receiving.clone())?;
    std::thread::sleep(WARM_UP);
    let hurt = steps.iter().try_for_each(|step| {
        let leader = runtime.block_on(wait_for_leader(&clients, &mut nodes))?;
        told(&take(*step, leader, &mut nodes)?);
        Ok::<(), io::Error>(())
    });
    let settled = hurt.and_then(|()| runtime.block_on(wait_for_leader(&clients, &mut nodes)));
    if settled.is_ok() {
        std::thread::sleep(COOL_DOWN);
    }
    sending.cancel();
    driver.wait_for_senders();
    settled?;
    told("waiting until everything is received and settled");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, clients.drained(DRAIN_WITHIN));
    receiving.cancel();
    driver.wait()?;
    told("reading every replica");
    local.block_on(&runtime, clients.audit(&nodes.running()));
    if plan.running.is_some()
        && let Err(status) = runtime.block_on(clients.clean_up())
    {
        notes.push(format!("topic {topic} and its groups were left behind: {}", status.message()));
    }
    drop(nodes);
    let history = recorder.events();
    let checked = check::check(&history, &demands(plan, &steps));
    Ok(Outcome { history, checked, notes })
}

/// What a run of these steps must at least have seen.
fn demands(plan: &DrillPlan, steps: &[Step]) -> Demands {
    let hurt = |step: &&Step| !matches!(step, Step::Restart(_));
    let led = |step: &&Step| matches!(step, Step::Leader(_) | Step::AllKilled);
    Demands {
        sends: plan.rate as usize * steps.len(),
        faults: steps.iter().filter(hurt).count(),
        leader_faults: steps.iter().filter(led).count(),
        redeliveries: steps.len() * 2,
        lateness_us: u64::try_from(plan.lateness.as_micros()).unwrap_or(u64::MAX),
        outage_max_us: u64::try_from(OUTAGE_MAX.as_micros()).unwrap_or(u64::MAX),
    }
}

fn steps(plan: &DrillPlan, has_network: bool, notes: &mut Vec<String>) -> Vec<Step> {
    let cut = if has_network { Hurt::CutOff } else { Hurt::Paused };
    let cut_is_meant = matches!(plan.scenario, Scenario::IsolateLeader | Scenario::Random | Scenario::Quick);
    if !has_network && cut_is_meant {
        notes.push(
            "a leader cannot be cut off here; it is paused instead (as root, with a cluster of its own: the real thing)"
                .to_owned(),
        );
    }
    let restarts = || (0..NODES).map(Step::Restart);
    let mut rng = SeededRng::new(plan.seed);
    let mut steps = Vec::new();
    for _ in 0..plan.rounds {
        match plan.scenario {
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

/// Does one step and puts everything right again; what it did.
fn take(step: Step, leader: usize, nodes: &mut Nodes) -> io::Result<String> {
    let follower = (leader + 1) % NODES;
    let said = match step {
        Step::Leader(how) => {
            hurt_and_heal(nodes, leader, how, true)?;
            format!("{} n{leader}, the leader", how.name())
        }
        Step::Follower(how) => {
            hurt_and_heal(nodes, follower, how, false)?;
            format!("{} n{follower}, a follower", how.name())
        }
        Step::AllKilled => {
            for node in 0..NODES {
                nodes.hurt(node, Hurt::Killed, node == leader)?;
            }
            for node in 0..NODES {
                nodes.heal(node, Hurt::Killed)?;
            }
            "killed all nodes at once".to_owned()
        }
        Step::Restart(node) => {
            hurt_and_heal(nodes, node, Hurt::Stopped, node == leader)?;
            format!("stopped and started n{node}{}", if node == leader { ", the leader" } else { "" })
        }
    };
    std::thread::sleep(Duration::from_millis(1000));
    Ok(said)
}

fn hurt_and_heal(nodes: &mut Nodes, node: usize, how: Hurt, led: bool) -> io::Result<()> {
    nodes.hurt(node, how, led)?;
    std::thread::sleep(match how {
        Hurt::Killed => Duration::from_millis(1500),
        Hurt::Paused | Hurt::CutOff => Duration::from_secs(2),
        Hurt::Stopped => Duration::from_millis(200),
    });
    nodes.heal(node, how)
}

/// Waits until all nodes that run answer and one leads.
async fn wait_for_leader(clients: &Clients, nodes: &mut Nodes) -> io::Result<usize> {
    let until = Instant::now() + LEADER_WITHIN;
    loop {
        let running = nodes.running();
        if let Some(leader) = clients.leader(running.len()).await.filter(|leader| running.contains(leader)) {
            return Ok(leader);
        }
        if Instant::now() >= until {
            return Err(io::Error::other(format!("the nodes found no leader in {LEADER_WITHIN:?}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The clients, on a thread of their own: what is done to the nodes must not hold them up.
struct Driver {
    thread: std::thread::JoinHandle<io::Result<()>>,
    sent: CancellationToken,
}

impl Driver {
    fn start(
        addresses: &[Address],
        topic: &str,
        recorder: Arc<Recorder>,
        rate: u32,
        sending: CancellationToken,
        receiving: CancellationToken,
    ) -> io::Result<Self> {
        let sent = CancellationToken::new();
        let (addresses, topic, all_sent) = (addresses.to_vec(), topic.to_owned(), sent.clone());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let local = tokio::task::LocalSet::new();
            // Set however the thread ends: nobody must wait for it in vain.
            let all_sent = all_sent.drop_guard();
            local.block_on(&runtime, async {
                let clients = Clients::new(&addresses, &topic, recorder).map_err(io::Error::other)?;
                let produce = async {
                    clients.produce(rate, sending).await;
                    drop(all_sent);
                };
                tokio::join!(produce, clients.consume(receiving.clone()), clients.look(receiving));
                Ok(())
            })
        };
        let thread = std::thread::Builder::new().name("clients".to_owned()).spawn(run)?;
        Ok(Self { thread, sent })
    }

    fn wait_for_senders(&self) {
        while !self.sent.is_cancelled() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the clients' thread panicked")))
    }
}
