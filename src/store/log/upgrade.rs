//! Takes over a folder of the release before: its segments of version 4 were never sealed.
//!
//! Once, at the first start. Each segment but the last is read and sealed; only then its header says version 5. When all
//! are done, `meta` says so. After a crash in between the next start goes on: what is sealed already is left as it is.

use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::last_segment::write_footer;
use crate::store::log::sealed_files::{Opened, SealedFiles};
use crate::store::log::segment;
use crate::store::log::segment::VERSION;

/// Seals the segments that begin with these indexes, in order; after the last one comes a segment that begins with `end`.
pub(in crate::store) fn upgrade(files: &SealedFiles, firsts: &[LogIndex], end: LogIndex) -> Result<(), Error> {
    tracing::info!(
        segments = firsts.len(),
        version = VERSION,
        "the log is of the release before: it is upgraded, and that release cannot open it any more"
    );
    for (position, first) in firsts.iter().enumerate() {
        let next = firsts.get(position + 1).copied().unwrap_or(end);
        let Opened { file, version, footer, lacks_footer } = files.open(*first, next)?;
        let path = files.path(*first);
        if lacks_footer {
            write_footer(&*file, &path, &footer)?;
        }
        if version < VERSION {
            file.write_at(&segment::header(*first), 0).map_err(Error::io(path.display()))?;
            file.sync_data().map_err(Error::io(path.display()))?;
        }
    }
    Ok(())
}
