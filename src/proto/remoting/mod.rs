//! RocketMQ's classic protocol, *Remoting*: frames, headers, codes, and the layouts of messages in bodies. Pure: bytes to
//! values and back, for whoever speaks it, on either side.
//!
//! A [`Frame`] is a [`Header`] and a body. What a header means is in its code: a [`RequestCode`], or in an answer a
//! [`ResponseCode`]; its arguments are [`Fields`]. All integers are signed and big endian. Whatever comes from outside is
//! checked before it is used: bytes that do not decode are [`Malformed`], and a field that is missing or out of range is a
//! [`BadField`].
//!
//! Source: remoting §1, remoting §7.
//!
//! Not here: connections and what a request does (`edge/remoting`), conversion to model types.

mod batch;
mod binary_header;
pub mod connections;
mod fields;
mod frame;
mod header;
pub mod heartbeat_data;
mod json_header;
pub mod key_value_table;
mod language;
mod malformed;
mod offset_id;
mod properties;
pub mod queue_data;
mod reader;
pub mod registration;
mod request_code;
mod response_code;
pub mod route_data;
mod stored_message;
pub mod sys_flag;

pub use batch::{BatchPart, put_part, read_parts};
pub use fields::{BadField, Fields};
pub use frame::{FRAME_BYTES_MAX, Frame};
pub use header::{Header, HeaderType, NAME_SERVER_MARK, NODE_MARK};
pub use language::Language;
pub use malformed::Malformed;
pub use offset_id::OffsetId;
pub use properties::{PROPERTIES_BYTES_MAX, put_property, read_properties};
pub use request_code::RequestCode;
pub use response_code::ResponseCode;
pub use stored_message::StoredMessage;
