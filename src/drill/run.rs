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
use crate::drill::clock::Clocks;
use crate::drill::driver::Driver;
use crate::drill::history::{Event, OperationKind, Recorder};
use crate::drill::nodes::{Hurt, NODES, Nodes, Role};
use crate::drill::plan::{DrillPlan, Length, Means, Step};
use crate::drill::produce::DELAY_MAX;
use crate::env::rng::SeededRng;

/// A cluster that finds no leader in this time is lost.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// Load before the first fault, and after the last one was healed.
const WARM_UP: Duration = Duration::from_secs(2);
const COOL_DOWN: Duration = Duration::from_secs(2);
/// Every lease has ended by then, and what was delivered again is settled.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// So long a majority is away.
const MAJORITY_AWAY: Duration = Duration::from_secs(3);
/// So long a disk is full.
const DISK_FULL: Duration = Duration::from_secs(5);
/// Time to read a replica, and more for each message of a long drill.
const AUDIT_WITHIN: Duration = Duration::from_secs(60);
const AUDIT_PER_MESSAGE: Duration = Duration::from_millis(2);

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
///
/// * Errors: the cluster cannot be started or finds no leader, or what was asked for cannot be done here.
pub fn run(plan: &DrillPlan, mut progress: impl FnMut(&str)) -> io::Result<Outcome> {
    let recorder = Arc::new(Recorder::start());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut notes = Vec::new();
    let (mut nodes, topic) = match &plan.running {
        None => {
            // Producers are asked soon about what they left open, so that a short drill sees it.
            let own = [
                "simulatePowerLoss=true",
                "transactionTimeOut=1000",
                "transactionCheckInterval=2000",
                "diskReserve=10%,16MiB",
            ];
            let settings = own.map(str::to_owned).into_iter().chain(plan.settings.iter().cloned()).collect();
            let clocks = plan.moves_clocks().then(|| Clocks::find(&plan.folder).ok()).flatten();
            let (folder, planted) = (plan.folder.clone(), plan.planted_bug.clone());
            let (nodes, note) = Nodes::new(folder, settings, planted, clocks, recorder.clone())?;
            notes.extend(note);
            (nodes, "drill".to_owned())
        }
        Some(cluster) => {
            // Before anything is asked of that cluster.
            plan.left_out(Means::default()).map_err(io::Error::other)?;
            notes.push("a kill takes the process here, not what the kernel holds of its files".to_owned());
            let addresses = runtime.block_on(clients::nodes_behind(&cluster.address))?;
            let nodes = Nodes::running_at(addresses, cluster.start.clone(), recorder.clone())?;
            (nodes, format!("drill-{:08x}", plan.seed as u32))
        }
    };
    let (peers, disks) = (nodes.is_own(), nodes.is_own());
    let means = Means { network: nodes.can_cut_off(), clocks: nodes.can_move_clocks(), peers, disks };
    notes.extend(plan.left_out(means).map_err(io::Error::other)?);
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
    runtime.block_on(clients.create_topic_and_group()).map_err(|status| io::Error::other(status.to_string()))?;
    let (sending, receiving) = (CancellationToken::new(), CancellationToken::new());
    let asked_within = plan.asked_within();
    let load = (plan.rate, asked_within);
    let driver = Driver::start(&addresses, &topic, recorder.clone(), load, sending.clone(), receiving.clone())?;
    std::thread::sleep(WARM_UP);
    let mut steps = Vec::new();
    let hurt = take_all(plan, means, &mut |step| {
        let leader = runtime.block_on(wait_for_leader(&clients, &mut nodes))?;
        progress(&take(step, leader, &mut nodes)?);
        steps.push(step);
        Ok(())
    });
    let settled = hurt.and_then(|()| runtime.block_on(wait_for_leader(&clients, &mut nodes)));
    if settled.is_ok() {
        std::thread::sleep(COOL_DOWN);
    }
    sending.cancel();
    driver.wait_for_senders();
    settled?;
    progress("waiting until everything is received and settled");
    // What was sent last falls due.
    std::thread::sleep(DELAY_MAX);
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, clients.drained(DRAIN_WITHIN));
    receiving.cancel();
    driver.wait()?;
    progress("reading every replica");
    let running = nodes.running();
    local.block_on(&runtime, clients.compare(&running));
    let sent = u32::try_from(recorder.now() / 1_000_000).unwrap_or(u32::MAX).saturating_mul(plan.rate);
    local.block_on(&runtime, clients.audit(&running, AUDIT_WITHIN + sent * AUDIT_PER_MESSAGE));
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

