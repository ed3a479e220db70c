//! What of a queue a group has not settled yet: for people (`inspect`) and for resets (`offset`).

use crate::broker::Error;
use crate::machine::state::lease::Lease;
use crate::machine::state::view::View;
use crate::model::{GroupId, QueueId, QueueOffset, TopicId};

/// Of one group in one queue.
pub(in crate::broker) struct Settled {
    pub max: QueueOffset,
    /// Everything below is settled.
    pub below: QueueOffset,
    /// Leased and not yet settled.
    pub in_flight: u64,
    /// Waits for its next delivery.
    pub returning: u64,
    /// Not yet settled.
    pub lag: u64,
    /// The first that is not settled and not leased, unless it waits in a FIFO line.
    pub ready_from: Option<QueueOffset>,
}

/// A message is settled when the group offset is past it, no lease holds it, and it waits in no FIFO line; or it is
/// gone.
pub(in crate::broker) fn settled_below(
    view: View<'_>,
    topic: TopicId,
    group: GroupId,
    queue: QueueId,
) -> Result<Settled, Error> {
    let head = view.queue_head(topic, queue)?;
    let group_offset = view.group_offset(topic, group, queue)?.max(head.min);
    let leases = view.leases(topic, group, queue)?;
    let held = |is_meant: fn(&Lease) -> bool| -> u64 {
        leases.iter().filter(|(_, lease)| is_meant(lease)).map(|(_, lease)| u64::from(lease.held.len())).sum()
    };
    let first_of = |is_meant: fn(&Lease) -> bool| {
        let meant = leases.iter().filter(|(_, lease)| is_meant(lease));
        meant.filter_map(|(_, lease)| lease.offsets(lease.held).next()).min()
    };
    let (waiting, first_waiting) = view.waiting_in_lines(topic, group, queue)?;
    let first = first_of(|_| true).into_iter().chain(first_waiting).min();
    let fresh = Some(group_offset).filter(|offset| *offset < head.max);
    Ok(Settled {
        max: head.max,
        below: first.map_or(group_offset, |offset| offset.clamp(head.min, group_offset)),
        in_flight: held(|lease| !lease.returned),
        returning: held(|lease| lease.returned),
        lag: head.max.0.saturating_sub(group_offset.0) + held(|_| true) + waiting,
        ready_from: first_of(|lease| lease.returned).into_iter().chain(fresh).min(),
    })
}
