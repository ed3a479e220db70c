//! raftmq: a Raft-replicated message broker for RocketMQ 5 clients.
//!
//! Requests become *commands* above the log; the *log* orders them; the *machine* below the log
//! applies them, the same on every node. `ARCHITECTURE.md` has the layers and the walks.

pub mod backup;
pub mod bench;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod documents;
pub mod drill;
pub mod edge;
pub mod env;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod model;
pub mod namesrv;
pub mod node;
pub mod proto;
pub mod raft;
pub mod server;
pub mod store;
