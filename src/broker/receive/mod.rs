//! A poll: plan what it could get, grant leases through the log, read the bodies, deliver.
//!
//! Not here: leasing what is still free (`machine/receive`), reading the log (`store/log`).

pub(super) mod bodies;
pub(super) mod lease_guard;
pub(super) mod plan;
#[cfg(test)]
pub(super) mod plan_tests;
pub(super) mod poll;
