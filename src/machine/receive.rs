//! Receives below the log: leases those planned messages that are still free. Before: `broker/receive/poll`.
//!
//! Hot path. A candidate leased or settled since the plan was made is left out, so a stale plan
//! shortens the answer and never leases one message twice at once (D11, P8). A group that wants every message, in no
//! order, is given what lies behind instead: plans of several nodes do not take each other's messages.

use std::collections::BTreeMap;

use crate::machine::command::{Candidate, Grant, Repeat};
use crate::machine::outcome::{Granted, Outcome, Rejected};
use crate::machine::state::fifo_line;
use crate::machine::state::fifo_line::FifoLine;
use crate::machine::state::keys::{LeaseKey, LineKey};
use crate::machine::state::lease;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::machine::state::{keys, lease_ids, queue};
use crate::machine::{Failure, topics};
use crate::model::{MessageGroupHash, OffsetSet, QueueId, QueueOffset};
use crate::store::kv::Space;

pub(super) fn apply(stage: &mut Stage<'_>, grant: &Grant) -> Result<Outcome, Failure> {
    let Some(topic) = topics::topic_record(stage, grant.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if !topic.permission.can_read() {
        return Ok(Outcome::Rejected(Rejected::Forbidden));
    }
    if stage.get(Space::Catalog, &keys::subscription(grant.topic, grant.group))?.is_none() {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    }
    let Some(group) = topics::group_record(stage, grant.group)? else {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    };
    let orderly = group.orderly || topic.topic_type.is_fifo();
    let mut granted = Vec::new();
    if !stage.may_lease() {
        return Ok(Outcome::Granted(granted));
    }
    let mut room = grant.limit;
    // Numbers of leases: first those of the candidates that make one, then all others.
    let (mut single, mut others) = (0, lease_ids::single(grant));
    for planned in &grant.candidates {
        let to_one = Share { grant, number: single, room };
        let made = match *planned {
            Candidate::Returned { queue, lease, wanted, skipped } => {
                let lease = LeaseKey { topic: grant.topic, group: grant.group, queue, lease };
                redeliver(stage, to_one, Redelivery { lease, wanted, skipped })?.into_iter().collect()
            }
            Candidate::Any { queue, first, count, bytes } => {
                any(stage, to_one, AnyMessages { queue, planned_first: first, count, bytes })?.into_iter().collect()
            }
            Candidate::Fresh { queue, first, length, wanted } => {
                let to_each_group = Share { number: others, ..to_one };
                let made = fresh(stage, to_each_group, OffsetWindow { queue, first, length, wanted }, orderly)?;
                others += u32::try_from(made.len()).expect("a lease holds a message at least");
                made
            }
            Candidate::Skip { queue, first, length } => {
                skip(stage, grant, queue, first, length)?;
                Vec::new()
            }
            Candidate::Next { queue, message_group, first, length, wanted } => {
                let window = OffsetWindow { queue, first, length, wanted };
                next_in_line(stage, to_one, window, message_group)?.into_iter().collect()
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

/// Leases anew what a poll was given whose answer was lost: the same messages, the same attempt, the full time,
/// and new handles, so that what the lost poll leaves behind ends nothing (contract §18).
pub(super) fn repeat(stage: &mut Stage<'_>, repeat: &Repeat) -> Result<Outcome, Failure> {
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
        stage.delete(Space::Due, keys::due_lease(old.until, at));
        stage.delete(Space::Lease, keys::lease(at));
        let id = stage.lease(number);
        let (first, messages, attempt, now) = (old.first, old.held, old.attempt, stage.now());
        let new = Lease {
            granted_at: now,
            until: now.plus(repeat.invisible_for),
            renew_for: repeat.renew.then(|| repeat.client.clone()),
            token: repeat.token,
            given_up: OffsetSet::EMPTY,
            ..old
        };
        line.current = Some(id);
        fifo_line::put(stage, line_at, &line);
        lease::start(stage, LeaseKey { lease: id, ..at }, new)?;
        granted.push(Granted { queue: at.queue, lease: id, first, messages, attempt });
    }
    Ok(Outcome::Granted(granted))
}

/// What a grant leaves to one of its candidates.
#[derive(Clone, Copy)]
struct Share<'g> {
    grant: &'g Grant,
    /// Number of the candidate's first lease among those of the command.
    number: u32,
    /// Messages that may still be leased.
    room: u32,
}

/// Messages of an ended lease that a poll wants, and those that its filter does not want.
struct Redelivery {
    lease: LeaseKey,
    wanted: OffsetSet,
    skipped: OffsetSet,
}

/// The next messages of a queue, for a group that wants every message.
struct AnyMessages {
    queue: QueueId,
    /// The group offset when the plan was made.
    planned_first: QueueOffset,
    count: u8,
    /// Bytes of the messages that the plan saw.
    bytes: u64,
}

/// Offsets of a queue that a plan looked at, and those of them that the poll wants.
struct OffsetWindow {
    queue: QueueId,
    first: QueueOffset,
    length: u8,
    wanted: OffsetSet,
}

impl OffsetWindow {
    /// The offset after the last one.
    fn end(&self) -> QueueOffset {
        QueueOffset(self.first.0 + u64::from(self.length).min(OffsetSet::SPAN))
    }
}

fn redeliver(stage: &mut Stage<'_>, share: Share<'_>, redelivery: Redelivery) -> Result<Option<Granted>, Failure> {
    let Redelivery { lease: at, wanted, skipped } = redelivery;
    let Some(mut old) = lease::get(stage, at)? else { return Ok(None) };
    if !old.returned || stage.get(Space::Lease, &keys::returned(at))?.is_none() {
        return Ok(None);
    }
    let held = old.due_again(old.held - (skipped - wanted));
    let messages = (held & wanted).lowest(share.room);
    let left = old.due_again(held - messages);
    if left == old.held {
        return Ok(None);
    }
    let leaving = old.held - left;
    lease::take_returned(stage, at, &mut old, leaving);
    if messages.is_empty() {
        if old.held.is_empty() {
            fifo_line::settled(stage, at, &old)?;
        }
        return Ok(None);
    }
    let delivery = Delivery {
        queue: at.queue,
        first: old.first,
        messages,
        attempt: old.attempt.saturating_add(1),
        message_group: old.message_group,
        settled_after_gap: old.settled_after_gap & messages,
    };
    let made = deliver(stage, share, delivery)?;
    if let Some(line_at) = old.message_group.map(|group| fifo_line::line_of(at, group))
        && let Some(mut line) = fifo_line::get(stage, line_at)?
    {
        line.current = Some(made.lease);
        if !old.held.is_empty() {
            // The rest is delivered after these messages.
            stage.delete(Space::Lease, keys::returned(at));
            line.parked.insert(0, at.lease);
        }
        fifo_line::put(stage, line_at, &line);
    }
    Ok(Some(made))
}

fn any(stage: &mut Stage<'_>, share: Share<'_>, planned: AnyMessages) -> Result<Option<Granted>, Failure> {
    let AnyMessages { queue, planned_first, count, bytes } = planned;
    let grant = share.grant;
    let cursor_key = keys::cursor(grant.topic, grant.group, queue);
    let cursor = stage.number(Space::Cursor, &cursor_key)?;
    let head = queue::head(stage, grant.topic, queue)?;
    let first = QueueOffset(cursor.max(head.min.0));
    let planned_count = u64::from(share.room.min(count.into())).min(OffsetSet::SPAN);
    let mut count = planned_count.min(head.max.0.saturating_sub(first.0));
    if count == 0 {
        return Ok(None);
    }
    if first != planned_first {
        count = queue::that_fit(stage, grant.topic, queue, first, count, bytes)?;
    }
    stage.put_number(Space::Cursor, cursor_key, first.0 + count);
    deliver(stage, share, Delivery::first(queue, first, OffsetSet::first(count), None)).map(Some)
}

/// Delivers messages the group never saw and moves its position behind them. An orderly group gets a lease
/// for each message group that is not at work already.
fn fresh(
    stage: &mut Stage<'_>,
    share: Share<'_>,
    window: OffsetWindow,
    orderly: bool,
) -> Result<Vec<Granted>, Failure> {
    let (grant, queue, first) = (share.grant, window.queue, window.first);
    let cursor_key = keys::cursor(grant.topic, grant.group, queue);
    let cursor = stage.number(Space::Cursor, &cursor_key)?;
    let head = queue::head(stage, grant.topic, queue)?;
    let from = cursor.max(head.min.0);
    let to = window.end().0.min(head.max.0);
    // A plan that starts behind the position would jump over messages nobody looked at.
    if first.0 > from {
        return Ok(Vec::new());
    }
    let groups = if orderly {
        queue::message_groups(stage, grant.topic, queue, QueueOffset(from)..QueueOffset(to))?
    } else {
        Vec::new()
    };
    // By message group; all under one key for a group that wants no order.
    let mut leases: BTreeMap<Option<MessageGroupHash>, OffsetSet> = BTreeMap::new();
    let mut count = 0;
    let mut next = from;
    while next < to {
        if window.wanted.contains(next - first.0) {
            let group = groups.get((next - from) as usize).copied().flatten();
            let group = orderly.then(|| group.unwrap_or(MessageGroupHash::NONE));
            if is_at_work(stage, grant, queue, group)? {
                // The line finds it later by the index over message groups, which has only messages with one.
                if group == Some(MessageGroupHash::NONE) {
                    break;
                }
            } else {
                if count == share.room {
                    break;
                }
                leases.entry(group).or_default().insert(next - first.0);
                count += 1;
            }
        }
        next += 1;
    }
    if next > cursor {
        stage.put_number(Space::Cursor, cursor_key, next);
    }
    let mut made = Vec::new();
    for (number, (message_group, messages)) in (share.number..).zip(leases) {
        let lease = deliver(stage, Share { number, ..share }, Delivery::first(queue, first, messages, message_group))?;
        if let Some(message_group) = message_group {
            let at = LineKey { topic: grant.topic, group: grant.group, queue, message_group };
            // All of the message group before the group offset is in this lease, or was not wanted.
            let line = FifoLine { current: Some(lease.lease), parked: Vec::new(), next: QueueOffset(next) };
            fifo_line::put(stage, at, &line);
        }
        made.push(lease);
    }
    Ok(made)
}

/// Moves the group's position over messages that it does not want.
fn skip(stage: &mut Stage<'_>, grant: &Grant, queue: QueueId, first: QueueOffset, length: u32) -> Result<(), Failure> {
    let cursor_key = keys::cursor(grant.topic, grant.group, queue);
    let cursor = stage.number(Space::Cursor, &cursor_key)?;
    let head = queue::head(stage, grant.topic, queue)?;
    let to = first.0.saturating_add(length.into()).min(head.max.0);
    // As with what is delivered: messages that nobody looked at are not jumped over.
    if first.0 <= cursor.max(head.min.0) && to > cursor {
        stage.put_number(Space::Cursor, cursor_key, to);
    }
    Ok(())
}

fn is_at_work(
    stage: &Stage<'_>,
    grant: &Grant,
    queue: QueueId,
    message_group: Option<MessageGroupHash>,
) -> Result<bool, Failure> {
    let Some(message_group) = message_group else { return Ok(false) };
    Ok(fifo_line::get(stage, LineKey { topic: grant.topic, group: grant.group, queue, message_group })?.is_some())
}

/// Delivers messages of a FIFO line that waited for the messages before them.
fn next_in_line(
    stage: &mut Stage<'_>,
    share: Share<'_>,
    window: OffsetWindow,
    message_group: MessageGroupHash,
) -> Result<Option<Granted>, Failure> {
    let (queue, first, wanted) = (window.queue, window.first, window.wanted);
    let at = LineKey { topic: share.grant.topic, group: share.grant.group, queue, message_group };
    let is_ready = stage.get(Space::Lease, &keys::ready(at))?.is_some();
    let Some(mut line) =
        fifo_line::get(stage, at)?.filter(|line| is_ready && line.current.is_none() && line.next == first)
    else {
        return Ok(None);
    };
    let cursor = stage.number(Space::Cursor, &keys::cursor(at.topic, at.group, queue))?;
    let to = window.end().min(QueueOffset(cursor));
    let members = fifo_line::members(stage, at, first..to)?;
    let messages = (members & wanted).lowest(share.room);
    let left = (members & wanted) - messages;
    if members.is_empty() || (messages.is_empty() && !left.is_empty()) {
        return Ok(None);
    }
    // What is not wanted before the first message left is passed over.
    line.next = left.offsets(first).next().unwrap_or(to);
    stage.delete(Space::Lease, keys::ready(at));
    if messages.is_empty() {
        fifo_line::advance(stage, at, line)?;
        return Ok(None);
    }
    let made = deliver(stage, share, Delivery::first(queue, first, messages, Some(message_group)))?;
    line.current = Some(made.lease);
    fifo_line::put(stage, at, &line);
    Ok(Some(made))
}

/// What a new lease is to hold.
struct Delivery {
    queue: QueueId,
    first: QueueOffset,
    messages: OffsetSet,
    attempt: u32,
    message_group: Option<MessageGroupHash>,
    settled_after_gap: OffsetSet,
}

impl Delivery {
    /// The first delivery of messages.
    fn first(queue: QueueId, first: QueueOffset, messages: OffsetSet, message_group: Option<MessageGroupHash>) -> Self {
        Self { queue, first, messages, attempt: 1, message_group, settled_after_gap: OffsetSet::EMPTY }
    }
}

/// Starts the lease of a delivery.
fn deliver(stage: &mut Stage<'_>, share: Share<'_>, delivery: Delivery) -> Result<Granted, Failure> {
    let Delivery { queue, first, messages, attempt, message_group, settled_after_gap } = delivery;
    let grant = share.grant;
    let id = stage.lease(share.number);
    let now = stage.now();
    let lease = Lease {
        first,
        held: messages,
        attempt,
        granted_at: now,
        until: now.plus(grant.invisible_for),
        renew_for: grant.renew.then(|| grant.client.clone()),
        token: grant.token,
        message_group,
        settled_after_gap,
        attempt_of: if message_group.is_some() { grant.attempt_of } else { 0 },
        again_at: now,
        ..Lease::default()
    };
    lease::start(stage, LeaseKey { topic: grant.topic, group: grant.group, queue, lease: id }, lease)?;
    Ok(Granted { queue, lease: id, first, messages, attempt })
}
