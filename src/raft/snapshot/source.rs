//! A node that gives a snapshot, as whoever pulls one sees it: another replica over a link (`raft/peer/snapshot_link`).

use std::future::Future;

use bytes::Bytes;

use crate::model::LogIndex;
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::sources::NotServed;
use crate::store::log::record::Record;

/// Why a part did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGiven {
    #[error(transparent)]
    NotServed(#[from] NotServed),
    /// Nobody answers, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// It was asked, and takes its time.
    #[error("no answer in time")]
    Late,
    /// Its build does not give snapshots.
    #[error("it does not give snapshots: {0}")]
    Refused(String),
    /// What came is not what was asked for.
    #[error("what it sent cannot be used: {0}")]
    Unusable(String),
}

/// Gives snapshots, and records; see `sources`.
pub(in crate::raft) trait SnapshotSource: Send + Sync {
    fn open(&self, at_least: LogIndex) -> impl Future<Output = Result<Manifest, NotGiven>> + Send;
    /// None at the end of the file.
    fn file_part(&self, source: u64, file: usize, at: u64) -> impl Future<Output = Result<Bytes, NotGiven>> + Send;
    /// Consecutive from `first`, at least one, whole and unchanged.
    fn records(
        &self,
        source: Option<u64>,
        first: LogIndex,
        last: LogIndex,
    ) -> impl Future<Output = Result<Vec<Record>, NotGiven>> + Send;
    fn close(&self, source: u64) -> impl Future<Output = ()> + Send;
}

/// Records that were asked for from `first` up to `last`: consecutive, at least one.
pub(in crate::raft) fn check_records(
    records: Vec<Record>,
    first: LogIndex,
    last: LogIndex,
) -> Result<Vec<Record>, NotGiven> {
    let is_it = |(at, record): (u64, &Record)| record.index == LogIndex(first.0 + at) && record.index <= last;
    if records.is_empty() || !(0..).zip(&records).all(is_it) {
        return Err(NotGiven::Unusable(format!("other records than those from {first} to {last}")));
    }
    Ok(records)
}
