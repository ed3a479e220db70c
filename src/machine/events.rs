//! Events below the log: what is noted, and when. Before: `broker/events`, `broker/background/terms`.
//!
//! An operator's command and its event are one entry, so neither is there without the other. Nothing per message is noted.

use crate::machine::command::NEEDS_EVENTS;
use crate::machine::outcome::Outcome;
use crate::machine::state::events;
use crate::machine::state::events::{Act, ActEnd, ClusterEventKind, NewLeader};
use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::member_changes::EndedChange;
use crate::machine::state::stage::Stage;
use crate::store::kv::Space;

/// Notes an operator's command with what came of it.
pub(super) fn note_act(stage: &mut Stage<'_>, act: &Act, outcome: &Outcome) -> Result<(), Failure> {
    let end = match outcome {
        Outcome::Rejected(rejected) => {
            let (code, detail) = rejected.code();
            ActEnd::Refused { code, detail }
        }
        Outcome::Redriven(all) => {
            ActEnd::Partly { done: count(all.iter().filter(|redriven| **redriven).count()), of: count(all.len()) }
        }
        Outcome::Done
        | Outcome::TopicCreated(_)
        | Outcome::GroupCreated(_)
        | Outcome::Sent(_)
        | Outcome::SentToQueue { .. }
        | Outcome::Granted(_)
        | Outcome::Acked(_)
        | Outcome::Changed(_)
        | Outcome::Ticked { .. }
        | Outcome::Locked(_)
        | Outcome::WritePermissionSet { .. }
        | Outcome::Trimmed { .. } => ActEnd::Done,
    };
    events::note(stage, ClusterEventKind::Act(act.clone(), end))
}

/// Notes an act that is no command of the log, or is many.
pub(super) fn note_said(stage: &mut Stage<'_>, act: &Act, said: &str) -> Result<Outcome, Failure> {
    events::note(stage, ClusterEventKind::Act(act.clone(), ActEnd::Said(said.to_owned())))?;
    Ok(Outcome::Done)
}

/// Notes who leads, once for each term: a leader that does not know whether it was noted says it again.
pub(super) fn note_leader(stage: &mut Stage<'_>, new: NewLeader) -> Result<Outcome, Failure> {
    let last = events::last_leader(stage)?;
    if last.is_some_and(|(term, _)| term >= new.term) {
        return Ok(Outcome::Done);
    }
    events::put_last_leader(stage, new.term, new.leader);
    events::note(stage, ClusterEventKind::Leader(new, last.map(|(_, leader)| leader)))?;
    Ok(Outcome::Done)
}

/// Notes the end of a change of members. Entries of older builds end changes too, and note nothing.
pub(super) fn note_members(stage: &mut Stage<'_>, ended: &EndedChange) -> Result<(), Failure> {
    if stage.number(Space::Meta, keys::CLUSTER_VERSION)? < NEEDS_EVENTS.into() {
        return Ok(());
    }
    events::note(stage, ClusterEventKind::MembersChanged(ended.clone()))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
