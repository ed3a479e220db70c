//! Which broker names of a group routes do not offer to producers.

use std::collections::BTreeSet;

use crate::model::ids::MemberName;

/// Nothing of it: every name may be written, as far as its topics may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unwritable {
    /// The group under all its names.
    pub group: bool,
    /// Members, whatever names they have in routes.
    pub members: BTreeSet<MemberName>,
}

impl Unwritable {
    /// Whether producers may be sent to this member.
    pub fn may_write(&self, member: MemberName) -> bool {
        !self.group && !self.members.contains(&member)
    }
}