/// Rounds of the scenario, as many as are asked for; ends with the first step that fails.
fn take_all(plan: &DrillPlan, means: Means, take: &mut dyn FnMut(Step) -> io::Result<()>) -> io::Result<()> {
    let mut rng = SeededRng::new(plan.seed);
    let started = Instant::now();
    for number in 0.. {
        let is_done = match plan.length {
            Length::Rounds(rounds) => number >= rounds,
            Length::For(length) => started.elapsed() >= length,
        };
        if is_done {
            break;
        }
        plan.round(number, means, &mut rng).into_iter().try_for_each(&mut *take)?;
    }
    Ok(())
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
            take_away(nodes, &[0, 1, 2], leader, Hurt::Killed, Duration::ZERO)?;
            "killed all nodes at once".to_owned()
        }
        Step::AllDisksFull => {
            for node in 0..NODES {
                nodes.hurt(node, Hurt::DiskFull, role(node, leader))?;
            }
            std::thread::sleep(DISK_FULL);
            (0..NODES).try_for_each(|node| nodes.heal(node, Hurt::DiskFull))?;
            "filled all disks at once".to_owned()
        }
        Step::Majority { how, with_leader } => {
            let other = (leader + 2) % NODES;
            let two = [if with_leader { leader } else { other }, follower];
            take_away(nodes, &two, leader, how, MAJORITY_AWAY)?;
            format!("{} n{} and n{}: no majority", how.name(), two[0], two[1])
        }
        Step::Restart(node) => {
            hurt_and_heal(nodes, node, Hurt::Stopped, role(node, leader))?;
            format!("stopped and started n{node}{}", if node == leader { ", the leader" } else { "" })
        }
    };
    std::thread::sleep(Duration::from_millis(1000));
    Ok(said)
}

/// Hurts so many nodes that no majority is left.
fn take_away(nodes: &mut Nodes, which: &[usize], leader: usize, how: Hurt, length: Duration) -> io::Result<()> {
    for node in which {
        nodes.hurt(*node, how, role(*node, leader))?;
    }
    nodes.note_majority(OperationKind::MajorityLost);
    std::thread::sleep(length);
    nodes.note_majority(OperationKind::MajorityBack);
    which.iter().try_for_each(|node| nodes.heal(*node, how))
}

fn hurt_and_heal(nodes: &mut Nodes, node: usize, how: Hurt, role: Role) -> io::Result<()> {
    nodes.hurt(node, how, role)?;
    let length = match how {
        Hurt::Killed => Duration::from_millis(1500),
        Hurt::Paused | Hurt::CutOff | Hurt::Attacked => Duration::from_secs(2),
        Hurt::Stopped => Duration::from_millis(200),
        Hurt::Clock(_) => Duration::from_secs(3),
        Hurt::DiskFull => DISK_FULL,
        Hurt::DiskSlow => Duration::from_secs(5),
    };
    nodes.suffer(node, how, length)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::plan::Scenario;

    fn steps(length: Length, seed: u64) -> Vec<Step> {
        let plan = DrillPlan {
            scenario: Scenario::Random,
            length,
            rate: 200,
            seed,
            lateness: Duration::from_secs(1),
            gap: Duration::from_secs(1),
            folder: "nowhere".into(),
            settings: Vec::new(),
            planted_bug: None,
            running: None,
        };
        let means = Means { network: true, clocks: true, peers: true, disks: true };
        let mut steps = Vec::new();
        let mut take = |step| {
            steps.push(step);
            std::thread::sleep(Duration::from_micros(100));
            Ok(())
        };
        take_all(&plan, means, &mut take).unwrap();
        steps
    }

    #[test]
    fn a_drill_goes_on_for_its_rounds_or_its_time_and_a_seed_decides_what_it_does() {
        let by_rounds = steps(Length::Rounds(200), 1);
        assert_eq!(by_rounds.len(), 200);
        assert_eq!(by_rounds, steps(Length::Rounds(200), 1));
        assert_ne!(by_rounds, steps(Length::Rounds(200), 2));
        let length = Duration::from_millis(60);
        let started = Instant::now();
        let by_time = steps(Length::For(length), 1);
        assert!(started.elapsed() >= length && by_time.len() > 1);
        let shared = by_time.len().min(by_rounds.len());
        assert_eq!(by_time[..shared], by_rounds[..shared], "the same steps in the same order");
        for how in [Hurt::Killed, Hurt::Stopped, Hurt::Paused] {
            let is_it = |step: &Step| matches!(step, Step::Majority { how: its, .. } if *its == how);
            assert!(by_rounds.iter().any(is_it), "{how:?}");
        }
        let disks = [Step::AllDisksFull, Step::Leader(Hurt::DiskFull), Step::Leader(Hurt::DiskSlow)];
        let others = [Step::AllKilled, Step::Leader(Hurt::CutOff), Step::Follower(Hurt::Killed), Step::Restart(0)];
        for step in others.into_iter().chain(disks) {
            assert!(by_rounds.contains(&step), "{step:?}");
        }
    }
}
