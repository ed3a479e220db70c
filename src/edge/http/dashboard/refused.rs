//! Why a request was not done: a code for programs, a text for people.

use http::{Response, StatusCode};
use serde_json::json;
use tonic::{Code, Status};

use crate::edge::http::page::{self, Page};

/// A request that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub code: StatusCode,
    pub text: String,
}

impl Refused {
    pub fn new(code: StatusCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Something in the request is wrong.
    pub fn request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub fn page(&self) -> Response<Page> {
        page::json(self.code, &json!({ "error": { "code": self.code.as_u16(), "text": self.text } }))
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::FailedPrecondition => StatusCode::CONFLICT,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            // Unknown whether it happened.
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, status.message())
    }
}
