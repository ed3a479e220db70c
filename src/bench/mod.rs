//! Measures a broker from outside: any endpoint that speaks `apache.rocketmq.v2` or RocketMQ's classic protocol, ours or
//! another's.
//!
//! A run has a warm-up, a window that is measured, and a drain in which every acknowledged message must be delivered
//! once, in order and intact; a run that fails there has no result. With a rate, latencies count from the scheduled time,
//! so that a stall is not left out.
//!
//! Called by `cli/bench`. Each thread drives its own connections on a current-thread runtime, so that the driver takes
//! little CPU from the server on the same machine.
//!
//! Not here: starting clusters (`scripts/bench.sh`), and how results are printed (`cli/bench`).

mod body;
mod classic;
pub mod compare;
mod connection;
mod drain;
mod driver;
mod error;
pub mod failover;
mod load;
pub mod null;
mod pause;
pub mod picture;
mod plan;
pub mod raw;
pub mod report;
mod run;
#[cfg(test)]
mod run_tests;
mod tally;

pub use error::Error;
pub use pause::Paused;
pub use plan::{Acks, Protocol, RunKind, RunPlan};
pub use run::run;
