//! Pulls a snapshot into the next generation: state files in parts, records from the own log or the source, until it is whole.
//!
//! What is there already stays, whatever broke off before: the link, this process, the source. Nothing that came is
//! believed before it was compared with the manifest. Work on the disk is done away from Raft's thread.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use crate::env::pool::Pool;
use crate::model::LogIndex;
use crate::raft::snapshot::install::Staged;
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::progress::PullProgress;
use crate::raft::snapshot::source::{NotGiven, SnapshotSource};
use crate::raft::snapshot::sources::{LEASE, NotServed, PART_BYTES_MAX};
use crate::raft::snapshot::staging::{Missing, Staging};
use crate::raft::snapshot::target::{StagingError, Target};
use crate::store::log::LogReader;
use crate::store::log::record::Record;

/// Parts of one file asked for at once: a source far away takes its time for each.
const PARTS_AT_ONCE: usize = 4;
/// The source is asked for something this often at least, or it would end.
const ASK_EVERY: Duration = Duration::from_secs(LEASE.as_secs() / 3);
/// A source that sends as much as `snapshotRate` lets it is asked again after this pause, and so often.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
const BUSY_MAX: usize = 60;

/// Why there is no snapshot yet.
#[derive(Debug, thiserror::Error)]
pub(in crate::raft) enum PullError {
    #[error("the source: {0}")]
    Source(#[from] NotGiven),
    #[error(transparent)]
    Staging(#[from] StagingError),
}

impl PullError {
    /// Whether what the source has is wrong, and will be when it is asked again.
    pub fn is_unusable(&self) -> bool {
        matches!(self, Self::Source(NotGiven::Unusable(_)) | Self::Staging(StagingError::Unusable(_)))
    }

    /// Whether it is this node itself that cannot go on, whoever is asked.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Staging(StagingError::Full(_) | StagingError::Failed(_)))
    }
}

/// What a node has of its own that need not be pulled.
pub(in crate::raft) struct OwnRecords {
    pub reader: LogReader,
    /// Entries up to here are committed.
    pub applied: LogIndex,
}

/// Pulls from one source until the snapshot is whole.
///
/// * Cancel safe: what is there is gone on with by the next pull.
pub(in crate::raft) async fn pull(
    source: &impl SnapshotSource,
    manifest: Manifest,
    target: Target,
    own: OwnRecords,
    progress: &watch::Sender<PullProgress>,
) -> Result<Staged, PullError> {
    let manifest = Arc::new(manifest);
    let opening = manifest.clone();
    let pulling = async {
        let staging = OpenStaging::new(on_disk(move || Staging::open(target, opening)).await?);
        let staging = check_last(source, staging).await?;
        let filled = fill(source, staging.get(), own, progress).await;
        let staging = staging.take();
        match filled {
            Ok(()) => Ok(on_disk(move || staging.finish()).await?),
            Err(error) => {
                let closing = on_disk(move || {
                    drop(staging);
                    Ok(())
                });
                closing.await?;
                Err(error)
            }
        }
    };
    while_asked(source, &manifest, ASK_EVERY, pulling).await
}

/// Does what may ask the source for nothing for a long time, as reading through what is there already, and keeps the source
/// there meanwhile.
pub(super) async fn while_asked<T>(
    source: &impl SnapshotSource,
    manifest: &Manifest,
    every: Duration,
    work: impl Future<Output = Result<T, PullError>>,
) -> Result<T, PullError> {
    let has_ended = async {
        loop {
            tokio::time::sleep(every).await;
            // What else is wrong with it shows when a part is asked for.
            let opened = source.open(manifest.applied.index).await;
            if opened.is_ok_and(|other| other.source != manifest.source) {
                return;
            }
        }
    };
    tokio::select! {
        done = work => done,
        () = has_ended => Err(NotGiven::NotServed(NotServed::Ended).into()),
    }
}

/// What is staged, while it is filled. To close its log is to wait for the disk, so that is done away from Raft's thread, also
/// when a pull is dropped.
struct OpenStaging(Option<Arc<Staging>>);

impl OpenStaging {
    fn new(staging: Staging) -> Self {
        Self(Some(Arc::new(staging)))
    }

