//! A damaged entry written in its place again: it has the same length everywhere.

use std::path::Path;

use crate::env::disk::DiskFile;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::gather_buffer::GatherBuffer;
use crate::store::log::places::Places;
use crate::store::log::record::{Preamble, Record};
use crate::store::log::segment;
use crate::store::log::segment::Access;

/// Why an entry was not written in its place.
pub(in crate::store) enum NotInPlace {
    /// It does not fit there, or the disk cannot write there: nothing else is changed.
    Left(Error),
    /// The log must end.
    Ended(Error),
}

/// Writes a record where it should be; `before` is the checksum of the one before it, if that is known.
pub(in crate::store) fn write(
    file: &dyn DiskFile,
    path: &Path,
    places: &Places,
    record: &Record,
    before: Option<u32>,
) -> Result<(), Error> {
    let failed = |source| Error::Io { place: path.display().to_string(), source };
    let preamble = Preamble::of(record, LogIndex(record.index.0 - 1), LogIndex(0)).after(before);
    let place = places.place_of(record.index).unwrap_or(0..0);
    let is_maker = places.maker_of(record.index).is_none_or(|maker| maker == record.id().into());
    let unfit = |reason: String| Error::Damaged { file: path.to_owned(), at: place.start, reason };
    if !is_maker || preamble.whole_bytes() != place.end - place.start {
        let (bytes, room) = (preamble.whole_bytes(), place.end - place.start);
        return Err(unfit(format!("entry {:?} of {bytes} bytes does not fit into {room} bytes here", record.id())));
    }
    let mut framed = GatherBuffer::default();
    preamble.put(record, &mut framed);
    file.write_gathered_at(&mut framed, place.start).map_err(failed)
}

/// Reads it again, from the disk or its cache.
pub(in crate::store) fn read_again(
    file: &dyn DiskFile,
    path: &Path,
    places: &Places,
    record: &Record,
) -> Result<(), Error> {
    let place = places.place_of(record.index).unwrap_or(0..0);
    let maker_of = |_| Some(record.id().into());
    let read = segment::read_records(
        file,
        &|| path.to_owned(),
        record.index,
        std::slice::from_ref(&place),
        &maker_of,
        Access::Blocking,
    )?;
    let is_written = read.is_some_and(|read| read.first() == Some(record));
    let reason = format!("entry {} was written and is not read back", record.index);
    if is_written { Ok(()) } else { Err(Error::Damaged { file: path.to_owned(), at: place.start, reason }) }
}
