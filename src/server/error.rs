//! Why a server does not start, or not go on.

use crate::edge::places::TooFewFiles;
use crate::node::StartError;
use crate::server::memory::TooLittleMemory;

/// Why a server ends otherwise than by a signal. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}; stop what holds the port or configure another one")]
    PortInUse(std::io::Error),
    /// Certificate or key cannot be read or used.
    #[error("{0}")]
    Tls(String),
    #[error(transparent)]
    Node(#[from] StartError),
    #[error(transparent)]
    TooFewFiles(#[from] TooFewFiles),
    #[error(transparent)]
    TooLittleMemory(#[from] TooLittleMemory),
    /// The system refused a port, a thread or a signal handler.
    #[error("{0}")]
    System(String),
}
