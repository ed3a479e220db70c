//! What there is once for each member, made when it is first asked for, and anew when the member moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::NodeId;
use crate::raft::members::MemberTable;

/// Cheap to clone.
pub(super) struct ByMember<T> {
    members: MemberTable,
    made: Arc<Mutex<BTreeMap<NodeId, (String, T)>>>,
}

impl<T> Clone for ByMember<T> {
    fn clone(&self) -> Self {
        Self { members: self.members.clone(), made: self.made.clone() }
    }
}

impl<T: Clone> ByMember<T> {
    pub fn new(members: MemberTable) -> Self {
        Self { members, made: Arc::default() }
    }

    /// That of a member; `None` if it is none. What belongs to members that left is dropped.
    pub fn of(&self, node: NodeId, make: impl FnOnce(&str) -> T) -> Option<T> {
        let address = self.members.address_of(node)?;
        let mut made = self.made.lock();
        if let Some((_, one)) = made.get(&node).filter(|(at, _)| *at == address) {
            return Some(one.clone());
        }
        made.retain(|node, _| self.members.is_member(*node));
        let one = make(&address);
        made.insert(node, (address, one.clone()));
        Some(one)
    }
}
