//! The outside world: clock, randomness, files, processes. The only folder that touches them, so that each can have a
//! real and a simulated side (`fault/`).
//!
//! Not here: the network, which is tokio's and tonic's.

pub mod clock;
pub mod disk;
pub mod fault;
pub mod panic;
pub mod pool;
pub mod process;
pub mod rng;
pub mod runtime;

pub use process::host_name;
