//! `apache.rocketmq.v2` over gRPC: requests to model types and back, and the codes that its clients understand.
//!
//! Not here: accepting connections and TLS (`edge/listener`, `edge/tls`), limits and checks (`edge/rules`), what a request
//! does (`broker/`).

pub(super) mod authority;
pub mod call_times;
pub(super) mod codes;
pub(super) mod convert;
mod cost;
pub(super) mod digest;
pub mod incoming;
pub mod messaging;
pub(super) mod outgoing;
mod reading;
pub mod unary;
