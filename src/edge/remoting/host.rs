//! Which node has the group's own broker name in the routes of classic clients (D187).

use crate::node::NodeAddress;

/// The node under the group's own name: of those that answer the first by its member's name, so that all nodes say the same
/// without asking each other, and a change of the leader changes nothing.
pub(super) fn host(nodes: &[NodeAddress]) -> Option<&NodeAddress> {
    nodes.iter().min_by_key(|node| node.id.name())
}
