//! A planted bug for the drill: a restore that leaves out a family of keys. Debug builds only.

use std::io;
use std::path::Path;

use crate::backup::error::Error;
use crate::env::fault::planted_bug::{self, PlantedBug};
use crate::store::kv::rocks::RocksKv;
use crate::store::kv::{self, Kv, Space, WriteBatch};

const MEMORY_BYTES: usize = 8 * 1024 * 1024;
const OPEN_FILES_MAX: u32 = 16;
const KEYS_MAX: usize = 1_000_000;

/// Removes the group offsets from a state that was restored.
pub(super) fn drop_offsets(state: &Path) -> Result<(), Error> {
    if !planted_bug::is(PlantedBug::RestoreDropsOffsets) {
        return Ok(());
    }
    let failed = |error: kv::Error| Error::io(state)(io::Error::other(error.to_string()));
    let kv = RocksKv::open(state, MEMORY_BYTES, OPEN_FILES_MAX).map_err(failed)?;
    let offsets = kv.scan(Space::Cursor, &[], &[0xff; 64], KEYS_MAX).map_err(failed)?;
    let writes = offsets.into_iter().map(|(key, _)| (Space::Cursor, key, None)).collect();
    kv.write(WriteBatch { writes }).and_then(|()| kv.flush()).map_err(failed)?;
    Ok(())
}
