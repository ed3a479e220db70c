//! Why a run has no result.

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
