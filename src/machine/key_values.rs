//! Key-values below the log. Before: `broker/key_values`.
//!
//! Bounded: how many there are. Their sizes are checked above (`admissible`).

use crate::machine::command::SetKeyValue;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::failure::Failure;
use crate::machine::state::key_values;
use crate::machine::state::stage::Stage;
use crate::model::limits::KEY_VALUES_MAX;

/// Sets one, in the place of the one before, or removes it; one that is not there is removed too.
pub(super) fn set(stage: &mut Stage<'_>, set: &SetKeyValue) -> Result<Outcome, Failure> {
    let SetKeyValue { namespace, key, value } = set;
    let was_there = key_values::is_there(stage, namespace, key)?;
    let before = key_values::count(stage)?;
    let count = match (was_there, value) {
        (true, Some(_)) => before,
        (true, None) => before - 1,
        (false, None) => return Ok(Outcome::Done),
        (false, Some(_)) if before >= KEY_VALUES_MAX => return Ok(Outcome::Rejected(Rejected::KeyValuesFull)),
        (false, Some(_)) => before + 1,
    };
    key_values::put(stage, namespace, key, value.as_deref(), count);
    stage.effects().catalog_changed = true;
    Ok(Outcome::Done)
}
