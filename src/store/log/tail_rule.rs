//! The tail rule (P18, P19): tells a tail that a crash tore from one that was damaged later.
//!
//! Every record says which index was known to be durable when it was written; footers, and the mark that an idle writer leaves
//! in `meta`, say it too.
//! * A bad record that nothing knows to be durable was never acknowledged by this node, if it looks as a write that did not
//!   come to its end: a part of it was never written, so there are zeros. It is *torn*.
//! * One that looks otherwise is *in doubt*: it may have been whole and acknowledged a moment before the crash. With peers,
//!   who have what is in doubt, zeros in the middle are not enough: a body may have had them (D150).
//! * A bad or missing record that something knows to be durable has been *damaged* since.

use std::path::Path;

use crate::env::disk::DiskFile;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::record;
use crate::store::log::record::{ALIGN, BadRecord, PREAMBLE_BYTES};
use crate::store::log::scan;

/// A disk writes all of a sector or nothing, mostly.
const SECTOR_BYTES: u64 = 512;
/// So many zeros are hardly the end of a body.
const ZEROS_MIN: u64 = 32;

/// What a bad record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum BadTail {
    Torn,
    InDoubt,
    Damaged,
}

/// Judges the record with this index, which should be at `at` and is bad. Everything up to `durable` is known to be durable.
pub(in crate::store) fn judge(
    file: &dyn DiskFile,
    path: &Path,
    (index, at): (LogIndex, u64),
    durable: LogIndex,
    has_peers: bool,
) -> Result<BadTail, Error> {
    if durable >= index {
        return Ok(BadTail::Damaged);
    }
    let found = scan::find_in_blocks(file, path, at + ALIGN as u64, |start, block| {
        let is_magic = |offset: &usize| block[*offset..].starts_with(&record::MAGIC.to_be_bytes());
        let mut candidates = (0..block.len()).step_by(ALIGN).filter(is_magic).map(|offset| start + offset as u64);
        candidates
            .find_map(|at| scan::knows_durable(file, path, at, index).map(|knows| knows.then_some(())).transpose())
    })?;
    if found.transpose()?.is_some() {
        return Ok(BadTail::Damaged);
    }
    let Some(end) = end_of(file, path, at)? else { return Ok(BadTail::InDoubt) };
    let is_torn = if has_peers { ends_early(file, path, at, end)? } else { is_partly_written(file, path, at, end)? };
    Ok(if is_torn { BadTail::Torn } else { BadTail::InDoubt })
}

/// Where the bad record at `at` should end; `None` if the file ends before.
fn end_of(file: &dyn DiskFile, path: &Path, at: u64) -> Result<Option<u64>, Error> {
    let file_bytes = file.len().map_err(Error::io(path.display()))?;
    let mut heads = vec![0; usize::try_from((file_bytes - at).min(scan::HEADS_BYTES as u64)).expect("a few bytes")];
    file.read_at(&mut heads, at).map_err(Error::read(path, at))?;
    // Of a record whose heads cannot be read, the heads are what was not written whole.
    let bytes = match scan::decode_heads(&heads) {
        Ok((preamble, _)) => (PREAMBLE_BYTES + preamble.wire_bytes) as u64,
        Err(BadRecord::Short) => return Ok(None),
        Err(_) => scan::HEADS_BYTES as u64,
    };
    // Room is reserved ahead of what is written.
    Ok(Some(at + bytes).filter(|end| *end <= file_bytes))
}

/// Whether the bad record was written up to the end of a sector and no further: whatever comes after that is zero to the end
/// of the file, and what comes before is not, or the zeros could be its own.
fn ends_early(file: &dyn DiskFile, path: &Path, at: u64, end: u64) -> Result<bool, Error> {
    let mut written_to = at;
    scan::find_in_blocks(file, path, at, |start, block| {
        let last = block.iter().rposition(|byte| *byte != 0);
        written_to = last.map_or(written_to, |last| start + last as u64 + 1);
        None::<()>
    })?;
    let sector_end = written_to.next_multiple_of(SECTOR_BYTES);
    Ok(sector_end - written_to < ALIGN as u64 && sector_end + ZEROS_MIN <= end)
}

/// Whether a part of the bad record was never written.
fn is_partly_written(file: &dyn DiskFile, path: &Path, at: u64, end: u64) -> Result<bool, Error> {
    let bytes = end - at;
    let mut from = at;
    while from < end {
        let to = (from / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let mut part = vec![0; usize::try_from(to.min(end) - from).expect("a sector")];
        file.read_at(&mut part, from).map_err(Error::read(path, from))?;
        let is_long = part.len() as u64 >= ZEROS_MIN || bytes <= SECTOR_BYTES && part.len() as u64 * 2 >= bytes;
        if is_long && part.iter().all(|byte| *byte == 0) {
            return Ok(true);
        }
        from = to;
    }
    Ok(false)
}
