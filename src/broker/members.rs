//! Where clients reach the nodes of the group, and which of them answer.
//!
//! Each node announces its client address through the log, so that every node gives the same routes, before
//! it has heard of the others and while they are down (contract §12). Routes must not name dead nodes: the
//! Java client does not start if any endpoint of a route does not answer.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::RwLock;

use super::{Broker, Deadline, Error, MemberAddress};
use crate::machine::Command;
use crate::machine::command::Announce;
use crate::model::NodeId;

const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A node that did not answer this many probes in a row is left out of routes.
const MISSED_MAX: u32 = 2;

/// Probes in a row that each node did not answer.
#[derive(Default)]
pub(super) struct Members {
    missed: RwLock<BTreeMap<NodeId, u32>>,
}

impl Broker {
    /// The nodes whose client address is known, this one always; by id. With `alive`, only those that
    /// answer.
    pub fn members(&self, alive: bool) -> Result<Vec<MemberAddress>, Error> {
        let announced: BTreeMap<NodeId, String> = self.replica.view().members()?.into_iter().collect();
        let missed = self.members.missed.read();
        let address = |member: &MemberAddress| {
            if member.id == self.place.self_id {
                return Some(member.clone());
            }
            if alive && missed.get(&member.id).is_none_or(|missed| *missed >= MISSED_MAX) {
                return None;
            }
            let (host, port) = announced.get(&member.id)?.rsplit_once(':')?;
            Some(MemberAddress { host: host.to_owned(), grpc_port: Some(port.parse().ok()?), ..member.clone() })
        };
        Ok(self.place.members.iter().filter_map(address).collect())
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
