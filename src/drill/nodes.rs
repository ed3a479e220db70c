//! The nodes that are hurt and healed: three brokers of this very program, or a cluster of this machine that runs
//! already.
//!
//! Of its own, only processes it started are ever signalled, and none outlives it. Those of a running cluster stay.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Address;
use crate::drill::clock::Clocks;
use crate::drill::history::{Event, FULL_DISK, OperationKind, Phase, Recorder};
use crate::drill::net::Network;
use crate::drill::not_done::not_done;
use crate::drill::own_cluster::{Builds, NODES, Own, RESTORED, free_ports};
use crate::drill::rot;
use crate::env::rng::{SeededRng, random_u64};
use crate::env::{disk, process};

/// Longest time for a node to stop after a signal, and to start.
const STOP_WITHIN: Duration = Duration::from_secs(15);
const START_WITHIN: Duration = Duration::from_secs(30);
/// A clock that drifts is moved this often.
const CLOCK_STEP: Duration = Duration::from_millis(50);
/// So long a node under load takes for a segment, which a drill of damage makes small.
const SEALED_WITHIN: Duration = Duration::from_secs(60);
/// Stands for a node's name in the command that starts it.
const NAME: &str = "{}";

/// The nodes and their processes.
pub struct Nodes {
    place: Cluster,
    processes: Vec<Option<Running>>,
    recorder: Arc<Recorder>,
}

enum Cluster {
    Own(Box<Own>),
    Running {
        addresses: Vec<Address>,
        /// Starts a node, by the shell.
        start: String,
    },
}

enum Running {
    Child(Child),
    Process(u32),
}

impl Running {
    fn id(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Process(id) => *id,
        }
    }

    /// Why it does not run any more.
    fn ended(&mut self) -> io::Result<Option<String>> {
        match self {
            Self::Child(child) => Ok(child.try_wait()?.map(|status| status.to_string())),
            Self::Process(id) => Ok((!process::is_running(*id)).then(|| "ended by itself".to_owned())),
        }
    }

    fn kill(mut self) -> io::Result<()> {
        match &mut self {
            Self::Child(child) => child.kill(),
            Self::Process(id) => process::signal(*id, process::Signal::Kill),
        }?;
        self.wait("killed")
    }

    fn wait(mut self, how: &str) -> io::Result<()> {
        let until = Instant::now() + STOP_WITHIN;
        while self.ended()?.is_none() {
            if Instant::now() >= until {
                if let Self::Child(child) = &mut self {
                    // None outlives the drill.
                    child.kill()?;
                    child.wait()?;
                }
                return Err(not_done(format!("process {} was {how} and did not end in {STOP_WITHIN:?}", self.id())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// How a node is hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hurt {
    /// `kill -9`.
    Killed,
    /// SIGSTOP.
    Paused,
    /// Cut off from its peers.
    CutOff,
    /// SIGTERM, waited for.
    Stopped,
    /// Its time of day jumps, and back when it is healed.
    Clock(Clock),
    /// Strangers speak to its peer port.
    Attacked,
    /// Its disk is full.
    DiskFull,
    /// Its disk takes long for each sync.
    DiskSlow,
    /// Killed, and its disk is gone.
    Wiped,
    /// Its log is damaged while it runs.
    Rots,
    /// `kill -9`, and its log is damaged before it is started again.
    Rotted,
}

/// What happens to a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// An hour ahead.
    Ahead,
    /// An hour behind.
    Behind,
    /// Seventy years ahead.
    FarAhead,
    /// A tenth too fast.
    Fast,
}

impl Clock {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Ahead, Self::Behind, Self::FarAhead, Self::Fast];

    /// How far ahead a clock is, in milliseconds, once it has been moved for so long.
    fn ahead_ms(self, since: Duration) -> i64 {
        match self {
            Self::Ahead => 3_600_000,
            Self::Behind => -3_600_000,
            Self::FarAhead => 70 * 365 * 86_400_000,
            Self::Fast => i64::try_from(since.as_millis() / 10).unwrap_or(i64::MAX),
        }
    }
}

/// What a node was when it was hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
}

impl Hurt {
    /// Whether a log is damaged.
    pub fn rots(self) -> bool {
        matches!(self, Self::Rots | Self::Rotted)
    }

    /// Its name in the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "kill",
            Self::Paused => "pause",
            Self::CutOff => "isolate",
            Self::Stopped => "stop",
            Self::Clock(Clock::Ahead) => "clock-ahead",
            Self::Clock(Clock::Behind) => "clock-behind",
            Self::Clock(Clock::FarAhead) => "clock-far-ahead",
            Self::Clock(Clock::Fast) => "clock-fast",
            Self::Attacked => "hostile-peers",
            Self::DiskFull => FULL_DISK,
            Self::DiskSlow => "slow-disk",
            Self::Wiped => "wipe",
            Self::Rots => "rots",
            Self::Rotted => "rotted",
        }
    }
}

