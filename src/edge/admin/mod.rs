//! `raftmq.admin.v1`: what our own commands ask, one file per noun. Refusals are gRPC statuses here.
//!
//! Called by clients through `edge/listener`; calls `node` and its shard.
//!
//! Not here: RocketMQ's protocol (`edge/grpc`), and what the answers look like in a terminal (`cli/`).

mod backup;
mod clients;
mod cluster;
mod convert;
mod counts;
mod dead_letters;
mod delayed;
mod events;
mod facts;
mod groups;
mod log_level;
mod members;
mod messages;
mod operator;
mod service;
mod topics;
mod trim;

pub use facts::{CertificateFact, ProcessFacts};
pub use service::AdminService;

pub(in crate::edge) use convert::refuse;
