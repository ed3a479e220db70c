//! Receives below the log: leases those planned messages that are still free. Before: `broker/receive/poll`.
//!
//! Hot path. A candidate leased or settled since the plan was made is left out, so a stale plan
//! shortens the answer and never leases one message twice at once (D11, P8). A group that wants every message, in no
//! order, is given what lies behind instead: plans of several nodes do not take each other's messages.

use std::collections::BTreeMap;

use crate::machine::command::{Candidate, Grant, Repeat};
use crate::machine::outcome::{Granted, Outcome, Rejected};
use crate::machine::send::PERMISSION_READ;
use crate::machine::state::fifo_line;
use crate::machine::state::fifo_line::FifoLine;
use crate::machine::state::keys::{LeaseKey, LineKey};
use crate::machine::state::lease;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::Stage;
use crate::machine::state::{keys, lease_ids, queue};
use crate::machine::{Failure, topics};
use crate::model::{QueueId, QueueOffset};
use crate::store::kv::Space;

pub(super) fn apply(stage: &mut Stage<'_>, grant: &Grant) -> Result<Outcome, Failure> {
    let Some(topic) = topics::topic_record(stage, grant.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if topic.permission & PERMISSION_READ == 0 {
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
        let made = match *planned {
            Candidate::Returned { queue, lease, wanted, skipped } => {
                let at = LeaseKey { topic: grant.topic, group: grant.group, queue, lease };
                again(stage, grant, single, at, wanted, skipped, room)?.into_iter().collect()
            }
            Candidate::Any { queue, first, count, bytes } => {
                any(stage, grant, single, queue, first, room.min(count.into()), bytes)?.into_iter().collect()
            }
            Candidate::Fresh { queue, first, length, wanted } => {
                let made = fresh(stage, grant, others, OffsetWindow { queue, first, length, wanted }, orderly, room)?;
                others += u32::try_from(made.len()).expect("a lease holds a message at least");
                made
            }
            Candidate::Skip { queue, first, length } => {
                skip(stage, grant, queue, first, length)?;
                Vec::new()
            }
            Candidate::Next { queue, order, first, length, wanted } => {
                let window = OffsetWindow { queue, first, length, wanted };
                next(stage, grant, single, window, order, room)?.into_iter().collect()
            }
        };
        single += u32::from(planned.makes_one());
        for made in &made {
            room -= made.messages.count_ones();
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
        let Some(order) = old.order.filter(|_| old.attempt_of == repeat.attempt_of) else { continue };
        let line_at = fifo_line::line_of(at, order);
        let Some(mut line) = fifo_line::get(stage, line_at)?.filter(|line| line.current == Some(*lease)) else {
            continue;
        };
        if old.held == 0 || !old.is_open(stage.now()) || !stage.may_lease() {
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
            given_up: 0,
            ..old
        };
        line.current = Some(id);
        fifo_line::put(stage, line_at, &line);
        lease::start(stage, LeaseKey { lease: id, ..at }, new)?;
        granted.push(Granted { queue: at.queue, lease: id, first, messages, attempt });
    }
    Ok(Outcome::Granted(granted))
}

/// What a plan looked at and wants of a queue.
struct OffsetWindow {
    queue: QueueId,
    first: QueueOffset,
    length: u8,
    wanted: u64,
}

/// Delivers messages of an ended lease again.
fn again(
    stage: &mut Stage<'_>,
    grant: &Grant,
    number: u32,
    at: LeaseKey,
    wanted: u64,
    skipped: u64,
    room: u32,
) -> Result<Option<Granted>, Failure> {
    let Some(mut old) = lease::get(stage, at)? else { return Ok(None) };
    if !old.returned || stage.get(Space::Lease, &keys::returned(at))?.is_none() {
        return Ok(None);
    }
    let held = old.due_again(old.held & !(skipped & !wanted));
    let messages = lowest(held & wanted, room);
    let left = old.due_again(held & !messages);
    if left == old.held {
        return Ok(None);
    }
    let (attempt, order) = (old.attempt.saturating_add(1), old.order);
    let leaving = old.held & !left;
    lease::take_returned(stage, at, &mut old, leaving);
    if messages == 0 {
        if old.held == 0 {
            fifo_line::settled(stage, at, &old)?;
        }
        return Ok(None);
    }
    let behind = old.behind & messages;
    let delivery = Delivery { queue: at.queue, first: old.first, messages, attempt, order, behind };
    let made = make(stage, grant, number, delivery)?;
    if let Some(line_at) = order.map(|order| fifo_line::line_of(at, order))
        && let Some(mut line) = fifo_line::get(stage, line_at)?
    {
        line.current = Some(made.lease);
        if old.held != 0 {
            // The rest comes after these.
            stage.delete(Space::Lease, keys::returned(at));
            line.parked.insert(0, at.lease);
        }
        fifo_line::put(stage, line_at, &line);
    }
    Ok(Some(made))
}

/// Delivers the next messages of a queue to a group that wants every one.
fn any(
    stage: &mut Stage<'_>,
    grant: &Grant,
    number: u32,
    queue: QueueId,
    planned: QueueOffset,
    count: u32,
    bytes: u64,
) -> Result<Option<Granted>, Failure> {
    let cursor_key = keys::cursor(grant.topic, grant.group, queue);
    let cursor = stage.number(Space::Cursor, &cursor_key)?;
    let head = queue::head(stage, grant.topic, queue)?;
    let first = QueueOffset(cursor.max(head.min.0));
    let mut count = u64::from(count).min(lease::SPAN).min(head.max.0.saturating_sub(first.0));
    if count == 0 {
        return Ok(None);
    }
    if first != planned {
        count = queue::that_fit(stage, grant.topic, queue, first, count, bytes)?;
    }
    stage.put_number(Space::Cursor, cursor_key, first.0 + count);
    let messages = u64::MAX >> (lease::SPAN - count);
    make(stage, grant, number, Delivery { queue, first, messages, attempt: 1, order: None, behind: 0 }).map(Some)
}

/// Delivers messages the group never saw and moves its position behind them. An orderly group gets a lease
/// for each message group that is not at work already.
fn fresh(
    stage: &mut Stage<'_>,
    grant: &Grant,
    number: u32,
    window: OffsetWindow,
    orderly: bool,
    room: u32,
) -> Result<Vec<Granted>, Failure> {
    let OffsetWindow { queue, first, length, wanted } = window;
    let cursor_key = keys::cursor(grant.topic, grant.group, queue);
    let cursor = stage.number(Space::Cursor, &cursor_key)?;
    let head = queue::head(stage, grant.topic, queue)?;
    let from = cursor.max(head.min.0);
    let to = (first.0 + u64::from(length).min(lease::SPAN)).min(head.max.0);
    // A plan that starts behind the position would jump over messages nobody looked at.
    if first.0 > from {
        return Ok(Vec::new());
    }
    let orders = if orderly {
        queue::orders(stage, grant.topic, queue, QueueOffset(from), QueueOffset(to))?
    } else {
        Vec::new()
    };
    // By message group; all under one key for a group that wants no order.
    let mut lines: BTreeMap<Option<u64>, u64> = BTreeMap::new();
    let mut count = 0;
    let mut next = from;
    while next < to {
        let bit = 1u64 << (next - first.0);
        if wanted & bit != 0 {
            let order =
                orderly.then(|| orders.get((next - from) as usize).copied().flatten().unwrap_or(fifo_line::NO_GROUP));
            if is_at_work(stage, grant, queue, order)? {
                // The line finds it again; what has no message group is found by no line.
                if order == Some(fifo_line::NO_GROUP) {
                    break;
                }
            } else {
                if count == room {
                    break;
                }
                *lines.entry(order).or_default() |= bit;
                count += 1;
            }
        }
        next += 1;
    }
    if next > cursor {
        stage.put_number(Space::Cursor, cursor_key, next);
    }
    let mut made = Vec::new();
    for (number, (order, messages)) in (number..).zip(lines) {
        let lease = make(stage, grant, number, Delivery { queue, first, messages, attempt: 1, order, behind: 0 })?;
        if let Some(order) = order {
            let at = LineKey { topic: grant.topic, group: grant.group, queue, order };
            // All of the message group before the position is in this lease, or was not wanted.
            fifo_line::put(
                stage,
                at,
                &FifoLine { current: Some(lease.lease), parked: Vec::new(), next: QueueOffset(next) },
            );
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

fn is_at_work(stage: &Stage<'_>, grant: &Grant, queue: QueueId, order: Option<u64>) -> Result<bool, Failure> {
    let Some(order) = order else { return Ok(false) };
    Ok(fifo_line::get(stage, LineKey { topic: grant.topic, group: grant.group, queue, order })?.is_some())
}

/// Delivers what waited in a line for the messages before it.
fn next(
    stage: &mut Stage<'_>,
    grant: &Grant,
    number: u32,
    window: OffsetWindow,
    order: u64,
    room: u32,
) -> Result<Option<Granted>, Failure> {
    let OffsetWindow { queue, first, length, wanted } = window;
    let at = LineKey { topic: grant.topic, group: grant.group, queue, order };
    let is_ready = stage.get(Space::Lease, &keys::ready(at))?.is_some();
    let Some(mut line) =
        fifo_line::get(stage, at)?.filter(|line| is_ready && line.current.is_none() && line.next == first)
    else {
        return Ok(None);
    };
    let cursor = stage.number(Space::Cursor, &keys::cursor(at.topic, at.group, queue))?;
    let to = QueueOffset(cursor.min(first.0 + u64::from(length).min(lease::SPAN)));
    let members = fifo_line::members(stage, at.topic, queue, order, first, to)?;
    let messages = lowest(members & wanted, room);
    let left = members & wanted & !messages;
    if members == 0 || (messages == 0 && left != 0) {
        return Ok(None);
    }
    // What is not wanted before the first one left is passed over.
    line.next = if left == 0 { to } else { QueueOffset(first.0 + u64::from(left.trailing_zeros())) };
    stage.delete(Space::Lease, keys::ready(at));
    if messages == 0 {
        fifo_line::advance(stage, at, line)?;
        return Ok(None);
    }
    let delivery = Delivery { queue, first, messages, attempt: 1, order: Some(order), behind: 0 };
    let made = make(stage, grant, number, delivery)?;
    line.current = Some(made.lease);
    fifo_line::put(stage, at, &line);
    Ok(Some(made))
}

/// What a new lease is to hold.
struct Delivery {
    queue: QueueId,
    first: QueueOffset,
    messages: u64,
    attempt: u32,
    order: Option<u64>,
    behind: u64,
}

fn make(stage: &mut Stage<'_>, grant: &Grant, number: u32, delivery: Delivery) -> Result<Granted, Failure> {
    let Delivery { queue, first, messages, attempt, order, behind } = delivery;
    let id = stage.lease(number);
    let now = stage.now();
    let lease = Lease {
        first,
        held: messages,
        acked: 0,
        attempt,
        granted_at: now,
        until: now.plus(grant.invisible_for),
        returned: false,
        renew_for: grant.renew.then(|| grant.client.clone()),
        token: grant.token,
        order,
        dead: 0,
        behind,
        attempt_of: if order.is_some() { grant.attempt_of } else { 0 },
        given_up: 0,
        again_at: now,
    };
    lease::start(stage, LeaseKey { topic: grant.topic, group: grant.group, queue, lease: id }, lease)?;
    Ok(Granted { queue, lease: id, first, messages, attempt })
}

/// The `count` lowest of `bits`.
fn lowest(mut bits: u64, count: u32) -> u64 {
    let mut kept = 0;
    for _ in 0..count {
        let bit = bits & bits.wrapping_neg();
        kept |= bit;
        bits &= !bit;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::lowest;

    #[test]
    fn the_lowest_bits_are_kept() {
        assert_eq!(lowest(0b1011_0100, 2), 0b0001_0100);
        assert_eq!(lowest(0b1, 5), 0b1);
        assert_eq!(lowest(u64::MAX, 64), u64::MAX);
        assert_eq!(lowest(0b11, 0), 0);
    }
}