impl Nodes {
    /// Prepares a cluster in a folder; `settings` are configuration keys, `clocks` moves the nodes' clocks.
    pub fn new(
        count: usize,
        folder: PathBuf,
        settings: Vec<String>,
        builds: Builds,
        clocks: Option<Clocks>,
        recorder: Arc<Recorder>,
    ) -> io::Result<(Self, Option<String>)> {
        // In namespaces of their own all nodes can have the same ports.
        let (network, note) = match Network::make(count) {
            Ok(network) => (Some(network), None),
            Err(error) => (None, Some(format!("no network namespaces ({error})"))),
        };
        let ports = match &network {
            Some(_) => vec![[8081, 10911, 40911]; count],
            None => free_ports(count)?,
        };
        let processes = (0..count).map(|_| None).collect();
        let upgraded = vec![false; count];
        let restored = None;
        let backups = 0;
        let own = Own { folder, network, nodes: count, ports, settings, builds, upgraded, restored, backups, clocks };
        let place = Cluster::Own(Box::new(own));
        Ok((Self { place, processes, recorder }, note))
    }

    /// Takes the nodes of a cluster that runs on this machine; `start` is a shell command that starts the node whose
    /// name takes the place of `{}`.
    pub fn running_at(addresses: Vec<Address>, start: String, recorder: Arc<Recorder>) -> io::Result<Self> {
        let found = |address: &Address| {
            let id = process::listener_of(address.port).ok_or_else(|| {
                io::Error::other(format!("no process of this machine that we may see listens on {address}"))
            })?;
            Ok(Some(Running::Process(id)))
        };
        let processes = addresses.iter().map(found).collect::<io::Result<_>>()?;
        Ok(Self { place: Cluster::Running { addresses, start }, processes, recorder })
    }

    /// Whether a node can be cut off from its peers.
    pub fn can_cut_off(&self) -> bool {
        self.network().is_some()
    }

    /// Whether a node's clock can be moved.
    pub fn can_move_clocks(&self) -> bool {
        self.clocks().is_some()
    }

    /// Whether the peer ports are known.
    pub fn is_own(&self) -> bool {
        matches!(self.place, Cluster::Own(_))
    }

    fn own(&self) -> Option<&Own> {
        match &self.place {
            Cluster::Own(own) => Some(own),
            Cluster::Running { .. } => None,
        }
    }

    fn clocks(&self) -> Option<&Clocks> {
        match &self.place {
            Cluster::Own(own) => own.clocks.as_ref(),
            Cluster::Running { .. } => None,
        }
    }

    fn network(&self) -> Option<&Network> {
        match &self.place {
            Cluster::Own(own) => own.network.as_ref(),
            Cluster::Running { .. } => None,
        }
    }

    /// Where clients reach a node.
    pub fn address(&self, node: usize) -> Address {
        match &self.place {
            Cluster::Own(own) => own.address(node),
            Cluster::Running { addresses, .. } => addresses[node].clone(),
        }
    }

    /// Where a node's peers reach it; `None` in a cluster that is not our own.
    pub fn peer_address(&self, node: usize) -> Option<String> {
        self.own().map(|own| format!("{}:{}", own.peer_host(node), own.ports[node][2]))
    }

    /// Starts a node that does not run.
    pub fn start(&mut self, node: usize) -> io::Result<()> {
        if self.processes[node].is_some() {
            return Ok(());
        }
        self.processes[node] = Some(match &self.place {
            Cluster::Own(own) => Running::Child(own.start(node)?),
            Cluster::Running { addresses, start } => restart(node, addresses[node].port, start)?,
        });
        Ok(())
    }

