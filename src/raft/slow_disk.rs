//! A disk that takes long for its syncs: it is noticed, shown in `cluster status`, and moves leadership.
//!
//! A leader whose disk is slower than those of the majority hands leadership on (D84): it applies, and answers, only what
//! is durable here (D5), so all clients would wait for the one slow disk.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::{LogIndex, RoomState};
use crate::raft::leadership::{Leadership, transfer_leadership};
use crate::raft::peer::status::StatusClients;
use crate::raft::room::VoterRooms;
use crate::raft::state_machine::ShardRaft;
use crate::raft::types;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So long the majority may have synced what this disk has not, and so long a sync may take.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Pause after a hand-over, so that leadership does not go round when all disks are slow.
const PAUSE: Duration = Duration::from_secs(10);
/// A disk that was slow is called so for this long.
const SLOW_FOR: Duration = Duration::from_secs(10);
/// A disk that stays slow is logged again after this long.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// When this node's disk was last slow. Shared.
#[derive(Clone, Default)]
pub(super) struct SlowDisk(Arc<Mutex<Option<Instant>>>);

impl SlowDisk {
    /// Whether it is, or was a moment ago.
    pub fn is_slow(&self) -> bool {
        self.0.lock().is_some_and(|at| at.elapsed() < SLOW_FOR)
    }

    fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }
}

/// What the watch works with.
pub(super) struct SlowDiskWatch {
    pub raft: ShardRaft,
    pub leadership: watch::Receiver<Leadership>,
    pub durable: watch::Receiver<LogIndex>,
    pub rooms: Arc<VoterRooms>,
    pub status_clients: StatusClients,
    pub mark: SlowDisk,
}

/// One entry that waits to be durable here; not a steady short wait of ever new ones.
#[derive(Default)]
struct Waiting(Option<(LogIndex, Instant)>);

impl Waiting {
    /// Whether an entry up to `wanted` has waited for too long.
    fn is_too_long(&mut self, wanted: LogIndex, durable: LogIndex) -> bool {
        if wanted <= durable {
            self.0 = None;
            return false;
        }
        let (index, since) = *self.0.get_or_insert((wanted, Instant::now()));
        if durable >= index {
            self.0 = None;
        }
        durable < index && since.elapsed() > BEHIND_MAX
    }
}

impl SlowDiskWatch {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let (mut appended, mut behind) = (Waiting::default(), Waiting::default());
        let (mut handed_on, mut reported) = (None::<Instant>, None::<Instant>);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let (last, committed) = {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                let committed = metrics.cluster_committed.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index));
                (metrics.last_log_index.map_or(LogIndex(0), types::index_in), committed)
            };
            let durable = *self.durable.borrow();
            // A log that waits for room is slow for another reason.
            let has_room = self.rooms.own().now().state < RoomState::Full;
            if appended.is_too_long(last, durable) && has_room {
                self.mark.note();
                if reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
                    reported = Some(Instant::now());
                    tracing::warn!(%durable, appended = %last, "this node's disk is slow: a sync takes more than {BEHIND_MAX:?}");
                }
            }
            let leads = self.leadership.borrow().is_self;
            let is_behind = behind.is_too_long(if leads { committed } else { durable }, durable);
            if is_behind && handed_on.is_none_or(|at| at.elapsed() >= PAUSE) {
                tracing::warn!(
                    %durable, %committed,
                    "this node's disk is slower than those of the majority, which has synced what is not durable here for \
                     {BEHIND_MAX:?}: leadership is handed on; look at the disk"
                );
                transfer_leadership(&self.raft, self.leadership.clone(), &self.status_clients, |_| true).await;
                behind = Waiting::default();
                handed_on = Some(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn p21_one_entry_that_waits_too_long_is_a_slow_disk_and_ever_new_ones_are_not() {
        let mut waiting = Waiting::default();
        for index in 1..50 {
            assert!(!waiting.is_too_long(LogIndex(index + 1), LogIndex(index)));
        }
        assert!(!waiting.is_too_long(LogIndex(50), LogIndex(40)));
        waiting.0 = Some((LogIndex(50), Instant::now().checked_sub(2 * BEHIND_MAX).unwrap()));
        assert!(waiting.is_too_long(LogIndex(60), LogIndex(49)));
        assert!(!waiting.is_too_long(LogIndex(60), LogIndex(50)), "it came");
        assert!(!waiting.is_too_long(LogIndex(60), LogIndex(50)), "the next one has only begun");
    }
}
