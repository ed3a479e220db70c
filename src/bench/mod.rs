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
pub mod failover;
mod load;
pub mod null;
mod pause;
pub mod picture;
pub mod raw;
pub mod report;
mod run;

pub use load::Pace;
pub use pause::Paused;
pub use run::{Acks, RunKind, RunPlan, run};

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody there.
    #[error("{address} cannot be reached: {reason}")]
    Connect {
        /// Who was dialled.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The server refused a request without which there is no run.
    #[error("{what} was refused with {code}: {text}")]
    Refused {
        /// The request.
        what: String,
        /// The code's name.
        code: String,
        /// The server's words.
        text: String,
    },
    /// The request failed below the protocol.
    #[error("a request failed: {0}")]
    Failed(#[from] Box<tonic::Status>),
    /// What came back is not what was acknowledged.
    #[error("the run is void: {0}")]
    Mismatch(String),
    /// The machine does not let us measure.
    #[error("{0}")]
    Machine(String),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Failed(Box::new(status))
    }
}