    /// Hurts a node and records it.
    pub fn hurt(&mut self, node: usize, how: Hurt, role: Role) -> io::Result<()> {
        let event = Event {
            node: Some(format!("n{node}")),
            kind: Some(how.name().to_owned()),
            led: Some(role == Role::Leader),
            ..Event::new("nemesis", Phase::Info, OperationKind::Fault)
        };
        self.recorder.record(event);
        match how {
            Hurt::Killed => self.end(node, Running::kill),
            Hurt::Wiped => {
                self.end(node, Running::kill)?;
                self.own().map_or(Ok(()), |own| disk::remove_folder(&own.data_folder(node)))
            }
            Hurt::Paused => self.signal(node, process::Signal::Stop),
            Hurt::CutOff => self.network().map_or(Ok(()), |network| network.cut_off(node)),
            Hurt::Stopped => {
                self.signal(node, process::Signal::Terminate)?;
                self.end(node, |process| process.wait("told to stop"))
            }
            Hurt::Clock(clock) => self.move_clock(node, clock.ahead_ms(Duration::ZERO)),
            // The attack is what the time until it is healed is filled with.
            Hurt::Attacked => Ok(()),
            Hurt::DiskFull => self.own().map_or(Ok(()), |own| own.fill_disk(node)),
            Hurt::DiskSlow => self.own().map_or(Ok(()), |own| own.slow_disk(node)),
            Hurt::Rots => self.rot(node, rot::Node::Runs),
            Hurt::Rotted => {
                self.end(node, Running::kill)?;
                self.rot(node, rot::Node::Stopped)
            }
        }
    }

    /// Whether a node runs; one that ended by itself is not recorded.
    pub fn is_alive(&mut self, node: usize) -> bool {
        self.processes[node].as_mut().is_some_and(|process| matches!(process.ended(), Ok(None)))
    }

    /// Ends a node that the others were to refuse, so that it may have ended by itself.
    pub fn end_refused(&mut self, node: usize) -> io::Result<()> {
        self.end(node, Running::kill)
    }

    /// From its next start on a node runs the new build.
    pub fn upgrade(&mut self, node: usize) {
        if let Cluster::Own(own) = &mut self.place {
            own.upgraded[node] = true;
        }
    }

    /// Notes in the history that all nodes are lost, or that there are again as many as there will be.
    pub fn note_all(&self, f: OperationKind, leader: usize) {
        for node in 0..NODES {
            let led = (f == OperationKind::Fault).then_some(node == leader);
            let kind = Some("lost".to_owned());
            self.recorder.record(Event {
                node: Some(format!("n{node}")),
                kind,
                led,
                ..Event::new("nemesis", Phase::Info, f)
            });
        }
    }

    /// Makes a backup of a node that is used, checks it, and has it restored beside, for nobody.
    pub fn back_up(&mut self, from: usize) -> io::Result<()> {
        let Cluster::Own(own) = &mut self.place else { return Ok(()) };
        let (backup, number) = own.back_up(from)?;
        own.restore(&backup, &own.folder.join(format!("restored-beside-{number}")))?;
        disk::remove_folder(&own.folder.join(format!("restored-beside-{number}")))?;
        disk::remove_folder(backup.as_ref())
    }

    /// Makes a backup of a node, takes all nodes away for good, and starts n0 as what was restored.
    pub fn restore(&mut self, from: usize) -> io::Result<()> {
        let Cluster::Own(own) = &mut self.place else { return Ok(()) };
        let (backup, number) = own.back_up(from)?;
        (0..NODES).try_for_each(|node| self.end(node, Running::kill))?;
        let Cluster::Own(own) = &mut self.place else { return Ok(()) };
        let store = own.folder.join(format!("restored-{number}"));
        own.restore(&backup, &store)?;
        own.restored = Some(store);
        self.start(RESTORED)
    }

