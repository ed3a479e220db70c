//! A drill from start to verdict: the cluster, the clients beside it, the steps, the audit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::drill::check;
use crate::drill::check::Checked;
use crate::drill::clients;
use crate::drill::clients::Clients;
use crate::drill::driver::Driver;
use crate::drill::history::{Event, Recorder};
use crate::drill::nodes::{Hurt, NODES, Nodes, Role};
use crate::drill::plan::{DrillPlan, Step};

/// A cluster that finds no leader in this time is lost.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// Load before the first fault, and after the last one was healed.
const WARM_UP: Duration = Duration::from_secs(2);
const COOL_DOWN: Duration = Duration::from_secs(2);
/// Every lease has ended by then, and what was delivered again is settled.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);

/// What a drill found.
pub struct Outcome {
    /// Everything that happened.
    pub history: Vec<Event>,
    /// What the checker says.
    pub checked: Checked,
    /// What the drill could not do as asked.
    pub notes: Vec<String>,
}

/// Runs a drill; blocks. `progress` is called with a line for each step.
pub fn run(plan: &DrillPlan, mut progress: impl FnMut(&str)) -> io::Result<Outcome> {
    let recorder = Arc::new(Recorder::start());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut notes = Vec::new();
    let (mut nodes, topic) = match &plan.running {
        None => {
            let mut settings = vec!["simulatePowerLoss=true".to_owned()];
            settings.extend(plan.settings.iter().cloned());
            let (nodes, note) = Nodes::new(plan.folder.clone(), settings, plan.planted_bug.clone(), recorder.clone())?;
            notes.extend(note);
            (nodes, "drill".to_owned())
        }
        Some(cluster) => {
            notes.push("a kill takes the process here, not what the kernel holds of its files".to_owned());
            let addresses = runtime.block_on(clients::nodes_behind(&cluster.address))?;
            let nodes = Nodes::running_at(addresses, cluster.start.clone(), recorder.clone())?;
            (nodes, format!("drill-{:08x}", plan.seed as u32))
        }
    };
    let steps = plan.steps(nodes.has_network(), &mut notes);
    for note in &notes {
        progress(note);
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
        progress(&take(*step, leader, &mut nodes)?);
        Ok::<(), io::Error>(())
    });
    let settled = hurt.and_then(|()| runtime.block_on(wait_for_leader(&clients, &mut nodes)));
    if settled.is_ok() {
        std::thread::sleep(COOL_DOWN);
    }
    sending.cancel();
    driver.wait_for_senders();
    settled?;
    progress("waiting until everything is received and settled");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, clients.drained(DRAIN_WITHIN));
    receiving.cancel();
    driver.wait()?;
    progress("reading every replica");
    local.block_on(&runtime, clients.audit(&nodes.running()));
    if plan.running.is_some()
        && let Err(status) = runtime.block_on(clients.clean_up())
    {
        notes.push(format!("topic {topic} and its groups were left behind: {}", status.message()));
    }
    drop(nodes);
    let history = recorder.events();
    let checked = check::check(&history, &plan.demands(&steps));
    Ok(Outcome { history, checked, notes })
}

/// Does one step and puts everything right again; what it did.
fn take(step: Step, leader: usize, nodes: &mut Nodes) -> io::Result<String> {
    let follower = (leader + 1) % NODES;
    let said = match step {
        Step::Leader(how) => {
            hurt_and_heal(nodes, leader, how, Role::Leader)?;
            format!("{} n{leader}, the leader", how.name())
        }
        Step::Follower(how) => {
            hurt_and_heal(nodes, follower, how, Role::Follower)?;
            format!("{} n{follower}, a follower", how.name())
        }
        Step::AllKilled => {
            for node in 0..NODES {
                nodes.hurt(node, Hurt::Killed, role(node, leader))?;
            }
            for node in 0..NODES {
                nodes.heal(node, Hurt::Killed)?;
            }
            "killed all nodes at once".to_owned()
        }
        Step::Restart(node) => {
            hurt_and_heal(nodes, node, Hurt::Stopped, role(node, leader))?;
            format!("stopped and started n{node}{}", if node == leader { ", the leader" } else { "" })
        }
    };
    std::thread::sleep(Duration::from_millis(1000));
    Ok(said)
}

fn hurt_and_heal(nodes: &mut Nodes, node: usize, how: Hurt, role: Role) -> io::Result<()> {
    nodes.hurt(node, how, role)?;
    std::thread::sleep(match how {
        Hurt::Killed => Duration::from_millis(1500),
        Hurt::Paused | Hurt::CutOff => Duration::from_secs(2),
        Hurt::Stopped => Duration::from_millis(200),
    });
    nodes.heal(node, how)
}

fn role(node: usize, leader: usize) -> Role {
    if node == leader { Role::Leader } else { Role::Follower }
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
