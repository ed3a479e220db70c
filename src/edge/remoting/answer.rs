//! What a processor answers.

use bytes::Bytes;
use serde::Serialize;

use crate::broker::InRoom;
use crate::edge::remoting::codes::Refused;
use crate::proto::remoting::{Fields, Header, ResponseCode};

/// An answer that does not know its request yet.
#[derive(Debug)]
pub(super) struct Answer {
    code: ResponseCode,
    fields: Fields,
    /// Text for people, if the request was not done.
    remark: Option<String>,
    pub body: Bytes,
    /// What was read for it has, until the client took it.
    pub room: Option<InRoom>,
}

impl Answer {
    /// Done, and nothing to say.
    pub fn done() -> Self {
        Self::with(Fields::default())
    }

    /// Done, with fields.
    pub fn with(fields: Fields) -> Self {
        Self { code: ResponseCode::Success, fields, remark: None, body: Bytes::new(), room: None }
    }

    /// What a pull found, which is more than done or not.
    pub fn coded(code: ResponseCode, fields: Fields, body: Bytes) -> Self {
        Self { code, body, ..Self::with(fields) }
    }

    /// Done, with a body in JSON.
    pub fn json(body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("bodies are plain structs with keys of texts and numbers");
        Self { body: body.into(), ..Self::done() }
    }

    /// With one more field.
    pub fn and(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.fields.put(name, value);
        self
    }

    /// Its header, for a request.
    pub fn header(&mut self, opaque: i32) -> Header {
        let mut header = Header::answer(opaque, self.code, std::mem::take(&mut self.fields));
        header.remark = self.remark.take();
        header
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let Refused { code, text } = refused;
        Self { code, remark: Some(text), ..Self::done() }
    }
}
