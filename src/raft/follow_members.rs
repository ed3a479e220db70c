//! Keeps the table of members at what this node's log says, and forgets what is known of members that left.

use openraft::async_runtime::watch::WatchReceiver;

use crate::env::pool::Pool;
use crate::raft::members::MemberTable;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types;
use crate::store::log::CommitLog;

/// Follows until Raft ends, or until it is dropped.
pub(super) async fn follow_members(raft: ShardRaft, table: MemberTable, log: CommitLog) {
    // These change with the membership; the whole metrics change with every entry.
    let mut metrics = raft.server_metrics();
    let mut said = None;
    loop {
        let (newest, committed) = {
            // Not held across the await: a held reference blocks Raft's core.
            let metrics = metrics.borrow_and_update();
            (types::members(&metrics.membership_config), types::members(&metrics.committed_membership_config))
        };
        let is_settled = newest.at == committed.at && !committed.is_empty();
        table.set_own(newest, committed);
        let difference = table.difference();
        if difference != said {
            if let Some(difference) = &difference {
                tracing::info!(
                    "dLegerPeers is the list of the very first start and differs from the members by now: {difference}"
                );
            }
            said = difference;
        }
        if is_settled {
            forget_others(&table, &log).await;
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// A number is never used again, so nothing can come of what is known of a replica that left.
async fn forget_others(table: &MemberTable, log: &CommitLog) {
    let members = table.now().all().map(|member| member.node).collect();
    let log = log.clone();
    let forgetting = Pool::Upkeep.run(move || log.know_only(members));
    if let Ok(Err(error)) = forgetting.await {
        tracing::warn!(%error, "what is known of members that left is not forgotten yet");
    }
}
