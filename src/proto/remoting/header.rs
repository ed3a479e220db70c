//! What a frame says before its body. Hot path.

use crate::proto::remoting::{Fields, Language, Malformed, ResponseCode};

/// Flags of a header.
const RESPONSE: i32 = 1;
const ONEWAY: i32 = 1 << 1;

/// The version that our headers say: RocketMQ 5.3.3. Below 4.1.0 clients would not filter by SQL.
const VERSION: i32 = 479;

/// A field of the answer to a report, and to the question for all brokers: a name server of raftmq answers.
pub const NAME_SERVER_MARK: &str = "raftmqNameServer";
/// A field of the answer to the question for all brokers: one of raftmq's nodes answers, not a name server.
pub const NODE_MARK: &str = "raftmqNode";

/// How a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderType {
    #[default]
    Json = 0,
    /// RocketMQ's own binary one.
    Binary = 1,
}

impl HeaderType {
    pub(super) fn of_number(number: u8) -> Result<Self, Malformed> {
        match number {
            0 => Ok(Self::Json),
            1 => Ok(Self::Binary),
            _ => Err(Malformed::Unknown { what: "the type of the header", value: number.into() }),
        }
    }
}

/// A request or an answer, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// What is asked for, or what became of it.
    pub code: i32,
    pub language: Language,
    /// Of its sender.
    pub version: i32,
    /// Number of the request; its answer has the same.
    pub opaque: i32,
    pub flags: i32,
    /// Text for people, about an error.
    pub remark: Option<String>,
    pub fields: Fields,
}

impl Header {
    /// A request of ours.
    pub fn request(code: i32, opaque: i32, fields: Fields) -> Self {
        Self { code, version: VERSION, opaque, fields, ..Self::default() }
    }

    /// A request of ours that nobody answers.
    pub fn oneway(code: i32, opaque: i32, fields: Fields) -> Self {
        Self { flags: ONEWAY, ..Self::request(code, opaque, fields) }
    }

    /// The answer to a request.
    pub fn answer(opaque: i32, code: ResponseCode, fields: Fields) -> Self {
        Self { flags: RESPONSE, ..Self::request(code as i32, opaque, fields) }
    }

    /// The answer to a request that was refused.
    pub fn refusal(opaque: i32, code: ResponseCode, remark: String) -> Self {
        Self { remark: Some(remark), ..Self::answer(opaque, code, Fields::default()) }
    }

    pub fn is_response(&self) -> bool {
        self.flags & RESPONSE != 0
    }

    /// Whether its sender waits for no answer: there must be none, as its number may be that of another request.
    pub fn is_oneway(&self) -> bool {
        self.flags & ONEWAY != 0
    }
}
