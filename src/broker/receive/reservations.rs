//! What the polls of this node have planned and not been granted yet, so that they do not race each other for the same
//! messages. Races with other nodes are decided by `machine/receive`.
//!
//! Hot path. One lock per group and topic, held while a plan reads the messages of a queue that are new to the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::machine::command::Candidate;
use crate::machine::state::keys::LeaseKey;
use crate::model::{GroupId, MessageGroupHash, QueueId, TopicId};

/// The reservations of all polls of this node.
#[derive(Default)]
pub(in crate::broker) struct Reservations {
    /// By group and topic that is polled, or was a short time ago.
    by_subscription: Mutex<BTreeMap<(TopicId, GroupId), SharedReserved>>,
    turn: AtomicU32,
}

/// What the polls of one group in one topic have reserved.
pub(super) type SharedReserved = Arc<Mutex<Reserved>>;

#[derive(Default)]
pub(super) struct Reserved {
    /// New messages below these offsets are planned, and by how many polls.
    fresh: BTreeMap<QueueId, (u64, u32)>,
    returned: BTreeSet<LeaseKey>,
    /// FIFO lines whose next messages are planned.
    next: BTreeSet<(QueueId, MessageGroupHash)>,
    /// The queue of the ended lease, and the FIFO line, that a plan took last: the next one begins after them, or those with the
    /// lowest keys would be delivered over and over to consumers that are slow.
    last_returned: Option<QueueId>,
    last_line: Option<(QueueId, MessageGroupHash)>,
    /// A poll found something that another one has reserved: it must plan again when that is decided.
    must_retry: bool,
}

impl Reservations {
    /// Which queue a plan begins with: each plan begins with the next one.
    pub fn turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets go of what no poll plans any more.
    pub(in crate::broker) fn forget_idle(&self) {
        // Who plans holds on to its own; what is left of plans was released with them.
        self.by_subscription.lock().retain(|_, reserved| Arc::strong_count(reserved) > 1);
    }

    pub(super) fn of(&self, topic: TopicId, group: GroupId) -> SharedReserved {
        self.by_subscription.lock().entry((topic, group)).or_default().clone()
    }
}

impl Reserved {
    /// Reserves what an ended lease holds; false if another poll has.
    pub fn reserve_returned(&mut self, at: LeaseKey) -> bool {
        let is_free = self.returned.insert(at);
        self.must_retry |= !is_free;
        if is_free {
            self.last_returned = Some(at.queue);
        }
        is_free
    }

    /// After which queue of ended leases, and which FIFO line, a plan begins.
    pub fn last_taken(&self) -> (Option<QueueId>, Option<(QueueId, MessageGroupHash)>) {
        (self.last_returned, self.last_line)
    }

    /// Reserves the next messages of a FIFO line; false if another poll has.
    pub fn reserve_next(&mut self, queue: QueueId, message_group: MessageGroupHash) -> bool {
        let is_free = self.next.insert((queue, message_group));
        self.must_retry |= !is_free;
        if is_free {
            self.last_line = Some((queue, message_group));
        }
        is_free
    }

    /// Below which offset new messages of a queue are reserved; 0 if none are.
    pub fn fresh_end(&self, queue: QueueId) -> u64 {
        self.fresh.get(&queue).map_or(0, |(to, _)| *to)
    }

    /// Reserves the new messages of a queue below an offset.
    pub fn reserve_fresh(&mut self, queue: QueueId, to: u64) {
        let entry = self.fresh.entry(queue).or_insert((0, 0));
        *entry = (to, entry.1 + 1);
    }

    /// A poll found something that another one has reserved.
    pub fn note_retry(&mut self) {
        self.must_retry = true;
    }

    /// Whether a poll must plan again, asked once.
    pub fn take_must_retry(&mut self) -> bool {
        std::mem::take(&mut self.must_retry)
    }

    /// Ends the reservation of a candidate.
    pub fn release(&mut self, (topic, group): (TopicId, GroupId), candidate: &Candidate) {
        match *candidate {
            Candidate::Returned { queue, lease, .. } => {
                self.returned.remove(&LeaseKey { topic, group, queue, lease });
            }
            Candidate::Next { queue, message_group, .. } => {
                self.next.remove(&(queue, message_group));
            }
            Candidate::Fresh { queue, .. } | Candidate::Any { queue, .. } | Candidate::Skip { queue, .. } => {
                if let Some((_, holders)) = self.fresh.get_mut(&queue) {
                    *holders -= 1;
                    if *holders == 0 {
                        self.fresh.remove(&queue);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QueueOffset;

    #[test]
    fn p20_reservations_of_groups_that_nobody_polls_are_let_go_of() {
        let reservations = Reservations::default();
        let planning = reservations.of(TopicId(1), GroupId(1));
        planning.lock().reserve_fresh(QueueId(0), 5);
        for number in 0..1000 {
            let reserved = reservations.of(TopicId(1), GroupId(number));
            reserved.lock().reserve_fresh(QueueId(1), 7);
            let (first, key) = (QueueOffset(0), (TopicId(1), GroupId(number)));
            reserved.lock().release(key, &Candidate::Skip { queue: QueueId(1), first, length: 7 });
        }
        reservations.forget_idle();
        assert_eq!(reservations.by_subscription.lock().len(), 1);
        assert_eq!(reservations.of(TopicId(1), GroupId(1)).lock().fresh_end(QueueId(0)), 5, "a plan under way counts");
    }
}
