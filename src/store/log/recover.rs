//! Recovery: lists the segments and finds where the log ends. It reads the last segment and the footer of the one before,
//! so that a start costs the same however large the log is (D87).
//!
//! The tail rule (P18, P19), for the last segment. Every record says which index was known to be durable when it was
//! written.
//! * A bad record that no later record knows to be durable was never acknowledged by this node: a torn tail, cut
//!   durably.
//! * A bad or missing record that a later one, a footer, or the mark an idle writer leaves in `meta`, knows to be durable
//!   has been damaged since: refuse. Cutting there would drop what was acknowledged.
//!
//! A segment is made only when the one before is durable and sealed, so the others are whole unless they were damaged
//! later. That is found when they are read: records, footers and the order of segments are checked then.

use std::path::Path;
use std::sync::Arc;

use crate::env::disk::{Disk, DiskFile};
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::footer::Footer;
use crate::store::log::last_segment::{LastSegment, write_footer};
use crate::store::log::meta::Meta;
use crate::store::log::meta_content::LogStart;
use crate::store::log::record;
use crate::store::log::record::{ALIGN, BadRecord, RecordId};
use crate::store::log::scan;
use crate::store::log::scan::Checks;
use crate::store::log::sealed_files::Opened;
use crate::store::log::segment;
use crate::store::log::segment::HEADER_BYTES;
use crate::store::log::segments::{Sealed, Segments};
use crate::store::log::upgrade::upgrade;

/// What recovery found.
pub(in crate::store) struct Recovered {
    /// Segments that were forgotten, but not yet removed.
    pub leftovers: Vec<Sealed>,
    /// The last record; if there is none, the one before the start of the log.
    pub last: Option<RecordId>,
    /// Highest committed index any record knew of, at most the last record's.
    pub committed: LogIndex,
}

/// Finds all segments of the folder, fills `segments` with them, and cuts a torn tail.
pub(in crate::store) fn recover(
    disk: &dyn Disk,
    folder: &Path,
    segments: &Segments,
    segment_bytes: u64,
    meta: &mut Meta,
) -> Result<Recovered, Error> {
    let mut firsts = segment::list(disk, folder)?;
    let last_file = open_last(disk, folder, segments, &mut firsts)?;
    let start = meta.start().map_or(LogIndex(0), |start| start.first);
    let purged = meta.purged().map_or(LogIndex(0), |purged| purged.index);
    segments.files().note_purged(purged);
    let kept_from = check_start(folder, &firsts, start, purged)?;
    let sizes = |firsts: &[LogIndex]| -> Result<Vec<Sealed>, Error> {
        firsts.iter().map(|first| sealed(disk, folder, *first)).collect()
    };
    let leftovers = sizes(&firsts[..kept_from])?;
    let Some((last_first, sealed_firsts)) = firsts[kept_from..].split_last() else {
        let last = meta.start().and_then(|start| start.before);
        check_end(folder, meta.durable(), last, purged)?;
        meta.note_upgraded()?;
        return Ok(Recovered { leftovers, last, committed: LogIndex(0) });
    };
    if !meta.is_upgraded() {
        upgrade(segments.files(), sealed_firsts, *last_first)?;
    }
    let before = sealed_firsts.last().map(|before| open_before_last(segments, *before, *last_first)).transpose()?;
    let mut tail = Tail { last: None, committed: LogIndex(0), durable: meta.durable() };
    if let Some(footer) = &before {
        (tail.last, tail.committed) = (Some(footer.last), footer.committed);
        tail.durable = tail.durable.max(footer.last.index);
    } else if let Some(LogStart { first, before }) = meta.start().filter(|start| start.first == *last_first) {
        (tail.last, tail.durable) = (before, tail.durable.max(LogIndex(first.0 - 1)));
    }
    let last_file = last_file.expect("there is a last segment");
    let last_segment = read_last(segments, *last_first, last_file, segment_bytes, &mut tail)?;
    check_end(folder, tail.durable, tail.last, purged)?;
    // Also a header of the version before is written anew, with the records.
    last_segment.write_again(tail.durable.next())?;
    last_segment.sync()?;
    segments.files().sync_folder()?;
    meta.note_upgraded()?;
    segments.fill(sizes(sealed_firsts)?, Some(last_segment));
    let committed = tail.committed.min(tail.last.map_or(LogIndex(0), |last| last.index));
    Ok(Recovered { leftovers, last: tail.last, committed })
}

/// What is known of the end of the log.
struct Tail {
    last: Option<RecordId>,
    committed: LogIndex,
    /// Everything up to here is known to be synced: by a later record or footer, or by the mark in `meta`.
    durable: LogIndex,
}

