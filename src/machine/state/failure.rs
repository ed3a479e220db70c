//! A failure of this node while it reads or changes the state.

use crate::model::codec::Malformed;
use crate::store::kv;

/// Why the state could not be read or changed. It stops the node; a refusal would be an answer
/// (`machine/outcome`).
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The local disk failed.
    #[error(transparent)]
    Kv(#[from] kv::Error),
    /// A stored value does not decode.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}
