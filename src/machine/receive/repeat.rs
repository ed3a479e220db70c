//! A poll that is repeated because its answer was lost (contract §18).

use crate::machine::command::Repeat;
use crate::machine::lease_life_cycle;
use crate::machine::outcome::{Granted, Outcome};
use crate::machine::state::due::Due;
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::machine::state::{due, fifo_line, lease};
use crate::model::OffsetSet;

/// Leases anew what the poll was given before: the same messages, the same attempt, the full time, and new handles:
/// what is still under way for the lost poll cannot end the new leases.
pub fn repeat(stage: &mut Stage<'_>, repeat: &Repeat) -> Result<Outcome, Failure> {
    let mut granted = Vec::new();
    for (number, (queue, lease)) in (0..).zip(&repeat.leases) {
        let at = LeaseKey { topic: repeat.topic, group: repeat.group, queue: *queue, lease: *lease };
        let Some(old) = lease::get(stage, at)? else { continue };
        let is_of_poll = old.attempt_of == repeat.attempt_of;
        let Some(message_group) = old.message_group.filter(|_| is_of_poll) else { continue };
        let line_at = fifo_line::line_of(at, message_group);
        let Some(mut line) = fifo_line::get(stage, line_at)?.filter(|line| line.current == Some(*lease)) else {
            continue;
        };
        if old.held.is_empty() || !old.is_open(stage.now()) || !stage.may_lease() {
            continue;
        }
        due::delete(stage, old.until, Due::Lease(at));
        lease::delete(stage, at, &old)?;
        let id = stage.lease(number);
        let (first, messages, attempt, now) = (old.first, old.held, old.attempt, stage.now());
        let new = Lease {
            granted_at: now,
            until: now.plus(repeat.invisible_for),
            renew_for: repeat.renew.then(|| repeat.client.clone()),
            token: repeat.token,
            given_up: OffsetSet::EMPTY,
            // Whoever repeats the poll may read them.
            unread: OffsetSet::EMPTY,
            ..old
        };
        line.current = Some(id);
        fifo_line::put(stage, line_at, &line);
        lease_life_cycle::start(stage, LeaseKey { lease: id, ..at }, new)?;
        granted.push(Granted { queue: at.queue, lease: id, first, messages, attempt });
    }
    Ok(Outcome::Granted(granted))
}
