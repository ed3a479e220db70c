//! What a shard does without being asked: ticks, renewals of leases, questions to producers, who leads. `work` owns the loops,
//! `tasks` what requests leave to do.
//!
//! Not here: what a tick does (`machine/tick`).

mod carry;
mod cluster_version;
pub(super) mod first_renewals;
mod members;
mod members_step;
#[cfg(test)]
mod members_sweep_tests;
mod renewals;
mod retention;
pub(super) mod tasks;
mod terms;
mod timer;
mod trace_topic;
mod transaction_checks;
mod work;

pub use work::Background;
