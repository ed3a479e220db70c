//! A leader whose disk is slower than those of the majority hands leadership on (D84): it applies, and answers, only what
//! is durable here (D5), so all clients would wait for the one slow disk.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::LogIndex;
use crate::raft::leadership::{Leadership, transfer_leadership};
use crate::raft::state_machine::ShardRaft;
use crate::raft::types;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So long the majority may have synced what this disk has not.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Pause after a hand-over, so that leadership does not go round when all disks are slow.
const PAUSE: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub(super) async fn hand_over_when_slow(
    raft: ShardRaft,
    leadership: watch::Receiver<Leadership>,
    durable: watch::Receiver<LogIndex>,
) {
    let mut waiting: Option<(LogIndex, Instant)> = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let committed = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.cluster_committed.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index))
        };
        let durable = *durable.borrow();
        if !leadership.borrow().is_self || committed <= durable {
            waiting = None;
            continue;
        }
        // One entry that waits too long, not a steady short wait of ever new ones.
        let (index, since) = *waiting.get_or_insert((committed, Instant::now()));
        if durable >= index {
            waiting = None;
        } else if since.elapsed() > BEHIND_MAX {
            tracing::warn!(
                %durable, %committed,
                "this node's disk is slower than those of the majority, which has synced what is not durable here for \
                 {BEHIND_MAX:?}: leadership is handed on; look at the disk"
            );
            transfer_leadership(&raft, leadership.clone(), |_| true).await;
            waiting = None;
            tokio::time::sleep(PAUSE).await;
        }
    }
}
