//! What of a queue a group has not settled yet: for people (`inspect`) and for resets (`offset`).

use std::collections::BTreeMap;

use crate::broker::Error;
use crate::machine::state::lease::Lease;
use crate::machine::state::queue::QueueHead;
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
    // What is left of leases that a reset took is no lease any more.
    let is_cleared = view.being_cleared(topic, group)?.contains(&queue);
    let leases = if is_cleared { Vec::new() } else { view.leases(topic, group, queue)? };
    let held = |is_meant: fn(&Lease) -> bool| -> u64 {
        leases.iter().filter(|(_, lease)| is_meant(lease)).map(|(_, lease)| u64::from(lease.held.len())).sum()
    };
    let first_of = |is_meant: fn(&Lease) -> bool| {
        let meant = leases.iter().filter(|(_, lease)| is_meant(lease));
        meant.filter_map(|(_, lease)| lease.offsets(lease.held).next()).min()
    };
    let (waiting, first_waiting) = if is_cleared { (0, None) } else { view.waiting_in_lines(topic, group, queue)? };
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

/// Both ends of the queues of a topic, ascending.
pub(in crate::broker) fn heads_of(view: View<'_>, topic: TopicId, queues: u32) -> Result<Vec<QueueHead>, Error> {
    (0..queues).map(|queue| Ok(view.queue_head(topic, QueueId(queue))?)).collect()
}

/// [`settled_below`] for all queues of a topic, ascending. A group that has nothing under work there costs three scans for
/// all of them, and not two for each.
pub(in crate::broker) fn settled_in(
    view: View<'_>,
    topic: TopicId,
    group: GroupId,
    heads: &[QueueHead],
) -> Result<Vec<Settled>, Error> {
    let queues = (0..).map(QueueId).take(heads.len());
    if view.is_at_work(topic, group)? {
        return queues.map(|queue| settled_below(view, topic, group, queue)).collect();
    }
    let offsets: BTreeMap<QueueId, QueueOffset> = view.group_offsets(topic, group)?.into_iter().collect();
    let idle = queues.zip(heads).map(|(queue, head)| {
        let below = offsets.get(&queue).copied().unwrap_or(QueueOffset(0)).max(head.min);
        Settled {
            max: head.max,
            below,
            in_flight: 0,
            returning: 0,
            lag: head.max.0.saturating_sub(below.0),
            ready_from: Some(below).filter(|below| *below < head.max),
        }
    });
    Ok(idle.collect())
}
