//! What people are shown of one shard: reads its applied state and its log, and proposes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::{Broker, Clients, Error, ShardReader, Statistics};
use crate::model::{LogIndex, Timestamp};

/// Reads a shard for operators. Each table is a file of its own that adds its methods.
///
/// Every method that reads the state waits first until this node has applied what was answered anywhere (a read barrier),
/// so that the answer is linearizable.
///
/// * Errors: all definite, as nothing is proposed. [`Error::NoLeader`] if the barrier was not reached in time.
pub struct Inspector {
    pub(super) reader: ShardReader,
    pub(super) clients: Arc<dyn Clients>,
    pub(super) statistics: Arc<Statistics>,
    /// How long a request waits for a leader.
    leader_wait: Duration,
}

impl Inspector {
    pub fn new(broker: &Broker) -> Self {
        Self {
            reader: broker.reader.clone(),
            clients: broker.clients.clone(),
            statistics: broker.statistics.clone(),
            leader_wait: broker.settings.leader_wait,
        }
    }

    /// When an entry of the log, or the next one with messages, was stored; `None` if this node does not have it, or cannot
    /// read it. Without a read barrier: the log of another node may begin there.
    pub async fn entry_stored_at(&self, index: LogIndex) -> Option<Timestamp> {
        let stamp = self.reader.stamp_from(index).await.ok().flatten();
        stamp.map(|stamp| self.reader.wall_of(stamp))
    }

    /// Waits until this node has applied all that was answered anywhere before.
    pub async fn read_barrier(&self) -> Result<(), Error> {
        self.reader.read_barrier(Instant::now() + self.leader_wait).await
    }
}
