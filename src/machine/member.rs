//! Members below the log: where each node serves clients, replicated so that every node answers the same routes, also while
//! the node that they lead to is down (contract §12); and the change of members that is under way (D113). Before:
//! `broker/member`.

use bytes::Bytes;

use crate::machine::command::Announce;
use crate::machine::outcome::Outcome;
use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::member_changes::{ChangeEnd, MemberChangeKind, MemberChanges};
use crate::machine::state::stage::Stage;
use crate::machine::{events, write_permission};
use crate::store::kv::Space;

pub(super) fn announce(stage: &mut Stage<'_>, announce: &Announce) -> Outcome {
    stage.put(Space::Meta, keys::member(announce.node), Bytes::copy_from_slice(announce.address.as_bytes()));
    Outcome::Done
}

/// Begins a change, unless one is under way: who asks looks afterwards which one it is.
pub(super) fn begin_change(stage: &mut Stage<'_>, kind: &MemberChangeKind) -> Result<Outcome, Failure> {
    let mut changes = read(stage)?;
    changes.begin(kind.clone(), stage.now());
    write(stage, &changes);
    Ok(Outcome::Done)
}

pub(super) fn cancel_change(stage: &mut Stage<'_>, number: u64) -> Result<Outcome, Failure> {
    let mut changes = read(stage)?;
    changes.cancel(number);
    write(stage, &changes);
    Ok(Outcome::Done)
}

/// Ends a change; whoever is no member by it serves no clients any more.
pub(super) fn end_change(stage: &mut Stage<'_>, number: u64, end: &ChangeEnd) -> Result<Outcome, Failure> {
    let mut changes = read(stage)?;
    if let Some(change) = changes.end(number, end.clone(), stage.now()) {
        let gone = if *end == ChangeEnd::Done { change.leaves() } else { change.joins };
        if let Some(gone) = gone {
            stage.delete(Space::Meta, keys::member(gone));
        }
        if *end == ChangeEnd::Done && change.joins.is_none() {
            write_permission::forget(stage, change.name())?;
        }
        write(stage, &changes);
        if let Some(ended) = &changes.ended {
            events::note_members(stage, ended)?;
        }
    }
    Ok(Outcome::Done)
}

fn read(stage: &Stage<'_>) -> Result<MemberChanges, Failure> {
    Ok(MemberChanges::decode(stage.get(Space::Meta, keys::MEMBER_CHANGES)?)?)
}

fn write(stage: &mut Stage<'_>, changes: &MemberChanges) {
    stage.put(Space::Meta, Bytes::from_static(keys::MEMBER_CHANGES), changes.encode());
}
