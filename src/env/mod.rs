//! The outside world: clock, randomness, files. The only folder that touches them, so that each has a
//! real and a simulated side.
//!
//! Not here: the network, which is tokio's and tonic's.

pub mod clock;
pub mod disk;
pub mod fault;
pub mod process;
pub mod rng;
pub mod runtime;

/// The host's name as the shell tells it, or `localhost`.
pub fn host_name() -> String {
    std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}
