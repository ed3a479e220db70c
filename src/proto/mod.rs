//! What goes over the wire: the gRPC messages and services, generated from `proto/` and committed under `generated/`, and
//! RocketMQ's classic protocol, written by hand in `remoting`.
//!
//! protoc is not needed: `tests/it/proto.rs` compiles the files with protox, fails when the committed Rust differs, and
//! rewrites it with `UPDATE_PROTO=1 cargo test --test it proto`.
//!
//! `bytes` fields are `bytes::Bytes` (bodies are shared, not copied); maps are `BTreeMap`.
//!
//! Not here: what the messages mean (`edge`, `raft/peer`) and conversion to model types (`edge/grpc`).

mod descriptor;
pub mod remoting;

pub use descriptor::FILE_DESCRIPTOR_SET;

/// RocketMQ 5's protocol for clients: package `apache.rocketmq.v2`.
#[allow(clippy::all, clippy::unwrap_used, missing_docs, reason = "written by prost and tonic")]
pub mod v2 {
    include!("generated/apache.rocketmq.v2.rs");
}

/// What the replicas of one shard send to each other: package `raftmq.peer.v1`.
#[allow(clippy::all, clippy::unwrap_used, missing_docs, reason = "written by prost and tonic")]
pub mod peer {
    include!("generated/raftmq.peer.v1.rs");
}

/// What raftmq's own commands ask a cluster: package `raftmq.admin.v1`.
#[allow(clippy::all, clippy::unwrap_used, missing_docs, reason = "written by prost and tonic")]
pub mod admin {
    include!("generated/raftmq.admin.v1.rs");
}
