//! Members that the log knows of and the state does not yet, at a start: those of a node that is made from a backup, for
//! one (D123). Nobody else may be asked before.

use std::io;

use openraft::EntryPayload;

use crate::model::LogIndex;
use crate::raft::members::Members;
use crate::raft::types;
use crate::raft::types::StoredMembership;
use crate::store;
use crate::store::log::CommitLog;
use crate::store::log::record::RecordKind;

const READ_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The newest membership after `applied`, and after what is purged. What was not flushed is read; openraft does the same.
/// With peers no further than to what is damaged: it is only to know whom to ask. Blocks.
///
/// * Errors: the log cannot be read.
pub(super) fn members_in_log(log: &CommitLog, applied: LogIndex) -> io::Result<Option<Members>> {
    let end = log.last().map_or(LogIndex(0), |last| last.index).next();
    let first = log.first_index().unwrap_or(end);
    let purged = log.purged().map_or(LogIndex(0), |purged| purged.index);
    let (mut next, mut newest) = (applied.max(purged).next().max(first), None);
    while next < end {
        let records = match log.reader().read(next, end, READ_BYTES_MAX) {
            Err(store::Error::Damaged { .. }) if log.has_peers() => break,
            read => read.map_err(io::Error::other)?,
        };
        let Some(last) = records.last() else { break };
        next = last.index.next();
        for record in records.into_iter().filter(|record| record.kind == RecordKind::Membership) {
            let entry = types::to_entry(record).map_err(io::Error::other)?;
            if let EntryPayload::Membership(membership) = entry.payload {
                newest = Some(types::members(&StoredMembership::new(Some(entry.log_id), membership)));
            }
        }
    }
    Ok(newest)
}
