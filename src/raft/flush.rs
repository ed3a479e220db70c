//! The task that flushes the state store; it bounds what a restart has to apply again (D6).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::{LogIndex, RoomState};
use crate::raft::error::{Fatal, OnFatal};
use crate::raft::room::VoterRooms;
use crate::store::kv::{self, Kv};

const FLUSH_EVERY: Duration = Duration::from_secs(10);

/// Flushes whenever something was applied since the last time; a disk without room for it is left alone. Ends only with a failure, and calls `on_fatal` then.
pub(super) async fn flush_often(
    kv: Arc<dyn Kv>,
    applied: watch::Receiver<LogIndex>,
    rooms: Arc<VoterRooms>,
    on_fatal: OnFatal,
) {
    let mut flushed = LogIndex(0);
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        let now = *applied.borrow();
        let room = rooms.own().now();
        // A flush that fails for lack of room stops the writes to the state as well.
        if now == flushed || room.state == RoomState::Full || room.free < kv.unflushed_bytes() {
            continue;
        }
        let kv = kv.clone();
        let result: Result<kv::Result<()>, _> = tokio::task::spawn_blocking(move || kv.flush()).await;
        match result {
            Ok(Ok(())) => flushed = now,
            // All of it is still in memory and in the log.
            Ok(Err(error @ kv::Error::Full { .. })) => tracing::warn!(%error, "the state store is flushed later"),
            Ok(Err(error)) => return on_fatal(Fatal::Failed(format!("the state store cannot be flushed: {error}"))),
            Err(panic) => return on_fatal(Fatal::Failed(format!("the state store's flush panicked: {panic}"))),
        }
    }
}