    fn get(&self) -> &Arc<Staging> {
        self.0.as_ref().expect("it is there until it is taken")
    }

    fn take(mut self) -> Staging {
        self.0.take().and_then(Arc::into_inner).expect("nothing works on it any more")
    }
}

impl Drop for OpenStaging {
    fn drop(&mut self) {
        if let Some(staging) = self.0.take() {
            drop(Pool::Upkeep.run(move || drop(staging)));
        }
    }
}

/// Pulls what is missing.
async fn fill(
    source: &impl SnapshotSource,
    staging: &Arc<Staging>,
    own: OwnRecords,
    progress: &watch::Sender<PullProgress>,
) -> Result<(), PullError> {
    let manifest = staging.manifest().clone();
    let _ends_waiting = staging.ends_waiting();
    let listing = staging.clone();
    let missing = on_disk(move || listing.missing_files()).await?;
    let missing_bytes: u64 = missing.iter().map(|missing| manifest.files[missing.file].bytes - missing.has).sum();
    let mut said = Progress { manifest: manifest.clone(), state: manifest.state_bytes() - missing_bytes, to: progress };
    said.say(staging.next_record());
    for missing in missing {
        pull_file(source, staging, missing, &mut said).await?;
    }
    pull_records(source, staging, own, &mut said).await
}

/// Says how far it is.
struct Progress<'a> {
    manifest: Arc<Manifest>,
    /// Bytes of the state that are there.
    state: u64,
    to: &'a watch::Sender<PullProgress>,
}

impl Progress<'_> {
    fn say(&mut self, next: Option<LogIndex>) {
        let Manifest { first, applied, log_bytes, .. } = &*self.manifest;
        let next = next.unwrap_or(applied.index.next());
        let (has, all) = (next.0.saturating_sub(first.0), applied.index.next().0 - first.0);
        let log = u64::try_from(u128::from(*log_bytes) * u128::from(has) / u128::from(all)).unwrap_or(*log_bytes);
        let total = self.manifest.state_bytes() + log_bytes;
        self.to.send_replace(PullProgress { applied: applied.index, done: self.state + log, total });
    }
}

/// Keeps the records that are there only if the last one is the source's: then all before are too (Raft §5.3).
async fn check_last(source: &impl SnapshotSource, open: OpenStaging) -> Result<OpenStaging, PullError> {
    let Some(last) = open.get().last_record() else { return Ok(open) };
    let manifest = open.get().manifest().clone();
    let theirs = if last.index == manifest.applied.index {
        Some(manifest.applied)
    } else if last.index < manifest.first {
        manifest.before.filter(|before| before.index == last.index)
    } else {
        let records = patiently(|| source.records(Some(manifest.source), last.index, last.index)).await?;
        records.first().map(Record::id)
    };
    if theirs == Some(last) {
        return Ok(open);
    }
    let staging = open.take();
    Ok(OpenStaging::new(on_disk(move || staging.forget_records()).await?))
}

/// One file, which goes on after what is there, if that is its beginning.
async fn pull_file(
    source: &impl SnapshotSource,
    staging: &Arc<Staging>,
    missing: Missing,
    said: &mut Progress<'_>,
) -> Result<(), PullError> {
    let Missing { file, has } = missing;
    pull_parts(source, staging, missing, said).await?;
    let finishing = staging.clone();
    if on_disk(move || finishing.finish_file(file)).await? {
        return Ok(());
    }
    let manifest = staging.manifest();
    if has > 0 {
        said.state -= manifest.files[file].bytes;
        pull_parts(source, staging, Missing { file, has: 0 }, said).await?;
        let finishing = staging.clone();
        if on_disk(move || finishing.finish_file(file)).await? {
            return Ok(());
        }
    }
    let what = format!("the checksum of the file {} does not fit", manifest.files[file].name);
    Err(NotGiven::Unusable(what).into())
}