/// Opens the last segment. One whose header was never completed was being made when the node stopped: nothing is in it, it
/// is removed, and the one before is the last.
fn open_last(
    disk: &dyn Disk,
    folder: &Path,
    segments: &Segments,
    firsts: &mut Vec<LogIndex>,
) -> Result<Option<Arc<dyn DiskFile>>, Error> {
    let mut is_second = false;
    while let Some(first) = firsts.last().copied() {
        let path = segment::path(folder, first);
        let file = disk.open(&path).map_err(Error::io(path.display()))?;
        if segment::read_header(&*file, &path, first)?.is_some() {
            return Ok(Some(file.into()));
        }
        let damaged = |reason: &str| Error::Damaged { file: path.clone(), at: 0, reason: reason.to_owned() };
        if is_second {
            return Err(damaged("the header cannot be read"));
        }
        // The header is synced before any record.
        if !scan::is_zero(&*file, &path, HEADER_BYTES)? {
            return Err(damaged("the header cannot be read, and something lies behind it"));
        }
        segments.files().remove(first)?;
        segments.files().sync_folder()?;
        firsts.pop();
        is_second = true;
    }
    Ok(None)
}

/// Where the log begins among these segments: what is before was forgotten. Before it nothing may be missing.
fn check_start(folder: &Path, firsts: &[LogIndex], start: LogIndex, purged: LogIndex) -> Result<usize, Error> {
    let kept_from = firsts.partition_point(|first| *first <= start).saturating_sub(1);
    let needed = start.max(LogIndex(1));
    match firsts.get(kept_from) {
        Some(first) if *first <= needed.max(purged.next()) => Ok(kept_from),
        // An empty segment is removed before the next one is made, when entries were purged that never came here.
        None if start == LogIndex(0) || start <= purged => Ok(kept_from),
        found => {
            let found = found.map_or("there is no segment".to_owned(), |first| format!("the first is {first}"));
            let reason = format!("the log must begin with entry {needed}, and {found}");
            Err(Error::Damaged { file: folder.to_owned(), at: 0, reason })
        }
    }
}

/// What was known to be durable is there, or Raft had purged it.
fn check_end(folder: &Path, durable: LogIndex, last: Option<RecordId>, purged: LogIndex) -> Result<(), Error> {
    let last = last.map_or(LogIndex(0), |last| last.index);
    if durable <= last.max(purged) {
        return Ok(());
    }
    let reason = format!("the log was durable up to entry {durable} and ends at {last}");
    Err(Error::Damaged { file: folder.to_owned(), at: 0, reason })
}

fn sealed(disk: &dyn Disk, folder: &Path, first: LogIndex) -> Result<Sealed, Error> {
    let path = segment::path(folder, first);
    Ok(Sealed { first, bytes: disk.file_bytes(&path).map_err(Error::io(path.display()))? })
}

/// The footer of the segment before the last, made anew if it was lost.
fn open_before_last(segments: &Segments, first: LogIndex, next: LogIndex) -> Result<Footer, Error> {
    let Opened { file, footer, lacks_footer, .. } = segments.files().open(first, next)?;
    if lacks_footer {
        tracing::warn!(%first, "the footer of a segment could not be read: it is written anew");
        write_footer(&*file, &segments.files().path(first), &footer)?;
    }
    Ok(footer)
}

/// Reads the last segment, by the tail rule. If it was sealed it takes records again.
fn read_last(
    segments: &Segments,
    first: LogIndex,
    file: Arc<dyn DiskFile>,
    segment_bytes: u64,
    tail: &mut Tail,
) -> Result<LastSegment, Error> {
    let path = segments.files().path(first);
    let scan = scan::scan(&*file, &path, first, Checks::Body)?;
    tail.last = scan.last.or(tail.last);
    tail.committed = tail.committed.max(scan.committed);
    tail.durable = tail.durable.max(scan.durable);
    let at = scan.places.end();
    if let Some(bad) = scan.stopped {
        let footer = Footer::read(&*file, first).map_err(Error::io(path.display()))?;
        if let Some(footer) = &footer {
            // It is written only when the records are durable.
            tail.durable = tail.durable.max(footer.last.index);
            tail.committed = tail.committed.max(footer.committed);
        }
        if footer.is_none_or(|footer| footer.places.end() != at) {
            check_torn(&*file, &path, scan.places.next(), at, bad, tail.durable)?;
        }
    }
    let segment = LastSegment::new(path, file, scan.places, scan.checksum);
    if scan.stopped.is_some() {
        segment.shorten(segment_bytes)?;
    }
    Ok(segment)
}

/// Refuses a tail as torn if a later record or `durable` proves that it had been durable.
fn check_torn(
    file: &dyn DiskFile,
    path: &Path,
    bad_index: LogIndex,
    at: u64,
    bad: BadRecord,
    durable: LogIndex,
) -> Result<(), Error> {
    let damaged = |reason| Err(Error::Damaged { file: path.to_owned(), at, reason });
    if durable >= bad_index {
        return damaged(format!("entry {bad_index} had been durable before: {bad}"));
    }
    let found = scan::find_in_blocks(file, path, at + ALIGN as u64, |start, block| {
        let is_magic = |offset: &usize| block[*offset..].starts_with(&record::MAGIC.to_be_bytes());
        let mut candidates = (0..block.len()).step_by(ALIGN).filter(is_magic).map(|offset| start + offset as u64);
        candidates
            .find_map(|at| scan::knows_durable(file, path, at, bad_index).map(|knows| knows.then_some(())).transpose())
    })?;
    if found.transpose()?.is_some() {
        return damaged(format!("entry {bad_index} had been durable when a later one was written: {bad}"));
    }
    tracing::warn!(file = %path.display(), at, entry = %bad_index, %bad, "torn tail cut");
    Ok(())
}
