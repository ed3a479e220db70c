//! What went wrong on the way to a peer, in openraft's words.
//!
//! A peer that cannot be reached is left alone for a moment; after anything else it is tried again at once.

use openraft::errors::{NetworkError, RPCError, Unreachable};

use crate::raft::peer::control::CallError;
use crate::raft::peer::link::LinkError;
use crate::raft::peer::unusable::Unusable;
use crate::raft::types::Types;

pub(super) type RpcResult<T> = Result<T, RPCError<Types>>;

pub(super) fn of_call(error: &CallError) -> RPCError<Types> {
    match error {
        CallError::Link(error) => of_link(error),
        CallError::Silence | CallError::Refused(_) => of_silence(error),
    }
}

pub(super) fn of_link(error: &LinkError) -> RPCError<Types> {
    match error {
        LinkError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(error)),
        LinkError::Broken(_)
        | LinkError::Refused { .. }
        | LinkError::OtherProtocol(_)
        | LinkError::Unproven(_)
        | LinkError::Unusable(_) => of_silence(error),
    }
}

pub(super) fn of_message(error: Unusable) -> RPCError<Types> {
    of_silence(&error)
}

/// No answer, or none that counts.
pub(super) fn of_silence<E: std::error::Error + 'static>(error: &E) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(error))
}
