//! A grant: checks that the group may receive, and leases what each candidate of the plan still has free.

use crate::machine::command::{Candidate, Grant};
use crate::machine::lease_ids;
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::receive::delivery::{OffsetWindow, Share};
use crate::machine::receive::fresh::AnyMessages;
use crate::machine::receive::redelivery::Redelivery;
use crate::machine::receive::{fresh, next_in_line, redelivery};
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, clearing};

pub fn apply(stage: &mut Stage<'_>, grant: &Grant) -> Result<Outcome, Failure> {
    let Some(topic) = catalog::topic(stage, grant.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if !topic.permission.can_read() {
        return Ok(Outcome::Rejected(Rejected::Forbidden));
    }
    if !catalog::is_subscribed(stage, grant.topic, grant.group)? {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    }
    let Some(group) = catalog::group(stage, grant.group)? else {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    };
    let orderly = group.orderly || topic.topic_type.is_fifo();
    let mut granted = Vec::new();
    if !stage.may_lease() {
        return Ok(Outcome::Granted(granted));
    }
    let cleared = clearing::of(stage, grant.topic, grant.group)?;
    let mut room = grant.limit;
    // Numbers of leases: first those of the candidates that make one, then all others.
    let (mut single, mut others) = (0, lease_ids::single(grant));
    for planned in &grant.candidates {
        if cleared.contains(&planned.queue()) {
            single += u32::from(planned.makes_one());
            continue;
        }
        let to_one = Share { grant, number: single, room };
        let made = match *planned {
            Candidate::Returned { queue, lease, wanted, skipped } => {
                let lease = LeaseKey { topic: grant.topic, group: grant.group, queue, lease };
                redelivery::redeliver(stage, to_one, Redelivery { lease, wanted, skipped })?.into_iter().collect()
            }
            Candidate::Any { queue, first, count, bytes } => {
                fresh::any(stage, to_one, AnyMessages { queue, planned_first: first, count, bytes })?
                    .into_iter()
                    .collect()
            }
            Candidate::Fresh { queue, first, length, wanted } => {
                let to_each_group = Share { number: others, ..to_one };
                let made = fresh::fresh(stage, to_each_group, OffsetWindow { queue, first, length, wanted }, orderly)?;
                others += u32::try_from(made.len()).expect("a lease holds a message at least");
                made
            }
            Candidate::Skip { queue, first, length } => {
                fresh::skip(stage, grant, queue, first, length)?;
                Vec::new()
            }
            Candidate::Next { queue, message_group, first, length, wanted } => {
                let window = OffsetWindow { queue, first, length, wanted };
                next_in_line::deliver_next(stage, to_one, window, message_group)?.into_iter().collect()
            }
        };
        single += u32::from(planned.makes_one());
        for made in &made {
            room -= made.messages.len();
        }
        granted.extend(made);
    }
    Ok(Outcome::Granted(granted))
}
