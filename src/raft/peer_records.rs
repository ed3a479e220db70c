//! Committed records of the peers, for what is damaged here: over the links that snapshots are pulled over.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::model::{LogIndex, NodeId};
use crate::raft::lost_entries::LostEntrySource;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::snapshot_link::SnapshotLink;
#[cfg(debug_assertions)]
use crate::raft::planted;
use crate::raft::repair::RecordSource;
use crate::raft::snapshot::source::{NotGiven, SnapshotSource};
use crate::store::log::examine::EntryRange;
use crate::store::log::record::Record;

/// All other members.
pub(super) struct PeerRecords {
    identity: PeerIdentity,
    /// Those that were asked before, with where they were reached.
    links: Mutex<BTreeMap<NodeId, (String, SnapshotLink)>>,
}

impl PeerRecords {
    pub fn new(identity: &PeerIdentity) -> Self {
        Self { identity: identity.clone(), links: Mutex::default() }
    }

    fn others(&self) -> Vec<(NodeId, String)> {
        let members = self.identity.members.now();
        let others = members.all().filter(|member| member.node.0 != self.identity.node);
        others.map(|member| (member.node, member.address.clone())).collect()
    }

    /// The one whose turn it is.
    fn link(&self, turn: usize) -> Option<SnapshotLink> {
        let others = self.others();
        let (node, address) = others.get(turn % others.len().max(1))?;
        let mut links = self.links.lock();
        if links.get(node).is_none_or(|(known, _)| known != address) {
            let link = SnapshotLink::new(self.identity.clone(), node.0, address.clone());
            links.insert(*node, (address.clone(), link));
        }
        links.get(node).map(|(_, link)| link.clone())
    }
}

impl LostEntrySource for PeerRecords {
    async fn ask(&self, range: EntryRange, turn: usize) -> Result<Vec<Record>, NotGiven> {
        let nobody = || NotGiven::Unreachable("no other member is known".to_owned());
        self.link(turn).ok_or_else(nobody)?.records(None, range.from, LogIndex(range.to.0 - 1)).await
    }
}

impl RecordSource for PeerRecords {
    async fn records(&self, range: EntryRange, turn: usize) -> Option<Vec<Record>> {
        let given = self.ask(range, turn).await;
        #[cfg(debug_assertions)]
        let given = given.map(|mut records| {
            planted::change_messages(&mut records);
            records
        });
        given.inspect_err(|error| tracing::debug!(from = %range.from, %error, "a peer does not give entries")).ok()
    }

    fn count(&self) -> usize {
        self.others().len()
    }
}
