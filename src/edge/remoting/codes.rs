//! Which refusal has which of the protocol's codes: those of the rules, of the broker, and of requests that cannot be read.
//!
//! What clients make of a code is in remoting §4.4. A code that says "not here" has them try another node at once, where
//! that can help; one that says "never" has them give up.

use crate::broker::Error;
use crate::edge::rules::{Invalid, InvalidKind};
use crate::proto::remoting::{BadField, Malformed, ResponseCode};

/// A request that ends here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub code: ResponseCode,
    pub text: String,
}

impl Refused {
    pub fn new(code: ResponseCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl From<BadField> for Refused {
    fn from(field: BadField) -> Self {
        Self::new(ResponseCode::InvalidParameter, field.to_string())
    }
}

/// A body that cannot be read, in a frame that can.
impl From<Malformed> for Refused {
    fn from(body: Malformed) -> Self {
        Self::new(ResponseCode::MessageIllegal, format!("the body cannot be read: {body}"))
    }
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        let code = match invalid.kind {
            InvalidKind::Filter => ResponseCode::SubscriptionParseFailed,
            InvalidKind::NoMessage
            | InvalidKind::MixedTopics
            | InvalidKind::MixedTypes
            | InvalidKind::EmptyBody
            | InvalidKind::BodyTooLarge
            | InvalidKind::PropertiesTooLarge
            | InvalidKind::PropertyName
            | InvalidKind::Tag
            | InvalidKind::Key
            | InvalidKind::MessageId
            | InvalidKind::MessageGroup
            | InvalidKind::DeliveryTime => ResponseCode::MessageIllegal,
            InvalidKind::Value
            | InvalidKind::TopicName
            | InvalidKind::GroupName
            | InvalidKind::NoAckEntry
            | InvalidKind::InvisibleTime
            | InvalidKind::PollTime
            | InvalidKind::ClientId
            | InvalidKind::ClientProperties => ResponseCode::InvalidParameter,
        };
        Self { code, text: invalid.text }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::TopicNotFound(_) => ResponseCode::TopicNotExist,
            Error::GroupNotFound(_) => ResponseCode::SubscriptionGroupNotExist,
            Error::Forbidden(_) | Error::ForbiddenHere(_) | Error::Capped(_) => ResponseCode::NoPermission,
            Error::TypeMismatch { .. } => ResponseCode::MessageIllegal,
            Error::IllegalOffset { .. } => ResponseCode::PullOffsetMoved,
            // Every producer tries another node after this one, and no other is refused where it could be served.
            Error::Busy
            | Error::NoBytes(_)
            | Error::NoRoom(_)
            | Error::NoLeader
            | Error::Behind
            | Error::Unreadable(_)
            | Error::Stopped(_) => ResponseCode::ServiceNotAvailable,
            Error::Invalid(_) => ResponseCode::InvalidParameter,
            // It may be done or not; what is tried again may be done twice, as with RocketMQ.
            Error::TimedOut
            | Error::TopicExists(_)
            | Error::GroupExists(_)
            | Error::LeaseEnded
            | Error::NotAReceiptHandle(_)
            | Error::ForeignReceiptHandle
            | Error::NotWaiting
            | Error::TransactionNotFound
            | Error::DecidedOtherwise => ResponseCode::SystemError,
        };
        Self { code, text: error.to_string() }
    }
}
