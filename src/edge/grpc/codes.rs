//! Which refusal has which of RocketMQ's codes: those of the rules and those of the broker.

use crate::broker::Error;
use crate::edge::rules::{Invalid, InvalidKind};
use crate::node::OtherProtocol;
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
pub struct Refused {
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

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        let code = match invalid.kind {
            InvalidKind::Value => Code::BadRequest,
            InvalidKind::TopicName => Code::IllegalTopic,
            InvalidKind::GroupName => Code::IllegalConsumerGroup,
            InvalidKind::NoMessage | InvalidKind::MixedTopics => Code::MessageCorrupted,
            InvalidKind::MixedTypes => Code::MessagePropertyConflictWithType,
            InvalidKind::EmptyBody => Code::MessageBodyEmpty,
            InvalidKind::BodyTooLarge => Code::MessageBodyTooLarge,
            InvalidKind::PropertiesTooLarge => Code::MessagePropertiesTooLarge,
            InvalidKind::PropertyName => Code::IllegalMessagePropertyKey,
            InvalidKind::Tag => Code::IllegalMessageTag,
            InvalidKind::Key => Code::IllegalMessageKey,
            InvalidKind::MessageId => Code::IllegalMessageId,
            InvalidKind::MessageGroup => Code::IllegalMessageGroup,
            InvalidKind::DeliveryTime => Code::IllegalDeliveryTime,
            InvalidKind::NoAckEntry => Code::InternalServerError,
            InvalidKind::InvisibleTime => Code::IllegalInvisibleTime,
            InvalidKind::PollTime => Code::IllegalPollingTime,
            InvalidKind::Filter => Code::IllegalFilterExpression,
            InvalidKind::ClientId => Code::ClientIdRequired,
            InvalidKind::ClientProperties => Code::InvalidClientProperties,
        };
        Self { code, text: invalid.text }
    }
}

impl From<OtherProtocol> for Refused {
    fn from(other: OtherProtocol) -> Self {
        Self { code: Code::Forbidden, text: other.to_string() }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::TopicNotFound(_) => Code::TopicNotFound,
            Error::GroupNotFound(_) => Code::ConsumerGroupNotFound,
            Error::Forbidden(_) | Error::ForbiddenHere(_) | Error::Capped(_) => Code::Forbidden,
            Error::TypeMismatch { .. } => Code::MessagePropertyConflictWithType,
            Error::LeaseEnded | Error::NotAReceiptHandle(_) | Error::ForeignReceiptHandle => Code::InvalidReceiptHandle,
            Error::NotWaiting => Code::MessageNotFound,
            Error::IllegalOffset { .. } => Code::IllegalOffset,
            Error::TransactionNotFound | Error::DecidedOtherwise => Code::InvalidTransactionId,
            // The only code after which clients wait longer each time; every node would refuse it (contract §9.5).
            Error::Busy | Error::NoBytes(_) | Error::NoRoom(_) => Code::TooManyRequests,
            Error::NoLeader | Error::Behind | Error::Unreadable(_) => Code::HaNotAvailable,
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
