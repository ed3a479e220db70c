//! Recovery: finds the records of every segment and decides where the log ends.
//!
//! The tail rule (P18, P19). Every record says which index was known to be durable when it was written.
//! * A bad record that no later record knows to be durable was never acknowledged by this node: a torn tail, cut
//!   durably.
//! * A bad or missing record that a later one, or the mark an idle writer leaves in `meta`, knows to be durable has been
//!   damaged since: refuse. Cutting there would drop what was acknowledged.
//!
//! Bodies are checked in the last two segments. In the others the heads are checked, which have a checksum of their own,
//! and each body when it is read.

use std::path::Path;

use crate::env::disk::Disk;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::meta::Meta;
use crate::store::log::record;
use crate::store::log::record::{ALIGN, BadRecord, RecordId};
use crate::store::log::segment::{Checks, HEADER_BYTES, SUFFIX, Segment};

/// What recovery found.
pub(in crate::store) struct Recovered {
    /// In order; the last one takes the next records.
    pub segments: Vec<Segment>,
    /// The last record.
    pub last: Option<RecordId>,
    /// Highest committed index any record knew of, at most the last record's.
    pub committed: LogIndex,
    /// Everything up to here is known to be synced, by a later record or by the mark in `meta`.
    pub durable: LogIndex,
}

/// Opens all segments of the folder and cuts a torn tail.
pub(in crate::store) fn recover(disk: &dyn Disk, folder: &Path, meta: &Meta) -> Result<Recovered, Error> {
    let names = disk.list(folder).map_err(Error::io(folder.display()))?;
    let paths: Vec<_> = names.iter().filter(|name| name.ends_with(SUFFIX)).map(|name| folder.join(name)).collect();
    let mut recovered = Recovered { segments: Vec::new(), last: None, committed: LogIndex(0), durable: meta.durable() };
    let count = paths.len();
    for (position, path) in paths.into_iter().enumerate() {
        let is_last = position + 1 == count;
        let checks = if position + 2 >= count { Checks::Body } else { Checks::Heads };
        let Some(segment) = Segment::open(disk, path.clone())? else {
            if !is_last {
                let reason = "the header cannot be read".to_owned();
                return Err(Error::Damaged { file: path, at: 0, reason });
            }
            // The segment was being made when the node stopped: its header is synced before any record.
            let reason = "the header cannot be read, and something lies behind it".to_owned();
            if !is_empty(disk, &path)? {
                return Err(Error::Damaged { file: path, at: 0, reason });
            }
            disk.remove(&path).map_err(Error::io(path.display()))?;
            disk.sync_dir(folder).map_err(Error::io(folder.display()))?;
            break;
        };
        check_order(&segment, recovered.last, meta.purged())?;
        let torn_at = scan(&segment, checks, &mut recovered)?;
        if let Some((at, bad)) = torn_at {
            if !is_last {
                return Err(Error::Damaged { file: segment.path, at, reason: bad.to_string() });
            }
            cut_torn(&segment, at, bad, recovered.durable)?;
        }
        recovered.segments.push(segment);
    }
    let last = recovered.last.map_or(LogIndex(0), |last| last.index);
    let purged = meta.purged().map_or(LogIndex(0), |purged| purged.index);
    if recovered.durable > last.max(purged) {
        let reason = format!("the log was durable up to entry {} and ends at {last}", recovered.durable);
        return Err(Error::Damaged { file: folder.to_owned(), at: 0, reason });
    }
    recovered.committed = recovered.committed.min(last);
    Ok(recovered)
}

/// Whether a file holds nothing after the place of a segment's header.
fn is_empty(disk: &dyn Disk, path: &Path) -> Result<bool, Error> {
    let file = disk.open(path).map_err(Error::io(path.display()))?;
    let len = file.len().map_err(Error::io(path.display()))?;
    is_zero(HEADER_BYTES, len, |block, at| file.read_at(block, at).map_err(Error::io(path.display())))
}

