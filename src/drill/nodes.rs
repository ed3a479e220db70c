//! The nodes that are hurt and healed: three brokers of this very program, or a cluster of this machine that runs
//! already.
//!
//! Of its own, only processes it started are ever signalled, and none outlives it. Those of a running cluster stay.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Address;
use crate::drill::clock::Clocks;
use crate::drill::history::{Event, FULL_DISK, OperationKind, Phase, Recorder};
use crate::drill::hostile::{self, Forged};
use crate::drill::net::Network;
use crate::env::fault::power_loss_disk;
use crate::env::{disk, process};

/// Nodes of the cluster.
pub const NODES: usize = 3;
/// Longest time for a node to stop after a signal, and to start.
const STOP_WITHIN: Duration = Duration::from_secs(15);
const START_WITHIN: Duration = Duration::from_secs(30);
const CLUSTER: &str = "Drill";
const BROKER: &str = "Drill00";
/// A clock that drifts is moved this often.
const CLOCK_STEP: Duration = Duration::from_millis(50);
/// What a sync takes longer on a slow disk: more than a leader may be behind (D84).
const SLOW_SYNC: Duration = Duration::from_millis(1500);
/// Stands for a node's name in the command that starts it.
const NAME: &str = "{}";

/// The nodes and their processes.
pub struct Nodes {
    place: Cluster,
    processes: Vec<Option<Running>>,
    recorder: Arc<Recorder>,
}

enum Cluster {
    Own(Own),
    Running {
        addresses: Vec<Address>,
        /// Starts a node, by the shell.
        start: String,
    },
}

/// A cluster for this drill.
struct Own {
    folder: PathBuf,
    network: Option<Network>,
    ports: Vec<[u16; 3]>,
    settings: Vec<String>,
    planted_bug: Option<String>,
    /// If clocks can be moved.
    clocks: Option<Clocks>,
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
                return Err(io::Error::other(format!(
                    "process {} was {how} and did not end in {STOP_WITHIN:?}",
                    self.id()
                )));
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
        }
    }
}

