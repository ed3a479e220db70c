//! Hosts on one machine: each node in a network namespace of its own, with one link to its peers and one to
//! clients, so that a leader can be cut off from its peers alone.
//!
//! Needs root and `ip` (Debian's iproute2). Everything made carries a random name and is removed on drop.
//! The addresses are of 198.18.0.0/15, which is set aside for tests between machines (RFC 2544).

use std::io;
use std::process::Command;

/// Three namespaces on two bridges.
pub struct Network {
    /// First letters of everything's name.
    tag: String,
    /// Third byte of the addresses.
    subnet: u8,
    nodes: usize,
}

/// Subnets tried before the machine is taken for full of drills.
const TRIES: usize = 32;

fn ip(arguments: &str) -> io::Result<String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {arguments}: {}", said.trim())))
}

impl Network {
    /// Makes the namespaces; fails where that is not allowed.
    pub fn make(nodes: usize) -> io::Result<Self> {
        for _ in 0..TRIES {
            let random = crate::env::rng::random_u64();
            let network = Self { tag: format!("rd{:05x}", random & 0xF_FFFF), subnet: (random >> 32) as u8, nodes };
            // Dropping it removes what a failure left half made.
            if network.claim()? {
                network.build()?;
                return Ok(network);
            }
        }
        Err(io::Error::other(format!("{TRIES} subnets of 198.19.0.0/16 are all in use; end other drills")))
    }

    /// Makes the bridges; false if another drill has the subnet, whose cluster would answer our clients.
    fn claim(&self) -> io::Result<bool> {
        let Self { tag, .. } = self;
        for plane in [PEERS, CLIENTS] {
            ip(&format!("link add {tag}{plane} type bridge"))?;
            ip(&format!("link set {tag}{plane} up"))?;
        }
        let host = self.address(CLIENTS, HOST);
        ip(&format!("addr add {host}/24 dev {tag}{CLIENTS}"))?;
        // Of two who claim it at once, one at least sees the other.
        Ok(ip(&format!("-o -4 addr show to {host}"))?.lines().count() == 1)
    }

    fn build(&self) -> io::Result<()> {
        let Self { tag, .. } = self;
        for node in 0..self.nodes {
            let space = self.space(node);
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {space} link set lo up"))?;
            for plane in [PEERS, CLIENTS] {
                let link = format!("{tag}{plane}{node}");
                ip(&format!("link add {link} type veth peer name {plane} netns {space}"))?;
                ip(&format!("link set {link} master {tag}{plane}"))?;
                ip(&format!("link set {link} up"))?;
                ip(&format!("-n {space} addr add {}/24 dev {plane}", self.address(plane, FIRST + node as u8)))?;
                ip(&format!("-n {space} link set {plane} up"))?;
            }
        }
        Ok(())
    }

    fn address(&self, plane: &str, last: u8) -> String {
        let second = if plane == PEERS { 18 } else { 19 };
        format!("198.{second}.{}.{last}", self.subnet)
    }

    /// The namespace of a node.
    pub fn space(&self, node: usize) -> String {
        format!("{}n{node}", self.tag)
    }

    /// Where a node's peers reach it.
    pub fn peer_host(&self, node: usize) -> String {
        self.address(PEERS, FIRST + node as u8)
    }

    /// Where clients reach a node.
    pub fn client_host(&self, node: usize) -> String {
        self.address(CLIENTS, FIRST + node as u8)
    }

    /// Cuts a node off from its peers; clients reach it all the time.
    pub fn cut_off(&self, node: usize) -> io::Result<()> {
        self.set_peer_link(node, "down")
    }

    /// Ends a cut.
    pub fn join(&self, node: usize) -> io::Result<()> {
        self.set_peer_link(node, "up")
    }

    fn set_peer_link(&self, node: usize, state: &str) -> io::Result<()> {
        ip(&format!("link set {}{PEERS}{node} {state}", self.tag)).map(drop)
    }
}

const PEERS: &str = "p";
const CLIENTS: &str = "c";
const HOST: u8 = 1;
const FIRST: u8 = 10;

impl Drop for Network {
    fn drop(&mut self) {
        // Links go with their namespaces; what was never made cannot be removed, which is fine.
        for node in 0..self.nodes {
            let _ = ip(&format!("netns del {}", self.space(node)));
        }
        for plane in [PEERS, CLIENTS] {
            let _ = ip(&format!("link del {}{plane}", self.tag));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_that_another_drill_has_is_not_taken() {
        let network =
            |tag: &str| Network { tag: format!("rt{:04x}{tag}", std::process::id() & 0xFFFF), subnet: 255, nodes: 0 };
        let (first, second) = (network("a"), network("b"));
        match first.claim() {
            Ok(is_free) => assert!(is_free),
            Err(error) => return eprintln!("SKIPPED: no bridges can be made here: {error}"),
        }
        assert!(!second.claim().unwrap());
        drop((first, second));
        assert!(network("c").claim().unwrap(), "what was made is removed");
    }
}
