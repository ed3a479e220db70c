//! What went wrong on the way to a peer, in openraft's words.
//!
//! A peer that cannot be reached is left alone for a moment; after anything else it is tried again at once.

use openraft::errors::{NetworkError, RPCError, Unreachable};

use crate::raft::peer::identity::Unusable;
use crate::raft::peer::link::LinkError;
use crate::raft::types::Types;

pub(super) type RpcResult<T> = Result<T, RPCError<Types>>;

pub(super) fn of_call(status: &tonic::Status) -> RPCError<Types> {
    match status.code() {
        tonic::Code::Unavailable => RPCError::Unreachable(Unreachable::new(status)),
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

pub(super) fn of_link(error: &LinkError) -> RPCError<Types> {
    match error {
        LinkError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(error)),
        LinkError::Broken(_) | LinkError::Refused(_) | LinkError::Unusable(_) => of_silence(error),
    }
}

pub(super) fn of_message(error: Unusable) -> RPCError<Types> {
    of_silence(&error)
}

/// No answer, or none that counts.
pub(super) fn of_silence<E: std::error::Error + 'static>(error: &E) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(error))
}
