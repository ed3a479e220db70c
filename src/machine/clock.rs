//! The clock command below the log: the leader says how far its stamp may move the time, and what the time is ahead of
//! the time of day. Before: `raft/propose/sink`, `raft/clock/watch`.

use crate::machine::outcome::Outcome;
use crate::machine::state::stage::Stage;
use crate::model::Millis;

pub(super) fn apply(stage: &mut Stage<'_>, shift: Millis) -> Outcome {
    stage.set_clock(shift);
    Outcome::Done
}
