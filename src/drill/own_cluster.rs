//! A cluster of a drill's own: its folder, ports and network, and how its nodes are started and hurt from outside.

use std::io;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::Address;
use crate::drill::clock::Clocks;
use crate::drill::hostile::{self, Forged};
use crate::drill::net::Network;
use crate::drill::not_done::not_done;
use crate::env::disk::{self, Disk, RealDisk};
use crate::env::fault::power_loss_disk;
use crate::env::process;

/// Nodes of the cluster.
pub const NODES: usize = 3;
/// Nodes that may join it beside them.
pub const MORE_NODES: usize = 2;
/// The node that goes on after a restore.
pub const RESTORED: usize = 0;
const CLUSTER: &str = "Drill";
const BROKER: &str = "Drill00";
/// Exit code of a command that did nothing because nobody leads.
const UNAVAILABLE: i32 = 5;
/// Each waits some seconds for a leader.
const RUNS_MAX: usize = 10;
/// What a sync takes longer on a slow disk: more than a leader may be behind (D84).
const SLOW_SYNC: Duration = Duration::from_millis(1500);
/// The drill's own line among those of a node, before each start.
const STARTED: &str = "--- started by the drill";
/// What a node says when it serves, and when it starts again with a snapshot.
const READY: &str = " ready";
const PULLED: &str = "log and state of the snapshot are in use";
/// What it says when it starts again because an operator added, replaced or removed it.
const OTHER_MEMBER: [&str; 3] =
    [" starts again: the group has ", " was replaced by ", " is no member of the group any more"];

/// Names planted bugs (`env/fault/planted_bug`).
const BUGS: &str = "RAFTMQ_PLANT";
const LOOPBACK: &str = "127.0.0.1";

/// What a node runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// `None`: this program.
    pub program: Option<PathBuf>,
    /// For debug builds: bugs that the drill must find.
    pub planted_bug: Option<String>,
}

impl Build {
    fn program(&self) -> io::Result<PathBuf> {
        self.program.clone().map_or_else(std::env::current_exe, Ok)
    }
}

/// What all nodes run first, and what those run that were upgraded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Builds {
    pub old: Build,
    pub new: Build,
}

/// A cluster for this drill.
pub(super) struct Own {
    pub folder: PathBuf,
    pub network: Option<Network>,
    /// How many there may be.
    pub nodes: usize,
    pub ports: Vec<[u16; 3]>,
    pub settings: Vec<String>,
    pub builds: Builds,
    /// Nodes that were upgraded.
    pub upgraded: Vec<bool>,
    /// Where n0 is once it was restored, as a group of its own.
    pub restored: Option<PathBuf>,
    /// Backups made.
    pub backups: usize,
    /// If clocks can be moved.
    pub clocks: Option<Clocks>,
}

impl Own {
    pub fn address(&self, node: usize) -> Address {
        let host = self.network.as_ref().map_or_else(|| LOOPBACK.to_owned(), |network| network.client_host(node));
        Address { host, port: self.ports[node][0] }
    }

    pub fn peer_host(&self, node: usize) -> String {
        self.network.as_ref().map_or_else(|| LOOPBACK.to_owned(), |network| network.peer_host(node))
    }

