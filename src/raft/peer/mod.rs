//! Nodes of one shard among themselves: who is on the other side, appends, forwarded proposals, votes and status.
//!
//! Appends and forwarded proposals travel as frames over links of their own (`link`, `wire`); votes, heartbeats and
//! status calls as gRPC, all on one port.
//!
//! Not here: what is proposed (`raft/propose`), the log itself (`store/log`).

pub(super) mod client;
pub(super) mod forward;
pub(super) mod link;
pub(super) mod server;
pub(super) mod status;
pub(super) mod wire;
