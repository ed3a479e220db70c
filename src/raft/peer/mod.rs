//! Nodes of one shard among themselves: appends, forwarded commands, votes, heartbeats and status calls.
//!
//! Everything travels as frames (`frame`) over links (`link`): appends, forwarded commands and short calls on one each.
//! Outgoing: `client` and `append` for openraft, `forward`, `control` with `status`; `requests` numbers what waits for
//! answers, `shared_link` dials. Incoming: `server` and `service`. `identity`, with `facts` and `security`, says who is on the other
//! side, `unusable` why it is refused; `wire` converts openraft's types.
//!
//! Not here: what is proposed (`raft/propose`), the log itself (`store/log`).

mod append;
mod append_server;
mod client;
mod control;
mod facts;
pub(super) mod forward;
mod frame;
pub(super) mod identity;
mod link;
pub(super) mod peers;
#[cfg(debug_assertions)]
mod planted;
mod requests;
mod rpc_error;
pub(super) mod security;
pub(super) mod server;
pub(super) mod service;
mod shared_link;
pub(super) mod status;
mod unusable;
mod wire;
