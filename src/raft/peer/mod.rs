//! Nodes of one shard among themselves: appends, forwarded commands, votes, heartbeats and status calls.
//!
//! Everything travels as frames (`frame`) over links (`link`): appends, forwarded commands and short calls on one each.
//! Outgoing: `client` and `append` for openraft, `forward`, `control` with `status`; `requests` numbers what waits for
//! answers, `shared_link` dials. Incoming: `server` and `service`. Snapshots have a link too: `snapshot_link` pulls,
//! `snapshot_server` serves. `identity`, with `facts` and `security`, says who is on the other
//! side, `unusable` why it is refused; `wire` converts openraft's types.
//!
//! Not here: what is proposed (`raft/propose`), the log itself (`store/log`).

mod append;
mod append_server;
mod by_member;
mod client;
mod control;
pub(super) mod enquire;
mod facts;
pub(super) mod forward;
mod frame;
pub(super) mod identity;
mod learner_pace;
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
pub(super) mod sight;
pub(super) mod snapshot_link;
mod snapshot_server;
pub(super) mod status;
mod unusable;
pub(super) mod wire;
