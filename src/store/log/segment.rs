//! Segments: the files of the commit log. Their names, their header, and how records are read out of one.
//!
//! Hot path.
//!
//! * Name: the first index in 20 digits, then `.seg`. A segment ends where the next begins, so a start that lists the
//!   folder knows them all without opening any. Until its header is durable, and the one before it is sealed, it is called
//!   `.begun`: so a start can tell one that had no entries yet from one that is lost (D153).
//! * Shape: a header of 64 bytes (`magic u64, version u32, first index u64, crc32c u32`, zeros), then records
//!   (`record`). In the last segment zeros follow as far as room was reserved. All others are *sealed*: a footer (`footer`)
//!   comes after the last record and ends the file.
//! * Versions: 6. In version 5 records did not say which one was before them. In version 4 nothing was sealed; `upgrade` does
//!   that.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::env::disk::{Disk, DiskFile, is_unreadable};
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::record;
use crate::store::log::record::{Maker, PREAMBLE_BYTES, Preamble, Record};

const SUFFIX: &str = ".seg";
const BEGUN_SUFFIX: &str = ".begun";
const DIGITS: usize = 20;
pub(in crate::store) const HEADER_BYTES: u64 = 64;
const MAGIC: u64 = 0x5241_4654_4D51_5347;
/// Also stands for the record format inside.
pub(in crate::store) const VERSION: u32 = 6;
/// From this version on segments are sealed.
pub(in crate::store) const SEALED_VERSION: u32 = 5;
/// The oldest version that is upgraded.
pub(in crate::store) const VERSION_MIN: u32 = 4;
/// More is not read without waiting: copying and checking it takes time too.
const AT_HAND_BYTES_MAX: usize = 1024 * 1024;

/// Whether a read may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Access {
    Blocking,
    /// Only what the page cache has.
    AtHand,
}

/// Where the segment is that begins with this index.
pub(in crate::store) fn path(folder: &Path, first: LogIndex) -> PathBuf {
    folder.join(format!("{:0DIGITS$}{SUFFIX}", first.0))
}

/// Whether a file in the log's folder is named as a segment.
pub(in crate::store) fn is_segment(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// Where it is until it is in its place.
pub(in crate::store) fn begun_path(folder: &Path, first: LogIndex) -> PathBuf {
    folder.join(format!("{:0DIGITS$}{BEGUN_SUFFIX}", first.0))
}

/// The first indexes of the segments that are not in their places yet: of the last one, unless a crash left more.
pub(in crate::store) fn list_begun(disk: &dyn Disk, folder: &Path) -> Result<Vec<LogIndex>, Error> {
    let names = disk.list(folder).map_err(Error::io(folder.display()))?;
    let first_of = |name: &String| name.strip_suffix(BEGUN_SUFFIX)?.parse().ok().map(LogIndex);
    Ok(names.iter().filter_map(first_of).collect())
}

/// The first indexes of all segments of the folder, in order.
pub(in crate::store) fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<LogIndex>, Error> {
    let names = disk.list(folder).map_err(Error::io(folder.display()))?;
    let first_of = |name: &String| {
        let digits = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == DIGITS);
        let index = digits.and_then(|digits| digits.parse().ok()).map(LogIndex);
        index.ok_or_else(|| {
            let reason = "a segment is called by its first index in 20 digits".to_owned();
            Error::Damaged { file: folder.join(name), at: 0, reason }
        })
    };
    names.iter().filter(|name| is_segment(name)).map(first_of).collect()
}

/// The header of a segment of this version.
pub(in crate::store) fn header(first: LogIndex) -> Bytes {
    let mut head = BytesMut::with_capacity(HEADER_BYTES as usize);
    head.put_u64(MAGIC);
    head.put_u32(VERSION);
    head.put_u64(first.0);
    let crc = crc32c::crc32c(&head);
    head.put_u32(crc);
    head.resize(HEADER_BYTES as usize, 0);
    head.freeze()
}

