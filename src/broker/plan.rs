//! Plans of receives: which messages could be leased to a group now, from the applied view (D11).
//!
//! Hot path. Returned messages first, then each queue from the group's position, queues taking turns.
//! What one poll of this node has planned is held back from its other polls until the grant is
//! decided, so that they do not race each other for the same messages; races with other nodes are
//! decided by `machine/receive`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::machine::Failure;
use crate::machine::command::Candidate;
use crate::machine::keys::LeaseKey;
use crate::machine::lease::SPAN;
use crate::machine::view::View;
use crate::model::{GroupId, MessageRef, QueueId, QueueOffset, TagFilter, Timestamp, TopicId};

/// Returned leases looked at by one plan.
const RETURNED_MAX: usize = 64;

/// What a poll wants.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub topic: TopicId,
    pub queues: u32,
    pub group: GroupId,
    pub filter: &'a TagFilter,
    pub limit: u32,
}

/// One candidate with what is needed to deliver it.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub candidate: Candidate,
    pub queue: QueueId,
    /// Offset of bit 0.
    pub first: QueueOffset,
    /// Where the wanted messages lie, by bit.
    pub places: BTreeMap<u32, (MessageRef, Timestamp)>,
}

/// The plans under way on this node.
#[derive(Default)]
pub(super) struct Plans {
    reserved: Mutex<BTreeMap<(TopicId, GroupId), Reserved>>,
    turn: AtomicU32,
}

#[derive(Default)]
struct Reserved {
    /// Fresh messages below these offsets are planned, and by how many polls.
    fresh: BTreeMap<QueueId, (u64, u32)>,
    returned: BTreeSet<LeaseKey>,
}

/// A plan; what it holds back is free again when it is dropped.
pub(super) struct Plan<'a> {
    plans: &'a Plans,
    key: (TopicId, GroupId),
    pub planned: Vec<Planned>,
}

impl Plans {
    /// Looks for up to `limit` messages.
    pub(super) fn make(&self, view: View<'_>, wanted: Wanted<'_>) -> Result<Plan<'_>, Failure> {
        let key = (wanted.topic, wanted.group);
        let mut plan = Plan { plans: self, key, planned: Vec::new() };
        let mut room = wanted.limit;
        for (at, lease) in view.returned(wanted.topic, wanted.group, RETURNED_MAX)? {
            if room == 0 {
                return Ok(plan);
            }
            if !self.reserved.lock().entry(key).or_default().returned.insert(at) {
                continue;
            }
            let window = Window::read(view, wanted, at.queue, lease.first, last_offset(lease.first, lease.held))?;
            let take = lowest(window.wanted & lease.held, room);
            let skipped = lease.held & !window.wanted;
            room -= take.count_ones();
            plan.planned.push(Planned {
                candidate: Candidate::Returned { queue: at.queue, lease: at.lease, wanted: take, skipped },
                queue: at.queue,
                first: lease.first,
                places: window.places,
            });
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for step in 0..wanted.queues {
            if room == 0 {
                break;
            }
            let queue = QueueId(turn.wrapping_add(step) % wanted.queues);
            if let Some(planned) = self.fresh(view, wanted, queue, &mut room)? {
                plan.planned.push(planned);
            }
        }
        Ok(plan)
    }

    fn fresh(
        &self,
        view: View<'_>,
        wanted: Wanted<'_>,
        queue: QueueId,
        room: &mut u32,
    ) -> Result<Option<Planned>, Failure> {
        let head = view.queue_head(wanted.topic, queue)?;
        let cursor = view.cursor(wanted.topic, wanted.group, queue)?;
        let mut reserved = self.reserved.lock();
        let fresh = &mut reserved.entry((wanted.topic, wanted.group)).or_default().fresh;
        let taken = fresh.get(&queue).map_or(0, |(to, _)| *to);
        let from = cursor.0.max(head.min.0).max(taken);
        if from >= head.max.0 {
            return Ok(None);
        }
        let first = QueueOffset(from);
        let window = Window::read(view, wanted, queue, first, QueueOffset(head.max.0.min(from + SPAN)))?;
        let take = lowest(window.wanted, *room);
        *room -= take.count_ones();
        // The plan looked as far as the last message it takes, or through the whole window.
        let length = if take == window.wanted { window.length } else { 64 - take.leading_zeros() as u64 };
        let entry = fresh.entry(queue).or_insert((0, 0));
        *entry = (from + length, entry.1 + 1);
        let length = u8::try_from(length).expect("a window is at most 64 long");
        Ok(Some(Planned {
            candidate: Candidate::Fresh { queue, first, length, wanted: take },
            queue,
            first,
            places: window.places,
        }))
    }
}

impl Plan<'_> {
    /// The candidates for the command.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        self.planned.iter().map(|planned| planned.candidate).collect()
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        let mut all = self.plans.reserved.lock();
        let Some(reserved) = all.get_mut(&self.key) else { return };
        for planned in &self.planned {
            match planned.candidate {
                Candidate::Returned { queue, lease, .. } => {
                    let (topic, group) = self.key;
                    reserved.returned.remove(&LeaseKey { topic, group, queue, lease });
                }
                Candidate::Fresh { queue, .. } => {
                    if let Some((_, holders)) = reserved.fresh.get_mut(&queue) {
                        *holders -= 1;
                        if *holders == 0 {
                            reserved.fresh.remove(&queue);
                        }
                    }
                }
            }
        }
        if reserved.fresh.is_empty() && reserved.returned.is_empty() {
            all.remove(&self.key);
        }
    }
}

/// Up to 64 offsets of a queue as the filter sees them.
struct Window {
    length: u64,
    wanted: u64,
    places: BTreeMap<u32, (MessageRef, Timestamp)>,
}

impl Window {
    fn read(
        view: View<'_>,
        wanted: Wanted<'_>,
        queue: QueueId,
        first: QueueOffset,
        to: QueueOffset,
    ) -> Result<Self, Failure> {
        let mut window = Self { length: to.0 - first.0, wanted: 0, places: BTreeMap::new() };
        for (run_first, run) in view.runs(wanted.topic, queue, first, to)? {
            for (offset, item) in (run_first.0..to.0).zip(&run.items) {
                if offset < first.0 || !wanted.filter.may_match(item.tag_hash) {
                    continue;
                }
                let bit = u32::try_from(offset - first.0).expect("a window is at most 64 long");
                window.wanted |= 1 << bit;
                window.places.insert(bit, (MessageRef { index: run.index, slot: item.slot }, run.stored_at));
            }
        }
        Ok(window)
    }
}

/// One behind the last of `bits`.
fn last_offset(first: QueueOffset, bits: u64) -> QueueOffset {
    QueueOffset(first.0 + u64::from(64 - bits.leading_zeros()))
}

/// The `count` lowest of `bits`.
fn lowest(bits: u64, count: u32) -> u64 {
    let mut rest = bits;
    for _ in 0..count.min(bits.count_ones()) {
        rest &= rest - 1;
    }
    bits & !rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bits_are_taken() {
        assert_eq!(lowest(0b1011_0100, 2), 0b0001_0100);
        assert_eq!(lowest(u64::MAX, 64), u64::MAX);
        assert_eq!(lowest(0b11, 0), 0);
        assert_eq!(last_offset(QueueOffset(10), 0b101), QueueOffset(13));
    }
}
