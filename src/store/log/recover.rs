//! Recovery: lists the segments and finds where the log ends. It reads the last segment and the footer of the one before,
//! so that a start costs the same however large the log is (D87).
//!
//! A torn tail is cut. What was durable and is not there any more has been damaged since (`tail_rule`):
//! * a body in the last segment is quarantined: its place is known, and a peer has the same bytes;
//! * from a record on that cannot be found at all the log is cut, and `meta` says first, durably, that entries from there on
//!   are lost: this node may have acknowledged them (D115).
//!
//! Without peers nothing that was durable is cut: the start is refused.
//!
//! A segment is made only when the one before is durable and sealed, so the others are whole unless they were damaged
//! later. That is found when they are read or scrubbed: records, footers and the order of segments are checked then.

use std::path::Path;
use std::sync::Arc;

use crate::env::disk::{Disk, DiskFile};
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::footer::{Footer, LastRecord};
use crate::store::log::last_segment::{Checksums, LastSegment, write_footer};
use crate::store::log::meta::Meta;
use crate::store::log::meta_content::LogStart;
use crate::store::log::older_end::{OlderOfTwo, older_of_two, unproven_from};
use crate::store::log::options::Options;
use crate::store::log::rebuild;
use crate::store::log::record::{BadRecord, RecordId};
use crate::store::log::scan;
use crate::store::log::sealed_files::Opened;
use crate::store::log::segment;
use crate::store::log::segment::{HEADER_BYTES, Header};
use crate::store::log::segments::{Sealed, Segments};
use crate::store::log::tail_rule::{self, BadTail};
use crate::store::log::unreadable;
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
///
/// * Errors: [`Error::Damaged`]: durable entries at the end are missing or changed, and there are no peers; or what only an
///   operator can decide.
pub(in crate::store) fn recover(
    disk: &dyn Disk,
    folder: &Path,
    segments: &Segments,
    options: &Options,
    meta: &mut Meta,
) -> Result<Recovered, Error> {
    segments.files().note_purged(meta.purged().map_or(LogIndex(0), |purged| purged.index));
    remove_unfinished(disk, folder)?;
    let begun = segment::list_begun(disk, folder)?;
    let recovered = find_end(disk, folder, segments, options, meta, &begun)?;
    // Before anything is appended: it would say of later entries that they never were.
    for first in &begun {
        disk.remove(&segment::begun_path(folder, *first)).map_err(Error::io(folder.display()))?;
    }
    if !begun.is_empty() {
        segments.files().sync_folder()?;
    }
    Ok(recovered)
}