/// What the header of a segment was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Header {
    /// Of this format version.
    Whole(u32),
    /// There is none that is whole.
    Bad,
    /// It is that of a segment that begins with this entry.
    OfAnother(LogIndex),
}

/// Reads the header of the segment that begins with `first`.
///
/// * Errors: [`Error::Damaged`] if it is of a version that this program does not read.
pub(in crate::store) fn read_header(file: &dyn DiskFile, path: &Path, first: LogIndex) -> Result<Header, Error> {
    if file.len().map_err(Error::io(path.display()))? < HEADER_BYTES {
        return Ok(Header::Bad);
    }
    let mut head = [0; HEADER_BYTES as usize];
    match file.read_at(&mut head, 0) {
        Err(error) if is_unreadable(&error) => return Ok(Header::Bad),
        read => read.map_err(Error::io(path.display()))?,
    }
    let crc = crc32c::crc32c(&head[..20]);
    let mut read = &head[..];
    let (magic, version, found, found_crc) = (read.get_u64(), read.get_u32(), read.get_u64(), read.get_u32());
    if magic != MAGIC || crc != found_crc {
        return Ok(Header::Bad);
    }
    let damaged = |at, reason| Err(Error::Damaged { file: path.to_owned(), at, reason });
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return damaged(
            8,
            format!(
                "it has format version {version}, this program reads {VERSION_MIN} to {VERSION}; start the version of \
                 raftmq that wrote it"
            ),
        );
    }
    Ok(if found == first.0 { Header::Whole(version) } else { Header::OfAnother(LogIndex(found)) })
}

/// Reads and checks consecutive records, which lie at these places, with one read; `maker_of` gives who made each of them,
/// by position, if that is known. `None` if `access` does not allow the
/// wait for the disk that this needs.
pub(in crate::store) fn read_records(
    file: &dyn DiskFile,
    path: &dyn Fn() -> PathBuf,
    from: LogIndex,
    places: &[Range<u64>],
    maker_of: &dyn Fn(usize) -> Option<Maker>,
    access: Access,
) -> Result<Option<Vec<Record>>, Error> {
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(Some(Vec::new())) };
    let start = first.start;
    let within = |at: u64| usize::try_from(at - start).expect("records fit in memory");
    let length = within(last.end);
    if access == Access::AtHand && length > AT_HAND_BYTES_MAX {
        return Ok(None);
    }
    let failed = |source| Error::read(&path(), start)(source);
    let mut bytes = vec![0; length];
    match access {
        Access::Blocking => file.read_at(&mut bytes, start).map_err(failed)?,
        Access::AtHand => {
            if !file.read_at_hand(&mut bytes, start).map_err(failed)? {
                return Ok(None);
            }
        }
    }
    let bytes = Bytes::from(bytes);
    let record = |(position, (place, index)): (usize, (&Range<u64>, u64))| {
        let damaged =
            |error: record::BadRecord| Error::Damaged { file: path(), at: place.start, reason: error.to_string() };
        let framed = bytes.slice(within(place.start)..within(place.end));
        let preamble = Preamble::decode(&framed).map_err(damaged)?;
        // Another record, if this one was cut off and written over meanwhile.
        if PREAMBLE_BYTES + preamble.wire_bytes > framed.len() {
            return Err(damaged(record::BadRecord::Short));
        }
        let mut wire = framed.slice(PREAMBLE_BYTES..PREAMBLE_BYTES + preamble.wire_bytes);
        let record = record::decode_wire(&mut wire).map_err(damaged)?;
        if record.index.0 != index {
            return Err(damaged(record::BadRecord::Magic));
        }
        if maker_of(position).is_some_and(|maker| maker != record.id().into()) {
            return Err(damaged(record::BadRecord::Stale));
        }
        Ok(record)
    };
    places.iter().zip(from.0..).enumerate().map(record).collect::<Result<_, _>>().map(Some)
}
