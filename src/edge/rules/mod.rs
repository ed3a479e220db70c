//! Limits and checks over model types, shared by every protocol. A rule answers [`Invalid`]: a kind, which each protocol
//! maps to its own code, and a text that names the value, the limit and the remedy.
//!
//! Called by `edge/grpc` and `edge/remoting`, which translate wire values to model types first. The limits are in `model/limits`.
//! Source: contract §5, in the order RocketMQ checks.
//!
//! Not here: wire types and status codes (the protocols), and what depends on the state, such as whether a topic exists
//! (`broker/`).

pub mod client;
pub mod consume;
mod invalid;
pub mod message;
pub mod names;
pub mod send;

pub use invalid::{Invalid, InvalidKind};
