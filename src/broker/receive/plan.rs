//! Plans of receives: which messages could be leased to a group now, from the applied view (D11).
//!
//! Hot path. Returned messages first, then each queue from the group's position, queues taking turns; by priority,
//! the highest queue first.
//! What one poll of this node has planned is held back from its other polls until the grant is
//! decided, so that they do not race each other for the same messages; races with other nodes are
//! decided by `machine/receive`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::broker::Error;
use crate::machine::command::Candidate;
use crate::machine::outcome::Granted;
use crate::machine::state::keys::{LeaseKey, LineKey};
use crate::machine::state::lease::{Lease, SPAN};
use crate::machine::state::queue::Origin;
use crate::machine::state::view::View;
use crate::model::limits::RECEIVE_BYTES_MAX;
use crate::model::{
    Filter, GroupId, MessageGroupHash, MessageRef, OffsetSet, QueueId, QueueOffset, TagFilter, Timestamp, TopicId,
};

/// Returned leases looked at by one plan.
const RETURNED_MAX: usize = 64;
/// Lines looked at by one plan.
const READY_MAX: usize = 64;
/// Windows of up to 64 messages that one plan reads whole.
const WINDOWS_READ_MAX: usize = 4;
/// Windows of up to 64 messages, none of which is wanted, that one plan passes over in a row at most.
const WINDOWS_SKIPPED_MAX: u32 = 256;

/// What a poll wants.
#[derive(Clone, Copy)]
pub(in crate::broker) struct PollTarget<'a> {
    pub topic: TopicId,
    pub queues: u32,
    pub group: GroupId,
    /// Whether the group consumes each message group in order.
    pub orderly: bool,
    /// Whether what lies in a higher queue comes first.
    pub by_priority: bool,
    pub filter: &'a Filter,
    /// Tells whether a message is wanted, if only the whole message does.
    pub check: Option<&'a FilterCheck<'a>>,
    pub limit: u32,
}

impl PollTarget<'_> {
    /// Whether every message will do, in no order.
    fn is_any(&self) -> bool {
        !self.orderly && *self.filter == Filter::Tags(TagFilter::All)
    }
}

/// Why no plan was made.
#[derive(Debug)]
pub(in crate::broker) enum NoPlan {
    /// This message must be looked at, and is on the disk only.
    OnDisk(MessageRef),
    /// The rest.
    Failed(Error),
}

impl NoPlan {
    /// The error, where nothing asks for the disk.
    pub fn failed(self) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::OnDisk(at) => Error::Stopped(format!("entry {} was looked for in memory", at.index)),
        }
    }
}

impl<E: Into<Error>> From<E> for NoPlan {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Reads a message and asks the filter.
pub(in crate::broker) type FilterCheck<'a> = dyn Fn(MessageRef) -> Result<bool, NoPlan> + Send + Sync + 'a;

/// Where a message lies, and what it takes.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct StoredAt {
    pub message: MessageRef,
    pub stored_at: Timestamp,
    pub bytes: u32,
}

/// One candidate with what is needed to deliver it.
#[derive(Debug)]
pub(in crate::broker) struct Planned {
    pub candidate: Candidate,
    pub queue: QueueId,
    /// Offset of bit 0.
    pub first: QueueOffset,
    pub contents: Contents,
}

/// Of consecutive messages of a queue, by bit.
#[derive(Debug, Default)]
pub(in crate::broker) struct Contents {
    /// Where those that the filter wants lie.
    pub places: BTreeMap<u32, StoredAt>,
    /// Where those of them that are dead letters were before.
    pub origins: BTreeMap<u32, Origin>,
}

impl Planned {
    /// Whether all that was granted lies in it.
    pub fn has(&self, granted: &Granted) -> bool {
        let mut bits = (0..64).filter(|bit| granted.messages.0 >> bit & 1 == 1);
        (self.queue, self.first) == (granted.queue, granted.first)
            && bits.all(|bit| self.contents.places.contains_key(&bit))
    }
}

/// The plans under way on this node.
#[derive(Default)]
pub(in crate::broker) struct Plans {
    /// By group and topic; as many as there are subscriptions at most.
    lines: Mutex<BTreeMap<(TopicId, GroupId), Reservations>>,
    turn: AtomicU32,
}

/// What the polls of one group in one topic hold back.
type Reservations = Arc<Mutex<Reserved>>;

#[derive(Default)]
struct Reserved {
    /// Fresh messages below these offsets are planned, and by how many polls.
    fresh: BTreeMap<QueueId, (u64, u32)>,
    returned: BTreeSet<LeaseKey>,
    /// Lines whose next messages are planned.
    next: BTreeSet<(QueueId, MessageGroupHash)>,
    /// A poll found something that is held back for another: it must look again when that is decided.
    must_retry: bool,
}

