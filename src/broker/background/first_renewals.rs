//! Leases whose answers were delivered by this node, until it renews them for the first time.
//!
//! Hot path: `broker/receive/lease_guard` adds, `broker/background/renewals` takes.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::ReceiptHandle;

/// Leases that outlive this are renewed for the first time; most are settled long before.
const FIRST_RENEWAL_AFTER: Duration = Duration::from_secs(5);
/// Leases remembered for their first renewal; beyond it the oldest are not renewed.
const REMEMBERED_MAX: usize = 200_000;

/// Leases to be renewed for the first time, in the order of their deliveries.
#[derive(Default)]
pub(in crate::broker) struct FirstRenewals(Mutex<VecDeque<(Instant, ReceiptHandle)>>);

impl FirstRenewals {
    /// Remembers leases that were delivered now.
    pub fn remember(&self, leases: Vec<ReceiptHandle>) {
        let now = Instant::now();
        let mut all = self.0.lock();
        all.extend(leases.into_iter().map(|lease| (now, lease)));
        while all.len() > REMEMBERED_MAX {
            all.pop_front();
        }
    }

    /// Puts back what could not be renewed this time.
    pub fn put_back(&self, leases: Vec<ReceiptHandle>) {
        let now = Instant::now();
        let mut all = self.0.lock();
        for lease in leases {
            all.push_front((now.checked_sub(FIRST_RENEWAL_AFTER).unwrap_or(now), lease));
        }
    }

    /// Takes those that are old enough.
    pub fn take_due(&self) -> Vec<ReceiptHandle> {
        let now = Instant::now();
        let mut all = self.0.lock();
        let due = all.partition_point(|(delivered_at, _)| *delivered_at + FIRST_RENEWAL_AFTER <= now);
        all.drain(..due).map(|(_, lease)| lease).collect()
    }
}
