//! Nodes of one shard among themselves: appends, forwarded commands, votes, heartbeats and status calls.
//!
//! Appends and forwarded commands travel as frames over links of their own (`frame`, `link`), votes, heartbeats and
//! status calls as gRPC, all on one port. Outgoing: `client` and `append` for openraft, `forward`, `status`. Incoming:
//! `server` and `service`. `identity` says who is on the other side, `wire` converts openraft's types.
//!
//! Not here: what is proposed (`raft/propose`), the log itself (`store/log`).

mod append;
mod client;
pub(super) mod forward;
mod frame;
pub(super) mod identity;
mod link;
pub(super) mod peers;
#[cfg(debug_assertions)]
mod planted;
mod rpc_error;
pub(super) mod server;
pub(super) mod service;
pub(super) mod status;
mod wire;