/// A plan; what it holds back is free again when it is dropped.
pub(in crate::broker) struct Plan<'a> {
    reserved: Reservations,
    /// Of the group in the topic: rung for those that were turned away.
    bell: &'a Notify,
    key: (TopicId, GroupId),
    pub planned: Vec<Planned>,
    /// Windows that may still be passed over.
    skips: u32,
}

/// What still fits into an answer.
struct Room {
    messages: u32,
    bytes: u64,
}

impl Room {
    /// The lowest of `bits` that fit; the first message of an answer always does.
    fn take(&mut self, bits: u64, places: &BTreeMap<u32, StoredAt>) -> u64 {
        let mut taken = 0;
        for (bit, place) in places.iter().filter(|(bit, _)| bits >> **bit & 1 == 1) {
            if self.messages == 0 || self.bytes == 0 {
                break;
            }
            self.messages -= 1;
            self.bytes = self.bytes.saturating_sub(place.bytes.into());
            taken |= 1 << bit;
        }
        taken
    }

    fn is_used_up(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}

impl Plans {
    /// Which queue a plan begins with: the next one's turn.
    pub(in crate::broker) fn turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Looks for up to `limit` messages. A plan that is made again has the `turn` it had: it needs the same.
    pub(in crate::broker) fn make<'a>(
        &self,
        view: View<'_>,
        wanted: PollTarget<'_>,
        turn: u32,
        bell: &'a Notify,
    ) -> Result<Plan<'a>, NoPlan> {
        let key = (wanted.topic, wanted.group);
        let reserved = self.lines.lock().entry(key).or_default().clone();
        // A filter that reads messages takes its time over each of them: others have their turn.
        let skips = if wanted.check.is_some() { 0 } else { WINDOWS_SKIPPED_MAX };
        let mut plan = Plan { reserved, bell, key, planned: Vec::new(), skips };
        let mut room = Room { messages: wanted.limit, bytes: RECEIVE_BYTES_MAX };
        if wanted.by_priority {
            for queue in (0..wanted.queues).rev().map(QueueId) {
                let returned = view.returned_in(wanted.topic, wanted.group, queue, RETURNED_MAX)?;
                plan.again(view, wanted, returned, &mut room)?;
                if room.is_used_up() || plan.has_read_enough(wanted) {
                    break;
                }
                plan.fresh_of(view, wanted, queue, &mut room)?;
            }
            return Ok(plan);
        }
        plan.again(view, wanted, view.returned(wanted.topic, wanted.group, RETURNED_MAX)?, &mut room)?;
        if wanted.orderly {
            plan.next_in_lines(view, wanted, &mut room)?;
        }
        for step in 0..wanted.queues {
            if room.is_used_up() || plan.has_read_enough(wanted) {
                break;
            }
            let queue = QueueId(turn.wrapping_add(step) % wanted.queues);
            plan.fresh_of(view, wanted, queue, &mut room)?;
        }
        Ok(plan)
    }
}

