//! Where clients reach the nodes of the group, and which of them answer.
//!
//! Each node announces its client address through the log, so that every node gives the same routes, before
//! it has heard of the others and while they are down (contract §12). Routes must not name dead nodes: the
//! Java client does not start if any endpoint of a route does not answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::RwLock;

use crate::broker::{Broker, Deadline, Error, MemberAddress};
use crate::machine::Command;
use crate::machine::command::Announce;
use crate::model::NodeId;

const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A node that did not answer this many probes in a row is left out of routes.
const MISSED_MAX: u32 = 2;

#[derive(Default)]
pub(super) struct Members {
    /// Probes in a row that each node did not answer.
    missed: RwLock<BTreeMap<NodeId, u32>>,
    /// This node has applied, since it was started, what had been announced before.
    is_caught_up: AtomicBool,
}

impl Broker {
    /// Where the nodes of the group serve clients, by id: of a node that never started, nothing is known.
    /// A node that was just started has not applied what the others announced: it catches up first.
    pub async fn members(&self, deadline: Deadline) -> Result<Vec<MemberAddress>, Error> {
        if !self.members.is_caught_up.load(Ordering::Relaxed) {
            Box::pin(self.read_barrier(self.held_until(deadline))).await?;
            self.members.is_caught_up.store(true, Ordering::Relaxed);
        }
        self.known_members()
    }

    /// As many of [`Self::members`] as this node has applied, itself always.
    pub fn known_members(&self) -> Result<Vec<MemberAddress>, Error> {
        let announced: BTreeMap<NodeId, String> = self.replica.view().members()?.into_iter().collect();
        let address = |member: &MemberAddress| {
            if member.id == self.place.self_id {
                return Some(member.clone());
            }
            let (host, port) = announced.get(&member.id)?.rsplit_once(':')?;
            Some(MemberAddress { host: host.to_owned(), grpc_port: Some(port.parse().ok()?), ..member.clone() })
        };
        Ok(self.place.members.iter().filter_map(address).collect())
    }

    /// Those of [`Self::known_members`] that answer.
    pub fn members_alive(&self) -> Result<Vec<MemberAddress>, Error> {
        let mut members = self.known_members()?;
        let missed = self.members.missed.read();
        let answers = |id| missed.get(&id).is_some_and(|missed| *missed < MISSED_MAX);
        members.retain(|member| member.id == self.place.self_id || answers(member.id));
        Ok(members)
    }

    pub(super) async fn probe_members(&self) {
        let others = || self.place.members.iter().filter(|member| member.id != self.place.self_id);
        loop {
            join_all(others().map(|member| async {
                let answers = self.replica.status_of(member.id).await.is_some();
                let mut missed = self.members.missed.write();
                let missed = missed.entry(member.id).or_insert(MISSED_MAX);
                *missed = if answers { 0 } else { missed.saturating_add(1) };
            }))
            .await;
            if let Err(error) = self.announce_once().await {
                tracing::debug!(%error, "this node's client address is not announced yet");
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    /// Tells the group where this node serves clients, unless it knows.
    async fn announce_once(&self) -> Result<(), Error> {
        let own = (self.place.self_id, self.place.store_host.clone());
        let is_known = self.replica.view().members()?.contains(&own);
        if is_known || self.leadership().borrow().leader.is_none() {
            return Ok(());
        }
        let command = Command::Announce(Announce { node: own.0, address: own.1 });
        self.propose_repeatable(&command, self.held_until(Deadline::NONE)).await.map(|_| ())
    }
}