async fn pull_parts(
    source: &impl SnapshotSource,
    staging: &Arc<Staging>,
    missing: Missing,
    said: &mut Progress<'_>,
) -> Result<(), PullError> {
    let Missing { file, has } = missing;
    let (number, bytes) = (staging.manifest().source, staging.manifest().files[file].bytes);
    let starts = (has..bytes).step_by(PART_BYTES_MAX);
    let asking = starts.map(|at| async move { (at, patiently(|| source.file_part(number, file, at)).await) });
    let mut parts = stream::iter(asking).buffered(PARTS_AT_ONCE);
    while let Some((at, part)) = parts.next().await {
        let part: Bytes = part?;
        let expected = (bytes - at).min(PART_BYTES_MAX as u64);
        if part.len() as u64 != expected {
            let what = format!("{} bytes of a file where {expected} were asked for", part.len());
            return Err(NotGiven::Unusable(what).into());
        }
        said.state += part.len() as u64;
        let writing = staging.clone();
        on_disk(move || writing.write_file(file, at, &part)).await?;
        said.say(staging.next_record());
    }
    Ok(())
}

/// While records are written, the next ones are on their way.
async fn pull_records(
    source: &impl SnapshotSource,
    staging: &Arc<Staging>,
    own: OwnRecords,
    said: &mut Progress<'_>,
) -> Result<(), PullError> {
    let last = staging.manifest().applied.index;
    let mut records: Vec<Record> = Vec::new();
    let mut next = staging.next_record();
    loop {
        let written = std::mem::take(&mut records);
        let after = written.last().map_or(next, |record| Some(record.index.next()).filter(|next| *next <= last));
        let writing = staging.clone();
        let write = on_disk(move || if written.is_empty() { Ok(()) } else { writing.append(written) });
        let read = async {
            match after {
                Some(after) => read_records(source, staging.manifest(), &own, after).await,
                None => Ok(Vec::new()),
            }
        };
        let (write, read) = tokio::join!(write, read);
        write?;
        said.say(staging.next_record());
        records = read?;
        next = after;
        if records.is_empty() {
            return Ok(());
        }
    }
}

/// From the own log as far as it is committed, and can be read; else from the source.
async fn read_records(
    source: &impl SnapshotSource,
    manifest: &Manifest,
    own: &OwnRecords,
    first: LogIndex,
) -> Result<Vec<Record>, PullError> {
    let last = manifest.applied.index;
    let own_last = last.min(own.applied);
    if first <= own_last {
        let reader = own.reader.clone();
        let reading = Pool::Upkeep.run(move || reader.read(first, own_last.next(), PART_BYTES_MAX));
        if let Ok(Ok(records)) = reading.await
            && records.first().is_some_and(|record| record.index == first)
        {
            return Ok(records);
        }
    }
    Ok(patiently(|| source.records(Some(manifest.source), first, last)).await?)
}

/// Asks again while the source has as much to send as it may.
async fn patiently<T, F: Future<Output = Result<T, NotGiven>>>(ask: impl Fn() -> F) -> Result<T, NotGiven> {
    for _ in 0..BUSY_MAX {
        match ask().await {
            Err(NotGiven::NotServed(NotServed::Busy)) => tokio::time::sleep(BUSY_PAUSE).await,
            answer => return answer,
        }
    }
    ask().await
}

/// Runs what waits for the disk away from Raft's thread.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StagingError> + Send + 'static,
) -> Result<T, StagingError> {
    match Pool::Upkeep.run(work).await {
        Ok(done) => done,
        Err(panic) => Err(StagingError::Failed(panic.to_string())),
    }
}