impl Plan<'_> {
    /// Whether a plan whose filter reads whole messages has looked at enough of them: others have their turn.
    fn has_read_enough(&self, wanted: PollTarget<'_>) -> bool {
        wanted.check.is_some() && self.planned.len() >= WINDOWS_READ_MAX
    }

    /// Messages of ended leases.
    fn again(
        &mut self,
        view: View<'_>,
        wanted: PollTarget<'_>,
        returned: Vec<(LeaseKey, Lease)>,
        room: &mut Room,
    ) -> Result<(), NoPlan> {
        for (at, lease) in returned {
            if room.is_used_up() || self.has_read_enough(wanted) {
                return Ok(());
            }
            let window = PlanWindow::read(view, wanted, at.queue, lease.first, last_offset(lease.first, lease.held.0))?;
            {
                let mut reserved = self.reserved.lock();
                if !reserved.returned.insert(at) {
                    reserved.must_retry = true;
                    continue;
                }
            }
            let take = room.take(window.wanted & lease.held.0, &window.contents.places);
            let skipped = lease.held - OffsetSet(window.wanted);
            self.planned.push(Planned {
                candidate: Candidate::Returned { queue: at.queue, lease: at.lease, wanted: OffsetSet(take), skipped },
                queue: at.queue,
                first: lease.first,
                contents: window.contents,
            });
        }
        Ok(())
    }

    /// Messages that waited for those of their message group before them.
    fn next_in_lines(&mut self, view: View<'_>, wanted: PollTarget<'_>, room: &mut Room) -> Result<(), NoPlan> {
        for (queue, order, first) in view.ready(wanted.topic, wanted.group, READY_MAX)? {
            if room.is_used_up() || self.has_read_enough(wanted) {
                return Ok(());
            }
            let cursor = view.group_offset(wanted.topic, wanted.group, queue)?;
            let window = PlanWindow::read(view, wanted, queue, first, QueueOffset(cursor.0.min(first.0 + SPAN)))?;
            {
                let mut reserved = self.reserved.lock();
                if !reserved.next.insert((queue, order)) {
                    reserved.must_retry = true;
                    continue;
                }
            }
            let members =
                window.orders.iter().filter(|(_, of)| **of == order).fold(0, |bits, (bit, _)| bits | 1 << bit);
            let take = room.take(window.wanted & members, &window.contents.places);
            let length = window.seen(take, window.wanted & members);
            self.planned.push(Planned {
                candidate: Candidate::Next { queue, message_group: order, first, length, wanted: OffsetSet(take) },
                queue,
                first,
                contents: window.contents,
            });
        }
        Ok(())
    }

    /// Messages of a queue the group never saw, if there are any. They are read under the line's lock: another poll
    /// of this group must begin where this one ends.
    fn fresh_of(
        &mut self,
        view: View<'_>,
        wanted: PollTarget<'_>,
        queue: QueueId,
        room: &mut Room,
    ) -> Result<(), NoPlan> {
        let head = view.queue_head(wanted.topic, queue)?;
        let cursor = view.group_offset(wanted.topic, wanted.group, queue)?;
        let line = self.reserved.clone();
        let mut reserved = line.lock();
        let taken = reserved.fresh.get(&queue).map_or(0, |(to, _)| *to);
        let from = cursor.0.max(head.min.0).max(taken);
        if from >= head.max.0 {
            reserved.must_retry |= taken > cursor.0;
            return Ok(());
        }
        let mut hold = |to: u64| {
            let entry = reserved.fresh.entry(queue).or_insert((0, 0));
            *entry = (to, entry.1 + 1);
        };
        let mut first = from;
        let (window, at_work) = loop {
            let to = QueueOffset(head.max.0.min(first + SPAN));
            let mut window = PlanWindow::read(view, wanted, queue, QueueOffset(first), to)?;
            let at_work = if wanted.orderly { window.at_work(view, wanted, queue)? } else { 0 };
            let is_wanted = window.length == 0 || window.wanted != 0;
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
            hold(first);
        }
        if window.length == 0 {
            return Ok(());
        }
        let first = QueueOffset(first);
        let free = window.wanted & !at_work;
        let take = room.take(free, &window.contents.places);
        let length = window.seen(take, free);
        hold(first.0 + u64::from(length));
        let candidate = if wanted.is_any() {
            let taken = window.contents.places.range(..u32::from(length));
            Candidate::Any { queue, first, count: length, bytes: taken.map(|(_, place)| u64::from(place.bytes)).sum() }
        } else {
            // Those at work are wanted too: the machine leaves them to their lines.
            let wanted = take | (at_work & (u64::MAX >> (64 - u32::from(length))));
            Candidate::Fresh { queue, first, length, wanted: OffsetSet(wanted) }
        };
        self.planned.push(Planned { candidate, queue, first, contents: window.contents });
        Ok(())
    }

    /// The candidates for the command.
    pub(in crate::broker) fn candidates(&self) -> Vec<Candidate> {
        self.planned.iter().map(|planned| planned.candidate).collect()
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        let mut reserved = self.reserved.lock();
        for planned in &self.planned {
            match planned.candidate {
                Candidate::Returned { queue, lease, .. } => {
                    let (topic, group) = self.key;
                    reserved.returned.remove(&LeaseKey { topic, group, queue, lease });
                }
                Candidate::Next { queue, message_group, .. } => {
                    reserved.next.remove(&(queue, message_group));
                }
                Candidate::Fresh { queue, .. } | Candidate::Any { queue, .. } | Candidate::Skip { queue, .. } => {
                    if let Some((_, holders)) = reserved.fresh.get_mut(&queue) {
                        *holders -= 1;
                        if *holders == 0 {
                            reserved.fresh.remove(&queue);
                        }
                    }
                }
            }
        }
        // One that held nothing back has nothing to tell: it would only wake itself, over and over.
        if !self.planned.is_empty() && std::mem::take(&mut reserved.must_retry) {
            self.bell.notify_waiters();
        }
    }
}

/// Up to 64 offsets of a queue as the filter sees them.
struct PlanWindow {
    length: u64,
    wanted: u64,
    contents: Contents,
    /// The message groups of those that have one, by bit.
    orders: BTreeMap<u32, MessageGroupHash>,
}

