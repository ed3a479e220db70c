//! Members below the log: where each node serves clients. Replicated, so that every node answers the same routes, also
//! while the node that they lead to is down (contract §12). Before: `broker/members`.

use bytes::Bytes;

use crate::machine::command::Announce;
use crate::machine::outcome::Outcome;
use crate::machine::state::keys;
use crate::machine::state::stage::Stage;
use crate::store::kv::Space;

pub(super) fn announce(stage: &mut Stage<'_>, announce: &Announce) -> Outcome {
    stage.put(Space::Meta, keys::member(announce.node), Bytes::copy_from_slice(announce.address.as_bytes()));
    Outcome::Done
}