/// As [`recover`]; `begun` are the segments that were not in their places yet.
fn find_end(
    disk: &dyn Disk,
    folder: &Path,
    segments: &Segments,
    options: &Options,
    meta: &mut Meta,
    begun: &[LogIndex],
) -> Result<Recovered, Error> {
    let purged = meta.purged().map_or(LogIndex(0), |purged| purged.index);
    let mut firsts = segment::list(disk, folder)?;
    loop {
        let last_file = match open_last(disk, folder, segments, options, &mut firsts, meta) {
            Err(error @ Error::Damaged { .. }) if renew_last(disk, folder, &firsts, options)? => {
                tracing::error!(%error, "the last segment was read as far as the disk can");
                continue;
            }
            opened => opened?,
        };
        let start = meta.start().map_or(LogIndex(0), |start| start.first);
        let (kept_from, missing) = check_start(&firsts, start, purged);
        if missing.is_some_and(|missing| meta.lost_from() == Some(missing)) && last_file.is_some() {
            // All of it was given up, and is not wholly removed yet.
            firsts.drain(..).try_for_each(|first| segments.files().remove_durably(first))?;
            continue;
        }
        if let Some(missing) = missing.filter(|_| !options.has_peers) {
            let found =
                firsts.get(kept_from).map_or("there is no segment".to_owned(), |first| format!("the first is {first}"));
            let reason = format!("the log must begin with entry {missing}, and {found}");
            return Err(Error::Damaged { file: folder.to_owned(), at: 0, reason });
        }
        let missing = missing.map(|first| Sealed { first, bytes: 0 });
        if let Some(missing) = &missing {
            segments.quarantine().note(missing.first, "the segment is missing");
        }
        let sizes = |firsts: &[LogIndex]| -> Result<Vec<Sealed>, Error> {
            firsts.iter().map(|first| sealed(disk, folder, *first)).collect()
        };
        let leftovers = sizes(&firsts[..kept_from])?;
        let mut tail = Tail { last: None, last_checksum: None, committed: LogIndex(0), durable: meta.durable() };
        let (Some((last_first, sealed_firsts)), Some(last_file)) = (firsts[kept_from..].split_last(), last_file) else {
            tail.last = meta.start().and_then(|start| start.before);
            if options.has_peers && meta.lost_from().is_none() && purged < start {
                lose(meta, folder, start, "there is no segment")?;
            }
            check_end(folder, &tail, purged, options, meta)?;
            meta.note_upgraded()?;
            segments.fill(missing.into_iter().collect(), None);
            return Ok(Recovered { leftovers, last: tail.last, committed: LogIndex(0) });
        };
        if !meta.is_upgraded() {
            upgrade(segments, sealed_firsts, *last_first, options.has_peers)?;
        }
        let scan = match scan::scan(&*last_file, &segments.files().path(*last_first), *last_first) {
            Err(error @ Error::Damaged { .. }) if renew_last(disk, folder, &firsts, options)? => {
                tracing::error!(%error, "the last segment was read as far as the disk can");
                continue;
            }
            scan => scan?,
        };
        let mut before =
            sealed_firsts.last().map(|before| open_before_last(segments, *before, *last_first)).transpose();
        if let Ok(Some(opened)) = &before {
            match older_of_two(segments.files(), opened, sealed_firsts, &scan, meta.durable_id())? {
                None => {}
                Some(OlderOfTwo::Before) => before = Err(segments.files().older(opened.footer.places.first())),
                Some(OlderOfTwo::Last) if !options.has_peers => return Err(segments.files().older(*last_first)),
                Some(OlderOfTwo::Last) => {
                    let path = segments.files().path(*last_first);
                    lose(meta, &path, *last_first, "the last segment does not follow the one before it")?;
                    segments.files().remove_durably(*last_first)?;
                    firsts.pop();
                    continue;
                }
            }
        }
        match &before {
            Ok(Some(Opened { file, footer, .. })) => {
                (tail.last, tail.committed) = (Some(footer.last), footer.committed);
                tail.durable = tail.durable.max(footer.last.index);
                let path = segments.files().path(footer.places.first());
                if let LastRecord::Is(checksum) = footer.last_record(&**file, &path)? {
                    tail.last_checksum = Some(checksum);
                }
            }
            Ok(None) => {
                if let Some(LogStart { first, before }) = meta.start().filter(|start| start.first == *last_first) {
                    (tail.last, tail.durable) = (before, tail.durable.max(LogIndex(first.0 - 1)));
                }
            }
            Err(_) => tail.durable = tail.durable.max(LogIndex(last_first.0 - 1)),
        }
        let last_segment = match read_last(segments, (last_file, scan), begun, options, meta, &mut tail) {
            Err(error @ Error::Damaged { .. }) if renew_last(disk, folder, &firsts, options)? => {
                tracing::error!(%error, "the last segment was read as far as the disk can");
                continue;
            }
            read => read?,
        };
        if let Err(error) = before {
            let is_damaged = matches!(&error, Error::Damaged { .. });
            if !is_damaged || !options.has_peers {
                return Err(error);
            }
            if last_segment.is_empty() {
                // The one before is the last one that has entries: by the same rule what is whole in it stays.
                meta.mark_durable(tail.durable, None)?;
                segments.files().remove_durably(*last_first)?;
                firsts.pop();
                continue;
            }
            segments.quarantine().note(sealed_firsts[sealed_firsts.len() - 1], &error.to_string());
        }
        check_end(folder, &tail, purged, options, meta)?;
        // Also a header of the version before is written anew, with the records.
        last_segment.write_again(tail.durable.next().max(last_segment.first()))?;
        last_segment.sync()?;
        segments.files().sync_folder()?;
        meta.note_upgraded()?;
        let sealed: Vec<Sealed> = missing.into_iter().chain(sizes(sealed_firsts)?).collect();
        segments.fill(sealed, Some(last_segment));
        let committed = tail.committed.min(tail.last.map_or(LogIndex(0), |last| last.index));
        return Ok(Recovered { leftovers, last: tail.last, committed });
    }
}

