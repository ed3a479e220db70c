//! The outside world: clock, randomness, files. The only folder that touches them, so that each has a
//! real and a simulated side.
//!
//! Not here: the network, which is tokio's and tonic's.

pub mod clock;
pub mod disk;
pub mod rng;
pub mod sim;
