//! Leases as stored: messages given to a consumer until a time (P8).
//!
//! One record covers up to 64 consecutive offsets. A message is *held* while its delivery is open, *acked* once it is
//! settled through this lease, and neither once it is in another lease. When its time is over, the record stays as long
//! as it holds messages: these are *returned*, and move to another lease at their redelivery.
//!
//! Not here: starting, changing and ending leases (`machine/lease_life_cycle`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::clearing;
use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{MessageGroupHash, OffsetSet, QueueOffset, ReceiptHandle, Timestamp};
use crate::store::kv::Space;

const VERSION: u8 = 1;
const VERSION_IN_ORDER: u8 = 2;
/// With messages that their node could not read; since cluster version 5.
const VERSION_UNREAD: u8 = 3;
/// Offsets one lease can cover.
pub const SPAN: u64 = OffsetSet::SPAN;

/// One lease. Sets of messages count from `first`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lease {
    pub first: QueueOffset,
    /// Messages whose deliveries are open.
    pub held: OffsetSet,
    /// Messages settled through this lease.
    pub acked: OffsetSet,
    /// Deliveries of the messages so far, this one included; 0 before the first delivery of a redriven dead letter.
    pub attempt: u32,
    pub granted_at: Timestamp,
    /// When it ends or ended.
    pub until: Timestamp,
    /// Its time is over, and the messages that it holds wait for redelivery.
    pub returned: bool,
    /// The client for which the broker prolongs it.
    pub renew_for: Option<String>,
    /// Token of the grant that started it; 0 if a change or a redrive did.
    pub token: u64,
    /// The message group of its messages, if they are in FIFO order. The fields after it are used only then.
    pub message_group: Option<MessageGroupHash>,
    /// Of the acked messages, those that became dead letters.
    pub dead: OffsetSet,
    /// Hash of the attempt id of the poll that it was granted to; 0 for none.
    pub attempt_of: u64,
    /// Messages that their consumer gave up, to have them redelivered at `again_at`.
    pub given_up: OffsetSet,
    pub again_at: Timestamp,
    /// Messages that were settled once and are delivered again because an earlier message of their message group is
    /// not (contract §18).
    pub settled_after_gap: OffsetSet,
    /// Messages given up that never left their node, as that could not read them.
    pub unread: OffsetSet,
}

