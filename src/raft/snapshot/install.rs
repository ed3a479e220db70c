//! Puts a snapshot that is complete in the place of the log and state in use. Blocks; to be called when all else has stopped.

use std::sync::Arc;

use crate::raft::snapshot::failed_installs;
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::target::{StagingError, Target, append};
use crate::store;
use crate::store::log::copy::adopt_copy;
use crate::store::log::record::RecordId;
use crate::store::log::{CommitLog, LogReader};

/// Records of the own log that are copied at once.
const COPY_BYTES: usize = 4 * 1024 * 1024;

/// Gives up a part of what is held in reserve on the disk; false if nothing is left of it.
pub(in crate::raft) type ReleaseReserve = Arc<dyn Fn() -> bool + Send + Sync>;

/// A generation that is complete, and not in use yet.
pub(in crate::raft) struct Staged {
    pub(super) target: Target,
    pub(super) manifest: Arc<Manifest>,
}

impl Staged {
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// About how many bytes of the own log are copied when it is installed.
    pub fn tail_bytes(&self, own: &CommitLog) -> u64 {
        let applied = self.manifest.applied.index;
        if own.last().is_none_or(|last| last.index <= applied) {
            return 0;
        }
        let segments = own.segments();
        let is_after = |at: usize| segments.get(at + 1).is_none_or(|next| next.first > applied);
        segments.iter().enumerate().filter(|(at, _)| is_after(*at)).map(|(_, segment)| segment.bytes).sum()
    }

    /// Puts it in the place of the log and state in use: `own` is the log in use, to which nothing may be written any more,
    /// no vote either, and which must stay open until the process ends. What `own` has after the snapshot stays, if it
    /// follows it. After a crash exactly one of both is in use, and this can be done again.
    ///
    /// * Errors: [`StagingError::Full`], also after the reserve was given up: nobody else makes room meanwhile, so nothing is
    ///   waited for. [`StagingError::Failed`] if what was staged is not what it was any more.
    pub fn install(&self, own: &CommitLog, release_reserve: &ReleaseReserve) -> Result<(), StagingError> {
        let installed = loop {
            match self.try_install(own, release_reserve) {
                Err(StagingError::Full(_)) if release_reserve() => {}
                done => break done,
            }
        };
        let store = &self.target.store;
        let noted = if installed.is_ok() { failed_installs::forget(store) } else { failed_installs::note(store) };
        if let Err(error) = noted {
            tracing::warn!(%error, "whether the snapshot could be installed is not noted");
        }
        installed
    }

    fn try_install(&self, own: &CommitLog, release_reserve: &ReleaseReserve) -> Result<(), StagingError> {
        let Target { store, owner, log_options, generation, .. } = &self.target;
        let folder = self.target.log();
        {
            let on_fatal = |error: &store::Error| tracing::error!(%error, "the staged log cannot be written");
            let log = CommitLog::open(store.disk.clone(), &folder, owner, log_options.clone(), Box::new(on_fatal))?;
            let release_reserve = release_reserve.clone();
            log.on_full(Box::new(move || release_reserve()));
            log.stop_waiting_for_room();
            self.cut_to_snapshot(&log)?;
            copy_tail(own.reader(), &log, self.manifest.applied)?;
            log.sync()?;
        }
        adopt_copy(&*store.disk, &folder, owner, own.identity())?;
        store.disk.sync_dir(&folder)?;
        Ok(store.flip_to(generation.next())?)
    }

    /// Leaves the records of the snapshot: it may have been tried before, and the own log may have changed since. It was whole
    /// when it was closed, but what this opening found damaged is cut, and must not be missing in the log in use.
    fn cut_to_snapshot(&self, log: &CommitLog) -> Result<(), StagingError> {
        let applied = self.manifest.applied;
        let lost_from = log.lost_from().filter(|from| *from <= applied.index);
        log.truncate_after(Some(applied.index))?;
        let damage = log.damage();
        if lost_from.is_some() || !damage.is_empty() || log.last() != Some(applied) {
            return Err(StagingError::Failed(format!(
                "the records that were pulled cannot all be read any more, and are pulled again: lost from {lost_from:?}, \
                 damaged {damage:?}"
            )));
        }
        Ok(())
    }
}

/// Copies what the own log has after the snapshot. If it has another entry where the snapshot ends, none of those after it
/// was ever committed: they do not follow what is.
fn copy_tail(own: &LogReader, to: &CommitLog, applied: RecordId) -> Result<(), StagingError> {
    let Some(last) = own.last().filter(|last| last.index > applied.index) else { return Ok(()) };
    let own_applied = own.read(applied.index, applied.index.next(), 1)?.pop();
    if own_applied.is_some_and(|record| record.id() != applied) {
        return Ok(());
    }
    let mut next = applied.index.next();
    while next <= last.index {
        let records = own.read(next, last.index.next(), COPY_BYTES)?;
        let Some(read) = records.last().map(|record| record.index) else {
            // Acknowledged entries must not be lost with it.
            return Err(StagingError::Failed(format!(
                "entry {next} of the own log, after the snapshot, cannot be read"
            )));
        };
        append(to, records)?;
        next = read.next();
    }
    Ok(())
}