impl Nodes {
    /// Prepares a cluster in a folder; `settings` are configuration keys, `planted_bug` is for debug builds, `clocks` moves
    /// the nodes' clocks.
    pub fn new(
        folder: PathBuf,
        settings: Vec<String>,
        planted_bug: Option<String>,
        clocks: Option<Clocks>,
        recorder: Arc<Recorder>,
    ) -> io::Result<(Self, Option<String>)> {
        // In namespaces of their own all nodes can have the same ports.
        let (network, note) = match Network::make(NODES) {
            Ok(network) => (Some(network), None),
            Err(error) => (None, Some(format!("no network namespaces ({error})"))),
        };
        let ports = match &network {
            Some(_) => vec![[8081, 10911, 40911]; NODES],
            None => free_ports()?,
        };
        let processes = (0..NODES).map(|_| None).collect();
        let place = Cluster::Own(Own { folder, network, ports, settings, planted_bug, clocks });
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

    /// Starts those that do not run.
    pub fn start_all(&mut self) -> io::Result<()> {
        (0..NODES)
            .filter(|node| self.processes[*node].is_none())
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|node| self.start(node))
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

    fn start(&mut self, node: usize) -> io::Result<()> {
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
        }
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
    pub fn note_majority(&self, f: OperationKind) {
        self.recorder.record(Event::new("nemesis", Phase::Info, f));
    }

    /// Undoes what hurt a node, and records it.
    pub fn heal(&mut self, node: usize, how: Hurt) -> io::Result<()> {
        match how {
            Hurt::Killed | Hurt::Stopped => self.start(node)?,
            Hurt::Paused => self.signal(node, process::Signal::Continue)?,
            Hurt::CutOff => self.network().map_or(Ok(()), |network| network.join(node))?,
            Hurt::Clock(_) => self.move_clock(node, 0)?,
            Hurt::Attacked => {}
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

impl Own {
    fn address(&self, node: usize) -> Address {
        let host = self.network.as_ref().map_or_else(|| LOOPBACK.to_owned(), |network| network.client_host(node));
        Address { host, port: self.ports[node][0] }
    }

    fn peer_host(&self, node: usize) -> String {
        self.network.as_ref().map_or_else(|| LOOPBACK.to_owned(), |network| network.peer_host(node))
    }

    fn start(&self, node: usize) -> io::Result<Child> {
        let peer = |node: usize| format!("n{node}-{}:{}", self.peer_host(node), self.ports[node][2]);
        let [grpc, listen, _] = self.ports[node];
        let own = [
            format!("brokerClusterName={CLUSTER}"),
            format!("brokerName={BROKER}"),
            format!("dLegerPeers={}", (0..NODES).map(peer).collect::<Vec<_>>().join(";")),
            format!("dLegerSelfId=n{node}"),
            format!("brokerIP1={}", self.address(node).host),
            format!("bindAddress={}", if self.network.is_some() { "0.0.0.0" } else { LOOPBACK }),
            format!("grpcServerPort={grpc}"),
            format!("listenPort={listen}"),
            format!("storePathRootDir={}", self.data_folder(node).display()),
        ];
        let program = std::env::current_exe()?;
        let mut command = match &self.network {
            Some(network) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &network.space(node)]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("broker");
        for setting in own.iter().chain(&self.settings) {
            command.args(["-D", setting]);
        }
        if let Some(bug) = &self.planted_bug {
            command.env("RAFTMQ_PLANT", bug);
        }
        if let Some(clocks) = &self.clocks {
            command.envs(clocks.environment(node)?);
        }
        let log = process::append_to(&self.folder.join(format!("n{node}.log")))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
    }

    fn data_folder(&self, node: usize) -> PathBuf {
        self.folder.join(format!("n{node}"))
    }

    /// From now on the files of a node may have no more bytes than they have.
    fn fill_disk(&self, node: usize) -> io::Result<()> {
        let folder = self.data_folder(node);
        let bytes = disk::folder_bytes(&folder)?;
        disk::replace_text(&folder.join(power_loss_disk::QUOTA_FILE), &bytes.to_string())
    }

    fn slow_disk(&self, node: usize) -> io::Result<()> {
        let folder = self.data_folder(node).join("log");
        disk::replace_text(&folder.join(power_loss_disk::SLOW_SYNC_FILE), &SLOW_SYNC.as_millis().to_string())
    }

    fn heal_disk(&self, node: usize) {
        let folder = self.data_folder(node);
        disk::remove_if_there(&folder.join(power_loss_disk::QUOTA_FILE));
        disk::remove_if_there(&folder.join("log").join(power_loss_disk::SLOW_SYNC_FILE));
    }

    /// Speaks to a node's peer port as strangers do, and as somebody with another member's id.
    fn attack(&self, node: usize, length: Duration) -> io::Result<()> {
        let peer_port = |node: usize| Address { port: self.ports[node][2], ..self.address(node) };
        let address = peer_port(node);
        let forged = |from: usize| Forged {
            cluster: CLUSTER.to_owned(),
            group: BROKER.to_owned(),
            from: from as u64,
            to: node as u64,
            asked: (from < NODES).then(|| peer_port(from)),
        };
        let (stranger, other) = (forged(NODES + 4), forged((node + 1) % NODES));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let attacks =
                tokio::join!(hostile::attack(&address, &stranger, length), hostile::attack(&address, &other, length));
            attacks.0.and(attacks.1)
        })
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

const LOOPBACK: &str = "127.0.0.1";

/// Ports that are free now, held together until all are known so that none comes twice.
fn free_ports() -> io::Result<Vec<[u16; 3]>> {
    let held: Vec<TcpListener> = (0..NODES * 3).map(|_| TcpListener::bind((LOOPBACK, 0))).collect::<io::Result<_>>()?;
    let ports: Vec<u16> = held.iter().map(|port| Ok(port.local_addr()?.port())).collect::<io::Result<_>>()?;
    Ok(ports.chunks(3).map(|ports| [ports[0], ports[1], ports[2]]).collect())
}
