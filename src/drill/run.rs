//! A drill from start to verdict: the cluster, the clients beside it, the steps, the audit.

use std::collections::BTreeMap;
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
use crate::drill::history::{Event, OperationKind, Phase, Recorder};
use crate::drill::nodes::{Hurt, Nodes, Role};
use crate::drill::not_done::{not_done, what_was_not_done};
use crate::drill::own_cluster::{NODES, RESTORED};
use crate::drill::plan::{DrillPlan, Length, Means, Step};
use crate::drill::produce::DELAY_MAX;
use crate::env::rng::SeededRng;
use crate::proto::admin::change_members_request::{Add, Change, Remove, Replace};

/// A cluster that finds no leader in this time is lost.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// Load before the first fault, and after the last one was healed.
const WARM_UP: Duration = Duration::from_secs(2);
const COOL_DOWN: Duration = Duration::from_secs(2);
/// Every lease has ended by then, and what was delivered again is settled.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// So long a majority is away.
const MAJORITY_AWAY: Duration = Duration::from_secs(3);
/// Whoever has an empty disk and is not refused helps to elect a leader within this.
const ELECTED_WITHIN: Duration = Duration::from_secs(20);
/// So long a node misses what the others acknowledge.
const MISSED: Duration = Duration::from_secs(1);
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
                // What the drill sent is audited, however full the disks are.
                "cleanFileForciblyEnable=false",
            ];
            // Sealed segments, which are read through all the time.
            let rotting = ["mappedFileSizeCommitLog=1MiB", "scrubRate=1GiB"];
            let rotting = rotting.into_iter().filter(|_| plan.damages_logs());
            // The drill's topic is kept for a day (`clients`): what it has is logged again, and the log begins later.
            let shortened = ["mappedFileSizeCommitLog=1MiB", "logRetentionBytes=2MiB", "memberWaitMs=1000"];
            let shortened = shortened.into_iter().filter(|_| plan.shortens_logs());
            let settings = own.into_iter().chain(rotting).chain(shortened).map(str::to_owned);
            let settings = settings.chain(plan.settings.iter().cloned()).collect();
            let clocks = plan.moves_clocks().then(|| Clocks::find(&plan.folder).ok()).flatten();
            let (folder, builds) = (plan.folder.clone(), plan.builds.clone());
            let (nodes, note) = Nodes::new(plan.nodes(), folder, settings, builds, clocks, recorder.clone())?;
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
    let (peers, disks, builds) = (nodes.is_own(), nodes.is_own(), nodes.is_own());
    let means = Means { network: nodes.can_cut_off(), clocks: nodes.can_move_clocks(), peers, disks, builds };
    notes.extend(plan.left_out(means).map_err(io::Error::other)?);
    for note in &notes {
        progress(note);
    }
    let all: Vec<_> = (0..plan.nodes()).map(|node| nodes.address(node)).collect();
    let addresses = all[..NODES].to_vec();
    let (clients, everyone) = {
        let _entered = runtime.enter();
        let to = |addresses| Clients::new(addresses, &topic, recorder.clone()).map_err(io::Error::other);
        (to(&addresses)?, to(&all)?)
    };
    (0..NODES).try_for_each(|node| nodes.start(node))?;
    runtime.block_on(wait_for_leader(&clients, &mut nodes))?;
    runtime.block_on(clients.create_topic_and_group()).map_err(|status| io::Error::other(status.to_string()))?;
    let (sending, receiving) = (CancellationToken::new(), CancellationToken::new());
    let asked_within = plan.asked_within();
    let load = (plan.rate, asked_within);
    let driver = Driver::start(&addresses, &topic, recorder.clone(), load, sending.clone(), receiving.clone())?;
    std::thread::sleep(WARM_UP);
    let mut steps = Vec::new();
    let mut next_step = Instant::now();
    let hurt = take_all(plan, means, &mut |step| {
        std::thread::sleep(next_step.saturating_duration_since(Instant::now()));
        next_step = Instant::now() + plan.every;
        if plan.shortens_logs() {
            // Made with the first of them; without a time of its own it would be as short as the log.
            runtime.block_on(clients.keep_dead_letters());
        }
        let leader = runtime.block_on(wait_for_leader(&clients, &mut nodes))?;
        let voters = || runtime.block_on(clients.settled_voters());
        let begin = |change| runtime.block_on(clients.begin_change(change));
        let change = |change, is_done: &IsDone<'_>| runtime.block_on(clients.change_until(change, is_done));
        let healed = |node| runtime.block_on(clients.healed(node));
        let leads = || runtime.block_on(clients.leader(1));
        let asked = Asked { voters: &voters, begin: &begin, see_through: &change, healed: &healed, leader: &leads };
        let said = match step {
            Step::Restore => {
                // Before requests are held up: from here on nobody is served.
                nodes.note_all(OperationKind::Fault, leader);
                let _closed = runtime.block_on(driver.gate().close());
                let said = take(step, leader, &mut nodes, &asked)?;
                driver.gate().ask_only(RESTORED);
                nodes.note_all(OperationKind::Heal, leader);
                said
            }
            Step::Compare => {
                let _closed = runtime.block_on(driver.gate().close());
                nodes.note(OperationKind::Held);
                runtime.block_on(everyone.compare(&nodes.running()));
                nodes.note(OperationKind::Released);
                "compared all replicas".to_owned()
            }
            _ => take(step, leader, &mut nodes, &asked)?,
        };
        progress(&said);
        steps.push(step);
        Ok(())
    });
    let mut settled = hurt.and_then(|()| runtime.block_on(wait_for_leader(&clients, &mut nodes)).map(drop));
    if let Err(error) = settled {
        // What was asked for and not done is a finding; what there is must be looked at all the same.
        let what = what_was_not_done(error)?;
        progress(&what);
        let not_done = Event::new("nemesis", Phase::Fail, OperationKind::NotDone);
        recorder.record(Event { kind: Some(what), ..not_done });
        settled = runtime.block_on(wait_for_leader(&clients, &mut nodes)).map(drop);
    }
    std::thread::sleep(COOL_DOWN);
    sending.cancel();
    driver.wait_for_senders();
    let is_led = settled.is_ok();
    progress("waiting until everything is received and settled");
    // What was sent last falls due.
    std::thread::sleep(DELAY_MAX);
    let local = tokio::task::LocalSet::new();
    if is_led {
        local.block_on(&runtime, clients.drained(DRAIN_WITHIN));
    }
    receiving.cancel();
    driver.wait()?;
    progress("reading every replica");
    let running: Vec<usize> = nodes.running().into_iter().filter(|node| *node < NODES).collect();
    local.block_on(&runtime, clients.compare(&running));
    let sent = u32::try_from(recorder.now() / 1_000_000).unwrap_or(u32::MAX).saturating_mul(plan.rate);
    local.block_on(&runtime, clients.audit(&running, AUDIT_WITHIN + sent * AUDIT_PER_MESSAGE));
    if plan.running.is_some()
        && let Err(status) = runtime.block_on(clients.clean_up())
    {
        notes.push(format!("topic {topic} and its groups were left behind: {}", status.message()));
    }
    nodes.note_starts();
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

