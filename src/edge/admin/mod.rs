//! `raftmq.admin.v1`: what our own commands ask, one file per noun. Refusals are gRPC statuses here.
//!
//! Called by clients through `edge/listener`; calls `node` and its shard.
//!
//! Not here: RocketMQ's protocol (`edge/grpc`), and what the answers look like in a terminal (`cli/`).

mod cluster;
mod convert;
mod dead_letters;
mod delayed;
mod groups;
mod messages;
mod service;
mod topics;
mod trim;

pub use service::AdminService;
