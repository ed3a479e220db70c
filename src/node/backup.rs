//! A backup of this node's shard, part by part. Before: `edge/admin/backup`. Below: `raft/snapshot/sources`.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::broker::Deadline;
use crate::env::rng::random_u64;
use crate::model::LogIndex;
use crate::node::Node;
use crate::raft::{Manifest, NotServed, SnapshotSources};
use crate::store::log::record::encode_wire;

const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// A backup that somebody reads; what it keeps on this node ends with it.
pub struct BackupSource {
    sources: SnapshotSources,
    manifest: Arc<Manifest>,
}

impl Node {
    /// Makes what is needed for a backup with all that was acknowledged until now.
    ///
    /// * Errors: [`NotServed`]; in words too if this node cannot know what was acknowledged.
    pub async fn begin_backup(&self) -> Result<BackupSource, NotServed> {
        let broker = self.broker();
        let barrier = broker.reader().read_barrier(broker.held_until(Deadline::NONE)).await;
        barrier.map_err(|error| NotServed::Failed(error.to_string()))?;
        let sources = self.replica.snapshots().clone();
        let applied = *self.replica.applied().borrow();
        let reader = format!("backup {:016x}", random_u64());
        let manifest = sources.open(&reader, applied).await?;
        Ok(BackupSource { sources, manifest })
    }
}

impl BackupSource {
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of a file of the state from `at` on; none at its end.
    ///
    /// * Errors: [`NotServed`].
    pub async fn state_part(&self, file: usize, at: u64) -> Result<Bytes, NotServed> {
        patiently(|| self.sources.file_part(self.manifest.source, file, at)).await
    }

    /// Records from `first` on, back to back, with the index after the last one.
    ///
    /// * Errors: [`NotServed`].
    pub async fn records(&self, first: LogIndex) -> Result<(Bytes, LogIndex), NotServed> {
        let last = self.manifest.applied.index;
        let read = patiently(|| self.sources.records(Some(self.manifest.source), first, last));
        let records = read.await?;
        let mut out = BytesMut::new();
        records.iter().for_each(|record| encode_wire(record, &mut out));
        let next = records.last().map_or(first, |last| last.index.next());
        Ok((out.freeze(), next))
    }
}

/// A backup takes as long as it takes, and ends with whoever reads it: what others are sent before is waited for.
async fn patiently<T, F: Future<Output = Result<T, NotServed>>>(ask: impl Fn() -> F) -> Result<T, NotServed> {
    loop {
        match ask().await {
            Err(NotServed::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
            answer => return answer,
        }
    }
}

impl Drop for BackupSource {
    fn drop(&mut self) {
        let (sources, source) = (self.sources.clone(), self.manifest.source);
        tokio::spawn(async move { sources.close(source).await });
    }
}
