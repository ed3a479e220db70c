//! Where clients reach the nodes of the group, and which of them answer.
//!
//! A node knows its own client address only; the others' come with their status. Routes must not name
//! dead nodes: the Java client does not start if any endpoint of a route does not answer.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::RwLock;

use super::{Broker, MemberAddress};
use crate::model::NodeId;

const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A node that did not answer this many probes in a row is left out of routes.
const MISSED_MAX: u32 = 2;

#[derive(Debug, Clone)]
struct Seen {
    host: String,
    port: u16,
    missed: u32,
}

/// See the module.
#[derive(Default)]
pub(super) struct Members {
    seen: RwLock<BTreeMap<NodeId, Seen>>,
}

impl Members {
    fn answered(&self, id: NodeId, address: &str) {
        let Some((host, port)) = address.rsplit_once(':') else { return };
        let Ok(port) = port.parse() else { return };
        self.seen.write().insert(id, Seen { host: host.to_owned(), port, missed: 0 });
    }

    fn missed(&self, id: NodeId) {
        if let Some(seen) = self.seen.write().get_mut(&id) {
            seen.missed = seen.missed.saturating_add(1);
        }
    }
}

impl Broker {
    /// The nodes whose client address is known, this one always; by id. With `alive`, only those that
    /// answer.
    pub fn members(&self, alive: bool) -> Vec<MemberAddress> {
        let seen = self.members.seen.read();
        let address = |member: &MemberAddress| {
            if member.id == self.place.self_id {
                return Some(member.clone());
            }
            let seen = seen.get(&member.id).filter(|seen| !alive || seen.missed < MISSED_MAX)?;
            Some(MemberAddress { host: seen.host.clone(), grpc_port: Some(seen.port), ..member.clone() })
        };
        self.place.members.iter().filter_map(address).collect()
    }

    pub(super) async fn probe_members(&self) {
        let others = || self.place.members.iter().filter(|member| member.id != self.place.self_id);
        loop {
            join_all(others().map(|member| async {
                match self.replica.status_of(member.id).await {
                    Some(status) => self.members.answered(member.id, &status.client_address),
                    None => self.members.missed(member.id),
                }
            }))
            .await;
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }
}
