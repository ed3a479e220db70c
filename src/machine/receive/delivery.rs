//! What one candidate of a grant may lease, and the lease that comes of it.

use crate::machine::command::Grant;
use crate::machine::lease_life_cycle;
use crate::machine::outcome::Granted;
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::Lease;
use crate::machine::state::queue;
use crate::machine::state::stage::Stage;
use crate::model::{MessageGroupHash, OffsetSet, QueueId, QueueOffset};

/// What a grant leaves to one of its candidates.
#[derive(Clone, Copy)]
pub struct Share<'g> {
    pub grant: &'g Grant,
    /// Number of the candidate's first lease among those of the command.
    pub number: u32,
    /// Messages that may still be leased.
    pub room: u32,
}

/// Offsets of a queue that a plan looked at, and those of them that the poll wants.
pub struct OffsetWindow {
    pub queue: QueueId,
    pub first: QueueOffset,
    pub length: u8,
    pub wanted: OffsetSet,
}

impl OffsetWindow {
    /// The offset after the last one.
    pub fn end(&self) -> QueueOffset {
        QueueOffset(self.first.0 + u64::from(self.length).min(OffsetSet::SPAN))
    }
}

/// What a new lease is to hold.
pub struct Delivery {
    pub queue: QueueId,
    pub first: QueueOffset,
    pub messages: OffsetSet,
    pub attempt: u32,
    pub message_group: Option<MessageGroupHash>,
    pub settled_after_gap: OffsetSet,
    /// Encoded size of the messages, if it is known already.
    pub bytes: Option<u64>,
}

impl Delivery {
    /// The first delivery of messages.
    pub fn first(
        queue: QueueId,
        first: QueueOffset,
        messages: OffsetSet,
        message_group: Option<MessageGroupHash>,
    ) -> Self {
        Self { queue, first, messages, attempt: 1, message_group, settled_after_gap: OffsetSet::EMPTY, bytes: None }
    }
}

/// Starts the lease of a delivery.
pub fn deliver(stage: &mut Stage<'_>, share: Share<'_>, delivery: Delivery) -> Result<Granted, Failure> {
    let Delivery { queue, first, messages, attempt, message_group, settled_after_gap, bytes } = delivery;
    let grant = share.grant;
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => queue::bytes_of(stage, grant.topic, queue, first, messages)?,
    };
    let (counts, count) = (stage.counts().of_group(grant.topic, grant.group), u64::from(messages.len()));
    counts.deliveries += count;
    counts.bytes += bytes;
    counts.redeliveries += if attempt > 1 { count } else { 0 };
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
    lease_life_cycle::start(stage, LeaseKey { topic: grant.topic, group: grant.group, queue, lease: id }, lease)?;
    Ok(Granted { queue, lease: id, first, messages, attempt })
}