impl Lease {
    fn encode(&self) -> Bytes {
        self.check();
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(match self.message_group {
            None => VERSION,
            Some(_) if self.unread.is_empty() => VERSION_IN_ORDER,
            Some(_) => VERSION_UNREAD,
        });
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
            if !self.unread.is_empty() {
                out.put_u64(self.unread.0);
            }
        }
        out.freeze()
    }

    /// What holds of every lease that is stored. A lease that breaks it would deliver a message twice, or never.
    fn check(&self) {
        let Self { held, acked, dead, settled_after_gap, .. } = *self;
        let held_and_acked = held & acked;
        assert!(held_and_acked.is_empty(), "a lease holds {held_and_acked:?}, which it settled");
        let dead_and_open = dead - acked;
        assert!(dead_and_open.is_empty(), "a lease has dead letters {dead_and_open:?}, which it did not settle");
        let dead_and_settled = dead & settled_after_gap;
        assert!(
            dead_and_settled.is_empty(),
            "a lease has dead letters {dead_and_settled:?}, which were settled before"
        );
    }

    pub(in crate::machine) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "lease");
        let version = reader.u8()?;
        if !(VERSION..=VERSION_UNREAD).contains(&version) {
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
        if version >= VERSION_IN_ORDER {
            lease.message_group = Some(MessageGroupHash(reader.u64()?));
            lease.dead = OffsetSet(reader.u64()?);
            lease.settled_after_gap = OffsetSet(reader.u64()?);
            lease.attempt_of = reader.u64()?;
            lease.given_up = OffsetSet(reader.u64()?);
            lease.again_at = Timestamp(reader.u64()?);
        }
        if version == VERSION_UNREAD {
            lease.unread = OffsetSet(reader.u64()?);
        }
        Ok(lease)
    }

    /// Where a poll with the lease's attempt id finds it; `None` if no poll can be repeated to have it again.
    fn attempt_key(&self, at: LeaseKey) -> Option<Bytes> {
        let can_be_repeated = self.message_group.is_some() && self.attempt_of != 0;
        can_be_repeated.then(|| keys::of_attempt(at, self.attempt_of))
    }

    /// The set of one offset, if the lease covers it.
    pub fn one(&self, offset: QueueOffset) -> Option<OffsetSet> {
        OffsetSet::one(offset.0.checked_sub(self.first.0)?)
    }

    /// Settles held messages, and with the last unsettled one those that were only delivered again after it.
    pub(in crate::machine) fn settle(&mut self, messages: OffsetSet) {
        self.held -= messages;
        self.acked |= messages;
        if (self.held - self.settled_after_gap).is_empty() {
            self.acked |= self.held;
            self.held = OffsetSet::EMPTY;
        }
    }

    /// The messages of `held` for redelivery: those that were never settled, and after the first of them also those
    /// that were.
    pub(in crate::machine) fn due_again(&self, held: OffsetSet) -> OffsetSet {
        let unsettled = held - self.settled_after_gap;
        if unsettled.is_empty() { OffsetSet::EMPTY } else { unsettled | (held - unsettled.below()) }
    }

    /// Whether it holds a message that a consumer works on: neither settled before nor given up.
    pub(in crate::machine) fn is_at_work(&self) -> bool {
        !(self.held - self.settled_after_gap - self.given_up).is_empty()
    }

    /// Whether none of the messages that it holds left their node.
    pub(in crate::machine) fn is_all_unread(&self) -> bool {
        !self.unread.is_empty() && (self.held - self.settled_after_gap - self.unread).is_empty()
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

/// The key of the lease that a handle names.
pub fn key_of(handle: &ReceiptHandle) -> LeaseKey {
    LeaseKey { topic: handle.topic, group: handle.group, queue: handle.queue, lease: handle.lease }
}

/// The lease; `None` also if it is being cleared away.
pub(in crate::machine) fn get(stage: &Stage<'_>, at: LeaseKey) -> Result<Option<Lease>, Failure> {
    if clearing::is_cleared(stage, at.topic, at.group, at.queue)? {
        return Ok(None);
    }
    Ok(stage.get(Space::Lease, &keys::lease(at))?.map(Lease::decode).transpose()?)
}

pub(in crate::machine) fn put(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease) {
    stage.put(Space::Lease, keys::lease(at), lease.encode());
}

/// Stores a new lease, where a poll with its attempt id finds it.
pub(in crate::machine) fn put_new(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease) -> Result<(), Failure> {
    put(stage, at, lease);
    if let Some(key) = lease.attempt_key(at)
        && stage.is_bounded()?
    {
        stage.put(Space::Lease, key, Bytes::new());
    }
    Ok(())
}

pub(in crate::machine) fn delete(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease) -> Result<(), Failure> {
    stage.delete(Space::Lease, keys::lease(at));
    forget_attempt(stage, at, lease)
}

/// A pair of the space is removed: if it is a lease, so is what leads to it.
pub(in crate::machine) fn release_stored(stage: &mut Stage<'_>, key: &Bytes, value: Bytes) -> Result<(), Failure> {
    match keys::lease_of(key)? {
        Some(at) => forget_attempt(stage, at, &Lease::decode(value)?),
        None => Ok(()),
    }
}

/// Removes what leads from an attempt id to the lease.
pub(in crate::machine) fn forget_attempt(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease) -> Result<(), Failure> {
    if let Some(key) = lease.attempt_key(at)
        && stage.is_bounded()?
    {
        stage.delete(Space::Lease, key);
    }
    Ok(())
}
