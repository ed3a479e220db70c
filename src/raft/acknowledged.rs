//! How far the followers have acknowledged what is committed: shown to peers, and remembered, so that a disk that was put
//! back is recognised (D82) and the log keeps what a member lacks (D97).

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::model::{LogIndex, NodeId};
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types;

const REMEMBER_EVERY: Duration = Duration::from_secs(1);

/// Remembers it on the leader, until it is dropped; the others hear it from the leader's status.
pub(super) async fn remember_acknowledged(raft: ShardRaft, identity: PeerIdentity) {
    loop {
        tokio::time::sleep(REMEMBER_EVERY).await;
        let marks = acknowledged(&raft.metrics().borrow_watched());
        identity.note_acknowledged(&marks);
    }
}

/// How far each follower has acknowledged what is committed; nothing unless this node leads.
pub(super) fn acknowledged(metrics: &openraft::RaftMetrics<types::Types>) -> Vec<(NodeId, LogIndex)> {
    let Some(committed) = metrics.cluster_committed.as_ref().map(|id| id.index) else { return Vec::new() };
    let mark = |(id, matching): (&u64, &Option<types::LogId>)| {
        let matching = matching.as_ref()?.index.min(committed);
        Some((NodeId(*id), types::index_in(matching)))
    };
    metrics.replication.iter().flatten().filter(|(id, _)| **id != metrics.id).filter_map(mark).collect()
}
