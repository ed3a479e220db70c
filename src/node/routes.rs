//! Where clients reach the nodes, and which nodes answer.
//!
//! Each node announces its client address through the log, so that every node gives the same routes, before
//! they have met and while some are down (contract §12). Routes must not name dead nodes: the
//! Java client does not start if any endpoint of a route does not answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::broker::{Broker, Deadline, Error};
use crate::model::{HostPort, NodeId};
use crate::node::{NodeAddress, NodeSettings};
use crate::raft::Replica;

const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Whoever asks for a route while it names a dead node keeps that for half a minute: so soon it is asked again whether a node
/// that missed a probe is gone, and so often a node that was just started asks, until all have answered.
const PROBE_SOON: Duration = Duration::from_millis(100);
/// It waits for them so long.
const FIRST_PROBES: Duration = Duration::from_secs(2);
/// A node that did not answer this many probes in a row is left out of routes.
const MISSED_MAX: u32 = 2;

/// What this node's probes of another one found.
#[derive(Clone, Copy)]
struct Probed {
    /// Probes in a row that it did not answer.
    missed: u32,
    /// As it said last.
    listen_port: Option<u16>,
}

/// A node that missed a probe, and is still in routes, is asked again soon.
fn next_probe_in(probed: &BTreeMap<NodeId, Probed>) -> Duration {
    let is_in_doubt = probed.values().any(|probed| (1..MISSED_MAX).contains(&probed.missed));
    if is_in_doubt { PROBE_SOON } else { PROBE_EVERY }
}

/// The client addresses of all nodes.
pub struct Routes {
    settings: Arc<NodeSettings>,
    broker: Arc<Broker>,
    /// Asks the other nodes.
    replica: Replica,
    probed: RwLock<BTreeMap<NodeId, Probed>>,
    /// This node has applied, since it was started, what had been announced before.
    is_caught_up: AtomicBool,
    started: Instant,
}

impl Routes {
    pub(super) fn new(settings: Arc<NodeSettings>, broker: Arc<Broker>, replica: Replica) -> Self {
        let (probed, is_caught_up) = (RwLock::default(), AtomicBool::new(false));
        Self { settings, broker, replica, probed, is_caught_up, started: Instant::now() }
    }

    /// Waits until all nodes have answered a probe, two seconds from this node's start on at most. Classic clients stay with
    /// the routes that they get for half a minute, and those of three nodes that do not know each other yet differ.
    pub async fn first_known(&self) {
        while !self.has_met_all() {
            tokio::time::sleep(PROBE_SOON / 2).await;
        }
    }

    fn has_met_all(&self) -> bool {
        if self.started.elapsed() >= FIRST_PROBES {
            return true;
        }
        let announced = self.of_announced().unwrap_or_default();
        let (own, probed) = (self.replica.node(), self.probed.read());
        let answers = |node: NodeId| probed.get(&node).is_some_and(|probed| probed.listen_port.is_some());
        let met = announced.iter().filter(|node| node.id == own || answers(node.id)).count();
        met >= self.replica.members().voters().count()
    }

    /// Where every node serves clients, by id; of a node that never started, nothing is known. A node that was just
    /// started has not applied what the others announced: it catches up first.
    ///
    /// * Errors: [`Error::NoLeader`] if it cannot catch up in time.
    pub async fn of_all(&self, deadline: Deadline) -> Result<Vec<NodeAddress>, Error> {
        if !self.is_caught_up.load(Ordering::Relaxed) {
            Box::pin(self.broker.reader().read_barrier(self.broker.held_until(deadline))).await?;
            self.is_caught_up.store(true, Ordering::Relaxed);
        }
        self.of_announced()
    }

    /// Those of [`Self::of_all`] whose announcement this node has applied; itself always.
    pub fn of_announced(&self) -> Result<Vec<NodeAddress>, Error> {
        let announced: BTreeMap<NodeId, String> = self.broker.announced_addresses()?.into_iter().collect();
        let probed = self.probed.read().clone();
        let address = |id: NodeId| {
            let (address, listen_port) = if id == self.replica.node() {
                (&self.settings.store_host, Some(self.settings.listen_port))
            } else {
                (announced.get(&id)?, probed.get(&id).and_then(|probed| probed.listen_port))
            };
            let HostPort { host, port } = HostPort::parse(address)?;
            Some(NodeAddress { id, host, grpc_port: port, listen_port: listen_port.unwrap_or(port) })
        };
        // One that only follows may be far behind, and clients would read what is long gone.
        let members = self.replica.members();
        Ok(members.voters().filter_map(|member| address(member.node)).collect())
    }

    /// Those of [`Self::of_announced`] that answer; itself always.
    pub fn of_reachable(&self) -> Result<Vec<NodeAddress>, Error> {
        let mut nodes = self.of_announced()?;
        let probed = self.probed.read();
        let answers = |id| probed.get(&id).is_some_and(|probed| probed.missed < MISSED_MAX);
        nodes.retain(|node| node.id == self.replica.node() || answers(node.id));
        Ok(nodes)
    }

    /// Asks every second which nodes answer, and at once when the leader changes, and announces this one until that is known;
    /// until it is dropped.
    pub(super) async fn probe(&self) {
        let mut leadership = self.broker.leadership();
        loop {
            let members = self.replica.members();
            let others = members.all().map(|member| member.node).filter(|node| *node != self.replica.node());
            join_all(others.map(async |node| {
                let status = self.replica.status_of(node).await;
                let mut probed = self.probed.write();
                let probed = probed.entry(node).or_insert(Probed { missed: MISSED_MAX, listen_port: None });
                probed.missed = match &status {
                    // Clients that ask now would find it gone.
                    Some(status) if status.leaving => MISSED_MAX,
                    Some(_) => 0,
                    None => probed.missed.saturating_add(1),
                };
                if let Some(status) = status {
                    probed.listen_port = status.listen_port;
                }
            }))
            .await;
            self.probed.write().retain(|node, _| members.get(*node).is_some());
            if let Err(error) = self.announce_once().await {
                tracing::debug!(%error, "this node's client address is not announced yet");
            }
            let wait = if self.has_met_all() { next_probe_in(&self.probed.read()) } else { PROBE_SOON };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = leadership.changed() => {}
            }
        }
    }

    /// Announces where this node serves clients, unless the log says so already.
    async fn announce_once(&self) -> Result<(), Error> {
        let own = (self.replica.node(), self.settings.store_host.clone());
        let is_known = self.broker.announced_addresses()?.contains(&own);
        let is_member = self.replica.members().get(own.0).is_some();
        if is_known || !is_member || self.broker.leadership().borrow().leader.is_none() {
            return Ok(());
        }
        self.broker.announce(own.0, own.1).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_missed_a_probe_is_asked_again_soon_and_one_that_is_out_of_routes_is_not() {
        let wait = |missed: &[u32]| {
            let probed = missed
                .iter()
                .zip(0..)
                .map(|(missed, node)| (NodeId(node), Probed { missed: *missed, listen_port: None }));
            next_probe_in(&probed.collect())
        };
        assert_eq!(wait(&[0, 0]), PROBE_EVERY);
        assert_eq!(wait(&[0, 1]), PROBE_SOON);
        assert_eq!(wait(&[MISSED_MAX, 0]), PROBE_EVERY);
        assert_eq!(wait(&[]), PROBE_EVERY);
    }
}
