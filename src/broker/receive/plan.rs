//! Plans of polls: which messages could be leased to a group now, from the applied view (D11).
//!
//! Hot path. Returned messages first, then each queue from the group offset, queues taking turns; by priority, the
//! highest queue first. Ended leases take turns too, and FIFO lines: each plan begins after what the last one took.

use std::collections::BTreeMap;

use tokio::sync::Notify;

use crate::broker::Error;
use crate::broker::receive::filter_check::Unchecked;
use crate::broker::receive::reservations::{Reservations, SharedReserved};
use crate::broker::receive::target::PollTarget;
use crate::broker::receive::window::{Contents, PlanWindow, StoredAt, end_of};
use crate::machine::command::Candidate;
use crate::machine::outcome::Granted;
use crate::machine::state::keys::{LeaseKey, LineKey};
use crate::machine::state::lease::{Lease, SPAN};
use crate::machine::state::view::View;
use crate::model::limits::RECEIVE_BYTES_MAX;
use crate::model::{GroupId, MessageRef, OffsetSet, QueueId, QueueOffset, TopicId};

/// Returned leases looked at by one plan.
const RETURNED_MAX: usize = 64;
/// FIFO lines looked at by one plan.
const READY_MAX: usize = 64;
/// Windows of up to 64 messages that one plan reads whole.
const WINDOWS_READ_MAX: usize = 4;
/// Windows of up to 64 messages, none of which is wanted, that one plan passes over in a row at most.
const WINDOWS_SKIPPED_MAX: u32 = 256;

/// One candidate with what is needed to deliver it.
#[derive(Debug)]
pub(super) struct Planned {
    pub candidate: Candidate,
    pub queue: QueueId,
    /// The first offset of its window.
    pub first: QueueOffset,
    pub contents: Contents,
}

impl Planned {
    /// Whether all that was granted is in it.
    pub fn has(&self, granted: &Granted) -> bool {
        (self.queue, self.first) == (granted.queue, granted.first)
            && granted.messages.iter().all(|distance| self.contents.places.contains_key(&distance))
    }
}

/// What planning came to.
pub(super) enum Planning<'a> {
    Ready(Plan<'a>),
    /// The filter must see this message, which is on the disk only: the plan is made anew once it is read.
    NeedsRead(MessageRef),
}

/// A plan; dropping it ends its reservations.
pub(super) struct Plan<'a> {
    reserved: SharedReserved,
    /// Of the group in the topic: wakes the polls that must retry.
    notifier: &'a Notify,
    key: (TopicId, GroupId),
    pub planned: Vec<Planned>,
    /// Of its messages.
    pub bytes: u64,
    /// Windows that may still be passed over.
    skips: u32,
    /// Whether there is something that cannot be read here now.
    pub lacks_some: bool,
    /// Windows that were read.
    pub windows: usize,
    /// Queues of which nothing is leased to the group now.
    cleared: Vec<QueueId>,
}

/// What still fits into an answer.
struct Room {
    messages: u32,
    bytes: u64,
    /// Of what was taken.
    taken: u64,
}

impl Room {
    /// The lowest of a set that fit; the first message of an answer always does.
    fn take(&mut self, set: OffsetSet, places: &BTreeMap<u64, StoredAt>) -> OffsetSet {
        let mut taken = OffsetSet::EMPTY;
        for (distance, place) in places.iter().filter(|(distance, _)| set.contains(**distance)) {
            if self.messages == 0 || self.bytes == 0 {
                break;
            }
            self.messages -= 1;
            self.bytes = self.bytes.saturating_sub(place.bytes.into());
            self.taken += u64::from(place.bytes);
            taken.insert(*distance);
        }
        taken
    }

    fn is_used_up(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}

impl<'a> Plan<'a> {
    /// Looks for up to `limit` messages, and reserves them. A plan that is made anew gets the `turn` it had: it needs
    /// the same messages.
    pub fn make(
        reservations: &Reservations,
        view: View<'_>,
        target: PollTarget<'_>,
        turn: u32,
        notifier: &'a Notify,
    ) -> Result<Planning<'a>, Error> {
        let key = (target.topic, target.group);
        // A filter that reads messages takes its time over each of them: others have their turn.
        let skips = if target.check.is_some() { 0 } else { WINDOWS_SKIPPED_MAX };
        let mut plan = Plan {
            reserved: reservations.of(key.0, key.1),
            notifier,
            key,
            planned: Vec::new(),
            bytes: 0,
            skips,
            lacks_some: false,
            windows: 0,
            cleared: Vec::new(),
        };
        match plan.fill(view, target, turn) {
            Ok(()) => Ok(Planning::Ready(plan)),
            Err(Unchecked::NeedsRead(message)) => Ok(Planning::NeedsRead(message)),
            Err(Unchecked::Failed(error)) => Err(error),
        }
    }
}