    pub fn start(&self, node: usize) -> io::Result<Child> {
        let peer = |node: usize| format!("n{node}-{}:{}", self.peer_host(node), self.ports[node][2]);
        // Those of the start know nothing of others.
        let members = match node {
            // Others would have to be added.
            _ if self.restored.is_some() => node..node + 1,
            0..NODES => 0..NODES,
            _ => 0..self.nodes,
        };
        let [grpc, listen, _] = self.ports[node];
        let own = [
            format!("brokerClusterName={CLUSTER}"),
            format!("brokerName={BROKER}"),
            format!("dLegerPeers={}", members.map(peer).collect::<Vec<_>>().join(";")),
            format!("dLegerSelfId=n{node}"),
            format!("brokerIP1={}", self.address(node).host),
            format!("bindAddress={}", if self.network.is_some() { "0.0.0.0" } else { LOOPBACK }),
            format!("grpcServerPort={grpc}"),
            format!("listenPort={listen}"),
            format!("storePathRootDir={}", self.data_folder(node).display()),
        ];
        let build = self.build(node);
        let program = build.program()?;
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
        command.envs(build.planted_bug.iter().map(|bug| (BUGS, bug)));
        if let Some(clocks) = &self.clocks {
            command.envs(clocks.environment(node)?);
        }
        let mut log = process::append_to(&self.lines_of(node))?;
        writeln!(log, "{STARTED}")?;
        // Below it are the node's log files; an older build knows no key for that.
        command.env("HOME", self.folder.join(format!("home-n{node}")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
    }

    fn lines_of(&self, node: usize) -> PathBuf {
        self.folder.join(format!("n{node}.log"))
    }

    /// How often a node caught up by a snapshot, and how often it started itself again without one.
    pub fn starts_of(&self, node: usize) -> (usize, usize) {
        // A node that never ran has no lines.
        starts(&disk::read_text(&self.lines_of(node)).unwrap_or_default())
    }

    /// Where the log of a node is now (`store/generation`).
    pub fn log_folder(&self, node: usize) -> PathBuf {
        let folder = self.data_folder(node);
        let mut number = [0; 8];
        let mark = RealDisk.open(&folder.join("generation")).and_then(|file| file.read_at(&mut number, 0));
        match mark {
            Ok(()) => folder.join(format!("generation-{}", u64::from_be_bytes(number))).join("log"),
            // The first one has no mark.
            Err(_) => folder.join("log"),
        }
    }

    pub fn build(&self, node: usize) -> &Build {
        if self.upgraded[node] { &self.builds.new } else { &self.builds.old }
    }

    /// Makes a backup of a node and checks it; its folder and number.
    pub fn back_up(&mut self, from: usize) -> io::Result<(String, usize)> {
        self.backups += 1;
        let backup = self.folder.join(format!("backup-{}", self.backups)).display().to_string();
        self.raftmq(&["-n", &self.address(from).to_string(), "backup", "create", &backup])?;
        self.raftmq(&["backup", "verify", &backup])?;
        Ok((backup, self.backups))
    }

    pub fn restore(&self, backup: &str, store: &Path) -> io::Result<()> {
        let peers_reach_it = format!("{}:{}", self.peer_host(RESTORED), self.ports[RESTORED][2]);
        let into = store.display().to_string();
        self.raftmq(&["backup", "restore", backup, "--into", &into, "--address", &peers_reach_it])
    }

    /// Runs a command of the program; its words if it fails. One that found no leader, and so did nothing, is run again for
    /// a while, as whoever reads its words would.
    fn raftmq(&self, args: &[&str]) -> io::Result<()> {
        let build = self.build(RESTORED);
        let run = || {
            let mut command = Command::new(build.program()?);
            command.args(args).envs(build.planted_bug.iter().map(|bug| (BUGS, bug)));
            command.stdin(Stdio::null()).output()
        };
        let mut output = run()?;
        for _ in 1..RUNS_MAX {
            if output.status.code() != Some(UNAVAILABLE) {
                break;
            }
            output = run()?;
        }
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        Err(not_done(format!("raftmq {}: {}: {words}", args.join(" "), output.status)))
    }

    pub fn data_folder(&self, node: usize) -> PathBuf {
        if let Some(store) = self.restored.as_ref().filter(|_| node == RESTORED) {
            return store.clone();
        }
        self.folder.join(format!("n{node}"))
    }

    /// From now on the files of a node may have no more bytes than they have.
    pub fn fill_disk(&self, node: usize) -> io::Result<()> {
        let folder = self.data_folder(node);
        let bytes = disk::folder_bytes(&folder)?;
        disk::replace_text(&folder.join(power_loss_disk::QUOTA_FILE), &bytes.to_string())
    }

    pub fn slow_disk(&self, node: usize) -> io::Result<()> {
        let folder = self.data_folder(node);
        disk::replace_text(&folder.join(power_loss_disk::SLOW_SYNC_FILE), &SLOW_SYNC.as_millis().to_string())
    }

    pub fn heal_disk(&self, node: usize) {
        let folder = self.data_folder(node);
        disk::remove_if_there(&folder.join(power_loss_disk::QUOTA_FILE));
        disk::remove_if_there(&folder.join(power_loss_disk::SLOW_SYNC_FILE));
    }

    /// Speaks to a node's peer port as strangers do, and as somebody with another member's id.
    pub fn attack(&self, node: usize, length: Duration) -> io::Result<()> {
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

/// Ports that are free now, held together until all are known so that none comes twice.
pub(super) fn free_ports(nodes: usize) -> io::Result<Vec<[u16; 3]>> {
    let held: Vec<TcpListener> = (0..nodes * 3).map(|_| TcpListener::bind((LOOPBACK, 0))).collect::<io::Result<_>>()?;
    let ports: Vec<u16> = held.iter().map(|port| Ok(port.local_addr()?.port())).collect::<io::Result<_>>()?;
    Ok(ports.chunks(3).map(|ports| [ports[0], ports[1], ports[2]]).collect())
}

/// Snapshots that came into use, and starts that neither the drill nor a snapshot brought about, by a node's lines.
fn starts(lines: &str) -> (usize, usize) {
    let (mut pulled, mut by_itself, mut expected) = (0, 0, 0_usize);
    for line in lines.lines() {
        if line == STARTED {
            expected = 1;
        } else if OTHER_MEMBER.iter().any(|said| line.contains(said)) {
            expected += 1;
        } else if line.contains(PULLED) {
            pulled += 1;
            expected += 1;
        } else if line.split('=').next().is_some_and(|line| line.contains(READY)) {
            match expected.checked_sub(1) {
                Some(left) => expected = left,
                None => by_itself += 1,
            }
        }
    }
    (pulled, by_itself)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_counts_if_neither_the_drill_nor_a_snapshot_brought_it_about() {
        let ready = "2026-11-29T10:00:00Z  INFO ready grpc=8081";
        let pulled = format!("INFO {PULLED}");
        let counted = |lines: &[&str]| starts(&lines.join("\n"));
        assert_eq!(counted(&[STARTED, ready, STARTED, STARTED, ready]), (0, 0));
        assert_eq!(counted(&[STARTED, ready, &pulled, ready]), (1, 0));
        let taken_in = "WARN this node starts again: the group has n4.2 for the name n4";
        assert_eq!(counted(&[STARTED, ready, taken_in, ready]), (0, 0));
        assert_eq!(counted(&[STARTED, ready, ready, &pulled, ready, ready]), (1, 2));
    }
}
