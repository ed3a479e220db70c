//! Whether a state that was copied is whole, and is the one that belongs to a log.

use crate::machine::state::view::View;
use crate::model::LogIndex;
use crate::raft::marks::read_marks;
use crate::raft::types;
use crate::store::kv::Kv;
use crate::store::log::record::RecordId;

/// Reads all of a state that is beside a log from `first` up to `applied`. Blocks.
///
/// * Errors: what is wrong with it: it cannot be read, it has applied another entry, or it refers to entries before `first`.
pub fn check_state(kv: &dyn Kv, first: LogIndex, applied: RecordId) -> Result<(), String> {
    // The checksums of its files are as good as what their source read; those inside are from when they were written.
    kv.verify(&mut |_| true).map_err(|error| error.to_string())?;
    let (marks, _) = read_marks(kv).map_err(|error| error.to_string())?;
    if marks.as_ref().map(types::record_id) != Some(applied) {
        return Err(format!("its state has not applied entry {}", applied.index));
    }
    let view = View::new(kv);
    let needed = |from| view.needed_from(from).map_err(|error| error.to_string());
    if needed(LogIndex(0))? != needed(first)? {
        return Err(format!("its state refers to entries before {first}"));
    }
    Ok(())
}
