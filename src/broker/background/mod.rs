//! What a shard does without being asked: ticks, renewals of leases, questions to producers.
//!
//! Not here: what a tick does (`machine/tick`).

pub(super) mod timer;
