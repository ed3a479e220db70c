//! Leases: messages handed out to a consumer until a time (P8).
//!
//! One record covers up to 64 consecutive offsets with two bit sets. A message is *held* while its
//! delivery is open, *acked* once settled through this lease, and neither once it moved to another
//! lease. When the time is over the record stays as long as it holds messages: they are *returned*,
//! wait for their next delivery, and leave the record when that is granted.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::fifo_line;
use crate::machine::state::keys;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::stage::Stage;
use crate::machine::{Failure, dead_letter};
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{MessageGroupHash, Millis, OffsetSet, QueueOffset, ReceiptHandle, Timestamp};
use crate::store::kv::Space;

const VERSION: u8 = 1;
const VERSION_IN_ORDER: u8 = 2;
/// Offsets one lease can cover.
pub const SPAN: u64 = OffsetSet::SPAN;
/// A lease with nothing left to settle is remembered until its end, but not shorter and not longer than
/// this, so that a repeated ack still hears OK.
const SETTLED_KEPT_MIN: Millis = Millis::from_secs(5);
const SETTLED_KEPT_MAX: Millis = Millis::from_secs(60);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lease {
    /// Offset of bit 0.
    pub first: QueueOffset,
    /// Open deliveries.
    pub held: OffsetSet,
    /// Settled through this lease.
    pub acked: OffsetSet,
    /// Deliveries so far including this one.
    pub attempt: u32,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Its time is over and what it holds waits for the next delivery.
    pub returned: bool,
    /// The client whose life prolongs it.
    pub renew_for: Option<String>,
    /// The grant that made it; 0 for a change.
    pub token: u64,
    /// The message group of its messages, if they are in order.
    pub message_group: Option<MessageGroupHash>,
    /// Of the settled ones, those that are dead.
    pub dead: OffsetSet,
    /// Hash of the attempt id of the poll it was granted to, if its messages are in order; 0 for none.
    pub attempt_of: u64,
    /// Of the held ones, those that their consumer wants to have again later, if its messages are in order.
    pub given_up: OffsetSet,
    /// When those are to come again.
    pub again_at: Timestamp,
    /// Of the held ones, those that were settled before and only come again behind a gap (contract §18).
    pub settled_after_gap: OffsetSet,
}

impl Lease {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(if self.message_group.is_none() { VERSION } else { VERSION_IN_ORDER });
        out.put_u64(self.first.0);
        out.put_u64(self.held.0);
        out.put_u64(self.acked.0);
        out.put_u32(self.attempt);
        out.put_u64(self.granted_at.0);
        out.put_u64(self.until.0);
        out.put_u8(self.returned.into());
        out.put_option(self.renew_for.as_deref(), |out, client| out.put_text(client));
        out.put_u64(self.token);
        if let Some(message_group) = self.message_group {
            out.put_u64(message_group.0);
            out.put_u64(self.dead.0);
            out.put_u64(self.settled_after_gap.0);
            out.put_u64(self.attempt_of);
            out.put_u64(self.given_up.0);
            out.put_u64(self.again_at.0);
        }
        out.freeze()
    }

    pub(in crate::machine) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "lease");
        let version = reader.u8()?;
        if version != VERSION && version != VERSION_IN_ORDER {
            return Err(reader.unknown(version.into()));
        }
        let mut lease = Self {
            first: QueueOffset(reader.u64()?),
            held: OffsetSet(reader.u64()?),
            acked: OffsetSet(reader.u64()?),
            attempt: reader.u32()?,
            granted_at: Timestamp(reader.u64()?),
            until: Timestamp(reader.u64()?),
            returned: reader.bool()?,
            renew_for: reader.option(Reader::text)?,
            token: reader.u64()?,
            ..Self::default()
        };
        if version == VERSION_IN_ORDER {
            lease.message_group = Some(MessageGroupHash(reader.u64()?));
            lease.dead = OffsetSet(reader.u64()?);
            lease.settled_after_gap = OffsetSet(reader.u64()?);
            lease.attempt_of = reader.u64()?;
            lease.given_up = OffsetSet(reader.u64()?);
            lease.again_at = Timestamp(reader.u64()?);
        }
        Ok(lease)
    }

    /// The set of one offset, if the lease covers it.
    pub fn one(&self, offset: QueueOffset) -> Option<OffsetSet> {
        OffsetSet::one(offset.0.checked_sub(self.first.0)?)
    }

    /// Settles held messages.
    pub(in crate::machine) fn settle(&mut self, messages: OffsetSet) {
        self.held -= messages;
        self.acked |= messages;
        if (self.held - self.settled_after_gap).is_empty() {
            // Nothing is left before what was settled once already.
            self.acked |= self.held;
            self.held = OffsetSet::EMPTY;
        }
    }

    /// What is to be delivered again of `held` messages: those that were never settled, and behind the first of
    /// them also those that were.
    pub(in crate::machine) fn due_again(&self, held: OffsetSet) -> OffsetSet {
        let unsettled = held - self.settled_after_gap;
        if unsettled.is_empty() { OffsetSet::EMPTY } else { unsettled | (held - unsettled.below()) }
    }

    /// Whether somebody is at work on a message that it holds.
    pub(in crate::machine) fn is_at_work(&self) -> bool {
        !(self.held - self.settled_after_gap - self.given_up).is_empty()
    }

    /// Whether deliveries through this lease can still be settled at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        !self.returned && self.until > now
    }

    /// The offsets of some of its messages, ascending.
    pub fn offsets(&self, messages: OffsetSet) -> impl Iterator<Item = QueueOffset> + use<> {
        messages.offsets(self.first)
    }
}

