//! Receives below the log: leases those planned messages that are still free. Before: `broker/receive`.
//!
//! Hot path. A candidate leased or settled since the plan was made is left out, so a stale plan
//! shortens the answer and never leases one message twice at once (D11, P8).

use super::command::{Candidate, Grant};
use super::keys::LeaseKey;
use super::lease::{self, Lease};
use super::outcome::{Granted, Outcome, Rejected};
use super::send::PERMISSION_READ;
use super::stage::Stage;
use super::{Failure, catalog, keys, queue};
use crate::model::{LeaseId, QueueId, QueueOffset};
use crate::store::kv::Space;

pub(super) fn apply(stage: &mut Stage<'_>, grant: &Grant) -> Result<Outcome, Failure> {
    let Some(topic) = catalog::topic_record(stage, grant.topic)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    if topic.permission & PERMISSION_READ == 0 {
        return Ok(Outcome::Rejected(Rejected::Forbidden));
    }
    if stage.get(Space::Catalog, &keys::subscription(grant.topic, grant.group))?.is_none() {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    }
    let mut granted = Vec::new();
    let mut room = grant.limit;
    for (candidate, planned) in (0u32..).zip(&grant.candidates) {
        let made = match *planned {
            Candidate::Returned { queue, lease, wanted, skipped } => {
                again(stage, grant, queue, lease, wanted, skipped, room)?
            }
            Candidate::Fresh { queue, first, length, wanted } => {
                fresh(stage, grant, queue, first, length, wanted, room)?
            }
        };
        if let Some((lease, messages, attempt)) = made {
            room -= messages.count_ones();
            granted.push(Granted { candidate, lease, messages, attempt });
        }
    }
    Ok(Outcome::Granted(granted))
}

type Made = Option<(LeaseId, u64, u32)>;

/// Delivers messages of an ended lease again.
fn again(
    stage: &mut Stage<'_>,
    grant: &Grant,
    queue: QueueId,
    ended: LeaseId,
    wanted: u64,
    skipped: u64,
    room: u32,
) -> Result<Made, Failure> {
    let at = LeaseKey { topic: grant.topic, group: grant.group, queue, lease: ended };
    let Some(mut old) = lease::get(stage, at)? else { return Ok(None) };
    if !old.returned {
        return Ok(None);
    }
    let messages = lowest(old.held & wanted, room);
    let leaving = messages | (old.held & skipped & !wanted);
    if leaving == 0 {
        return Ok(None);
    }
    lease::take_returned(stage, at, &mut old, leaving);
    if messages == 0 {
        return Ok(None);
    }
    let attempt = old.attempt.saturating_add(1);
    let lease = make(stage, grant, queue, old.first, messages, attempt)?;
    Ok(Some((lease, messages, attempt)))
}

/// Delivers messages the group never saw and moves its position behind them.
fn fresh(
    stage: &mut Stage<'_>,
    grant: &Grant,
    queue: QueueId,
    first: QueueOffset,
    length: u8,
    wanted: u64,
    room: u32,
) -> Result<Made, Failure> {
    let cursor_key = keys::cursor(grant.topic, grant.group, queue);
    let cursor = stage.number(Space::Cursor, &cursor_key)?;
    let head = queue::head(stage, grant.topic, queue)?;
    let from = cursor.max(head.min.0);
    let to = (first.0 + u64::from(length).min(lease::SPAN)).min(head.max.0);
    // A plan that starts behind the position would jump over messages nobody looked at.
    if first.0 > from {
        return Ok(None);
    }
    let mut messages = 0u64;
    let mut next = from;
    while next < to {
        let bit = 1u64 << (next - first.0);
        if wanted & bit != 0 {
            if messages.count_ones() == room {
                break;
            }
            messages |= bit;
        }
        next += 1;
    }
    if next > cursor {
        stage.put_number(Space::Cursor, cursor_key, next);
    }
    if messages == 0 {
        return Ok(None);
    }
    let lease = make(stage, grant, queue, first, messages, 1)?;
    Ok(Some((lease, messages, 1)))
}

fn make(
    stage: &mut Stage<'_>,
    grant: &Grant,
    queue: QueueId,
    first: QueueOffset,
    messages: u64,
    attempt: u32,
) -> Result<LeaseId, Failure> {
    let id = stage.next_lease();
    let now = stage.now();
    let lease = Lease {
        first,
        held: messages,
        acked: 0,
        attempt,
        granted_at: now,
        until: now.plus(grant.invisible_for),
        returned: false,
        renew_for: grant.renew_for.clone(),
        token: grant.token,
    };
    lease::start(stage, LeaseKey { topic: grant.topic, group: grant.group, queue, lease: id }, lease)?;
    Ok(id)
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
