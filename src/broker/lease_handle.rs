//! The receipt handle of a lease: the way back from what the state knows to what commands name.

use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::Lease;
use crate::model::ReceiptHandle;

/// A handle of a lease; which of its messages it names does not matter to the callers.
pub(super) fn handle(at: LeaseKey, lease: &Lease) -> ReceiptHandle {
    ReceiptHandle { group: at.group, topic: at.topic, queue: at.queue, offset: lease.first, lease: at.lease }
}