/// Who votes: ids of replicas by the names of members.
type Voters = BTreeMap<String, String>;

/// Whether a change is done, by who votes.
type IsDone<'a> = dyn Fn(&Voters) -> bool + 'a;

/// What the cluster is asked by an operator.
struct Asked<'a> {
    /// Once no change of members is under way.
    voters: &'a dyn Fn() -> io::Result<Voters>,
    begin: &'a dyn Fn(Change) -> io::Result<()>,
    /// Until the voters are as wanted.
    see_through: &'a dyn Fn(Change, &IsDone<'_>) -> io::Result<()>,
    /// Until a node's log has no damage left.
    healed: &'a dyn Fn(usize) -> io::Result<()>,
    /// Who leads, as any node says.
    leader: &'a dyn Fn() -> Option<usize>,
}

/// Does one step and puts everything right again; what it did.
fn take(step: Step, leader: usize, nodes: &mut Nodes, asked: &Asked<'_>) -> io::Result<String> {
    let follower = (leader + 1) % NODES;
    let said = match step {
        Step::Leader(how) => {
            hurt_and_heal(nodes, leader, how, Role::Leader)?;
            see_whole(how, leader, asked)?;
            format!("{} n{leader}, the leader", how.name())
        }
        Step::Follower(how) => {
            hurt_and_heal(nodes, follower, how, Role::Follower)?;
            see_whole(how, follower, asked)?;
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
        Step::Replace(of) => {
            let node = if of == Role::Leader { leader } else { follower };
            let name = format!("n{node}");
            let replica = (asked.voters)()?.get(&name).cloned();
            nodes.hurt(node, Hurt::Wiped, role(node, leader))?;
            replace_wiped(nodes, node, replica.as_ref(), asked)?;
            format!("lost the disk of n{node}{} and replaced it", if node == leader { ", the leader," } else { "" })
        }
        Step::ComeBackEmpty => {
            let lacks = (leader + 2) % NODES;
            let replica = (asked.voters)()?.get(&format!("n{follower}")).cloned();
            nodes.hurt(lacks, Hurt::Killed, Role::Follower)?;
            std::thread::sleep(MISSED);
            nodes.hurt(follower, Hurt::Wiped, Role::Follower)?;
            nodes.note(OperationKind::MajorityLost);
            nodes.hurt(leader, Hurt::Killed, Role::Leader)?;
            nodes.start(follower)?;
            nodes.heal(lacks, Hurt::Killed)?;
            // Unless it is refused, it takes some time on a slow machine to elect somebody.
            let until = Instant::now() + ELECTED_WITHIN;
            std::thread::sleep(MAJORITY_AWAY);
            while nodes.is_alive(follower) && Instant::now() < until {
                if let Some(led) = (asked.leader)() {
                    return Err(not_done(format!("n{follower} was let back with an empty disk, and n{led} leads")));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            nodes.end_refused(follower)?;
            nodes.note(OperationKind::MajorityBack);
            nodes.heal(leader, Hurt::Killed)?;
            replace_wiped(nodes, follower, replica.as_ref(), asked)?;
            format!("lost the disk of n{follower}, saw it refused while the leader was away, and replaced it")
        }
        Step::Join(node) => {
            let address = nodes.peer_address(node).unwrap_or_default();
            nodes.start(node)?;
            let add = Change::Add(Add { name: format!("n{node}"), address });
            change_without_leader(nodes, leader, asked, add, node, true)?;
            format!("added n{node}, and killed n{leader}, the leader, meanwhile")
        }
        Step::Leave(node) => {
            let remove = Change::Remove(Remove { name: format!("n{node}") });
            change_without_leader(nodes, leader, asked, remove, node, false)?;
            format!("removed n{node}, and killed n{leader}, the leader, meanwhile")
        }
        Step::Restart(node) => {
            hurt_and_heal(nodes, node, Hurt::Stopped, role(node, leader))?;
            format!("stopped and started n{node}{}", if node == leader { ", the leader" } else { "" })
        }
        // The load of `run` has stopped.
        Step::Compare => String::new(),
        Step::BackUp => {
            // One that was restored is alone.
            let from = if nodes.running().contains(&follower) { follower } else { leader };
            nodes.back_up(from)?;
            format!("backed up n{from} at work")
        }
        Step::Restore => {
            nodes.restore(leader)?;
            "lost all nodes and restored a backup".to_owned()
        }
        Step::Upgrade(node) => {
            nodes.upgrade(node);
            hurt_and_heal(nodes, node, Hurt::Stopped, role(node, leader))?;
            format!("upgraded n{node}{}", if node == leader { ", the leader" } else { "" })
        }
    };
    std::thread::sleep(Duration::from_millis(1000));
    Ok(said)
}

/// Has a node replaced that has no disk any more and does not run; `replica` is the one that it was.
fn replace_wiped(nodes: &mut Nodes, node: usize, replica: Option<&String>, asked: &Asked<'_>) -> io::Result<()> {
    let name = format!("n{node}");
    let replace = Change::Replace(Replace { name: name.clone(), address: None, leaves: replica.cloned() });
    (asked.begin)(replace.clone())?;
    nodes.start(node)?;
    (asked.see_through)(replace, &|voters| voters.get(&name).is_some_and(|id| Some(id) != replica))?;
    nodes.heal(node, Hurt::Wiped)
}

/// What was damaged must be whole again before the next node is hurt: what is damaged on two nodes at once may be gone.
fn see_whole(how: Hurt, node: usize, asked: &Asked<'_>) -> io::Result<()> {
    if how == Hurt::Rotted {
        // Nothing is known of it before it is found.
        std::thread::sleep(SCRUBBED_WITHIN);
    }
    if how.rots() { (asked.healed)(node) } else { Ok(()) }
}

/// Begins a change, takes the leader away at once, and sees the change through.
fn change_without_leader(
    nodes: &mut Nodes,
    leader: usize,
    asked: &Asked<'_>,
    change: Change,
    node: usize,
    votes: bool,
) -> io::Result<()> {
    (asked.begin)(change.clone())?;
    // Another moment of the change each time: the leader looks every 200 ms.
    std::thread::sleep(Duration::from_millis(crate::env::rng::random_u64() % 400));
    hurt_and_heal(nodes, leader, Hurt::Killed, Role::Leader)?;
    let name = format!("n{node}");
    (asked.see_through)(change, &|voters| voters.contains_key(&name) == votes)
}

/// Hurts so many nodes that no majority is left.
fn take_away(nodes: &mut Nodes, which: &[usize], leader: usize, how: Hurt, length: Duration) -> io::Result<()> {
    for node in which {
        nodes.hurt(*node, how, role(*node, leader))?;
    }
    nodes.note(OperationKind::MajorityLost);
    std::thread::sleep(length);
    nodes.note(OperationKind::MajorityBack);
    which.iter().try_for_each(|node| nodes.heal(*node, how))
}

/// A scrub begins every second, and small logs are read at once.
const SCRUBBED_WITHIN: Duration = Duration::from_secs(6);

fn hurt_and_heal(nodes: &mut Nodes, node: usize, how: Hurt, role: Role) -> io::Result<()> {
    nodes.hurt(node, how, role)?;
    let length = match how {
        Hurt::Killed | Hurt::Wiped => Duration::from_millis(1500),
        Hurt::Paused | Hurt::CutOff | Hurt::Attacked => Duration::from_secs(2),
        Hurt::Stopped => Duration::from_millis(200),
        Hurt::Clock(_) => Duration::from_secs(3),
        Hurt::DiskFull => DISK_FULL,
        Hurt::DiskSlow => Duration::from_secs(5),
        Hurt::Rots => SCRUBBED_WITHIN,
        Hurt::Rotted => Duration::from_millis(500),
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
        // One that was let go again runs and is no member.
        let members = running.iter().filter(|node| **node < NODES).count();
        if let Some(leader) = clients.leader(members).await.filter(|leader| running.contains(leader)) {
            return Ok(leader);
        }
        if Instant::now() >= until {
            return Err(not_done(format!("the nodes found no leader in {LEADER_WITHIN:?}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::own_cluster::Builds;
    use crate::drill::plan::Scenario;

    fn steps(length: Length, seed: u64) -> Vec<Step> {
        let plan = DrillPlan {
            scenario: Scenario::Random,
            length,
            every: Duration::ZERO,
            rate: 200,
            seed,
            lateness: Duration::from_secs(1),
            gap: Duration::from_secs(1),
            folder: "nowhere".into(),
            settings: Vec::new(),
            builds: Builds::default(),
            running: None,
        };
        let means = Means { network: true, clocks: true, peers: true, disks: true, builds: true };
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
        let by_rounds = steps(Length::Rounds(400), 1);
        assert_eq!(by_rounds.len(), 400);
        assert_eq!(by_rounds, steps(Length::Rounds(400), 1));
        assert_ne!(by_rounds, steps(Length::Rounds(400), 2));
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
        let rot = [Step::Leader(Hurt::Rots), Step::Follower(Hurt::Rotted)];
        let others = [Step::AllKilled, Step::Leader(Hurt::CutOff), Step::Follower(Hurt::Killed), Step::Restart(0)];
        for step in others.into_iter().chain(disks).chain(rot) {
            assert!(by_rounds.contains(&step), "{step:?}");
        }
    }
}
