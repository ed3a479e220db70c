//! Reads a whole segment and says what in it is damaged: the scrub's and the repair's view.
//!
//! With a whole footer every record has its place, its leader and its part in the checksum of all; without one the segment
//! is read from the front, as far as that goes.

use std::path::PathBuf;

use crate::env::disk::DiskFile;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::footer::Footer;
use crate::store::log::places::{Places, Span};
use crate::store::log::record;
use crate::store::log::scan;
use crate::store::log::sealed_files::{NextSays, SealedFiles};
use crate::store::log::segment;
use crate::store::log::segment::{Access, Header};

const OLDER: &str = "it is an older version of the segment";
const NO_FOOTER: &str = "its footer cannot be read";
/// Bytes read at once.
const STEP_BYTES: usize = 256 * 1024;

/// Entries `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRange {
    pub from: LogIndex,
    pub to: LogIndex,
}

/// How a segment is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing is wrong with it.
    None,
    /// The bad entries are written in their places.
    InPlace,
    /// All that is whole is copied with what is missing into a new file.
    Rebuild,
}

/// What was found in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Of the segment; it ends before `next`.
    pub first: LogIndex,
    pub next: LogIndex,
    /// What cannot be read, in order.
    pub bad: Vec<EntryRange>,
    pub remedy: Remedy,
    /// What is wrong, in words.
    pub reason: String,
    /// From here on the next segment is missing: it is made as one of its own.
    pub(in crate::store) missing_from: Option<LogIndex>,
    /// Whether it is the newest version of the segment is not known: unless others have the same entry here, what is before it
    /// is not to be believed either.
    pub(in crate::store) proof: Option<LogIndex>,
    /// Where the records are that can be read.
    pub(in crate::store) places: Option<Places>,
    is_sealed: bool,
}

impl Examined {
    /// Whether it can be made anew, which the last segment cannot: it is written to.
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Of the last segment, whose places are known.
    pub(in crate::store) fn of_last(first: LogIndex, next: LogIndex, bad: Vec<EntryRange>) -> Self {
        let remedy = if bad.is_empty() { Remedy::None } else { Remedy::InPlace };
        let reason = if bad.is_empty() { "" } else { "some of its entries cannot be read" }.to_owned();
        Self { first, next, bad, remedy, reason, missing_from: None, proof: None, places: None, is_sealed: false }
    }

    /// The last entry that can be read is fetched too: it proves those before it.
    fn unproven(mut self) -> Self {
        let from = self.places.as_ref().map_or(self.first, Places::next);
        let from = self.bad.iter().rev().fold(from, |from, bad| if bad.to >= from { from.min(bad.from) } else { from });
        self.proof = Some(LogIndex(from.0.saturating_sub(1))).filter(|proof| *proof >= self.first);
        self.bad.extend(self.proof.map(one));
        self.bad.sort_by_key(|bad| bad.from);
        self.bad = merged(self.bad);
        self
    }
}

/// Called with bytes that were read; false ends the reading.
pub type Pace<'a> = &'a mut dyn FnMut(u64) -> bool;

