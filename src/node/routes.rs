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

use crate::broker::{Broker, Deadline, Error};
use crate::model::{HostPort, NodeId};
use crate::node::{NodeAddress, NodeSettings};
use crate::raft::Replica;

const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A node that did not answer this many probes in a row is left out of routes.
const MISSED_MAX: u32 = 2;

/// The client addresses of all nodes.
pub struct Routes {
    settings: Arc<NodeSettings>,
    broker: Arc<Broker>,
    /// Asks the other nodes.
    replica: Replica,
    /// Probes in a row that each node did not answer.
    missed: RwLock<BTreeMap<NodeId, u32>>,
    /// This node has applied, since it was started, what had been announced before.
    is_caught_up: AtomicBool,
}

impl Routes {
    pub(super) fn new(settings: Arc<NodeSettings>, broker: Arc<Broker>, replica: Replica) -> Self {
        let (missed, is_caught_up) = (RwLock::default(), AtomicBool::new(false));
        Self { settings, broker, replica, missed, is_caught_up }
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
        let address = |id: NodeId| {
            let address = if id == self.replica.node() { &self.settings.store_host } else { announced.get(&id)? };
            let HostPort { host, port } = HostPort::parse(address)?;
            Some(NodeAddress { id, host, grpc_port: port })
        };
        // One that only follows may be far behind, and clients would read what is long gone.
        let members = self.replica.members();
        Ok(members.voters().filter_map(|member| address(member.node)).collect())
    }

    /// Those of [`Self::of_announced`] that answer; itself always.
    pub fn of_reachable(&self) -> Result<Vec<NodeAddress>, Error> {
        let mut nodes = self.of_announced()?;
        let missed = self.missed.read();
        let answers = |id| missed.get(&id).is_some_and(|missed| *missed < MISSED_MAX);
        nodes.retain(|node| node.id == self.replica.node() || answers(node.id));
        Ok(nodes)
    }

    /// Asks every second which nodes answer, and announces this one until that is known; until it is dropped.
    pub(super) async fn probe(&self) {
        loop {
            let members = self.replica.members();
            let others = members.all().map(|member| member.node).filter(|node| *node != self.replica.node());
            join_all(others.map(async |node| {
                let status = self.replica.status_of(node).await;
                let mut missed = self.missed.write();
                let missed = missed.entry(node).or_insert(MISSED_MAX);
                *missed = match status {
                    // Clients that ask now would find it gone.
                    Some(status) if status.leaving => MISSED_MAX,
                    Some(_) => 0,
                    None => missed.saturating_add(1),
                };
            }))
            .await;
            self.missed.write().retain(|node, _| members.get(*node).is_some());
            if let Err(error) = self.announce_once().await {
                tracing::debug!(%error, "this node's client address is not announced yet");
            }
            tokio::time::sleep(PROBE_EVERY).await;
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