/// If the disk cannot read a part of the last segment, and there are peers, a copy takes its place in which that part is
/// damaged like any other.
fn renew_last(disk: &dyn Disk, folder: &Path, firsts: &[LogIndex], options: &Options) -> Result<bool, Error> {
    let Some(first) = firsts.last().filter(|_| options.has_peers) else { return Ok(false) };
    let path = segment::path(folder, *first);
    let file = disk.open(&path).map_err(Error::io(path.display()))?;
    let is_bad = unreadable::has_unreadable(&*file, &path)?;
    if is_bad {
        unreadable::renew(disk, &*file, &path)?;
    }
    Ok(is_bad)
}

/// Removes segments that an earlier process was making anew.
fn remove_unfinished(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    let names = disk.list(folder).map_err(Error::io(folder.display()))?;
    let is_unfinished = |name: &&String| name.ends_with(rebuild::SUFFIX) || name.ends_with(unreadable::SUFFIX);
    let unfinished = names.iter().filter(is_unfinished).map(|name| folder.join(name));
    unfinished.into_iter().try_for_each(|path| disk.remove(&path).map_err(Error::io(path.display())))
}

/// What is known of the end of the log.
struct Tail {
    last: Option<RecordId>,
    /// Of the last record before the last segment.
    last_checksum: Option<u32>,
    committed: LogIndex,
    /// Everything up to here is known to be synced: by a later record or footer, or by the mark in `meta`.
    durable: LogIndex,
}

/// Opens the last segment. One without a header and anything after it is removed, and the one before is the last: an earlier
/// build was making it when the node stopped, or it was zeroed.
fn open_last(
    disk: &dyn Disk,
    folder: &Path,
    segments: &Segments,
    options: &Options,
    firsts: &mut Vec<LogIndex>,
    meta: &mut Meta,
) -> Result<Option<Arc<dyn DiskFile>>, Error> {
    let mut is_second = false;
    while let Some(first) = firsts.last().copied() {
        let path = segment::path(folder, first);
        let file = disk.open(&path).map_err(Error::io(path.display()))?;
        let header = segment::read_header(&*file, &path, first)?;
        if let Header::Whole(_) = header {
            return Ok(Some(file.into()));
        }
        let damaged = |reason: &str| Error::Damaged { file: path.clone(), at: 0, reason: reason.to_owned() };
        // The header is synced before any record.
        let is_empty = header == Header::Bad && scan::is_zero(&*file, &path, HEADER_BYTES)?;
        if !is_empty {
            if !options.has_peers {
                return Err(damaged("the header cannot be read, and something lies behind it"));
            }
            // What is in it is judged as any tail; the header is written anew.
            return Ok(Some(file.into()));
        }
        if is_second && !options.has_peers {
            return Err(damaged("the header cannot be read"));
        }
        if options.has_peers {
            // Its header was durable before it was in its place, but in a folder of an earlier build.
            lose(meta, &path, first, "the last segment is empty")?;
        }
        segments.files().remove(first)?;
        segments.files().sync_folder()?;
        firsts.pop();
        is_second = true;
    }
    Ok(None)
}