/// Reads a sealed segment, or one that should be there; `None` if `pace` ended it.
///
/// * Errors: [`Error::Io`] that says nothing about the file.
pub(in crate::store) fn examine(
    files: &SealedFiles,
    first: LogIndex,
    next: LogIndex,
    pace: Pace<'_>,
) -> Result<Option<Examined>, Error> {
    let whole = EntryRange { from: first, to: next };
    let found = |bad: Vec<EntryRange>, remedy, reason: &str, places| {
        let (missing_from, proof, reason) = (None, None, reason.to_owned());
        Examined { first, next, bad, remedy, reason, missing_from, proof, places, is_sealed: true }
    };
    let lost = |reason: &str| Ok(Some(found(vec![whole], Remedy::Rebuild, reason, None)));
    let file = match files.open_file(first) {
        Ok(file) => file,
        Err(Error::Damaged { reason, .. }) => return lost(&reason),
        Err(error) => return Err(error),
    };
    let path = files.path(first);
    let has_header = matches!(segment::read_header(&*file, &path, first)?, Header::Whole(_));
    let footer = Footer::read(&*file, first).map_err(Error::io(path.display()))?;
    let footer = footer.filter(|footer| footer.places.next() <= next);
    let Some(footer) = footer else {
        // What can be found without it, is.
        let Ok(scan) = scan::scan(&*file, &path, first) else { return lost("the file cannot be read") };
        pace(scan.places.end());
        let mut bad: Vec<EntryRange> = scan.bad_bodies.iter().map(|index| one(*index)).collect();
        let end = scan.places.next();
        if scan.has_stale || end > next {
            return lost(OLDER);
        }
        let (Some(first_id), Some(last)) = (scan.first, scan.last) else { return lost(NO_FOOTER) };
        let (committed, checksum, places) = (scan.committed, scan.checksum, scan.places);
        let footer = Footer { first: first_id, last, committed, checksum, places };
        if end < next {
            bad.push(EntryRange { from: end, to: next });
            return Ok(Some(found(merged(bad), Remedy::Rebuild, NO_FOOTER, Some(footer.places)).unproven()));
        }
        return match files.next_says(&*file, &footer, next)? {
            NextSays::Older => lost(OLDER),
            _ => Ok(Some(found(merged(bad), Remedy::Rebuild, NO_FOOTER, Some(footer.places)))),
        };
    };
    let next_says = files.next_says(&*file, &footer, next)?;
    if next_says == NextSays::Older {
        return lost(OLDER);
    }
    let Some(Checked { bad, checksum }) = check_records(&*file, &footer.places, pace) else { return Ok(None) };
    let gap = EntryRange { from: footer.places.next(), to: next };
    let has_gap = gap.from < gap.to && !files.is_gap_purged(gap.from, gap.to);
    let (is_whole, places) = (bad.is_empty() && checksum == footer.checksum, Some(footer.places));
    let count = bad.iter().map(EntryRange::count).sum::<u64>();
    let examined = if has_gap {
        let bad = merged(bad.into_iter().chain([gap]).collect());
        let reason = format!("the segment from {} is missing", gap.from);
        let found = found(bad, Remedy::Rebuild, &reason, places);
        Examined { missing_from: Some(gap.from), ..found }.unproven()
    } else if next_says == NextSays::InDoubt {
        found(bad, Remedy::Rebuild, "its last entry cannot be read", places).unproven()
    } else if !has_header {
        found(bad, Remedy::Rebuild, "its header cannot be read", places)
    } else if count > 0 {
        found(bad, Remedy::InPlace, &format!("{count} of its entries cannot be read"), places)
    } else if !is_whole {
        // Each record is whole, and one of them is not the one that was written.
        return lost("its records are not those that its checksum is of");
    } else {
        found(bad, Remedy::None, "", places)
    };
    Ok(Some(examined))
}

/// What of the records of a file is as it should be.
pub(in crate::store) struct Checked {
    pub bad: Vec<EntryRange>,
    /// Of all, if none is bad.
    pub checksum: u32,
}

/// Reads the records at these places; `None` if `pace` ended it.
pub(in crate::store) fn check_records(file: &dyn DiskFile, places: &Places, pace: Pace<'_>) -> Option<Checked> {
    let (mut bad, mut checksum) = (Vec::new(), 0);
    let mut next = places.first();
    let mut one_by_one_until = LogIndex(0);
    while next < places.next() {
        let bytes_max = if next < one_by_one_until { 0 } else { STEP_BYTES };
        let span = Span { from: next, to: places.next(), bytes_max, takes_one: true };
        let found = places.of_span(span);
        let bytes = found.last().map_or(0, |last| last.end) - found.first().map_or(0, |first| first.start);
        let maker_of = |position| places.maker_of(LogIndex(next.0 + position as u64));
        let read = segment::read_records(file, &PathBuf::new, next, &found, &maker_of, Access::Blocking);
        match read {
            Ok(records) => {
                let records = records.unwrap_or_default();
                checksum = record::checksum_with(checksum, records.iter().map(record::checksum_of));
                next = LogIndex(next.0 + found.len() as u64);
            }
            Err(_) if found.len() > 1 => {
                one_by_one_until = LogIndex(next.0 + found.len() as u64);
                continue;
            }
            Err(_) => {
                bad.push(one(next));
                next = next.next();
            }
        }
        if !pace(bytes) {
            return None;
        }
    }
    Some(Checked { bad: merged(bad), checksum })
}

fn one(index: LogIndex) -> EntryRange {
    EntryRange { from: index, to: index.next() }
}

/// Ranges in order, those that touch as one.
fn merged(ranges: Vec<EntryRange>) -> Vec<EntryRange> {
    let mut merged: Vec<EntryRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.to >= range.from => last.to = last.to.max(range.to),
            _ => merged.push(range),
        }
    }
    merged
}

impl EntryRange {
    pub fn count(&self) -> u64 {
        self.to.0 - self.from.0
    }
}
