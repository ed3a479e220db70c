//! The entries by which a group begins anew from a backup: one replica, on its own, is the whole group (D123), and what was
//! under way in the group that the backup is from is not any more.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, Membership};

use crate::machine::state::member_changes::{ANY_CHANGE, ChangeEnd};
use crate::machine::{Batch, Command, Proposal};
use crate::model::{NodeId, Term, Timestamp};
use crate::raft::types::encode_membership;
use crate::store::log::record::{Record, RecordId, RecordKind};

/// The entries after `last`: `node`, which its peers will reach at `address`, is the only member, and no change of members
/// is under way. They are of a term of their own that `node` leads: the group that the backup is from has none of these ids,
/// and never will.
pub fn sole_member(last: RecordId, node: NodeId, address: &str) -> [Record; 2] {
    let nodes = BTreeMap::from([(node.0, BasicNode::new(address))]);
    let membership = Membership::new(vec![BTreeSet::from([node.0])], nodes)
        .expect("one voter is a membership, and its node is known");
    let end = Command::EndMemberChange { number: ANY_CHANGE, end: ChangeEnd::Cancelled };
    let ending = Proposal { command: end.encode(), messages: Vec::new() };
    let (term, index) = (Term(last.term.0 + 1), last.index.next());
    let record = |index, kind, body| Record { term, node, index, kind, body };
    [
        record(index, RecordKind::Membership, encode_membership(&membership)),
        // Time goes on where the backup has it.
        record(index.next(), RecordKind::Batch, Batch::encode(Timestamp(0), [ending].iter())),
    ]
}