/// Where the log begins among these segments: what is before was forgotten. Before it nothing may be missing; what is, is
/// the second.
fn check_start(firsts: &[LogIndex], start: LogIndex, purged: LogIndex) -> (usize, Option<LogIndex>) {
    let kept_from = firsts.partition_point(|first| *first <= start).saturating_sub(1);
    let needed = start.max(LogIndex(1));
    let is_missing = match firsts.get(kept_from) {
        Some(first) => *first > needed.max(purged.next()),
        // An empty segment is removed before the next one is made, when entries were purged that never came here.
        None => start > purged.next(),
    };
    (kept_from, is_missing.then_some(needed))
}

/// What was known to be durable is there, or Raft had purged it.
fn check_end(folder: &Path, tail: &Tail, purged: LogIndex, options: &Options, meta: &mut Meta) -> Result<(), Error> {
    let (durable, last) = (tail.durable, tail.last.map_or(LogIndex(0), |last| last.index));
    if durable <= last.max(purged) || meta.lost_from().is_some_and(|lost| lost <= last.next()) {
        return Ok(());
    }
    let reason = format!("the log was durable up to entry {durable} and ends at {last}");
    if options.has_peers {
        return lose(meta, folder, last.next(), &reason);
    }
    Err(Error::Damaged { file: folder.to_owned(), at: 0, reason })
}

/// Notes durably that entries from here on are lost, before they are cut.
fn lose(meta: &mut Meta, file: &Path, from: LogIndex, reason: &str) -> Result<(), Error> {
    tracing::error!(
        file = %file.display(),
        %from,
        reason,
        "the end of the log is damaged: it is cut there, and comes from the other nodes; until it is here again this node \
         neither votes nor stands for election"
    );
    meta.note_lost(from)
}

fn sealed(disk: &dyn Disk, folder: &Path, first: LogIndex) -> Result<Sealed, Error> {
    let path = segment::path(folder, first);
    Ok(Sealed { first, bytes: disk.file_bytes(&path).map_err(Error::io(path.display()))? })
}

/// The footer of the segment before the last, made anew if it was lost.
fn open_before_last(segments: &Segments, first: LogIndex, next: LogIndex) -> Result<Opened, Error> {
    let opened = segments.files().open_alone(first, next)?;
    if opened.lacks_footer {
        tracing::warn!(%first, "the footer of a segment could not be read: it is written anew");
        write_footer(&*opened.file, &segments.files().path(first), &opened.footer)?;
    }
    Ok(opened)
}

