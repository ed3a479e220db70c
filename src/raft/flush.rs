//! The task that flushes the state store; it bounds what a restart has to apply again (D6).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::LogIndex;
use crate::raft::error::{Fatal, OnFatal};
use crate::store::kv::{self, Kv};

const FLUSH_EVERY: Duration = Duration::from_secs(10);

/// Flushes whenever something was applied since the last time. Ends only with a failure, and calls `on_fatal` then.
pub(super) async fn flush_often(kv: Arc<dyn Kv>, applied: watch::Receiver<LogIndex>, on_fatal: OnFatal) {
    let mut flushed = LogIndex(0);
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        let now = *applied.borrow();
        if now == flushed {
            continue;
        }
        let kv = kv.clone();
        let result: Result<kv::Result<()>, _> = tokio::task::spawn_blocking(move || kv.flush()).await;
        match result {
            Ok(Ok(())) => flushed = now,
            Ok(Err(error)) => return on_fatal(Fatal::Failed(format!("the state store cannot be flushed: {error}"))),
            Err(panic) => return on_fatal(Fatal::Failed(format!("the state store's flush panicked: {panic}"))),
        }
    }
}
