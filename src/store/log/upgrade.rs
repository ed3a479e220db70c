//! Takes over a folder of the release before: its segments of version 4 were never sealed.
//!
//! Once, at the first start. Each segment but the last is read and sealed; only then its header says so. When all
//! are done, `meta` says so. After a crash in between the next start goes on: what is sealed already is left as it is.
//! With peers one that is damaged is left as it is too, and made anew as any other.

use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::last_segment::write_footer;
use crate::store::log::sealed_files::Opened;
use crate::store::log::segment;
use crate::store::log::segment::{SEALED_VERSION, VERSION};
use crate::store::log::segments::Segments;

/// Seals the segments that begin with these indexes, in order; after the last one comes a segment that begins with `end`.
pub(in crate::store) fn upgrade(
    segments: &Segments,
    firsts: &[LogIndex],
    end: LogIndex,
    has_peers: bool,
) -> Result<(), Error> {
    let files = segments.files();
    tracing::info!(
        segments = firsts.len(),
        version = VERSION,
        "the log is of the release before: it is upgraded, and that release cannot open it any more"
    );
    for (position, first) in firsts.iter().enumerate() {
        let next = firsts.get(position + 1).copied().unwrap_or(end);
        let Opened { file, version, footer, lacks_footer } = match files.open(*first, next) {
            Err(error @ Error::Damaged { .. }) if has_peers => {
                segments.quarantine().note(*first, &error.to_string());
                continue;
            }
            opened => opened?,
        };
        let path = files.path(*first);
        if lacks_footer {
            write_footer(&*file, &path, &footer)?;
        }
        if version < SEALED_VERSION {
            file.write_at(&segment::header(*first), 0).map_err(Error::io(path.display()))?;
            file.sync_data().map_err(Error::io(path.display()))?;
        }
    }
    Ok(())
}