impl PlanWindow {
    /// The messages whose message groups are at work already. One that has no message group and is at work ends the
    /// window: no position passes over it.
    fn at_work(&mut self, view: View<'_>, wanted: PollTarget<'_>, queue: QueueId) -> Result<u64, NoPlan> {
        let mut lines = BTreeMap::new();
        let mut bits = 0;
        for bit in 0..u32::try_from(self.length).unwrap_or(64) {
            if self.wanted >> bit & 1 == 0 {
                continue;
            }
            let order = self.orders.get(&bit).copied().unwrap_or(MessageGroupHash::NONE);
            let is_at_work = match lines.entry(order) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(free) => {
                    let at = LineKey { topic: wanted.topic, group: wanted.group, queue, message_group: order };
                    *free.insert(view.line(at)?.is_some())
                }
            };
            if is_at_work && order == MessageGroupHash::NONE {
                self.length = bit.into();
                self.wanted &= (1 << bit) - 1;
                break;
            }
            bits |= u64::from(is_at_work) << bit;
        }
        Ok(bits)
    }

    /// How far a plan that takes some of the wanted looked: to the last it takes, or through the whole window.
    fn seen(&self, taken: u64, wanted: u64) -> u8 {
        let length = if taken == wanted { self.length } else { 64 - u64::from(taken.leading_zeros()) };
        u8::try_from(length).expect("a window is at most 64 long")
    }

    fn read(
        view: View<'_>,
        wanted: PollTarget<'_>,
        queue: QueueId,
        first: QueueOffset,
        to: QueueOffset,
    ) -> Result<Self, NoPlan> {
        let length = to.0.saturating_sub(first.0);
        let mut window = Self { length, wanted: 0, contents: Contents::default(), orders: BTreeMap::new() };
        for (run_first, run) in view.runs(wanted.topic, queue, first, to)? {
            for ((position, item), offset) in run.items.iter().enumerate().zip(run_first.0..to.0) {
                if offset < first.0 {
                    continue;
                }
                let bit = u32::try_from(offset - first.0).expect("a window is at most 64 long");
                window.orders.extend(run.message_groups.get(position).map(|order| (bit, *order)));
                if !wanted.filter.may_match(item.tag_hash) {
                    continue;
                }
                let message = MessageRef { index: run.index, slot: item.slot };
                if let Some(check) = wanted.check
                    && !check(message)?
                {
                    continue;
                }
                window.wanted |= 1 << bit;
                window.contents.places.insert(bit, StoredAt { message, stored_at: run.stored_at, bytes: item.bytes });
                if let Some(origin) = &run.origin {
                    window.contents.origins.insert(bit, origin.clone());
                }
            }
        }
        Ok(window)
    }
}

/// What a lease holds, looked up after it was granted: of messages that the filter wants.
pub(in crate::broker) fn contents(
    view: View<'_>,
    wanted: PollTarget<'_>,
    granted: &Granted,
) -> Result<Contents, Error> {
    let to = last_offset(granted.first, granted.messages.0);
    let window = PlanWindow::read(view, PollTarget { check: None, ..wanted }, granted.queue, granted.first, to);
    Ok(window.map_err(NoPlan::failed)?.contents)
}

/// One behind the last of `bits`.
fn last_offset(first: QueueOffset, bits: u64) -> QueueOffset {
    QueueOffset(first.0 + u64::from(64 - bits.leading_zeros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(bytes: &[u32]) -> BTreeMap<u32, StoredAt> {
        let message = MessageRef { index: crate::model::LogIndex(1), slot: 0 };
        let place = |bytes: &u32| StoredAt { message, stored_at: Timestamp(0), bytes: *bytes };
        (0..).zip(bytes.iter().map(place)).collect()
    }

    #[test]
    fn the_lowest_messages_that_fit_are_taken() {
        let places = places(&[1; 8]);
        let mut room = Room { messages: 2, bytes: 100 };
        assert_eq!(room.take(0b1011_0100, &places), 0b0001_0100);
        assert!(room.is_used_up());
        let mut room = Room { messages: 8, bytes: 100 };
        assert_eq!(room.take(0b11, &places), 0b11);
        assert!(!room.is_used_up());
        assert_eq!(last_offset(QueueOffset(10), 0b101), QueueOffset(13));
    }

    #[test]
    fn an_answer_is_closed_once_it_is_large_and_never_empty_for_size() {
        let places = places(&[10, 10, 10]);
        assert_eq!(Room { messages: 8, bytes: 1 }.take(0b111, &places), 0b001);
        assert_eq!(Room { messages: 8, bytes: 11 }.take(0b111, &places), 0b011);
    }
}
