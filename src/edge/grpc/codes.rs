//! Codes: the only place that says which failure has which code of RocketMQ's.

use crate::broker::Error;
use crate::model::NameError;
use crate::proto::v2;
use crate::proto::v2::Code;

/// A status with a text of its own.
pub(in crate::edge) fn status(code: Code, text: impl Into<String>) -> v2::Status {
    v2::Status { code: code.into(), message: text.into() }
}

/// Success.
pub(in crate::edge) fn ok() -> v2::Status {
    status(Code::Ok, "OK")
}

/// A request that ends here.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::edge) struct Refused {
    pub code: Code,
    pub text: String,
}

impl Refused {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub fn status(&self) -> v2::Status {
        status(self.code, self.text.clone())
    }
}

/// A topic name that is none.
pub(in crate::edge) fn bad_topic(error: &NameError) -> Refused {
    Refused::new(Code::IllegalTopic, error.to_string())
}

/// A group name that is none.
pub(in crate::edge) fn bad_group(error: &NameError) -> Refused {
    Refused::new(Code::IllegalConsumerGroup, error.to_string())
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::TopicNotFound(_) => Code::TopicNotFound,
            Error::GroupNotFound(_) => Code::ConsumerGroupNotFound,
            Error::Forbidden(_) => Code::Forbidden,
            Error::TypeMismatch { .. } => Code::MessagePropertyConflictWithType,
            Error::LeaseEnded => Code::InvalidReceiptHandle,
            Error::NotWaiting => Code::MessageNotFound,
            Error::IllegalOffset { .. } => Code::IllegalOffset,
            Error::TransactionNotFound | Error::DecidedOtherwise => Code::InvalidTransactionId,
            Error::Busy => Code::TooManyRequests,
            Error::NoLeader => Code::HaNotAvailable,
            // A timeout-class code: the client must not take it for "not stored" (D17).
            Error::TimedOut => Code::ProxyTimeout,
            Error::Invalid(_) | Error::TopicExists(_) | Error::GroupExists(_) => Code::BadRequest,
            Error::Stopped(_) => Code::InternalServerError,
        };
        // RocketMQ's own tests look for the code's name in this text.
        let prefix = if code == Code::InvalidReceiptHandle { "INVALID_RECEIPT_HANDLE: " } else { "" };
        Self { code, text: format!("{prefix}{error}") }
    }
}
