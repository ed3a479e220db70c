//! Measures a broker from outside: any endpoint that speaks `apache.rocketmq.v2`, ours or another's.
//!
//! A run has a warm-up, a window that is measured, and a drain in which every message that was
//! acknowledged must come back once, in order and intact; a run that fails there is no result.
//! Latencies of open-loop runs count from the time the schedule gives, so a stall is not left out.
//!
//! Called by `cli/bench`. Each thread drives its own connections on a current-thread runtime, so that the
//! driver takes as little as it can from the server beside it.
//!
//! Not here: starting clusters (`scripts/bench.sh`).

mod body;
pub mod compare;
mod connection;
mod drain;
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
mod tally;

pub use error::Error;
pub use pause::Paused;
pub use plan::{Acks, RunKind, RunPlan};
pub use run::run;
