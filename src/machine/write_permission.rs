//! Write permissions of broker names below the log. Before: `broker/write_permission`.
//!
//! They say what routes offer; a send that comes nevertheless is stored.

use crate::machine::command::SetWritePermission;
use crate::machine::outcome::Outcome;
use crate::machine::state::failure::Failure;
use crate::machine::state::stage::Stage;
use crate::machine::state::write_permission;
use crate::model::MemberName;

/// Takes it away, or gives it back; says whether that is new.
pub(super) fn set(stage: &mut Stage<'_>, set: SetWritePermission) -> Result<Outcome, Failure> {
    let mut unwritable = write_permission::get(stage)?;
    let before = unwritable.clone();
    match (set.of, set.may_write) {
        (None, may_write) => unwritable.group = !may_write,
        (Some(member), true) => drop(unwritable.members.remove(&member)),
        (Some(member), false) => drop(unwritable.members.insert(member)),
    }
    let is_new = unwritable != before;
    if is_new {
        write_permission::put(stage, &unwritable);
        stage.effects().catalog_changed = true;
    }
    Ok(Outcome::WritePermissionSet { is_new })
}

/// A member is gone: another one that has its name some day may be written.
pub(super) fn forget(stage: &mut Stage<'_>, member: MemberName) -> Result<(), Failure> {
    let mut unwritable = write_permission::get(stage)?;
    if unwritable.members.remove(&member) {
        write_permission::put(stage, &unwritable);
    }
    Ok(())
}