    /// Damages the log of a node, and writes down how; waits until there is something to damage.
    fn rot(&mut self, node: usize, does: rot::Node) -> io::Result<()> {
        let Some(own) = self.own() else { return Ok(()) };
        let until = Instant::now() + SEALED_WITHIN;
        let how = loop {
            if let Some(how) = rot::damage(&own.log_folder(node), does, &mut SeededRng::new(random_u64()))? {
                break how;
            }
            if Instant::now() >= until {
                return Err(io::Error::other(format!(
                    "n{node} sealed no segment in {SEALED_WITHIN:?}: nothing to damage"
                )));
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let (node, kind) = (Some(format!("n{node}")), Some(how));
        self.recorder.record(Event { node, kind, ..Event::new("nemesis", Phase::Info, OperationKind::Rot) });
        Ok(())
    }

    /// Notes in the history what the nodes' own lines say of their starts.
    pub fn note_starts(&self) {
        let Some(own) = self.own() else { return };
        let mut snapshots = 0;
        for node in 0..self.processes.len() {
            let (pulled, by_itself) = own.starts_of(node);
            snapshots += pulled as u64;
            for _ in 0..by_itself {
                let node = Some(format!("n{node}"));
                self.recorder.record(Event { node, ..Event::new("nemesis", Phase::Info, OperationKind::StartedAgain) });
            }
        }
        let off = Some(snapshots);
        self.recorder.record(Event { off, ..Event::new("nemesis", Phase::Info, OperationKind::Snapshots) });
    }

    fn end(&mut self, node: usize, how: impl FnOnce(Running) -> io::Result<()>) -> io::Result<()> {
        let Some(process) = self.processes[node].take() else { return Ok(()) };
        let id = process.id();
        how(process)?;
        if self.can_move_clocks() {
            Clocks::clean_up(id);
        }
        Ok(())
    }

    /// Lets a node suffer for a while.
    pub fn suffer(&self, node: usize, how: Hurt, length: Duration) -> io::Result<()> {
        match (how, &self.place) {
            (Hurt::Clock(clock), _) => {
                let from = Instant::now();
                while from.elapsed() < length {
                    self.move_clock(node, clock.ahead_ms(from.elapsed()))?;
                    std::thread::sleep(CLOCK_STEP);
                }
                Ok(())
            }
            (Hurt::Attacked, Cluster::Own(own)) => own.attack(node, length),
            _ => {
                std::thread::sleep(length);
                Ok(())
            }
        }
    }

    fn move_clock(&self, node: usize, ahead_ms: i64) -> io::Result<()> {
        self.clocks().map_or(Ok(()), |clocks| clocks.move_by(node, ahead_ms))
    }

    /// Notes in the history that fewer than two nodes can do anything, or that this ends.
    pub fn note(&self, f: OperationKind) {
        self.recorder.record(Event::new("nemesis", Phase::Info, f));
    }

    /// Undoes what hurt a node, and records it.
    pub fn heal(&mut self, node: usize, how: Hurt) -> io::Result<()> {
        match how {
            Hurt::Killed | Hurt::Stopped | Hurt::Wiped | Hurt::Rotted => self.start(node)?,
            Hurt::Paused => self.signal(node, process::Signal::Continue)?,
            Hurt::CutOff => self.network().map_or(Ok(()), |network| network.join(node))?,
            Hurt::Clock(_) => self.move_clock(node, 0)?,
            Hurt::Attacked | Hurt::Rots => {}
            Hurt::DiskFull | Hurt::DiskSlow => {
                if let Some(own) = self.own() {
                    own.heal_disk(node);
                }
            }
        }
        let event = Event {
            node: Some(format!("n{node}")),
            kind: Some(how.name().to_owned()),
            ..Event::new("nemesis", Phase::Info, OperationKind::Heal)
        };
        self.recorder.record(event);
        Ok(())
    }

    /// The nodes that run; records those that ended by themselves.
    pub fn running(&mut self) -> Vec<usize> {
        for (node, process) in self.processes.iter_mut().enumerate() {
            if let Some(Ok(Some(why))) = process.as_mut().map(Running::ended) {
                let event = Event {
                    node: Some(format!("n{node}")),
                    kind: Some(why),
                    ..Event::new("nemesis", Phase::Info, OperationKind::Ended)
                };
                self.recorder.record(event);
                *process = None;
            }
        }
        (0..self.processes.len()).filter(|node| self.processes[*node].is_some()).collect()
    }

    fn signal(&self, node: usize, signal: process::Signal) -> io::Result<()> {
        self.processes[node].as_ref().map_or(Ok(()), |process| process::signal(process.id(), signal))
    }
}

/// Starts a node of a running cluster and waits until it listens; the command may go on for longer.
fn restart(node: usize, port: u16, start: &str) -> io::Result<Running> {
    let line = start.replace(NAME, &format!("n{node}"));
    let mut shell = Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let until = Instant::now() + START_WITHIN;
    loop {
        if let Some(id) = process::listener_of(port) {
            // Reaped when it ends.
            std::thread::spawn(move || shell.wait());
            return Ok(Running::Process(id));
        }
        let status = shell.try_wait()?.filter(|status| !status.success());
        if status.is_some() || Instant::now() >= until {
            let why = status.map_or_else(
                || format!("nobody listens on port {port} after {START_WITHIN:?}"),
                |status| status.to_string(),
            );
            return Err(io::Error::other(format!("`{line}`: {why}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let moves_clocks = self.can_move_clocks();
        for process in self.processes.iter_mut().flatten() {
            if moves_clocks {
                Clocks::clean_up(process.id());
            }
            match process {
                Running::Child(child) => {
                    // A drill's own node has nothing to lose.
                    let _ = child.kill();
                    let _ = child.wait();
                }
                // A drill that ends early must not leave it standing still.
                Running::Process(id) => {
                    let _ = process::signal(*id, process::Signal::Continue);
                }
            }
        }
    }
}
