//! Flushing the state store: what was applied becomes durable. That bounds what a restart has to apply again, and how far
//! Raft may forget the log, which is the only log the state has (D6).

use std::sync::Arc;

use parking_lot::Mutex;

use crate::env::pool::Pool;
use crate::model::LogIndex;
use crate::raft::marks::{Marks, read_marks};
use crate::raft::types;
use crate::store::kv::{Error, Kv, Result};
use crate::store::log::CommitLog;

/// Flushes the state store, and knows how far it is flushed. Cheap to clone.
#[derive(Clone)]
pub struct StateFlush {
    kv: Arc<dyn Kv>,
    /// With `ASYNC_FLUSH`.
    async_log: Option<CommitLog>,
    /// Of the last flush.
    marks: Arc<Mutex<Marks>>,
}

impl StateFlush {
    /// Over a store that was just opened: what is in it is durable. With `ASYNC_FLUSH` also over its log.
    pub fn new(kv: Arc<dyn Kv>, async_log: Option<CommitLog>) -> std::io::Result<Self> {
        let marks = Arc::new(Mutex::new(read_marks(&*kv)?));
        Ok(Self { kv, async_log, marks })
    }

    /// Makes durable what is applied, and returns the marks that it has at least.
    ///
    /// * Errors: [`Error::Full`]: all of it is still in memory and in the log.
    pub async fn flush(&self) -> Result<Marks> {
        let (kv, async_log) = (self.kv.clone(), self.async_log.clone());
        let flushing = Pool::Flushes.run(move || {
            // Before the flush: what is applied meanwhile may not be in it.
            let marks = read_marks(&*kv).map_err(|error| Error::Failed(error.to_string()))?;
            if let Some(log) = async_log {
                // Or a power loss could leave a state that is ahead of its log, and a purged log cannot bring it back. What is
                // left of that is what is applied before the next line, and what RocksDB flushes by itself.
                log.sync().map_err(|error| Error::Failed(error.to_string()))?;
            }
            kv.flush()?;
            Ok(marks)
        });
        let marks = flushing.await.map_err(|panic| Error::Failed(panic.to_string()))??;
        *self.marks.lock() = marks.clone();
        Ok(marks)
    }

    /// What the next flush needs on the disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.kv.unflushed_bytes()
    }

    /// Whether the state is damaged, or wrong: the node must stop.
    pub fn is_given_up(&self) -> bool {
        self.kv.is_given_up()
    }

    /// The marks of the last flush.
    pub fn marks(&self) -> Marks {
        self.marks.lock().clone()
    }

    /// Entries up to here are in the state for good.
    pub fn flushed(&self) -> LogIndex {
        self.marks.lock().0.as_ref().map_or(LogIndex(0), |id| types::index_in(id.index))
    }
}
