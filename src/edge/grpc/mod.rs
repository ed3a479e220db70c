//! `apache.rocketmq.v2` over gRPC: requests to model types and back, and the codes that its clients understand.
//!
//! Not here: accepting connections and TLS (`edge/listener`, `edge/tls`), what a request means (`broker/`).

pub(super) mod authority;
pub(super) mod codes;
pub(super) mod convert;
pub(super) mod digest;
pub mod messaging;
pub mod unary;
pub(super) mod validate;