/// The key of the lease behind a handle.
pub fn key_of(handle: &ReceiptHandle) -> LeaseKey {
    LeaseKey { topic: handle.topic, group: handle.group, queue: handle.queue, lease: handle.lease }
}

pub(in crate::machine) fn get(stage: &Stage<'_>, at: LeaseKey) -> Result<Option<Lease>, Failure> {
    Ok(stage.get(Space::Lease, &keys::lease(at))?.map(Lease::decode).transpose()?)
}

/// Stores a new lease and the time it ends; one that ends at once is returned at once.
pub(in crate::machine) fn start(stage: &mut Stage<'_>, at: LeaseKey, mut lease: Lease) -> Result<(), Failure> {
    if lease.until <= stage.now() {
        return give_back(stage, at, &mut lease);
    }
    stage.put(Space::Lease, keys::lease(at), lease.encode());
    stage.put_due(lease.until, keys::due_lease(lease.until, at));
    Ok(())
}

/// Stores what a settlement or a move left of an open lease.
pub(in crate::machine) fn shrink(stage: &mut Stage<'_>, at: LeaseKey, lease: &mut Lease) -> Result<(), Failure> {
    if lease.is_at_work() {
        stage.put(Space::Lease, keys::lease(at), lease.encode());
        return Ok(());
    }
    if !lease.held.is_empty() {
        return come_again(stage, at, lease);
    }
    let kept_until = lease.until.clamp(stage.now().plus(SETTLED_KEPT_MIN), stage.now().plus(SETTLED_KEPT_MAX));
    if lease.acked.is_empty() {
        stage.delete(Space::Due, keys::due_lease(lease.until, at));
        stage.delete(Space::Lease, keys::lease(at));
    } else if lease.until != kept_until {
        set_until(stage, at, lease, kept_until);
    } else {
        stage.put(Space::Lease, keys::lease(at), lease.encode());
    }
    fifo_line::settled(stage, at, lease)
}

/// Nobody is at work on what an ordered lease holds any more: it ends when that is to come again.
fn come_again(stage: &mut Stage<'_>, at: LeaseKey, lease: &mut Lease) -> Result<(), Failure> {
    let until = lease.again_at;
    lease.renew_for = None;
    set_until(stage, at, lease, until);
    if until <= stage.now() {
        stage.delete(Space::Due, keys::due_lease(until, at));
        end(stage, at)?;
    }
    Ok(())
}

/// Moves the end of an open lease.
pub(in crate::machine) fn set_until(stage: &mut Stage<'_>, at: LeaseKey, lease: &mut Lease, until: Timestamp) {
    stage.delete(Space::Due, keys::due_lease(lease.until, at));
    lease.until = until;
    stage.put_due(until, keys::due_lease(until, at));
    stage.put(Space::Lease, keys::lease(at), lease.encode());
}

/// Ends a lease whose time is over: what it still holds is to be delivered again, or is dead.
pub(in crate::machine) fn end(stage: &mut Stage<'_>, at: LeaseKey) -> Result<(), Failure> {
    let Some(mut lease) = get(stage, at)? else { return Ok(()) };
    if lease.held.is_empty() {
        stage.delete(Space::Lease, keys::lease(at));
        return Ok(());
    }
    give_back(stage, at, &mut lease)
}

fn give_back(stage: &mut Stage<'_>, at: LeaseKey, lease: &mut Lease) -> Result<(), Failure> {
    if dead_letter::is_used_up(stage, at, lease)? {
        dead_letter::bury(stage, at, lease, lease.held - lease.settled_after_gap)?;
        stage.delete(Space::Lease, keys::lease(at));
        return fifo_line::settled(stage, at, lease);
    }
    if lease.message_group.is_some() {
        lease.settled_after_gap |= lease.acked - lease.dead;
        lease.held = lease.due_again(lease.held | lease.settled_after_gap);
        lease.acked -= lease.held;
    }
    lease.returned = true;
    stage.put(Space::Lease, keys::lease(at), lease.encode());
    stage.put(Space::Lease, keys::returned(at), Bytes::new());
    stage.effects().returned.insert((at.topic, at.group));
    Ok(())
}

/// Takes messages out of a returned lease.
pub(in crate::machine) fn take_returned(stage: &mut Stage<'_>, at: LeaseKey, lease: &mut Lease, messages: OffsetSet) {
    lease.held -= messages;
    if lease.held.is_empty() {
        stage.delete(Space::Lease, keys::lease(at));
        stage.delete(Space::Lease, keys::returned(at));
    } else {
        stage.put(Space::Lease, keys::lease(at), lease.encode());
    }
}