/// Whether there are only zeros in `[at, end)`.
fn is_zero(mut at: u64, end: u64, read: impl Fn(&mut [u8], u64) -> Result<(), Error>) -> Result<bool, Error> {
    let mut block = vec![0; 64 * 1024];
    while at < end {
        let count = usize::try_from((end - at).min(block.len() as u64)).expect("at most a block");
        read(&mut block[..count], at)?;
        if block[..count].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

/// Segments follow each other without a gap, except over what Raft had purged.
fn check_order(segment: &Segment, last: Option<RecordId>, purged: Option<RecordId>) -> Result<(), Error> {
    let purged = purged.map_or(LogIndex(0), |purged| purged.index);
    let Some(last) = last else { return Ok(()) };
    let follows = segment.first == last.index.next();
    let follows_purged = segment.first > last.index && segment.first <= purged.next();
    if follows || follows_purged {
        return Ok(());
    }
    let reason = format!("it starts at entry {} but the one before ends at {}", segment.first, last.index);
    Err(Error::Damaged { file: segment.path.clone(), at: 0, reason })
}

/// Finds the records of a segment; returns where they stop early, and why.
fn scan(segment: &Segment, checks: Checks, recovered: &mut Recovered) -> Result<Option<(u64, BadRecord)>, Error> {
    let file_bytes = segment.file_bytes()?;
    loop {
        let at = segment.end();
        if at >= file_bytes {
            return Ok(None);
        }
        match segment.probe(at, file_bytes, checks)? {
            Ok((preamble, header)) if header.index == segment.next() => {
                recovered.last = Some(header.id());
                recovered.committed = recovered.committed.max(preamble.committed);
                recovered.durable = recovered.durable.max(preamble.durable);
                segment.found(preamble.whole_bytes());
            }
            Ok(_) => return Ok(Some((at, BadRecord::Magic))),
            Err(bad) if is_unwritten(segment, at, file_bytes)? => {
                tracing::trace!(%bad, at, "the rest of the segment is unwritten");
                return Ok(None);
            }
            Err(bad) => return Ok(Some((at, bad))),
        }
    }
}

/// Whether only zeros follow.
fn is_unwritten(segment: &Segment, at: u64, file_bytes: u64) -> Result<bool, Error> {
    is_zero(at, file_bytes, |block, at| segment.read_at(block, at))
}

/// Cuts a torn tail, unless a later record or the mark in `meta` proves that it had been durable.
fn cut_torn(segment: &Segment, at: u64, bad: BadRecord, durable: LogIndex) -> Result<(), Error> {
    let file_bytes = segment.file_bytes()?;
    let bad_index = segment.next();
    if durable >= bad_index {
        let reason = format!("entry {bad_index} had been durable before: {bad}");
        return Err(Error::Damaged { file: segment.path.clone(), at, reason });
    }
    let mut block = vec![0; 64 * 1024];
    let mut start = at + ALIGN as u64;
    while start < file_bytes {
        let count = usize::try_from((file_bytes - start).min(block.len() as u64)).expect("at most a block");
        segment.read_at(&mut block[..count], start)?;
        for offset in
            (0..count).step_by(ALIGN).filter(|offset| block[*offset..].starts_with(&record::MAGIC.to_be_bytes()))
        {
            let later = start + offset as u64;
            if let Ok((preamble, _)) = segment.probe(later, file_bytes, Checks::Body)?
                && preamble.durable >= bad_index
            {
                let reason = format!("entry {bad_index} had been durable when a later one was written: {bad}");
                return Err(Error::Damaged { file: segment.path.clone(), at, reason });
            }
        }
        start += count as u64;
    }
    tracing::warn!(file = %segment.path.display(), at, entry = %bad_index, %bad, "torn tail cut");
    let keep = LogIndex(bad_index.0 - 1);
    segment.cut_after(keep)?;
    assert!(segment.end() >= HEADER_BYTES, "the header is never cut");
    Ok(())
}
