//! The drill's own cluster: three brokers of this very program, started, hurt and put right.
//!
//! Only processes it started are ever signalled, and none outlives it.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::history::{Event, Phase, Recorder, What};
use super::net::Network;
use crate::client::Address;
use crate::env::process;

/// Nodes of the cluster.
pub const NODES: usize = 3;
/// A node that was told to stop has this long.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// See the module.
pub struct Nodes {
    folder: PathBuf,
    network: Option<Network>,
    ports: Vec<[u16; 3]>,
    settings: Vec<String>,
    plant: Option<String>,
    children: Vec<Option<Child>>,
    recorder: Arc<Recorder>,
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
}

impl Hurt {
    /// Its name in the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "kill",
            Self::Paused => "pause",
            Self::CutOff => "isolate",
            Self::Stopped => "stop",
        }
    }
}

impl Nodes {
    /// Prepares a cluster in a folder; `settings` are configuration keys, `plant` a planted bug.
    pub fn new(
        folder: PathBuf,
        settings: Vec<String>,
        plant: Option<String>,
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
        let children = (0..NODES).map(|_| None).collect();
        Ok((Self { folder, network, ports, settings, plant, children, recorder }, note))
    }

    /// Whether a node can be cut off.
    pub fn has_network(&self) -> bool {
        self.network.is_some()
    }

    /// Where clients reach a node.
    pub fn address(&self, node: usize) -> Address {
        let host = self.network.as_ref().map_or_else(|| LOOPBACK.to_owned(), |network| network.client_host(node));
        Address { host, port: self.ports[node][0] }
    }

    fn peer_host(&self, node: usize) -> String {
        self.network.as_ref().map_or_else(|| LOOPBACK.to_owned(), |network| network.peer_host(node))
    }

    /// Starts a node.
    pub fn start(&mut self, node: usize) -> io::Result<()> {
        let peer = |node: usize| format!("n{node}-{}:{}", self.peer_host(node), self.ports[node][2]);
        let [grpc, listen, _] = self.ports[node];
        let own = [
            "brokerClusterName=Drill".to_owned(),
            "brokerName=Drill00".to_owned(),
            format!("dLegerPeers={}", (0..NODES).map(peer).collect::<Vec<_>>().join(";")),
            format!("dLegerSelfId=n{node}"),
            format!("brokerIP1={}", self.address(node).host),
            format!("bindAddress={}", if self.network.is_some() { "0.0.0.0" } else { LOOPBACK }),
            format!("grpcServerPort={grpc}"),
            format!("listenPort={listen}"),
            format!("storePathRootDir={}", self.folder.join(format!("n{node}")).display()),
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
        if let Some(plant) = &self.plant {
            command.env("RAFTMQ_PLANT", plant);
        }
        let log: File = process::append_to(&self.folder.join(format!("n{node}.log")))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.children[node] = Some(command.spawn()?);
        Ok(())
    }

    /// Hurts a node and writes it down.
    pub fn hurt(&mut self, node: usize, how: Hurt, led: bool) -> io::Result<()> {
        let event = Event {
            node: Some(format!("n{node}")),
            kind: Some(how.name().to_owned()),
            led: Some(led),
            ..Event::new("nemesis", Phase::Info, What::Fault)
        };
        self.recorder.record(event);
        match how {
            Hurt::Killed => {
                if let Some(mut child) = self.children[node].take() {
                    child.kill()?;
                    child.wait()?;
                }
                Ok(())
            }
            Hurt::Paused => self.signal(node, process::Signal::Stop),
            Hurt::CutOff => self.network.as_ref().map_or(Ok(()), |network| network.cut(node, true)),
            Hurt::Stopped => {
                self.signal(node, process::Signal::Terminate)?;
                self.wait_for_end(node)
            }
        }
    }

    /// Puts a node right again and writes it down.
    pub fn heal(&mut self, node: usize, how: Hurt) -> io::Result<()> {
        match how {
            Hurt::Killed | Hurt::Stopped => self.start(node)?,
            Hurt::Paused => self.signal(node, process::Signal::Continue)?,
            Hurt::CutOff => {
                if let Some(network) = &self.network {
                    network.cut(node, false)?;
                }
            }
        }
        let event = Event {
            node: Some(format!("n{node}")),
            kind: Some(how.name().to_owned()),
            ..Event::new("nemesis", Phase::Info, What::Heal)
        };
        self.recorder.record(event);
        Ok(())
    }

    /// Looks for nodes that ended by themselves and writes them down; the nodes that run.
    pub fn running(&mut self) -> Vec<usize> {
        for (node, child) in self.children.iter_mut().enumerate() {
            if let Some(Ok(Some(status))) = child.as_mut().map(Child::try_wait) {
                let event = Event {
                    node: Some(format!("n{node}")),
                    kind: Some(status.to_string()),
                    ..Event::new("nemesis", Phase::Info, What::Ended)
                };
                self.recorder.record(event);
                *child = None;
            }
        }
        (0..self.children.len()).filter(|node| self.children[*node].is_some()).collect()
    }

    fn signal(&self, node: usize, signal: process::Signal) -> io::Result<()> {
        match &self.children[node] {
            Some(child) => process::signal(child.id(), signal),
            None => Ok(()),
        }
    }

    fn wait_for_end(&mut self, node: usize) -> io::Result<()> {
        let Some(mut child) = self.children[node].take() else { return Ok(()) };
        let until = Instant::now() + STOP_WITHIN;
        while child.try_wait()?.is_none() {
            if Instant::now() >= until {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other(format!("n{node} did not stop in {STOP_WITHIN:?}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // They have nothing to lose.
            let _ = child.kill();
            let _ = child.wait();
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