impl Plan<'_> {
    fn fill(&mut self, view: View<'_>, target: PollTarget<'_>, turn: u32) -> Result<(), Unchecked> {
        self.cleared = view.being_cleared(target.topic, target.group)?;
        let mut room = Room { messages: target.limit, bytes: RECEIVE_BYTES_MAX, taken: 0 };
        self.fill_room(view, target, turn, &mut room)?;
        self.bytes = room.taken;
        Ok(())
    }

    fn fill_room(
        &mut self,
        view: View<'_>,
        target: PollTarget<'_>,
        turn: u32,
        room: &mut Room,
    ) -> Result<(), Unchecked> {
        if target.by_priority {
            for queue in (0..target.queues).rev().map(QueueId) {
                let returned = view.returned_in(target.topic, target.group, queue, RETURNED_MAX)?;
                self.add_returned(view, target, returned, room)?;
                if room.is_used_up() || self.has_read_enough(target) {
                    break;
                }
                self.add_fresh(view, target, queue, room)?;
            }
            return Ok(());
        }
        let (after, _) = self.reserved.lock().last_taken();
        let returned = view.returned(target.topic, target.group, after, RETURNED_MAX)?;
        self.add_returned(view, target, returned, room)?;
        if target.orderly {
            self.add_next_in_lines(view, target, room)?;
        }
        for step in 0..target.queues {
            if room.is_used_up() || self.has_read_enough(target) {
                break;
            }
            let queue = QueueId(turn.wrapping_add(step) % target.queues);
            self.add_fresh(view, target, queue, room)?;
        }
        Ok(())
    }

    /// Whether a plan whose filter reads whole messages has looked at enough of them: others have their turn.
    fn has_read_enough(&self, target: PollTarget<'_>) -> bool {
        target.check.is_some() && self.planned.len() >= WINDOWS_READ_MAX
    }

    /// Messages of ended leases.
    fn add_returned(
        &mut self,
        view: View<'_>,
        target: PollTarget<'_>,
        returned: Vec<(LeaseKey, Lease)>,
        room: &mut Room,
    ) -> Result<(), Unchecked> {
        for (at, lease) in returned {
            if room.is_used_up() || self.has_read_enough(target) {
                return Ok(());
            }
            if self.cleared.contains(&at.queue) {
                continue;
            }
            self.windows += 1;
            let window = PlanWindow::read(view, target, at.queue, lease.first, end_of(lease.first, lease.held))?;
            let unreadable = lease.held & window.unreadable;
            self.lacks_some |= !unreadable.is_empty();
            let mut wanted = window.wanted & lease.held;
            if let Some(first) = unreadable.first_distance().filter(|_| lease.message_group.is_some()) {
                wanted = wanted & OffsetSet::first(first);
            }
            let skipped = lease.held - window.wanted - unreadable;
            if (wanted | skipped).is_empty() || !self.reserved.lock().reserve_returned(at) {
                continue;
            }
            let take = room.take(wanted, &window.contents.places);
            self.planned.push(Planned {
                candidate: Candidate::Returned { queue: at.queue, lease: at.lease, wanted: take, skipped },
                queue: at.queue,
                first: lease.first,
                contents: window.contents,
            });
        }
        Ok(())
    }

    /// Messages whose FIFO line is free again.
    fn add_next_in_lines(&mut self, view: View<'_>, target: PollTarget<'_>, room: &mut Room) -> Result<(), Unchecked> {
        let PollTarget { topic, group, .. } = target;
        let (_, after) = self.reserved.lock().last_taken();
        let after = after.map(|(queue, message_group)| LineKey { topic, group, queue, message_group });
        for (queue, message_group, first) in view.ready(topic, group, after, READY_MAX)? {
            if room.is_used_up() || self.has_read_enough(target) {
                return Ok(());
            }
            if self.cleared.contains(&queue) {
                continue;
            }
            let group_offset = view.group_offset(target.topic, target.group, queue)?;
            self.windows += 1;
            let to = QueueOffset(group_offset.0.min(first.0 + SPAN));
            let mut window = PlanWindow::read(view, target, queue, first, to)?;
            let mut of_group = OffsetSet::EMPTY;
            for (distance, _) in window.message_groups.iter().filter(|(_, hash)| **hash == message_group) {
                of_group.insert(*distance);
            }
            self.end_before_unreadable(&mut window, of_group, target);
            if window.length == 0 || !self.reserved.lock().reserve_next(queue, message_group) {
                continue;
            }
            let take = room.take(window.wanted & of_group, &window.contents.places);
            let length = window.seen(take, window.wanted & of_group);
            self.planned.push(Planned {
                candidate: Candidate::Next { queue, message_group, first, length, wanted: take },
                queue,
                first,
                contents: window.contents,
            });
        }
        Ok(())
    }

    /// Messages of a queue that are new to the group. They are read under the lock of the group's reservations: another
    /// poll of this group must begin where this one ends.
    fn add_fresh(
        &mut self,
        view: View<'_>,
        target: PollTarget<'_>,
        queue: QueueId,
        room: &mut Room,
    ) -> Result<(), Unchecked> {
        if self.cleared.contains(&queue) {
            return Ok(());
        }
        let head = view.queue_head(target.topic, queue)?;
        let group_offset = view.group_offset(target.topic, target.group, queue)?;
        let shared = self.reserved.clone();
        let mut reserved = shared.lock();
        let taken = reserved.fresh_end(queue);
        let from = group_offset.0.max(head.min.0).max(taken);
        if from >= head.max.0 {
            if taken > group_offset.0 {
                reserved.note_retry();
            }
            return Ok(());
        }
        let mut first = from;
        let (window, at_work) = loop {
            let to = QueueOffset(head.max.0.min(first + SPAN));
            self.windows += 1;
            let mut window = PlanWindow::read(view, target, queue, QueueOffset(first), to)?;
            self.end_before_unreadable(&mut window, OffsetSet::first(SPAN), target);
            let at_work = if target.orderly { window.at_work(view, target, queue)? } else { OffsetSet::EMPTY };
            let is_wanted = window.length == 0 || !window.wanted.is_empty();
            if is_wanted || self.skips == 0 || first + window.length >= head.max.0 {
                break (window, at_work);
            }
            self.skips -= 1;
            first += window.length;
        };
        if first > from {
            let length = u32::try_from(first - from).expect("as many as a plan passes over");
            let candidate = Candidate::Skip { queue, first: QueueOffset(from), length };
            let contents = Contents::default();
            self.planned.push(Planned { candidate, queue, first: QueueOffset(from), contents });
            reserved.reserve_fresh(queue, first);
        }
        if window.length == 0 {
            return Ok(());
        }
        let first = QueueOffset(first);
        let free = window.wanted - at_work;
        let take = room.take(free, &window.contents.places);
        let length = window.seen(take, free);
        reserved.reserve_fresh(queue, first.0 + u64::from(length));
        let candidate = if target.is_any() {
            let taken = window.contents.places.range(..u64::from(length));
            Candidate::Any { queue, first, count: length, bytes: taken.map(|(_, place)| u64::from(place.bytes)).sum() }
        } else {
            // Those at work are wanted too: the machine leaves them to their lines.
            let wanted = take | (at_work & OffsetSet::first(length.into()));
            Candidate::Fresh { queue, first, length, wanted }
        };
        self.planned.push(Planned { candidate, queue, first, contents: window.contents });
        Ok(())
    }

    fn end_before_unreadable(&mut self, window: &mut PlanWindow, among: OffsetSet, target: PollTarget<'_>) {
        self.lacks_some |= !(window.unreadable & among).is_empty();
        window.end_before_unreadable(among, !target.leaves_unreadable);
    }

    /// The candidates for the command.
    pub fn candidates(&self) -> Vec<Candidate> {
        self.planned.iter().map(|planned| planned.candidate).collect()
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        let mut reserved = self.reserved.lock();
        for planned in &self.planned {
            reserved.release(self.key, &planned.candidate);
        }
        // A plan that reserved nothing wakes nobody: its own poll would wake itself, over and over.
        if !self.planned.is_empty() && reserved.take_must_retry() {
            self.notifier.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogIndex, Timestamp};

    fn places(bytes: &[u32]) -> BTreeMap<u64, StoredAt> {
        let message = MessageRef { index: LogIndex(1), slot: 0 };
        let place = |bytes: &u32| StoredAt { message, stored_at: Timestamp(0), bytes: *bytes };
        (0..).zip(bytes.iter().map(place)).collect()
    }

    #[test]
    fn the_lowest_messages_that_fit_are_taken() {
        let places = places(&[1; 8]);
        let mut room = Room { messages: 2, bytes: 100, taken: 0 };
        assert_eq!(room.take(OffsetSet(0b1011_0100), &places), OffsetSet(0b0001_0100));
        assert!(room.is_used_up());
        let mut room = Room { messages: 8, bytes: 100, taken: 0 };
        assert_eq!(room.take(OffsetSet(0b11), &places), OffsetSet(0b11));
        assert!(!room.is_used_up());
    }

    #[test]
    fn an_answer_is_closed_once_it_is_large_and_never_empty_for_size() {
        let places = places(&[10, 10, 10]);
        assert_eq!(Room { messages: 8, bytes: 1, taken: 0 }.take(OffsetSet(0b111), &places), OffsetSet(0b001));
        assert_eq!(Room { messages: 8, bytes: 11, taken: 0 }.take(OffsetSet(0b111), &places), OffsetSet(0b011));
    }
}