/// Reads the last segment, by the tail rule. If it was sealed it takes records again.
fn read_last(
    segments: &Segments,
    (file, scan): (Arc<dyn DiskFile>, scan::Scan),
    begun: &[LogIndex],
    options: &Options,
    meta: &mut Meta,
    tail: &mut Tail,
) -> Result<LastSegment, Error> {
    let (first, mut scan) = (scan.places.first(), scan);
    let path = segments.files().path(first);
    let falls = tail.last.is_some_and(|before| scan.first.is_some_and(|first| first.term < before.term));
    let known = meta.durable_id().and_then(|known| Some((scan.places.id_of(known.index)?, known)));
    let is_other = known.is_some_and(|(found, known)| found != known);
    tail.committed = tail.committed.max(scan.committed);
    tail.durable = tail.durable.max(scan.durable);
    if falls || is_other || scan.has_stale {
        // Records that were there before a cut: which ones, nobody can tell.
        tail.durable = tail.durable.max(LogIndex(scan.places.next().0 - 1));
        scan = scan::Scan { stopped: Some(BadRecord::Stale), ..scan::Scan::none(first) };
    }
    let mut end = scan.places.next();
    let mut bad = scan.stopped;
    if let Some(from) = unproven_from(meta, first, end) {
        tail.durable = tail.durable.max(LogIndex(end.0 - 1));
        (end, bad) = (from, Some(BadRecord::Stale));
    } else if begun.contains(&end) && tail.durable < end {
        // This one was about to be sealed, or was: all of it was durable, and nothing came after it but its footer.
        tail.durable = tail.durable.max(LogIndex(end.0 - 1));
        bad = None;
    } else if scan.stopped.is_some() {
        let footer = Footer::read(&*file, first).map_err(Error::io(path.display()))?;
        if let Some(footer) = &footer {
            // It is written only when the records are durable.
            tail.durable = tail.durable.max(footer.last.index);
            tail.committed = tail.committed.max(footer.committed);
        }
        if footer.is_some_and(|footer| footer.places.end() == scan.places.end()) {
            bad = None;
            let is_noted = meta.lost_from().is_some_and(|lost| lost <= end);
            if options.has_peers && !is_noted {
                // The next one was in its place, or an earlier build was about to make it.
                lose(meta, &path, end, "the last segment is sealed, and the one after it is not there")?;
            }
        }
    }
    let was_durable = |entry: &&LogIndex| **entry <= tail.durable;
    if let Some(entry) = scan.bad_bodies.iter().find(|entry| !was_durable(entry)) {
        (end, bad) = (*entry, Some(BadRecord::Checksum));
    }
    if let Some(bad) = bad {
        let at = scan.places.start_of(end);
        let judged = match tail_rule::judge(&*file, &path, (end, at), tail.durable, options.has_peers)? {
            // The header was synced before any record was written: it is not a write that did not come to its end.
            BadTail::Torn if !matches!(segment::read_header(&*file, &path, first)?, Header::Whole(_)) => {
                BadTail::InDoubt
            }
            judged => judged,
        };
        cut_bad(&path, (end, at), bad, judged, options, meta)?;
    }
    let quarantined = scan.bad_bodies.iter().filter(was_durable).filter(|entry| **entry < end);
    if let Some(entry) = quarantined.min() {
        if !options.has_peers {
            let (at, reason) = (scan.places.start_of(*entry), format!("entry {entry} had been durable before"));
            return Err(Error::Damaged { file: path, at, reason });
        }
        segments.quarantine().note(first, &format!("entry {entry} is damaged"));
    }
    // The first index of a segment is 1 at least.
    tail.last = scan.places.id_of(LogIndex(end.0 - 1)).or(tail.last);
    let is_cut = scan.stopped.is_some() || end < scan.places.next();
    let checksums = Checksums { all: scan.checksum, last: scan.last_checksum, before: tail.last_checksum };
    let segment = LastSegment::new(path, file, scan.places, checksums);
    if end < segment.next() {
        segment.cut_after(LogIndex(end.0 - 1));
        segment.cut_file(options.segment_bytes)?;
    } else if is_cut {
        segment.shorten(options.segment_bytes)?;
    }
    Ok(segment)
}

/// Says what a cut at this entry takes; notes it if this node may have acknowledged it.
///
/// * Errors: [`Error::Damaged`] if it must not be cut.
fn cut_bad(
    path: &Path,
    (entry, at): (LogIndex, u64),
    bad: BadRecord,
    judged: BadTail,
    options: &Options,
    meta: &mut Meta,
) -> Result<(), Error> {
    match judged {
        BadTail::Torn => tracing::warn!(file = %path.display(), at, %entry, %bad, "torn tail cut"),
        BadTail::InDoubt if !options.has_peers => tracing::error!(
            file = %path.display(),
            at,
            %entry,
            %bad,
            "the last entries of the log cannot be read and are cut. They were being written when the node stopped, or have \
             been damaged since: messages that were not acknowledged are gone, and at worst the last ones that were"
        ),
        BadTail::InDoubt => lose(meta, path, entry, &format!("entry {entry} at byte {at} cannot be read: {bad}"))?,
        BadTail::Damaged => {
            let reason = format!("entry {entry} had been durable before: {bad}");
            if !options.has_peers {
                return Err(Error::Damaged { file: path.to_owned(), at, reason });
            }
            lose(meta, path, entry, &reason)?;
        }
    }
    Ok(())
}
