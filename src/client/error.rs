//! Why a request of the client did not succeed.

use std::fmt;
use std::time::Duration;

use crate::proto::v2;

/// A node that could not be reached, and what the transport said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// Host and port as they were dialled.
    pub address: String,
    /// The innermost cause, such as "Connection refused (os error 111)".
    pub reason: String,
}

/// A request that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No node could be reached, or each connection broke before the answer. A request that was
    /// already on its way may have been carried out.
    #[error("cannot connect to {}", join(.0))]
    Connect(Vec<Unreachable>),
    /// The broker answered no, with one of RocketMQ's codes.
    #[error("{name} ({code}): {text}")]
    Refused {
        /// RocketMQ's number, such as 40402.
        code: i32,
        /// Its name, such as `TOPIC_NOT_FOUND`.
        name: &'static str,
        /// The broker's words.
        text: String,
    },
    /// The service answered with a gRPC status.
    #[error("{}: {}", .0.code(), .0.message())]
    Status(tonic::Status),
    /// No answer in time: the request may or may not have been carried out.
    #[error("no answer from {address} within {} ms", .after.as_millis())]
    TimedOut {
        /// Who was asked.
        address: String,
        /// How long was waited.
        after: Duration,
    },
    /// The answer is not as the protocol says.
    #[error("the server's answer breaks the protocol: {0}")]
    Malformed(&'static str),
}

impl Error {
    /// A refusal with the status a response carries; a response without one breaks the protocol.
    pub(super) fn refusal(status: Option<v2::Status>) -> Self {
        match status {
            None => Self::Malformed("a response without a status"),
            Some(status) => {
                let name = v2::Code::try_from(status.code).map_or("UNKNOWN", |code| code.as_str_name());
                Self::Refused { code: status.code, name, text: status.message }
            }
        }
    }

    /// Whether the same request may succeed a moment later or at another node.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TimedOut { .. } => true,
            Self::Refused { code, .. } => matches!(
                v2::Code::try_from(*code),
                Ok(v2::Code::TooManyRequests
                    | v2::Code::RequestTimeout
                    | v2::Code::HaNotAvailable
                    | v2::Code::ProxyTimeout
                    | v2::Code::MasterPersistenceTimeout
                    | v2::Code::SlavePersistenceTimeout)
            ),
            Self::Status(status) => matches!(
                status.code(),
                tonic::Code::Unavailable | tonic::Code::ResourceExhausted | tonic::Code::DeadlineExceeded
            ),
            Self::Malformed(_) => false,
        }
    }

    /// Whether the broker refused with exactly this code.
    pub fn is_refusal(&self, wanted: v2::Code) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted as i32)
    }
}

/// `Ok` when a response's status is, the refusal otherwise.
pub(super) fn check(status: Option<v2::Status>) -> Result<(), Error> {
    match status {
        Some(status) if status.code == v2::Code::Ok as i32 => Ok(()),
        other => Err(Error::refusal(other)),
    }
}

fn join(unreachable: &[Unreachable]) -> impl fmt::Display {
    unreachable.iter().map(|node| format!("{} ({})", node.address, node.reason)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: v2::Code) -> Error {
        Error::refusal(Some(v2::Status { code: code as i32, message: "text".into() }))
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(refused(v2::Code::HaNotAvailable).is_retryable());
        assert!(refused(v2::Code::TooManyRequests).is_retryable());
        assert!(!refused(v2::Code::TopicNotFound).is_retryable());
        assert!(!refused(v2::Code::InvalidReceiptHandle).is_retryable());
        assert!(Error::Status(tonic::Status::unavailable("no leader")).is_retryable());
        assert!(!Error::Status(tonic::Status::not_found("t")).is_retryable());
        assert!(Error::Connect(Vec::new()).is_retryable());
    }

    #[test]
    fn a_response_without_status_breaks_the_protocol() {
        assert!(matches!(check(None), Err(Error::Malformed(_))));
        assert!(check(Some(v2::Status { code: v2::Code::Ok as i32, message: String::new() })).is_ok());
        assert_eq!(refused(v2::Code::TopicNotFound).to_string(), "TOPIC_NOT_FOUND (40402): text");
        assert!(refused(v2::Code::TopicNotFound).is_refusal(v2::Code::TopicNotFound));
    }
}
